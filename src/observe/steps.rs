//! `steps.bin`: of each finished step the name of its sum and how long it took.
//!
//! ```text
//! "ebbtide steps 1\n"   16 bytes
//! step 0                 8 bytes the name of its sum, 4 bytes microseconds, 4 bytes zero
//! step 1                 ...      (little-endian; a name of zero: not known)
//! ```
//!
//! A step has its place, so what is told twice is written once, what comes late
//! finds its gap, and a torn write is a step that isn't known. A step that is
//! trained again has to have the same sum again.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::exact::SumDigest;
use crate::wire::{StepRow, Steps};

/// Its name in the run's folder.
pub const STEPS_FILE: &str = "steps.bin";

const HEAD: &[u8; 16] = b"ebbtide steps 1\n";
const ROW: usize = 16;

/// What can go wrong with the file.
#[derive(Debug, thiserror::Error)]
pub enum StepsError {
    /// It can't be read or written.
    #[error("{}: can't {doing}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// It is something else; it is left as it is.
    #[error("{}: this is no file of finished steps (or a newer ebbtide's); move it away", path.display())]
    NotSteps {
        /// The file.
        path: PathBuf,
    },
}

/// A step whose sum was another one when it was trained before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Differs {
    /// Index of the step.
    pub step: u64,
    /// Its sum before.
    pub before: SumDigest,
    /// Its sum now.
    pub now: SumDigest,
}

/// The open file of one run, for its one writer.
#[derive(Debug)]
pub struct StepsFile {
    path: PathBuf,
    file: File,
}

impl StepsFile {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// [`StepsError`].
    pub fn open(path: &Path) -> Result<StepsFile, StepsError> {
        let io = |doing| move |source| io_error(path, doing, source);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path).map_err(io("open it"))?;
        let len = file.metadata().map_err(io("read it"))?.len();
        if len < HEAD.len() as u64 {
            file.write_all_at(HEAD, 0).map_err(io("begin it"))?;
        } else {
            check_head(path, &file)?;
        }
        Ok(StepsFile {
            path: path.to_owned(),
            file,
        })
    }

    /// Writes steps down. The first of them that was trained before, with
    /// another sum, is returned: the file holds the new ones then.
    ///
    /// # Errors
    /// [`StepsError::Io`].
    pub fn put(&mut self, steps: &Steps) -> Result<Option<Differs>, StepsError> {
        let path = self.path.as_path();
        let io = |doing| move |source| io_error(path, doing, source);
        let at = HEAD.len() as u64 + steps.first * ROW as u64;
        let mut known = vec![0; steps.rows.len() * ROW];
        read_up_to(&self.file, &mut known, at).map_err(io("read it"))?;
        let before = known.as_chunks::<ROW>().0.iter().map(row);
        let differs = before.zip(&steps.rows).zip(steps.first..);
        let differs = differs
            .filter_map(|((before, now), step)| Some((before?.sum, now.sum, step)))
            .find(|(before, now, _)| before != now)
            .map(|(before, now, step)| Differs { step, before, now });
        let bytes: Vec<u8> = steps.rows.iter().flat_map(bytes).collect();
        if bytes != known {
            self.file.write_all_at(&bytes, at).map_err(io("write it"))?;
        }
        Ok(differs)
    }
}

/// All steps of the file, by index; `None` for those that nobody told of. Of no
/// file, none.
///
/// # Errors
/// [`StepsError`].
pub fn read_steps(path: &Path) -> Result<Vec<Option<StepRow>>, StepsError> {
    let io = |doing| move |source| io_error(path, doing, source);
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened.map_err(io("open it"))?,
    };
    let len = file.metadata().map_err(io("read it"))?.len();
    if len < HEAD.len() as u64 {
        return Ok(Vec::new());
    }
    check_head(path, &file)?;
    let mut bytes = vec![0; (len as usize - HEAD.len()) / ROW * ROW];
    read_up_to(&file, &mut bytes, HEAD.len() as u64).map_err(io("read it"))?;
    Ok(bytes.as_chunks::<ROW>().0.iter().map(row).collect())
}

