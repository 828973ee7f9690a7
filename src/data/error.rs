//! What can go wrong with data, by what the reader can do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why data cannot be opened or a sample cannot be had. Every variant names the file, the job
/// key or the sample it is about.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// `data.url` names nothing that this kind of data can open: mend the job file.
    #[error("{problem}; found \"{url}\"")]
    Url { url: String, problem: String },

    /// A file is not there: put it there, or mend `data.url`.
    #[error("{} is missing: {advice}", path.display())]
    Missing { path: PathBuf, advice: String },

    /// The operating system would not let the file be read.
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },

    /// The file is not what it should be: get it again, or point `data.url` elsewhere.
    #[error("{}: {problem}", path.display())]
    Damaged { path: PathBuf, problem: String },

    /// A sample was asked for that the data does not hold; a mistake of the program.
    #[error("sample {index} was asked for, but the data holds {len}")]
    NoSuchSample { index: u64, len: u64 },

    /// A sample does not fit the others, or a data set or transform could not make it.
    #[error("sample {index}: {problem}")]
    Sample { index: u64, problem: String },
}

impl DataError {
    /// A file that could not be read; one that is not there becomes [`DataError::Missing`].
    pub fn read(path: impl AsRef<Path>, source: io::Error) -> DataError {
        let path = path.as_ref().to_owned();
        if source.kind() == io::ErrorKind::NotFound {
            let advice = "put the file there or mend data.url".to_owned();
            return DataError::Missing { path, advice };
        }
        DataError::Read { path, source }
    }

    /// A file whose content is not what it should be. `problem` reads on after the path.
    pub fn damaged(path: impl AsRef<Path>, problem: impl Into<String>) -> DataError {
        DataError::Damaged {
            path: path.as_ref().to_owned(),
            problem: problem.into(),
        }
    }

    /// A sample that cannot be used. `problem` reads on after the sample's index.
    pub fn sample(index: u64, problem: impl Into<String>) -> DataError {
        DataError::Sample {
            index,
            problem: problem.into(),
        }
    }
}
