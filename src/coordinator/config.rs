//! What the operator asked for, already parsed.

use std::path::PathBuf;
use std::time::Duration;

use super::CoordinatorError;
use crate::collective::Token;
use crate::job::Job;
use crate::model::Registry;

/// How many members the first step waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorldSize {
    /// The first worker starts, the others join.
    Auto,
    /// So many.
    Workers(usize),
}

impl std::str::FromStr for WorldSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(WorldSize::Auto);
        }
        match text.parse() {
            Ok(n) if n > 0 => Ok(WorldSize::Workers(n)),
            _ => Err(format!(
                "{text:?} is neither `auto` nor a number of workers from 1"
            )),
        }
    }
}

/// A point of another run to continue from: `RUN@STEP`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The other run's id.
    pub run: String,
    /// After how many steps.
    pub step: u64,
}

impl std::str::FromStr for Fork {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('@').and_then(|(run, step)| {
            let step = step.parse().ok()?;
            (!run.is_empty()).then(|| Fork {
                run: run.to_owned(),
                step,
            })
        });
        parsed.ok_or_else(|| format!("{text:?} is no RUN@STEP, such as 3f2a91c0d4e5@400"))
    }
}

/// Everything a coordinator is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// What to train.
    pub job: Job,
    /// Which models and data this build knows.
    pub registry: Registry,
    /// `--world-size`.
    pub world_size: WorldSize,
    /// `--min-world-size`.
    pub world_size_min: usize,
    /// `--max-world-size`.
    pub world_size_max: Option<usize>,
    /// `--listen`.
    pub listen: String,
    /// `--checkpoint`; by default in the folder of the runs.
    pub checkpoint: Option<String>,
    /// `--out`: the folder of the runs.
    pub out: PathBuf,
    /// The join token, if one was given.
    pub token: Option<Token>,
    /// `--new`: another repeat of a run that is there.
    pub new: bool,
    /// `--from`.
    pub from: Option<Fork>,
    /// How long a process may be silent where it has to answer.
    pub patience: Duration,
    /// Who starts it, for the history.
    pub owner: Option<String>,
}

impl Config {
    /// The token to use; one is made where one is needed and none was given.
    pub(super) fn token(&self, needed: bool) -> Result<Token, CoordinatorError> {
        match &self.token {
            Some(token) if !token.is_none() => Ok(token.clone()),
            _ if needed => Token::random().map_err(CoordinatorError::Token),
            _ => Ok(Token::none()),
        }
    }

    /// Where checkpoints go.
    pub(super) fn checkpoint_url(&self) -> String {
        self.checkpoint
            .clone()
            .unwrap_or_else(|| self.out.join("checkpoints").display().to_string())
    }
}
