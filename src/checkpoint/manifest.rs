//! The one small object that makes a checkpoint exist.
//!
//! ```text
//! {"sha256":"<64 hex digits>","manifest":
//! { "format": 1, "header": {...}, "shards": [...] }
//! }
//! ```
//! Valid JSON for anyone, and the digest covers the exact bytes between the
//! first line and the last brace, so a single flipped bit in it is seen too.

use serde::{Deserialize, Serialize};

use super::digest::sha256;
use super::error::{Damage, DamageKind, LoadError};
use super::shard::{self, ShardEntry};
use super::snapshot::Header;

/// Version of the manifest's layout that this build writes, and the newest it reads.
pub const FORMAT: u32 = 1;

/// The largest manifest that is read, in bytes.
pub(super) const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// Manifests of one round: more than one only if earlier ones were damaged.
pub(super) const ATTEMPTS_MAX: u32 = 1000;

/// Where a manifest lies, as far as a listing tells.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ManifestRef {
    /// The round it was taken after.
    pub round: u64,
    /// 0 for the first of that round. A later one exists only where a sound one
    /// was needed and the earlier was damaged or said less.
    pub attempt: u32,
    /// Key relative to the store.
    pub key: String,
    /// When the store last changed it, in milliseconds since 1970 by the store's clock.
    pub modified_ms: i64,
}

impl ManifestRef {
    /// By its key; `None` if that is no manifest's.
    pub(super) fn of(key: String, modified_ms: i64) -> Option<ManifestRef> {
        let (round, attempt) = parse_name(key.rsplit('/').next()?)?;
        Some(ManifestRef {
            round,
            attempt,
            key,
            modified_ms,
        })
    }

    /// One that is known to have been committed, if it isn't among those listed.
    pub(super) fn unlisted(key: &str, listed: &[ManifestRef]) -> Option<ManifestRef> {
        let is_listed = listed.iter().any(|manifest| manifest.key == key);
        (!is_listed).then(|| ManifestRef::of(key.to_owned(), 0))?
    }
}

/// A checkpoint: what it is and which shards hold it.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Where it lies.
    pub reference: ManifestRef,
    /// What it is.
    pub header: Header,
    /// What it consists of.
    pub shards: Vec<ShardEntry>,
}

#[derive(Serialize)]
struct BodyOut<'a> {
    format: u32,
    header: &'a Header,
    shards: &'a [ShardEntry],
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

#[derive(Deserialize)]
struct BodyIn {
    header: Header,
    shards: Vec<ShardEntry>,
}

const OPENING: &str = "{\"sha256\":\"";
const MIDDLE: &str = "\",\"manifest\":\n";
const CLOSING: &str = "\n}\n";

/// A manifest's name in its run's `manifests` folder.
pub(super) fn name(round: u64, attempt: u32) -> String {
    match attempt {
        0 => format!("r{round:012}.json"),
        again => format!("r{round:012}-a{again:03}.json"),
    }
}

/// Round and attempt of a manifest's name; `None` if it isn't one.
pub(super) fn parse_name(text: &str) -> Option<(u64, u32)> {
    let stem = text.strip_prefix('r')?.strip_suffix(".json")?;
    let (round, attempt) = match stem.split_once("-a") {
        Some((round, attempt)) => (round.parse().ok()?, attempt.parse().ok()?),
        None => (stem.parse().ok()?, 0),
    };
    (name(round, attempt) == text).then_some((round, attempt))
}

/// The bytes of a manifest.
pub(super) fn encode(header: &Header, shards: &[ShardEntry]) -> Result<Vec<u8>, serde_json::Error> {
    let body = serde_json::to_string_pretty(&BodyOut {
        format: FORMAT,
        header,
        shards,
    })?;
    let digest = sha256(body.as_bytes());
    Ok([OPENING, &digest, MIDDLE, &body, CLOSING]
        .concat()
        .into_bytes())
}

/// Understands the bytes of a manifest, or says how they are damaged.
pub(super) fn decode(bytes: &[u8], reference: &ManifestRef) -> Result<Manifest, LoadError> {
    let damaged = |kind| {
        LoadError::Damaged(Damage {
            manifest: reference.key.clone(),
            shard: None,
            kind,
        })
    };
    let unreadable = |reason: String| damaged(DamageKind::Unreadable(reason));
    let (expected, body) =
        split(bytes).ok_or_else(|| unreadable("it isn't a whole manifest".into()))?;
    let found = sha256(body);
    if found.as_bytes() != expected {
        let expected = String::from_utf8_lossy(expected).into_owned();
        return Err(damaged(DamageKind::Checksum { expected, found }));
    }
    let FormatOnly { format } =
        serde_json::from_slice(body).map_err(|error| unreadable(error.to_string()))?;
    if format > FORMAT {
        return Err(LoadError::NewerFormat {
            manifest: reference.key.clone(),
            found: format,
            known: FORMAT,
        });
    }
    let BodyIn { header, shards } =
        serde_json::from_slice(body).map_err(|error| unreadable(error.to_string()))?;
    if header.round != reference.round {
        return Err(unreadable(format!(
            "it says round {} and is named round {}",
            header.round, reference.round
        )));
    }
    if let Some(shard) = shards.iter().find(|shard| !is_shard_key(&shard.key)) {
        return Err(unreadable(format!("{:?} can't be a shard", shard.key)));
    }
    shard::complete(&shards).map_err(unreadable)?;
    Ok(Manifest {
        reference: reference.clone(),
        header,
        shards,
    })
}

/// The stated digest and the body of a manifest's bytes.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(OPENING.as_bytes())?;
    let (digest, rest) = rest.split_at_checked(64)?;
    let body = rest
        .strip_prefix(MIDDLE.as_bytes())?
        .strip_suffix(CLOSING.as_bytes())?;
    Some((digest, body))
}

/// Shards lie below the run's own `shards` folder and nowhere else.
fn is_shard_key(key: &str) -> bool {
    key.starts_with("shards/") && key.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_round_and_attempt_and_round_trip() {
        assert_eq!(name(130, 0), "r000000000130.json");
        assert_eq!(parse_name("r000000000130.json"), Some((130, 0)));
        assert_eq!(parse_name(&name(130, 2)), Some((130, 2)));
        for other in [
            "r130.json",
            "r000000000130.json#1",
            "x",
            "r000000000130-a0.json",
            "r+00000000130.json",
        ] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }

    #[test]
    fn a_shard_key_stays_in_its_run() {
        assert!(is_shard_key("shards/step-1-r1/w/a.safetensors"));
        for key in [
            "../other/shards/a",
            "shards/../manifests/x",
            "shards//a",
            "run.json",
            "shards/./a",
        ] {
            assert!(!is_shard_key(key), "{key}");
        }
    }

    proptest::proptest! {
        #[test]
        fn decoding_survives_any_bytes(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
            wrapped in proptest::bool::ANY,
        ) {
            let bytes = if wrapped {
                let digest = sha256(&bytes);
                [OPENING.as_bytes(), digest.as_bytes(), MIDDLE.as_bytes(), &bytes, CLOSING.as_bytes()].concat()
            } else {
                bytes
            };
            let reference = ManifestRef { round: 1, attempt: 0, key: "k".into(), modified_ms: 0 };
            proptest::prop_assert!(decode(&bytes, &reference).is_err());
        }
    }
}
