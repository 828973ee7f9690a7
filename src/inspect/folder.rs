//! A run's folder: found by what a person types, and read as it is.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::checkpoint::POINTER;
use crate::observe::MetricsRecord;
use crate::observe::events::EventRecord;
use crate::observe::steps::{STEPS_FILE, StepsError, read_steps};
use crate::wire::StepRow;

const EVENTS: &str = "events.jsonl";
const METRICS: &str = "metrics.jsonl";
const CONFIG: &str = "config.resolved.toml";

/// Why a run can't be looked into.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// Nothing of that name.
    #[error(
        "no run {asked:?}: it is neither a run's folder (one with events.jsonl) nor the id of one \
         below {}{}", below.display(), known(runs)
    )]
    NotFound {
        /// What was asked for.
        asked: String,
        /// Where ids were looked for.
        below: PathBuf,
        /// The ids that there are.
        runs: Vec<String>,
    },
    /// Several runs could be meant.
    #[error("{asked:?} may be {}: say which", listed(runs))]
    Several {
        /// What was asked for.
        asked: String,
        /// The folders that fit.
        runs: Vec<PathBuf>,
    },
    /// A file that can't be read.
    #[error("{}: can't be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// `steps.bin` can't be read.
    #[error(transparent)]
    Steps(#[from] StepsError),
}

fn listed(runs: &[PathBuf]) -> String {
    let runs: Vec<String> = runs.iter().map(|run| run.display().to_string()).collect();
    crate::observe::listed(&runs)
}

fn known(runs: &[String]) -> String {
    match runs {
        [] => String::new(),
        runs => format!("; there are {}", crate::observe::listed(runs)),
    }
}

/// A run's folder.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// The run that is meant by a folder, the folder of a job's only run, or the
    /// beginning of an id below `runs` (as `runs/NAME/ID` or `runs/ID`).
    ///
    /// # Errors
    /// [`InspectError::NotFound`], [`InspectError::Several`].
    pub fn find(asked: &str, runs: &Path) -> Result<RunFolder, InspectError> {
        let path = PathBuf::from(asked);
        if is_run(&path) {
            return Ok(RunFolder { path });
        }
        let mut below = folders(&path);
        below.retain(|folder| is_run(folder));
        let mut all: Vec<PathBuf> = Vec::new();
        if below.is_empty() {
            let named = folders(runs);
            all.extend(named.iter().flat_map(|folder| folders(folder)));
            all.extend(named);
            all.retain(|folder| is_run(folder));
            all.sort();
            below = all.clone();
            below.retain(|folder| !asked.is_empty() && name(folder).starts_with(asked));
        }
        match below.len() {
            0 => Err(InspectError::NotFound {
                asked: asked.to_owned(),
                below: runs.to_owned(),
                runs: all.iter().map(|folder| name(folder)).collect(),
            }),
            1 => Ok(RunFolder {
                path: below.remove(0),
            }),
            _ => Err(InspectError::Several {
                asked: asked.to_owned(),
                runs: below,
            }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved job, as TOML.
    ///
    /// # Errors
    /// [`InspectError::Read`].
    pub fn config(&self) -> Result<String, InspectError> {
        let path = self.path.join(CONFIG);
        std::fs::read_to_string(&path).map_err(|source| InspectError::Read { path, source })
    }

    /// Where the run's checkpoints are, as `STORE/RUN`, if the folder says so.
    pub fn checkpoints(&self) -> Option<String> {
        let url = std::fs::read_to_string(self.path.join(POINTER)).ok()?;
        Some(url.trim().to_owned())
    }

    /// What happened, in the order in which it was written down.
    ///
    /// # Errors
    /// [`InspectError::Read`].
    pub fn events(&self) -> Result<Vec<EventRecord>, InspectError> {
        self.lines(EVENTS)
    }

    /// Loss curve and digests; empty when there is none yet.
    ///
    /// # Errors
    /// [`InspectError::Read`].
    pub fn metrics(&self) -> Result<Vec<MetricsRecord>, InspectError> {
        match self.lines(METRICS) {
            Err(InspectError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(Vec::new())
            }
            lines => lines,
        }
    }

    /// The finished steps by index, as far as they are known.
    ///
    /// # Errors
    /// [`InspectError::Steps`].
    pub fn steps(&self) -> Result<Vec<Option<StepRow>>, InspectError> {
        Ok(read_steps(&self.path.join(STEPS_FILE))?)
    }

    /// Lines that are no record (a torn last one, a newer ebbtide's) are passed over.
    fn lines<T: DeserializeOwned>(&self, file: &str) -> Result<Vec<T>, InspectError> {
        let path = self.path.join(file);
        let text = std::fs::read(&path).map_err(|source| InspectError::Read { path, source })?;
        let lines = text.split(|byte| *byte == b'\n');
        Ok(lines
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect())
    }
}

fn is_run(folder: &Path) -> bool {
    folder.join(EVENTS).is_file()
}

fn name(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.is_dir()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::jsonl::scratch::Folder;

    fn with_runs(runs: &[&str]) -> Folder {
        let folder = Folder::new();
        for run in runs {
            let path = folder.path().join(run);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join(EVENTS), "").unwrap();
        }
        folder
    }

    #[test]
    fn a_run_is_found_by_folder_by_its_jobs_folder_and_by_the_start_of_its_id() {
        let folder = with_runs(&["mnist/b597", "mnist/b612", "odd/c001"]);
        let find = |asked: &str| {
            let found = RunFolder::find(asked, folder.path()).map_err(|e| e.to_string());
            found.map(|found| name(found.path()))
        };
        let at = |run: &str| folder.path().join(run).display().to_string();
        assert_eq!(find(&at("mnist/b612")).unwrap(), "b612");
        assert_eq!(find(&at("odd")).unwrap(), "c001");
        assert_eq!(find("b59").unwrap(), "b597");
        for several in [at("mnist"), "b".to_owned()] {
            let error = find(&several).unwrap_err();
            assert!(error.contains("b597") && error.contains("b612"), "{error}");
        }
        let error = find("d").unwrap_err();
        assert!(error.contains("there are b597, b612, c001"), "{error}");
        assert!(find("").is_err());
    }
}
