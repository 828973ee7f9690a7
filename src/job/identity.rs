//! The part of a job that decides its numbers, in one canonical text.
//!
//! Two jobs with the same identity train to the same bits, so an unfinished run
//! of one is continued by the other. The text is TOML with one `key = value` a
//! line, sorted by key: it can be hashed, and two can be compared by eye.

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};
use toml::Value;

use super::spec::Job;

/// Keys (or whole tables) that change no number of a run, so that changing them
/// continues it:
/// - `name`: a label.
/// - `data.url`: the place of the data; its content stands in the run id by fingerprint.
/// - `checkpoint`, `log`, `verify`: what is written down, and how often.
/// - `numerics`: whom the run admits.
/// - `train.max_skipped_steps`: when a sick run is given up; raising it is how
///   one goes on.
///
/// `evaluation` is no such table: it decides `val_loss`, and with early stopping the end.
const OUTPUT_KEYS: &[&str] = &[
    "name",
    "data.url",
    "checkpoint",
    "log",
    "verify",
    "numerics",
    "train.max_skipped_steps",
];

impl Job {
    /// What decides the run's numbers, besides data and code: the resolved job
    /// without output keys, one `key = value` a line in the order of the keys.
    ///
    /// Initial weights count by content once [`Job::pin_init`] has been called,
    /// by path before.
    pub fn identity(&self) -> String {
        let mut flat = flatten(&self.resolved_toml());
        flat.retain(|key, _| {
            !OUTPUT_KEYS.iter().any(|output| {
                key.strip_prefix(output)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        });
        if flat.contains_key("init.sha256") {
            flat.remove("init.from");
        }
        flat.iter()
            .map(|(key, value)| format!("{key} = {value}\n"))
            .collect()
    }
}

/// One key that two jobs disagree about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key's full path.
    pub key: String,
    /// Its value in the first job, as TOML; `None` where it isn't set.
    pub old: Option<String>,
    /// Its value in the second job.
    pub new: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "(not set)".to_owned());
        write!(
            f,
            "{}: {} -> {}",
            self.key,
            show(&self.old),
            show(&self.new)
        )
    }
}

/// The keys in which two identities, or two resolved jobs, differ, in the order
/// of the keys. A text that is no TOML counts as empty.
pub fn diff(old: &str, new: &str) -> Vec<Change> {
    let (old, new) = (flatten(old), flatten(new));
    let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .map(|key| Change {
            key: key.clone(),
            old: old.get(key).cloned(),
            new: new.get(key).cloned(),
        })
        .collect()
}

/// The run that `identity` ([`Job::identity`]) is with this code and this data:
/// 12 hex digits of a SHA-256.
pub fn run_id(identity: &str, artifact: &str, data_fingerprint: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(b"ebbtide run id v1\0");
    for part in [identity, artifact, data_fingerprint] {
        // With its length in front, no part can pass for the end of another.
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hex(&hasher.finalize()[..6])
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Dotted key to value, both as TOML. Arrays are values.
fn flatten(text: &str) -> BTreeMap<String, String> {
    fn walk(table: &toml::Table, prefix: &str, flat: &mut BTreeMap<String, String>) {
        for (key, value) in table {
            let key = format!("{prefix}{}", key_text(key));
            match value {
                Value::Table(table) if !table.is_empty() => {
                    walk(table, &format!("{key}."), flat);
                }
                value => {
                    flat.insert(key, value_text(value));
                }
            }
        }
    }
    let mut flat = BTreeMap::new();
    if let Ok(table) = toml::from_str::<toml::Table>(text) {
        walk(&table, "", &mut flat);
    }
    flat
}

fn key_text(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(bare) {
        key.to_owned()
    } else {
        quoted(key)
    }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// One value on one line, the keys of tables within sorted: our own text, so
/// that no change of a library's formatting can give an old run a new id.
fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) if number.is_nan() => "nan".to_owned(),
        Value::Float(number) => format!("{number:?}"),
        Value::Boolean(value) => value.to_string(),
        Value::Datetime(date) => date.to_string(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(value_text).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Table(table) => {
            let sorted: BTreeMap<String, String> = table
                .iter()
                .map(|(key, value)| (key_text(key), value_text(value)))
                .collect();
            let entries: Vec<String> = sorted
                .iter()
                .map(|(key, value)| format!("{key} = {value}"))
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
    }
}
