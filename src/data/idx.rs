//! LeCun's IDX format: a short header, then the values of an array in row-major order.
//!
//! ```text
//! offset  0   1   2      3            4 ...               then
//!         0   0   type   dimensions   one big-endian u32  the values,
//!                 0x08                a dimension         one byte each
//! ```
//! The file may be compressed with gzip; that is told by its content, not by its name. Sizes are
//! checked before memory is taken: a header cannot ask for more than the file could hold.
//!
//! Source: <http://yann.lecun.com/exdb/mnist/>, "File formats for the MNIST database".

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::DataError;

/// Unsigned bytes, the only type of value that is read.
const UNSIGNED_BYTE: u8 = 0x08;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Deflate makes at most 1,032 bytes out of one.
const INFLATION_MAX: u64 = 1032;
/// Large reads: a system call and a decoder call cost less than the bytes they bring.
const READ_BUFFER_BYTES: usize = 1 << 17;

/// An array of bytes from an IDX file, or its first items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idx {
    /// How many items (the first dimension) the header says the file holds.
    pub items_in_file: u64,
    /// How many of them were read.
    pub items: u64,
    /// The other dimensions: the shape of one item.
    pub item_shape: Vec<usize>,
    /// `items` times the values of one item.
    pub values: Vec<u8>,
}

/// Reads an IDX file of `dimensions` dimensions, gzip-compressed or not.
///
/// With `limit`, only the first items are read; that the rest is there is told by the file's length,
/// or by the length that stands at the end of gzip data. Without, the file must end (and its gzip
/// checksum agree) where the header says.
///
/// # Errors
/// [`DataError::Missing`], [`DataError::Read`], or [`DataError::Damaged`] with what was found and
/// what was expected.
pub fn read(path: &Path, dimensions: usize, limit: Option<u64>) -> Result<Idx, DataError> {
    let file = File::open(path).map_err(|error| DataError::read(path, error))?;
    let file_bytes = file
        .metadata()
        .map_err(|error| DataError::read(path, error))?
        .len();
    let said = gzip_length(&file).map_err(|error| DataError::read(path, error))?;
    let mut file = BufReader::with_capacity(READ_BUFFER_BYTES, file);
    let start = file
        .fill_buf()
        .map_err(|error| DataError::read(path, error))?;
    if start.starts_with(&GZIP_MAGIC) {
        let size = Size {
            bytes_max: file_bytes.saturating_mul(INFLATION_MAX),
            is_whole: &|bytes| said == Some(bytes as u32),
        };
        read_from(MultiGzDecoder::new(file), path, dimensions, limit, &size)
    } else {
        let size = Size {
            bytes_max: file_bytes,
            is_whole: &|bytes| file_bytes == bytes,
        };
        read_from(file, path, dimensions, limit, &size)
    }
}

/// The last four bytes of gzip data: how many bytes came in, modulo 2^32.
fn gzip_length(mut file: &File) -> io::Result<Option<u32>> {
    let mut bytes = [0; 4];
    if file.metadata()?.len() < bytes.len() as u64 {
        return Ok(None);
    }
    file.seek(SeekFrom::End(-4))?;
    file.read_exact(&mut bytes)?;
    file.rewind()?;
    Ok(Some(u32::from_le_bytes(bytes)))
}

/// What is known of the decompressed bytes before they're read.
struct Size<'a> {
    /// There are no more than these.
    bytes_max: u64,
    /// Whether the file's end fits so many. `false` is no proof of damage: gzip data in several
    /// members says the length of the last one only.
    is_whole: &'a dyn Fn(u64) -> bool,
}

