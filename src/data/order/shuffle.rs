//! How samples are shuffled, as the job file says it.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `data.shuffle` of a job: `"full"`, `"blocks:N"` or `"none"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Shuffle {
    /// Every epoch is a permutation of all samples. For data that can be touched at random.
    #[default]
    Full,
    /// The data is cut into blocks of that many consecutive samples; every epoch permutes the
    /// blocks, and the samples within each. For data too large to touch at random.
    Blocks(NonZeroU64),
    /// The data's own order in every epoch.
    None,
}

/// A text that names no shuffle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{found}` is not a shuffle: expected \"full\", \"blocks:N\" with N at least 1, or \"none\""
)]
pub struct ParseShuffleError {
    found: String,
}

impl FromStr for Shuffle {
    type Err = ParseShuffleError;

    fn from_str(text: &str) -> Result<Shuffle, ParseShuffleError> {
        let shuffle = match text.split_once(':') {
            None if text == "full" => Some(Shuffle::Full),
            None if text == "none" => Some(Shuffle::None),
            Some(("blocks", samples)) => samples.parse().ok().map(Shuffle::Blocks),
            _ => None,
        };
        shuffle.ok_or_else(|| ParseShuffleError {
            found: text.to_owned(),
        })
    }
}

impl fmt::Display for Shuffle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shuffle::Full => f.write_str("full"),
            Shuffle::Blocks(samples) => write!(f, "blocks:{samples}"),
            Shuffle::None => f.write_str("none"),
        }
    }
}

impl TryFrom<String> for Shuffle {
    type Error = ParseShuffleError;

    fn try_from(text: String) -> Result<Shuffle, ParseShuffleError> {
        text.parse()
    }
}

impl From<Shuffle> for String {
    fn from(shuffle: Shuffle) -> String {
        shuffle.to_string()
    }
}
