//! What a checkpoint URL means.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use object_store::memory::InMemory;
use object_store::path::Path;
use url::Url;

use super::error::StoreError;

/// A checkpoint URL, understood but not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// A folder of this machine, absolute.
    Folder(PathBuf),
    /// Memory of this process: shared by name, or private without one.
    Memory { name: Option<String>, prefix: Path },
}

const SCHEMES: &str = "use file:///absolute/folder, a plain path, or memory://";

impl Location {
    pub(super) fn parse(url: &str) -> Result<Location, StoreError> {
        let wrong = |reason: String, remedy| StoreError::Open {
            url: url.into(),
            reason,
            remedy,
        };
        if url.is_empty() {
            return Err(wrong("it is empty".into(), SCHEMES));
        }
        if !url.contains("://") {
            let folder =
                std::path::absolute(url).map_err(|error| wrong(error.to_string(), SCHEMES))?;
            return Ok(Location::Folder(folder));
        }
        let parsed = Url::parse(url).map_err(|error| wrong(error.to_string(), SCHEMES))?;
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(wrong(
                "it has a query or a fragment".into(),
                "percent-encode ? as %3F and # as %23",
            ));
        }
        match parsed.scheme() {
            "file" => parsed.to_file_path().map(Location::Folder).map_err(|()| {
                wrong(
                    "it names a host".into(),
                    "a local folder has three slashes: file:///absolute/folder",
                )
            }),
            "memory" => {
                let name = parsed
                    .host_str()
                    .filter(|host| !host.is_empty())
                    .map(str::to_string);
                let prefix = Path::from_url_path(parsed.path())
                    .map_err(|error| wrong(error.to_string(), SCHEMES))?;
                Ok(Location::Memory { name, prefix })
            }
            "s3" | "s3a" | "gs" | "az" | "azure" | "abfs" | "abfss" => Err(wrong(
                format!("this build has no backend for {}://", parsed.scheme()),
                "mount the bucket and give its folder as file:///..., until the cloud backends are built in",
            )),
            other => Err(wrong(format!("unknown scheme {other}://"), SCHEMES)),
        }
    }
}

/// Whether the checkpoints at this URL would be in the memory of one process.
pub fn is_in_memory(url: &str) -> bool {
    matches!(Location::parse(url), Ok(Location::Memory { .. }))
}

/// Named in-memory stores that somebody in this process still holds.
static NAMED: Mutex<BTreeMap<String, Weak<InMemory>>> = Mutex::new(BTreeMap::new());

/// The in-memory store of that name; a fresh private one without a name.
pub(super) fn memory(name: Option<&str>) -> Arc<InMemory> {
    let Some(name) = name else {
        return Arc::default();
    };
    let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
    named.retain(|_, store| store.strong_count() > 0);
    if let Some(store) = named.get(name).and_then(Weak::upgrade) {
        return store;
    }
    let store = Arc::new(InMemory::new());
    named.insert(name.to_string(), Arc::downgrade(&store));
    store
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        Location::parse(url).expect_err(url).to_string()
    }

    #[test]
    fn urls_and_plain_paths_are_understood() {
        assert_eq!(
            Location::parse("file:///mnt/a%20b").unwrap(),
            Location::Folder("/mnt/a b".into())
        );
        assert_eq!(
            Location::parse("/mnt/a b").unwrap(),
            Location::Folder("/mnt/a b".into())
        );
        let Location::Folder(folder) = Location::parse("runs/x").unwrap() else {
            panic!("a folder")
        };
        assert!(folder.is_absolute() && folder.ends_with("runs/x"));
        assert_eq!(
            Location::parse("memory://pool/a/b").unwrap(),
            Location::Memory {
                name: Some("pool".into()),
                prefix: Path::from("a/b")
            }
        );
        assert_eq!(
            Location::parse("memory://").unwrap(),
            Location::Memory {
                name: None,
                prefix: Path::default()
            }
        );
    }

    #[test]
    fn refusals_name_the_url_and_what_to_do() {
        assert!(refusal("file://mnt/x").contains("file://mnt/x"));
        assert!(refusal("file://mnt/x").contains("three slashes"));
        assert!(refusal("s3://bucket/x").contains("no backend for s3://"));
        assert!(refusal("ftp://x/y").contains("unknown scheme ftp://"));
        assert!(refusal("memory:///x?a=b").contains("query"));
        assert!(refusal("").contains("empty"));
    }

    #[test]
    fn a_named_memory_lives_as_long_as_somebody_holds_it() {
        let first = memory(Some("location-test"));
        assert!(Arc::ptr_eq(&first, &memory(Some("location-test"))));
        assert!(!Arc::ptr_eq(&memory(None), &memory(None)));
        let weak = Arc::downgrade(&first);
        drop(first);
        assert!(weak.upgrade().is_none());
    }
}
