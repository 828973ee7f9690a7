//! What the operator asked for, already parsed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::CoordinatorError;
use super::shadow::ShadowMode;
use crate::collective::Token;
use crate::job::Job;
use crate::model::Registry;
use crate::observe::joinline::host_name;

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
    /// Workers beyond that follow.
    pub spares: usize,
    /// `--listen`.
    pub listen: String,
    /// `--public-host`: what nodes are told to join at.
    pub public_host: Option<String>,
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
    /// How many workers, and replicas of each, all of them are on this machine.
    pub crew: Option<(usize, usize)>,
    /// `--shadow`.
    pub shadow: ShadowMode,
}

/// World sizes that contradict each other, or the job: training would wait
/// for ever.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizesError {
    /// A world of nobody.
    #[error("{flag} 0: somebody has to train; give 1 or more")]
    Zero {
        /// Which flag.
        flag: &'static str,
    },
    /// One flag's number has to be no more than another's.
    #[error("{flag} {size} is more than {limit_flag} {limit}: lower the one or raise the other")]
    Contradiction {
        /// The one that is too large.
        flag: &'static str,
        /// What it says.
        size: usize,
        /// The one that it exceeds.
        limit_flag: &'static str,
        /// What that one says.
        limit: usize,
    },
    /// More members than the job has work for.
    #[error(
        "--min-world-size {size}: a step has only {micro_batches} micro-batches \
         (train.global_batch / train.micro_batch), and no more members than that"
    )]
    TooFewMicroBatches {
        /// What it says.
        size: usize,
        /// The job's.
        micro_batches: usize,
    },
}

impl Config {
    /// The host at which nodes find who listens at this address.
    pub fn join_host(&self, address: SocketAddr) -> String {
        match &self.public_host {
            Some(host) => host.clone(),
            None if address.ip().is_unspecified() => host_name(),
            None => address.ip().to_string(),
        }
    }

    /// `HOST:PORT` of that.
    pub(super) fn join_address(&self, address: SocketAddr) -> String {
        let (host, port) = (self.join_host(address), address.port());
        match host.contains(':') && !host.starts_with('[') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        }
    }

    /// Refuses what could only ever wait.
    pub(super) fn check_sizes(&self) -> Result<(), SizesError> {
        let (min, max) = (self.world_size_min, self.world_size_max);
        let micro_batches = self.job.train.micro_batches() as usize;
        let at_most = |(flag, size), (limit_flag, limit)| {
            let contradiction = SizesError::Contradiction {
                flag,
                size,
                limit_flag,
                limit,
            };
            if size <= limit {
                Ok(())
            } else {
                Err(contradiction)
            }
        };
        let min_flag = ("--min-world-size", min);
        for (flag, size) in [min_flag, ("--max-world-size", max.unwrap_or(1))] {
            if size == 0 {
                return Err(SizesError::Zero { flag });
            }
        }
        if min > micro_batches {
            let size = min;
            return Err(SizesError::TooFewMicroBatches {
                size,
                micro_batches,
            });
        }
        if let Some(max) = max {
            at_most(min_flag, ("--max-world-size", max))?;
        }
        if let WorldSize::Workers(size) = self.world_size {
            let size_flag = ("--world-size", size);
            at_most(min_flag, size_flag)?;
            at_most(size_flag, ("--max-world-size", max.unwrap_or(usize::MAX)))?;
        }
        Ok(())
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    fn config(world_size: WorldSize, min: usize, max: Option<usize>) -> Config {
        let job = "name = \"sizes\"\n[model]\nkind = \"mlp\"\n[data]\nkind = \"mnist\"\nurl = \"d\"\n\
                   [train]\nglobal_batch = 64\nmicro_batch = 16\nsteps = 1\n\
                   [optimizer]\nkind = \"adam\"\nlr = 0.001\n";
        Config {
            job: Job::from_resolved(job).expect("a job"),
            registry: Registry::builtin(),
            world_size,
            world_size_min: min,
            world_size_max: max,
            spares: 0,
            listen: String::new(),
            public_host: None,
            checkpoint: None,
            out: PathBuf::new(),
            token: None,
            new: false,
            from: None,
            patience: Duration::ZERO,
            owner: None,
            crew: None,
            shadow: ShadowMode::Off,
        }
    }

    #[test]
    fn sizes_that_could_only_wait_are_refused() {
        use WorldSize::{Auto, Workers};
        let said = |size, min, max| {
            let refused = config(size, min, max).check_sizes();
            refused.expect_err("refused").to_string()
        };
        assert!(said(Auto, 0, None).starts_with("--min-world-size 0: "));
        assert!(said(Auto, 1, Some(0)).starts_with("--max-world-size 0: "));
        assert!(said(Auto, 5, None).contains("a step has only 4 micro-batches"));
        assert!(
            said(Auto, 3, Some(2)).contains("--min-world-size 3 is more than --max-world-size 2")
        );
        assert!(said(Workers(2), 3, None).contains("is more than --world-size 2"));
        assert!(
            said(Workers(3), 1, Some(2)).contains("--world-size 3 is more than --max-world-size 2")
        );
        for (size, min, max) in [
            (Auto, 4, None),
            (Workers(9), 2, None),
            (Workers(2), 2, Some(2)),
        ] {
            assert_eq!(config(size, min, max).check_sizes(), Ok(()));
        }
    }
}
