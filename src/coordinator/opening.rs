//! Which run this is: a new one, one that goes on, one that is complete, or
//! one that must not be continued like this.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use super::config::{Config, Fork};
use super::takeover::refuse_if_coordinated;
use crate::checkpoint::{
    Damage, Identity, LoadError, Manifest, RunRecord, RunStore, SaveError, Severity, Snapshot,
    Store, StoreError,
};
use crate::collective::Connector;
use crate::job;
use crate::observe::Summary;
use crate::observe::summary::Outcome;
use crate::strategy::{self, Plan};

/// Why a run can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpeningError {
    /// The run's folder can't be made or written.
    #[error("{path}: {source}; give another --out", path = path.display())]
    Folder {
        /// Which file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// The same command is at work already.
    #[error(
        "this run is being trained by another process on this machine (it holds {path}): \
         watch that one, end it first, or give another --out or --new",
        path = path.display()
    )]
    Running {
        /// The lock that it holds.
        path: PathBuf,
    },
    /// Another coordinator is at work, or may be.
    #[error(
        "run {run} was last coordinated at {address}, and a coordinator answers there ({who}): \
         watch or end that one, or train another repeat with --new; if it coordinates something \
         else by now, remove {record}"
    )]
    Coordinated {
        /// The run.
        run: String,
        /// `HOST:PORT` of the other.
        address: String,
        /// What it says.
        who: String,
        /// Where its address comes from.
        record: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A checkpoint.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The fork's first checkpoint.
    #[error(transparent)]
    Save(#[from] SaveError),
    /// An unfinished run of another job is there.
    #[error(
        "{url} holds the unfinished run {run} of a job that differs:\n  {differences}\n\
         Continue it with the job as it was, fork it with --from {run}@{step}, \
         or start another run with --new"
    )]
    Changed {
        /// The store.
        url: String,
        /// The unfinished run.
        run: String,
        /// Its newest checkpoint.
        step: u64,
        /// One a line.
        differences: String,
    },
    /// The parent of a fork isn't there.
    #[error("{url} holds no checkpoint of run {run} at step {step}; there is {there}")]
    NoSuchFork {
        /// The store.
        url: String,
        /// The parent.
        run: String,
        /// The step asked for.
        step: u64,
        /// What there is instead.
        there: String,
    },
    /// The parent's state doesn't fit the job.
    #[error("run {run} can't be continued by this job: {problem}")]
    Unfit {
        /// The parent.
        run: String,
        /// Why.
        problem: String,
    },
}

/// A run that can begin or go on.
pub(super) struct OpenRun {
    pub run: RunStore,
    pub record: RunRecord,
    /// The run's folder.
    pub folder: PathBuf,
    /// What people have to know about checkpoints that could not be used.
    pub damages: Vec<Damage>,
    /// Which start of a coordinator on this run it is.
    pub incarnation: u32,
    /// The newest copy of a world that an earlier coordinator has left in the store.
    pub world: Option<Vec<u8>>,
    /// The checkpoint to start from.
    pub start: Option<Manifest>,
    /// Held for as long as this coordinator runs.
    pub lock: File,
}

pub(super) enum Opened {
    Complete(Box<Summary>),
    Run(Box<OpenRun>),
}

/// Opens the run that job, data and code make.
///
/// `connector` brings the token, `address` is where we listen.
pub(super) async fn open(
    config: &Config,
    plan: &Plan,
    connector: &Connector,
    address: &str,
) -> Result<Opened, OpeningError> {
    let store = Store::open(&config.checkpoint_url())?;
    store.probe().await?;
    let identity = plan.identity();
    let (id, parent) = match &config.from {
        Some(fork) => (fork_id(&identity, fork), Some(fork.clone())),
        None => (identity.run.clone(), None),
    };
    let runs = store.runs().await?;
    let id = if config.new {
        let free = repeats(&id).find(|id| !runs.contains(id));
        free.unwrap_or_default()
    } else {
        newest_repeat(&store, id, &runs).await?
    };
    let identity = Identity {
        run: id.clone(),
        ..identity
    };
    let run = store.run(&id)?;
    if !runs.contains(&id) {
        if parent.is_none() && !config.new {
            refuse_other_unfinished(&store, &runs, &identity).await?;
        }
        if let Some(fork) = &parent {
            begin_fork(&store, &run, plan, &identity, fork).await?;
        }
    }
    let record = RunRecord {
        identity: identity.clone(),
        parent: parent.as_ref().map(|f| f.run.clone()),
        parent_step: parent.as_ref().map(|f| f.step),
    };
    run.create_run(&record).await?;

    let folder = config.out.join(&id);
    let mut damages = Vec::new();
    let start = run.newest_verified(|damage| damages.push(damage)).await?;
    // Members that missed the end are told of it first.
    if let Some(manifest) = start.as_ref().filter(|m| m.header.is_final)
        && !super::report::has_recorded_members(&folder, run.run())
    {
        let summary = complete(config, manifest, &run, &folder).await;
        return Ok(Opened::Complete(Box::new(summary)));
    }
    let lock = lock(&folder)?;
    let owner = config.owner.as_deref().unwrap_or("unknown");
    refuse_if_coordinated(&run, connector, address).await?;
    let incarnation = run.take_incarnation(owner, address).await?;
    let world = run.world_before(incarnation).await?.map(Vec::from);
    let opened = OpenRun {
        run,
        record,
        folder,
        damages,
        incarnation,
        world,
        start,
        lock,
    };
    Ok(Opened::Run(Box::new(opened)))
}