fn check_head(path: &Path, file: &File) -> Result<(), StepsError> {
    let mut head = [0; HEAD.len()];
    let read = file.read_exact_at(&mut head, 0);
    read.map_err(|source| io_error(path, "read it", source))?;
    match &head == HEAD {
        true => Ok(()),
        false => Err(StepsError::NotSteps {
            path: path.to_owned(),
        }),
    }
}

/// Reads what is there; the rest of `into` stays as it is.
fn read_up_to(file: &File, into: &mut [u8], at: u64) -> io::Result<()> {
    let mut read = 0;
    while read < into.len() {
        match file.read_at(&mut into[read..], at + read as u64)? {
            0 => break,
            more => read += more,
        }
    }
    Ok(())
}

fn row(bytes: &[u8; ROW]) -> Option<StepRow> {
    let (sum, rest) = bytes.split_first_chunk::<8>()?;
    let micros = u32::from_le_bytes(*rest.first_chunk::<4>()?);
    let sum = SumDigest::from_bits(u64::from_le_bytes(*sum))?;
    Some(StepRow { sum, micros })
}

fn bytes(row: &StepRow) -> [u8; ROW] {
    let mut bytes = [0; ROW];
    bytes[..8].copy_from_slice(&row.sum.bits().to_le_bytes());
    bytes[8..12].copy_from_slice(&row.micros.to_le_bytes());
    bytes
}

fn io_error(path: &Path, doing: &'static str, source: io::Error) -> StepsError {
    StepsError::Io {
        path: path.to_owned(),
        doing,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::super::jsonl::scratch::Folder;
    use super::*;

    fn steps(first: u64, sums: &[u64]) -> Steps {
        let row = |bits: &u64| StepRow {
            sum: SumDigest::from_bits(*bits).unwrap(),
            micros: 5,
        };
        let rows = sums.iter().map(row).collect();
        Steps { first, rows }
    }

    fn read(path: &Path) -> Vec<u64> {
        let rows = read_steps(path).unwrap().into_iter();
        rows.map(|row| row.map_or(0, |row| row.sum.bits()))
            .collect()
    }

    #[test]
    fn steps_in_any_order_and_told_twice_find_their_places() {
        let folder = Folder::new();
        let path = folder.file(STEPS_FILE);
        assert!(read(&path).is_empty());
        let mut file = StepsFile::open(&path).unwrap();
        assert_eq!(file.put(&steps(3, &[30, 40])).unwrap(), None);
        assert_eq!(read(&path), [0, 0, 0, 30, 40]);
        assert_eq!(file.put(&steps(0, &[1, 10, 20, 30])).unwrap(), None);
        drop(file);
        let mut file = StepsFile::open(&path).unwrap();
        assert_eq!(file.put(&steps(4, &[40, 50])).unwrap(), None);
        assert_eq!(read(&path), [1, 10, 20, 30, 40, 50]);
    }

    #[test]
    fn a_step_trained_again_with_another_sum_is_told_and_replaced() {
        let folder = Folder::new();
        let path = folder.file(STEPS_FILE);
        let mut file = StepsFile::open(&path).unwrap();
        file.put(&steps(0, &[1, 2, 3, 4])).unwrap();
        let differs = file.put(&steps(1, &[2, 33, 44])).unwrap().unwrap();
        assert_eq!(differs.step, 2);
        assert_eq!((differs.before.bits(), differs.now.bits()), (3, 33));
        assert_eq!(read(&path), [1, 2, 33, 44]);
    }

    #[test]
    fn a_torn_file_loses_its_last_step_and_another_file_is_left_alone() {
        let folder = Folder::new();
        let path = folder.file(STEPS_FILE);
        let mut file = StepsFile::open(&path).unwrap();
        file.put(&steps(0, &[1, 2])).unwrap();
        file.file.set_len(16 + 16 + 9).unwrap();
        assert_eq!(read(&path), [1]);
        file.put(&steps(1, &[2, 3])).unwrap();
        assert_eq!(read(&path), [1, 2, 3]);
        std::fs::write(&path, b"something quite different").unwrap();
        let error = read_steps(&path).unwrap_err().to_string();
        assert!(error.contains("no file of finished steps"), "{error}");
        assert!(StepsFile::open(&path).is_err());
    }
}
