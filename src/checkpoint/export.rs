//! Weights out of a checkpoint, as the file that everybody reads.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use super::error::{Damage, ExportError, StoreError};
use super::location::Location;
use super::manifest::{Manifest, ManifestRef, parse_name};
use super::run_store::RunStore;
use super::save::blocking;
use super::shard::encode;
use super::snapshot::{Header, NamedTensor};
use super::store::{Store, valid_id};

/// A file in a run's output folder that holds the URL of its checkpoints
/// (`STORE/RUN`), so that `export` needs no more than that folder.
pub const POINTER: &str = "checkpoint.url";

/// A folder beside a run's output that may hold the store itself.
const CHECKPOINTS: &str = "checkpoints";

/// What was exported.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExportReport {
    /// The run.
    pub run: String,
    /// Its step, round and epoch.
    pub step: u64,
    /// The round of the checkpoint.
    pub round: u64,
    /// The epoch of the checkpoint.
    pub epoch: u64,
    /// Whether the run was complete.
    pub is_final: bool,
    /// [`super::weights_sha256`] of what was written.
    pub weights_sha256: String,
    /// Tensors written.
    pub tensors: usize,
    /// Values written.
    pub parameters: u64,
    /// The manifest used, relative to its store.
    pub manifest: String,
    /// The file.
    pub to: PathBuf,
    /// Newer checkpoints that were passed over, in words.
    pub damaged: Vec<String>,
}

/// What an export reads from.
struct Found {
    run: RunStore,
    /// One checkpoint, or the newest that verifies.
    manifest: Option<ManifestRef>,
}

/// Writes the weights of the newest checkpoint that verifies (the final one of a
/// complete run) to `to` as plain safetensors.
///
/// `from` is a run's output folder (with [`POINTER`] or a `checkpoints` folder),
/// a checkpoint URL (of several runs in it the newest), such a URL with `/RUN`,
/// or the URL of one manifest.
pub async fn export(from: &str, to: &Path) -> Result<ExportReport, ExportError> {
    let from_folder = Path::new(from).join(POINTER);
    let found = match std::fs::read_to_string(&from_folder) {
        Ok(url) => find(url.trim()).await?,
        Err(_) => find(from).await?,
    };
    export_found(from, found, to).await
}

/// [`export`] from a store that is open already: the given run's newest sound checkpoint.
pub async fn export_run(run: &RunStore, to: &Path) -> Result<ExportReport, ExportError> {
    export_found(
        &run.url(),
        Found {
            run: run.clone(),
            manifest: None,
        },
        to,
    )
    .await
}

async fn export_found(from: &str, found: Found, to: &Path) -> Result<ExportReport, ExportError> {
    let run = &found.run;
    let mut damaged = Vec::new();
    let manifest = match &found.manifest {
        Some(reference) => run.read_verified(reference).await?,
        None => {
            let newest = run
                .newest_verified(|damage: Damage| damaged.push(damage.to_string()))
                .await?;
            newest.ok_or_else(|| nothing(from, &damaged))?
        }
    };
    let weights = run.load_weights_only(&manifest).await?;
    let report = report(run, &manifest, &weights, to, damaged);
    let (header, to) = (manifest.header, to.to_path_buf());
    blocking(move || write_weights(&header, &weights, &to)).await?;
    Ok(report)
}

fn nothing(from: &str, damaged: &[String]) -> ExportError {
    let reason = if damaged.is_empty() {
        "there is none".into()
    } else {
        damaged.join("; ")
    };
    ExportError::Nothing {
        from: from.into(),
        reason,
    }
}

fn report(
    run: &RunStore,
    manifest: &Manifest,
    weights: &[NamedTensor],
    to: &Path,
    damaged: Vec<String>,
) -> ExportReport {
    let header = &manifest.header;
    ExportReport {
        run: run.run().to_string(),
        step: header.step,
        round: header.round,
        epoch: header.epoch,
        is_final: header.is_final,
        weights_sha256: header.weights_sha256.clone(),
        tensors: weights.len(),
        parameters: weights.iter().map(|tensor| tensor.data.len() as u64).sum(),
        manifest: manifest.reference.key.clone(),
        to: to.to_path_buf(),
        damaged,
    }
}

