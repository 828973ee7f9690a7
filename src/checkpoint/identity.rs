//! What a run is, as far as its numbers depend on it.
//!
//! The weights after step *n* are a function of job, data and code alone, so a
//! checkpoint may only be continued by the same job, data and code. Everything
//! that could change a bit stands in the identity, and what differs is refused
//! by its name instead of being discovered in the loss curve.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Job, data and code of a run, as they stand in every manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The run's id.
    pub run: String,
    /// Hash of the resolved job without its output keys.
    pub job_hash: String,
    /// The resolved job itself, so that a difference can be named key by key.
    pub job_toml: String,
    /// Name and version of the program that knows the model.
    pub artifact: String,
    /// Fingerprint of the training and validation data.
    pub data_fingerprint: String,
    /// Version of the rule that assigns samples to micro-batches.
    pub order_version: u32,
    /// Version of the arithmetic that is replicated.
    pub numerics_version: u32,
    /// The numerics kinds that have computed gradients so far. Another kind
    /// makes the run inexact; it is announced, not refused.
    pub kinds: Vec<String>,
}

/// Whether a difference stops a run from going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It would change numbers: refused, or continued as a fork.
    Refuse,
    /// The replicas stay equal, the run is no longer exact: said aloud.
    Announce,
}

/// One thing that is not the same in the checkpoint and here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What differs: `job: optimizer.lr`, `data`, `artifact`, ...
    pub what: String,
    /// In the checkpoint.
    pub before: String,
    /// Here and now.
    pub now: String,
    /// What follows from it.
    pub severity: Severity,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} in the checkpoint, {} now",
            self.what, self.before, self.now
        )
    }
}

impl Identity {
    /// What differs between this identity (of a checkpoint) and `now`.
    /// The run's id is not compared: a fork has another one.
    pub fn differences(&self, now: &Identity) -> Vec<Difference> {
        let mut found = Vec::new();
        let mut compare = |what: &str, before: String, now: String| {
            if before != now {
                found.push(Difference {
                    what: what.into(),
                    before,
                    now,
                    severity: Severity::Refuse,
                });
            }
        };
        if self.job_hash != now.job_hash {
            let keys = changed_keys(&self.job_toml, &now.job_toml);
            if keys.is_empty() {
                compare("job (hash)", self.job_hash.clone(), now.job_hash.clone());
            }
            for (key, before, after) in keys {
                compare(&format!("job: {key}"), before, after);
            }
        }
        compare("artifact", self.artifact.clone(), now.artifact.clone());
        compare(
            "data",
            self.data_fingerprint.clone(),
            now.data_fingerprint.clone(),
        );
        compare(
            "data order version",
            self.order_version.to_string(),
            now.order_version.to_string(),
        );
        compare(
            "numerics version",
            self.numerics_version.to_string(),
            now.numerics_version.to_string(),
        );
        if let Some(kind) = now.kinds.iter().find(|kind| !self.kinds.contains(kind))
            && !self.kinds.is_empty()
        {
            found.push(Difference {
                what: "numerics kind".into(),
                before: self.kinds.join(", "),
                now: kind.clone(),
                severity: Severity::Announce,
            });
        }
        found
    }

    /// SHA-256 over everything that would be refused if it differed: the short
    /// form that a shard's header carries.
    pub fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        for part in [
            self.job_hash.as_str(),
            self.artifact.as_str(),
            self.data_fingerprint.as_str(),
            &self.order_version.to_string(),
            &self.numerics_version.to_string(),
        ] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        super::digest::hex(&hasher.finalize())
    }
}

/// The keys whose values differ between two TOML documents, with both values.
fn changed_keys(before: &str, now: &str) -> Vec<(String, String, String)> {
    const ABSENT: &str = "not set";
    let (before, now) = (flatten(before), flatten(now));
    let mut keys: Vec<&String> = before.keys().chain(now.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
        .map(|key| {
            let value = |of: &BTreeMap<String, String>| {
                of.get(key).cloned().unwrap_or_else(|| ABSENT.into())
            };
            (key.clone(), value(&before), value(&now))
        })
        .filter(|(_, before, now)| before != now)
        .collect()
}

/// A document as dotted keys; one that doesn't parse has none.
fn flatten(document: &str) -> BTreeMap<String, String> {
    let mut flat = BTreeMap::new();
    if let Ok(table) = document.parse::<toml::Table>() {
        flatten_into(&toml::Value::Table(table), String::new(), &mut flat);
    }
    flat
}

fn flatten_into(value: &toml::Value, key: String, flat: &mut BTreeMap<String, String>) {
    let child = |name: &str| {
        if key.is_empty() {
            name.to_string()
        } else {
            format!("{key}.{name}")
        }
    };
    match value {
        toml::Value::Table(table) => {
            for (name, value) in table {
                flatten_into(value, child(name), flat);
            }
        }
        toml::Value::Array(items) if items.iter().any(toml::Value::is_table) => {
            for (index, item) in items.iter().enumerate() {
                flatten_into(item, format!("{key}[{index}]"), flat);
            }
        }
        plain => {
            flat.insert(key, plain.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            run: "mnist-1".into(),
            job_hash: "a".into(),
            job_toml: "seed = 1\n[optimizer]\nlr = 0.001\n[[optimizer.groups]]\ndecay = 0.1\n"
                .into(),
            artifact: "ebbtide 0.1.0".into(),
            data_fingerprint: "d".into(),
            order_version: 1,
            numerics_version: 1,
            kinds: vec!["cpu-avx2".into()],
        }
    }

    #[test]
    fn a_changed_job_is_named_key_by_key() {
        let now = Identity {
            job_hash: "b".into(),
            job_toml: "seed = 1\n[optimizer]\nlr = 0.01\n[[optimizer.groups]]\ndecay = 0.2\n"
                .into(),
            ..identity()
        };
        let said: Vec<String> = identity()
            .differences(&now)
            .iter()
            .map(|d| d.to_string())
            .collect();
        assert_eq!(
            said,
            [
                "job: optimizer.groups[0].decay: 0.1 in the checkpoint, 0.2 now",
                "job: optimizer.lr: 0.001 in the checkpoint, 0.01 now",
            ]
        );
    }

    #[test]
    fn an_unexplained_job_hash_still_differs() {
        let now = Identity {
            job_hash: "b".into(),
            ..identity()
        };
        let found = identity().differences(&now);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].what, "job (hash)");
        assert_ne!(identity().hash(), now.hash());
    }

    #[test]
    fn code_data_and_order_are_refused_and_a_new_kind_is_announced() {
        let now = Identity {
            run: "another".into(),
            artifact: "ebbtide 0.2.0".into(),
            data_fingerprint: "e".into(),
            order_version: 2,
            numerics_version: 3,
            kinds: vec!["cpu-avx2".into(), "cuda-t4".into()],
            ..identity()
        };
        let found = identity().differences(&now);
        let names: Vec<(&str, Severity)> = found
            .iter()
            .map(|d| (d.what.as_str(), d.severity))
            .collect();
        assert_eq!(
            names,
            [
                ("artifact", Severity::Refuse),
                ("data", Severity::Refuse),
                ("data order version", Severity::Refuse),
                ("numerics version", Severity::Refuse),
                ("numerics kind", Severity::Announce),
            ]
        );
        assert!(identity().differences(&identity()).is_empty());
    }
}