/// Reads from the decompressed bytes.
fn read_from(
    mut reader: impl Read,
    path: &Path,
    dimensions: usize,
    limit: Option<u64>,
    size: &Size<'_>,
) -> Result<Idx, DataError> {
    let sizes = read_header(&mut reader, path, dimensions)?;
    let bytes_in_file = count_values(&sizes, path, size.bytes_max)?;

    // No size is zero, or there would be no values.
    let items_in_file = u64::from(sizes[0]);
    let items = items_in_file.min(limit.unwrap_or(items_in_file));
    let wanted = bytes_in_file / items_in_file * items;
    let mut values = Vec::with_capacity(wanted as usize);
    let found = (&mut reader).take(wanted).read_to_end(&mut values);
    let mut found = found.map_err(|error| unreadable(path, error))? as u64;
    let header_bytes = 4 + 4 * dimensions as u64;
    let to_the_end = limit.is_none() || !(size.is_whole)(header_bytes + bytes_in_file);
    if to_the_end {
        let rest = io::copy(
            &mut (&mut reader).take(bytes_in_file - wanted),
            &mut io::sink(),
        );
        found += rest.map_err(|error| unreadable(path, error))?;
    }
    if found < if to_the_end { bytes_in_file } else { wanted } {
        let problem = format!(
            "is truncated: its header says {} = {bytes_in_file} values, but it ends after {found}",
            shape(&sizes)
        );
        return Err(DataError::damaged(path, problem));
    }
    if to_the_end {
        // Also lets the decoder compare the checksum that follows the last value.
        let more = io::copy(&mut reader.take(1), &mut io::sink());
        if more.map_err(|error| unreadable(path, error))? > 0 {
            let problem = format!(
                "goes on after the {} = {bytes_in_file} values that its header says",
                shape(&sizes)
            );
            return Err(DataError::damaged(path, problem));
        }
    }
    Ok(Idx {
        items_in_file,
        items,
        item_shape: sizes[1..].iter().map(|&size| size as usize).collect(),
        values,
    })
}

/// How many values the header promises: at least one, at most `bytes_max`.
fn count_values(sizes: &[u32], path: &Path, bytes_max: u64) -> Result<u64, DataError> {
    let values = sizes
        .iter()
        .try_fold(1u64, |all, &size| all.checked_mul(size.into()));
    let problem = match values {
        Some(0) => format!("holds no values: its header says {}", shape(sizes)),
        Some(values) if values <= bytes_max => return Ok(values),
        _ => format!(
            "is truncated or no IDX file: its header says {} values, more than the file can hold",
            shape(sizes)
        ),
    };
    Err(DataError::damaged(path, problem))
}

/// As a person writes it: `60000 x 28 x 28`.
fn shape(sizes: &[u32]) -> String {
    let sizes: Vec<String> = sizes.iter().map(u32::to_string).collect();
    sizes.join(" x ")
}

/// The sizes of all dimensions.
fn read_header(
    reader: &mut impl Read,
    path: &Path,
    dimensions: usize,
) -> Result<Vec<u32>, DataError> {
    let magic: [u8; 4] = read_array(reader, path)?;
    let expected = [0, 0, UNSIGNED_BYTE, dimensions as u8];
    if magic != expected {
        let problem = format!(
            "starts with 0x{:08x} where 0x{:08x} is expected (IDX, unsigned bytes, {dimensions} \
             dimension{}); is it another file?",
            u32::from_be_bytes(magic),
            u32::from_be_bytes(expected),
            if dimensions == 1 { "" } else { "s" },
        );
        return Err(DataError::damaged(path, problem));
    }
    (0..dimensions)
        .map(|_| Ok(u32::from_be_bytes(read_array(reader, path)?)))
        .collect()
}

fn read_array(reader: &mut impl Read, path: &Path) -> Result<[u8; 4], DataError> {
    let mut bytes = [0; 4];
    match reader.read_exact(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(DataError::damaged(
            path,
            "is truncated: it ends within the IDX header",
        )),
        Err(error) => Err(unreadable(path, error)),
    }
}

/// Tells damaged content, which the gzip decoder reports as an I/O error, from a failing disk.
fn unreadable(path: &Path, error: io::Error) -> DataError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            DataError::damaged(path, "is truncated: its gzip data ends too early")
        }
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            DataError::damaged(path, format!("holds damaged gzip data: {error}"))
        }
        _ => DataError::read(path, error),
    }
}