/// Writes weights as a plain safetensors file, whole or not at all. The folder
/// is made if needed. Equal weights of an equal run give equal bytes.
pub fn write_weights(
    header: &Header,
    weights: &[NamedTensor],
    to: &Path,
) -> Result<(), ExportError> {
    let failed = |source| ExportError::Write {
        path: to.to_path_buf(),
        source,
    };
    let metadata = json!({
        "run": header.identity.run,
        "identity": header.identity.hash(),
        "step": header.step,
        "weights_sha256": header.weights_sha256,
    });
    let bytes = encode(weights, &metadata)
        .map_err(|error| failed(std::io::Error::other(error.to_string())))?;
    write_whole(to, &bytes).map_err(failed)
}

/// Writes a file beside its place and moves it there once it is safe on disk.
fn write_whole(to: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let name = to
        .file_name()
        .ok_or_else(|| std::io::Error::other("it has no file name"))?;
    let folder = match to.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder)?;
    let staged = folder.join(format!(
        ".{}.{}",
        name.to_string_lossy(),
        std::process::id()
    ));
    let written = std::fs::File::create(&staged)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&staged, to));
    if written.is_err() {
        let _ = std::fs::remove_file(&staged);
    }
    written
}

/// Leaves the URL of a run's checkpoints in the run's output folder.
pub fn write_pointer(folder: &Path, run: &RunStore) -> Result<(), ExportError> {
    let path = folder.join(POINTER);
    let line = format!("{}\n", absolute(&run.url()));
    write_whole(&path, line.as_bytes()).map_err(|source| ExportError::Write { path, source })
}

/// A plain relative path means another place from another folder.
fn absolute(url: &str) -> String {
    match Location::parse(url) {
        Ok(Location::Folder(folder)) if !url.contains("://") => folder.display().to_string(),
        _ => url.to_string(),
    }
}

/// Finds out which of its meanings `from` has.
async fn find(from: &str) -> Result<Found, ExportError> {
    let url = absolute(from);
    let url = url.trim_end_matches('/');
    if let Some(found) = as_manifest(url)? {
        return Ok(found);
    }
    // A run's folder is recognized by what lies in it.
    let store = Store::open_existing(if url.is_empty() { from } else { url })?;
    let folders = store.folders("").await?;
    if folders.iter().any(|folder| folder == "manifests")
        && let Some((parent, run)) = url.rsplit_once('/')
    {
        let run = Store::open_existing(&root(parent))?.run(run)?;
        return Ok(Found {
            run,
            manifest: None,
        });
    }
    if let Some(run) = newest_run(&store, folders.clone()).await? {
        return Ok(Found {
            run,
            manifest: None,
        });
    }
    if folders.iter().any(|folder| folder == CHECKPOINTS) {
        let store = Store::open_existing(&format!("{url}/{CHECKPOINTS}"))?;
        let folders = store.folders("").await?;
        if let Some(run) = newest_run(&store, folders).await? {
            return Ok(Found {
                run,
                manifest: None,
            });
        }
    }
    let reason = "it is neither a store of checkpoints nor a run's folder".to_string();
    Err(ExportError::Nothing {
        from: from.into(),
        reason,
    })
}

/// `STORE/RUN/manifests/NAME`, if it has that form.
fn as_manifest(url: &str) -> Result<Option<Found>, StoreError> {
    let Some((folder, name)) = url.rsplit_once('/') else {
        return Ok(None);
    };
    let (Some(run_url), Some((round, attempt))) =
        (folder.strip_suffix("/manifests"), parse_name(name))
    else {
        return Ok(None);
    };
    let Some((store, run)) = run_url.rsplit_once('/') else {
        return Ok(None);
    };
    let run = Store::open_existing(&root(store))?.run(run)?;
    let key = run.key(&format!("manifests/{name}"));
    Ok(Some(Found {
        run,
        manifest: Some(ManifestRef {
            round,
            attempt,
            key,
            modified_ms: 0,
        }),
    }))
}

/// The part of a URL before a name, where that is the root itself.
fn root(parent: &str) -> String {
    match parent {
        "" => "/".to_string(),
        scheme if scheme.ends_with(":/") => format!("{scheme}/"),
        other => other.to_string(),
    }
}

/// The run with the manifest written last.
async fn newest_run(store: &Store, folders: Vec<String>) -> Result<Option<RunStore>, StoreError> {
    let mut newest: Option<(i64, RunStore)> = None;
    for folder in folders
        .iter()
        .filter(|folder| valid_id("run id", folder).is_ok())
    {
        let run = store.run(folder)?;
        let written = run
            .manifests()
            .await?
            .iter()
            .map(|manifest| manifest.modified_ms)
            .max();
        if let Some(written) = written
            && newest.as_ref().is_none_or(|(when, _)| written > *when)
        {
            newest = Some((written, run));
        }
    }
    Ok(newest.map(|(_, run)| run))
}
