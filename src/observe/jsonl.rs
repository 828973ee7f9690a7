//! A file of JSON lines that only grows, and survives being cut off anywhere.
//!
//! Each record is one line and one write. After a crash in the middle of a
//! write, or with a full disk, the last line may be torn: opening the file ends
//! a whole record that lacks only its line end, and removes anything else after
//! the last line end. Lines before that are never touched.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::IgnoredAny;

/// A record may be at most this long, its line end included.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// What can go wrong with such a file.
#[derive(Debug, thiserror::Error)]
pub enum JsonLinesError {
    /// The file can't be opened, read or written (permissions, a full disk).
    #[error("{}: can't {doing}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The end of the file isn't lines of text; it is left as it is.
    #[error(
        "{}: no line end in its last {LINE_BYTES_MAX} bytes: not a file of JSON lines; move it away",
        path.display()
    )]
    NotLines {
        /// The file.
        path: PathBuf,
    },
    /// A record that would be too long; nothing was written.
    #[error("{}: a record of {bytes} bytes is longer than {LINE_BYTES_MAX}", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length as a line.
        bytes: usize,
    },
}

/// The last whole lines of a file as it was opened.
#[derive(Debug, Default)]
pub struct Tail {
    /// At most [`LINE_BYTES_MAX`] bytes of whole lines.
    pub bytes: Vec<u8>,
    /// Whether these are all lines of the file.
    pub from_start: bool,
    /// Bytes of a torn last line that were removed.
    pub removed_bytes: u64,
}

impl Tail {
    /// The lines, without line ends.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes
            .split(|b| *b == b'\n')
            .filter(|line| !line.is_empty())
    }
}

/// An open file, for one writer.
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    file: File,
    /// Where the last whole line ends.
    len: u64,
}

impl JsonLines {
    /// Opens or creates the file, repairs a torn last line, and gives the last
    /// lines.
    ///
    /// # Errors
    /// [`JsonLinesError::Io`]; [`JsonLinesError::NotLines`] if this isn't such a file.
    pub fn open(path: &Path) -> Result<(JsonLines, Tail), JsonLinesError> {
        let io = |doing| move |source| io_error(path, doing, source);
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(io("open it"))?;
        let len = file.seek(SeekFrom::End(0)).map_err(io("find its end"))?;
        let start = len.saturating_sub(LINE_BYTES_MAX as u64);
        file.seek(SeekFrom::Start(start)).map_err(io("read it"))?;
        let mut bytes = Vec::new();
        let limit = LINE_BYTES_MAX as u64;
        (&mut file)
            .take(limit)
            .read_to_end(&mut bytes)
            .map_err(io("read it"))?;
        let mut lines = JsonLines {
            path: path.to_owned(),
            file,
            len,
        };
        let mut tail = Tail {
            from_start: start == 0,
            ..Tail::default()
        };
        if !tail.from_start {
            let first = bytes.iter().position(|b| *b == b'\n');
            let first = first.ok_or_else(|| JsonLinesError::NotLines {
                path: path.to_owned(),
            })?;
            bytes.drain(..=first);
        }
        lines.repair(&mut bytes, &mut tail)?;
        tail.bytes = bytes;
        Ok((lines, tail))
    }

    fn repair(&mut self, bytes: &mut Vec<u8>, tail: &mut Tail) -> Result<(), JsonLinesError> {
        let whole = bytes
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |end| end + 1);
        let torn = &bytes[whole..];
        if torn.is_empty() {
            return Ok(());
        }
        if torn[0] == b'{' && serde_json::from_slice::<IgnoredAny>(torn).is_ok() {
            bytes.push(b'\n');
            self.file
                .write_all(b"\n")
                .map_err(|e| io_error(&self.path, "end its last line", e))?;
            self.len += 1;
        } else {
            tail.removed_bytes = torn.len() as u64;
            self.len -= tail.removed_bytes;
            self.file
                .set_len(self.len)
                .map_err(|e| io_error(&self.path, "remove its torn last line", e))?;
            bytes.truncate(whole);
        }
        Ok(())
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one record as one line. It is with the operating system when
    /// this returns, not necessarily on the disk: see [`JsonLines::sync`].
    ///
    /// # Errors
    /// [`JsonLinesError::TooLong`]; [`JsonLinesError::Io`]. After either, the
    /// file ends as before.
    pub fn append<T: Serialize + ?Sized>(&mut self, record: &T) -> Result<(), JsonLinesError> {
        let mut line = serde_json::to_vec(record)
            .map_err(|e| io_error(&self.path, "write a record as JSON", e.into()))?;
        line.push(b'\n');
        if line.len() > LINE_BYTES_MAX {
            return Err(JsonLinesError::TooLong {
                path: self.path.clone(),
                bytes: line.len(),
            });
        }
        if let Err(source) = self.file.write_all(&line) {
            // Whatever part was written must not glue to the next record; if
            // even this fails, opening the file repairs it.
            let _ = self.file.set_len(self.len);
            return Err(io_error(&self.path, "append to it", source));
        }
        self.len += line.len() as u64;
        Ok(())
    }

