//! File to [`Job`] and back: overrides, defaults, locations, files that must exist.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use toml::Value;

use super::de;
use super::errors::JobError;
use super::keys::nearest;
use super::source::{Source, TEXT_BYTES_MAX};
use super::spec::Job;

impl Job {
    /// Reads, overrides and validates the job file at `path`.
    ///
    /// Each override is `key=value`: a dotted key, a TOML value; a bare word is
    /// a string. Relative paths in the file are relative to the file, those in
    /// an override to the working directory. Files that the job names aren't
    /// looked at yet: see [`Job::check_files`].
    ///
    /// # Errors
    /// Whatever is wrong with the file or an override, with its place.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Job, JobError> {
        let unreadable = |reason: String| JobError::Unreadable {
            file: path.display().to_string(),
            reason,
        };
        let mut text = String::new();
        File::open(path)
            .and_then(|file| {
                file.take(TEXT_BYTES_MAX as u64 + 1)
                    .read_to_string(&mut text)
            })
            .map_err(|error| unreadable(error.to_string()))?;
        Job::parse(&text, path, overrides)
    }

    /// As [`Job::load`], with the text of the file at hand; `path` names it in
    /// messages and gives relative locations their base.
    ///
    /// # Errors
    /// As [`Job::load`].
    pub fn parse(text: &str, path: &Path, overrides: &[String]) -> Result<Job, JobError> {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let (mut source, mut root) =
            Source::parse(text, &path.display().to_string(), absolute.parent())?;
        for text in overrides {
            source.set(&mut root, text)?;
        }
        root.entry("name")
            .or_insert_with(|| Value::String(name_of(path)));
        Job::build(source, &root)
    }

    /// Reads what [`Job::resolved_toml`] wrote.
    ///
    /// # Errors
    /// As [`Job::load`]: the text may come from another machine.
    pub fn from_resolved(text: &str) -> Result<Job, JobError> {
        let (source, root) = Source::parse(text, "config.resolved.toml", None)?;
        Job::build(source, &root)
    }

    fn build(source: Source, root: &toml::Table) -> Result<Job, JobError> {
        let root = Value::Table(root.clone());
        let mut job: Job = de::from_value(&root, &[]).map_err(|fault| source.explain(fault))?;
        job.source = source;
        job.data.url = job.resolve("data.url", &job.data.url);
        if let Some(init) = &job.init {
            let from = job.resolve("init.from", &init.from);
            job.init.as_mut().expect("it was there a line ago").from = from;
        }
        job.fill_defaults();
        job.validate()?;
        Ok(job)
    }

    /// The whole job with every default spelled out, as TOML: what workers are
    /// sent and what is written to `config.resolved.toml`.
    pub fn resolved_toml(&self) -> String {
        // A `Job` holds only what TOML can say: it was read from TOML, and
        // `validate` bounds its integers by 63 bits.
        toml::to_string(self).expect("a validated job is made of TOML values")
    }

    /// Reads the model's own keys of `[model]` as `C`.
    ///
    /// # Errors
    /// What is wrong with them, with its place, as for our own keys.
    pub fn model_config<C: DeserializeOwned>(&self) -> Result<C, JobError> {
        self.read_table(&self.model.config, "model")
    }

    /// Reads `[data.options]` as `C`.
    ///
    /// # Errors
    /// As [`Job::model_config`].
    pub fn data_options<C: DeserializeOwned>(&self) -> Result<C, JobError> {
        self.read_table(&self.data.options, "data.options")
    }

    /// Puts the data elsewhere: a flag (`--data URL`) says where it is on this node.
    pub fn relocate_data(&mut self, flag: &str, url: &str) {
        url.clone_into(&mut self.data.url);
        self.source
            .replaced(segments("data.url"), format!("{flag} {url}"));
    }

    fn read_table<C: DeserializeOwned>(
        &self,
        table: &toml::Table,
        key: &str,
    ) -> Result<C, JobError> {
        de::from_value(&Value::Table(table.clone()), &segments(key))
            .map_err(|fault| self.source.explain(fault))
    }

    /// An error about `key` (dotted), with the place where it was written.
    pub fn error(&self, key: &str, problem: impl Into<String>) -> JobError {
        self.source.error(&segments(key), problem)
    }

    /// The error for a `model.kind` or `data.kind` that isn't registered.
    pub fn unknown_kind<S: AsRef<str>>(&self, key: &str, found: &str, valid: &[S]) -> JobError {
        let names: Vec<String> = valid
            .iter()
            .map(|name| format!("\"{}\"", name.as_ref()))
            .collect();
        let hint = nearest(found, valid)
            .map_or(String::new(), |name| format!("; the nearest is \"{name}\""));
        self.error(
            key,
            format!(
                "expected a registered kind ({}); found \"{found}\"{hint}",
                names.join(", ")
            ),
        )
    }

    /// Whether the files that the job names are there, as far as this machine
    /// can tell: paths and `file://` URLs.
    ///
    /// # Errors
    /// The first one that is missing or of the wrong sort, with its key's place.
    pub fn check_files(&self) -> Result<(), JobError> {
        if let Some(path) = local_path(&self.data.url) {
            std::fs::metadata(&path).map_err(|error| {
                self.error(
                    "data.url",
                    format!("expected data at {}: {error}", path.display()),
                )
            })?;
        }
        let Some(init) = &self.init else {
            return Ok(());
        };
        let problem = |reason: String| {
            self.error(
                "init.from",
                format!("expected a safetensors file at {reason}"),
            )
        };
        let path = local_path(&init.from)
            .ok_or_else(|| problem(format!("a path or a file:// URL; found \"{}\"", init.from)))?;
        let metadata = File::open(&path)
            .and_then(|file| file.metadata())
            .map_err(|error| problem(format!("{}: {error}", path.display())))?;
        if !metadata.is_file() {
            return Err(problem(format!("{}: this is no file", path.display())));
        }
        Ok(())
    }

    /// Notes the SHA-256 of the initial weights in `init.sha256`, so that the
    /// run's identity follows their bytes and every worker can tell whether its
    /// copy is the same. Without `[init]` it does nothing.
    ///
    /// # Errors
    /// The file can't be read, or it isn't the one whose `init.sha256` the job gives.
    pub fn pin_init(&mut self) -> Result<(), JobError> {
        let Some(init) = &self.init else {
            return Ok(());
        };
        let path = local_path(&init.from).unwrap_or_else(|| PathBuf::from(&init.from));
        let digest = sha256_of(&path).map_err(|error| {
            let path = path.display();
            self.error(
                "init.from",
                format!("expected a safetensors file at {path}: {error}"),
            )
        })?;
        match &init.sha256 {
            Some(expected) if !expected.eq_ignore_ascii_case(&digest) => Err(self.error(
                "init.sha256",
                format!("expected {expected}; found {digest} at {}", path.display()),
            )),
            _ => {
                self.init.as_mut().expect("it was there a line ago").sha256 = Some(digest);
                Ok(())
            }
        }
    }

    /// A location with its base: URLs and absolute paths stay as they are.
    fn resolve(&self, key: &str, location: &str) -> String {
        let is_url = location.contains("://");
        match self.source.base(&segments(key)) {
            Some(base) if !is_url && !location.is_empty() => {
                let joined = base.join(location);
                std::path::absolute(&joined)
                    .unwrap_or(joined)
                    .to_string_lossy()
                    .into_owned()
            }
            _ => location.to_owned(),
        }
    }
}

/// The path of a plain path or a `file://` URL; `None` for everything else
/// (another scheme, or no location at all).
pub fn local_path(location: &str) -> Option<PathBuf> {
    match location {
        "" => None,
        location if location.starts_with("file://") => {
            url::Url::parse(location).ok()?.to_file_path().ok()
        }
        location if location.contains("://") => None,
        path => Some(PathBuf::from(path)),
    }
}

/// A dotted key as segments.
pub(super) fn segments(key: &str) -> Vec<String> {
    key.split('.').map(str::to_owned).collect()
}

/// A job's name from its file's: what stands before `.toml`, made fit for paths.
fn name_of(path: &Path) -> String {
    let stem = path
        .file_stem()
        .map_or("job".into(), |stem| stem.to_string_lossy());
    let fit = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '-'
        }
    };
    let name: String = stem.chars().map(fit).take(64).collect();
    name.trim_start_matches('.').to_owned()
}

fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 1 << 16];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(super::identity::hex(&hasher.finalize())),
            read => hasher.update(&chunk[..read]),
        }
    }
}