/// The same command twice at once: the second one must not take over from the
/// first. The lock ends with its process, however that ends.
fn lock(folder: &Path) -> Result<File, OpeningError> {
    let path = folder.join("lock");
    let io = |source| OpeningError::Folder {
        path: path.clone(),
        source,
    };
    std::fs::create_dir_all(folder).map_err(io)?;
    let mut options = File::options();
    let file = options.create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpeningError::Running { path }),
        // A file system without locks: as safe as it was before.
        Err(TryLockError::Error(error)) => {
            tracing::warn!(path = %path.display(), %error, "the run's folder can't be locked");
            Ok(file)
        }
    }
}

fn fork_id(identity: &Identity, fork: &Fork) -> String {
    let lineage = format!("{}from = {}@{}\n", identity.job_toml, fork.run, fork.step);
    job::run_id(&lineage, &identity.artifact, &identity.data_fingerprint)
}

/// `ID`, `ID-2`, `ID-3`, ...: the repeats that `--new` asks for.
fn repeats(id: &str) -> impl Iterator<Item = String> {
    let again = (2_u64..).map(move |n| format!("{id}-{n}"));
    std::iter::once(id.to_owned()).chain(again)
}

/// Which repeat the same command goes on with: the newest that isn't complete;
/// the newest if all are.
async fn newest_repeat(store: &Store, id: String, runs: &[String]) -> Result<String, OpeningError> {
    let there: Vec<String> = repeats(&id).take_while(|id| runs.contains(id)).collect();
    for repeat in there.iter().rev() {
        if store.run(repeat)?.finished().await?.is_none() {
            return Ok(repeat.clone());
        }
    }
    Ok(there.into_iter().last().unwrap_or(id))
}

/// An unfinished run in the same place is most likely the one that was meant.
async fn refuse_other_unfinished(
    store: &Store,
    runs: &[String],
    identity: &Identity,
) -> Result<(), OpeningError> {
    for other in runs {
        let run = store.run(other)?;
        let Some(record) = run.run_record().await? else {
            continue;
        };
        let newest = run.newest_verified(|_| {}).await?;
        let Some(manifest) = newest else { continue };
        let is_repeat = record.identity.hash() == identity.hash();
        if manifest.header.is_final || is_repeat {
            continue;
        }
        let differences: Vec<String> = record
            .identity
            .differences(identity)
            .into_iter()
            .filter(|d| d.severity == Severity::Refuse)
            .map(|d| d.to_string())
            .collect();
        if !differences.is_empty() {
            return Err(OpeningError::Changed {
                url: store.url().to_owned(),
                run: other.clone(),
                step: manifest.header.step,
                differences: differences.join("\n  "),
            });
        }
    }
    Ok(())
}

/// The fork's first checkpoint: the parent's state under the new identity.
async fn begin_fork(
    store: &Store,
    run: &RunStore,
    plan: &Plan,
    identity: &Identity,
    fork: &Fork,
) -> Result<(), OpeningError> {
    let parent = store.run(&fork.run)?;
    let Some(manifest) = parent.at_step(fork.step).await? else {
        let mut steps = Vec::new();
        for reference in parent.manifests().await? {
            if let Ok(found) = parent.read_manifest(&reference).await {
                steps.push(found.header.step.to_string());
            }
        }
        let there = if steps.is_empty() {
            "none at all".to_owned()
        } else {
            format!("one at step {}", steps.join(", "))
        };
        let (url, run, step) = (store.url().to_owned(), fork.run.clone(), fork.step);
        return Err(OpeningError::NoSuchFork {
            url,
            run,
            step,
            there,
        });
    };
    let snapshot = parent.load(&manifest).await?;
    let forked =
        strategy::fork(plan, &snapshot, identity).map_err(|problem| OpeningError::Unfit {
            run: fork.run.clone(),
            problem: problem.to_string(),
        })?;
    let forked: Snapshot = forked;
    run.save(
        &std::sync::Arc::new(forked),
        crate::checkpoint::SHARD_BYTES_MAX,
    )
    .await?;
    Ok(())
}

async fn complete(
    config: &Config,
    manifest: &Manifest,
    run: &RunStore,
    folder: &std::path::Path,
) -> Summary {
    let header = &manifest.header;
    let value = |name: &str| header.metrics.get(name).copied();
    let mut summary = Summary {
        status: Outcome::AlreadyComplete,
        job: config.job.name.clone(),
        run: Some(run.run().to_owned()),
        steps: Some(header.step),
        epochs: Some(header.epoch),
        train_loss: value("loss"),
        val_loss: value("val_loss"),
        val_accuracy: value("val_accuracy"),
        weights_sha256: Some(header.weights_sha256.clone()),
        exact: Some(header.identity.kinds.len() <= 1),
        kinds: header.identity.kinds.clone(),
        checkpoint: Some(format!(
            "{}/{}",
            config.checkpoint_url(),
            manifest.reference.key
        )),
        run_dir: Some(folder.display().to_string()),
        ..Summary::default()
    };
    super::report::fill_from_history(&mut summary, folder, run.run());
    if config.job.checkpoint.export_weights {
        summary.weights = super::report::exported_weights(run, folder).await;
    }
    summary
}