    /// Waits until all that was written is on the disk.
    ///
    /// # Errors
    /// [`JsonLinesError::Io`].
    pub fn sync(&self) -> Result<(), JsonLinesError> {
        self.file
            .sync_data()
            .map_err(|e| io_error(&self.path, "sync it", e))
    }
}

pub(crate) fn io_error(path: &Path, doing: &'static str, source: io::Error) -> JsonLinesError {
    JsonLinesError::Io {
        path: path.to_owned(),
        doing,
        source,
    }
}

#[cfg(test)]
pub(crate) mod scratch {
    //! A folder of a test's own, removed with it.
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU64, Ordering};

    pub struct Folder(PathBuf);

    impl Folder {
        pub fn new() -> Folder {
            static NEXT: AtomicU64 = AtomicU64::new(0);
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("ebbtide-observe-{}-{n}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&path).expect("a writable temporary folder");
            Folder(path)
        }

        pub fn file(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        pub fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::scratch::Folder;
    use super::*;
    use serde_json::json;

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).expect("readable")
    }

    #[test]
    fn records_come_back_as_lines() {
        let folder = Folder::new();
        let path = folder.file("a.jsonl");
        let (mut lines, tail) = JsonLines::open(&path).expect("opens");
        assert!(tail.from_start && tail.bytes.is_empty());
        lines.append(&json!({"a": 1})).expect("writes");
        lines.append(&json!({"a": "line\nend"})).expect("writes");
        lines.sync().expect("syncs");
        assert_eq!(read(&path), "{\"a\":1}\n{\"a\":\"line\\nend\"}\n");
        let (_, tail) = JsonLines::open(&path).expect("opens again");
        assert_eq!(tail.lines().count(), 2);
    }

    #[test]
    fn torn_anywhere_the_whole_records_stay() {
        let folder = Folder::new();
        let path = folder.file("a.jsonl");
        let whole = "{\"a\":1}\n{\"b\":22}\n";
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).expect("writes");
            let (mut lines, tail) = JsonLines::open(&path).expect("opens");
            lines.append(&json!({"c": 3})).expect("writes");
            let expected = match cut {
                0..7 => "{\"c\":3}\n",
                7..16 => "{\"a\":1}\n{\"c\":3}\n",
                _ => "{\"a\":1}\n{\"b\":22}\n{\"c\":3}\n",
            };
            assert_eq!(read(&path), expected, "cut at {cut}");
            let torn = matches!(cut, 1..7 | 9..16);
            assert_eq!(tail.removed_bytes > 0, torn, "cut at {cut}");
        }
    }

    #[test]
    fn zeros_left_by_a_power_cut_are_removed() {
        let folder = Folder::new();
        let path = folder.file("a.jsonl");
        std::fs::write(&path, b"{\"a\":1}\n\0\0\0\0").expect("writes");
        let (_, tail) = JsonLines::open(&path).expect("opens");
        assert_eq!(
            (tail.removed_bytes, read(&path).as_str()),
            (4, "{\"a\":1}\n")
        );
    }

    #[test]
    fn of_a_long_file_only_the_last_whole_lines_are_read() {
        let folder = Folder::new();
        let path = folder.file("a.jsonl");
        let line = format!("{{\"a\":\"{}\"}}\n", "x".repeat(1000));
        let text = line.repeat(2000);
        std::fs::write(&path, format!("{text}{{\"torn")).expect("writes");
        let (_, tail) = JsonLines::open(&path).expect("opens");
        assert!(!tail.from_start && tail.bytes.len() < LINE_BYTES_MAX);
        assert!(tail.lines().all(|l| l.len() + 1 == line.len()));
        assert_eq!(tail.removed_bytes, 6);
        assert_eq!(read(&path), text);
    }

    #[test]
    fn a_file_of_something_else_is_refused_and_left_alone() {
        let folder = Folder::new();
        let path = folder.file("weights.bin");
        let bytes = vec![7_u8; LINE_BYTES_MAX + 1];
        std::fs::write(&path, &bytes).expect("writes");
        let error = JsonLines::open(&path).expect_err("refused").to_string();
        assert!(error.contains("not a file of JSON lines"), "{error}");
        assert_eq!(std::fs::read(&path).expect("readable"), bytes);
    }

    #[test]
    fn a_record_too_long_is_refused_and_the_next_one_written() {
        let folder = Folder::new();
        let path = folder.file("a.jsonl");
        let (mut lines, _) = JsonLines::open(&path).expect("opens");
        let error = lines
            .append(&"x".repeat(LINE_BYTES_MAX))
            .expect_err("refused");
        assert!(matches!(error, JsonLinesError::TooLong { .. }), "{error}");
        lines.append(&json!({})).expect("writes");
        assert_eq!(read(&path), "{}\n");
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = Folder::new();
        let path = folder.path().join("none").join("a.jsonl");
        let error = JsonLines::open(&path).expect_err("no folder").to_string();
        assert!(error.contains("none/a.jsonl: can't open it"), "{error}");
    }
}
