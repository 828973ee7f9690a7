//! Scenarios over every kind of store, with and without faults.

mod damage;
mod export;
mod faults;
mod records;
mod retention;
mod saving;
mod sharing;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use object_store::memory::InMemory;
use serde_json::json;

use super::store::Fetched;
use super::testing::FaultyStore;
use super::*;

/// Small enough that every tensor but the smallest ones gets its own shard.
const SHARD_BYTES_MAX: usize = 64;

/// A folder that goes away with the test.
struct TempFolder(PathBuf);

impl TempFolder {
    fn new() -> TempFolder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ebbtide-checkpoint-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        TempFolder(folder)
    }

    fn url(&self) -> String {
        format!("file://{}", self.0.display())
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Retries at once.
fn quick(attempts_max: u32) -> StoreOptions {
    StoreOptions {
        attempts_max,
        first_wait: Duration::ZERO,
        wait_max: Duration::ZERO,
        ..StoreOptions::default()
    }
}

/// The same scenario over every implementation.
async fn on_every_store(scenario: impl AsyncFn(Store)) {
    let folder = TempFolder::new();
    let faulty = FaultyStore::new(Arc::new(InMemory::new()));
    for store in [
        Store::open_with(&folder.url(), quick(3)).unwrap(),
        Store::open_with("memory://", quick(3)).unwrap(),
        Store::open_with("memory:///below/a/prefix", quick(3)).unwrap(),
        Store::over(faulty, "faulty://", quick(3)),
    ] {
        println!("on {}", store.url());
        scenario(store).await;
    }
}

/// A store in memory whose faults are at hand.
fn faulty(attempts_max: u32) -> (Arc<FaultyStore>, Store) {
    let faults = FaultyStore::new(Arc::new(InMemory::new()));
    let store = Store::over(faults.clone(), "faulty://", quick(attempts_max));
    (faults, store)
}

/// The newest checkpoint of a run in which nothing is damaged.
async fn newest(run: &RunStore) -> Manifest {
    let found = run.newest_verified(|damage| panic!("{damage}")).await;
    found.unwrap().unwrap()
}

fn identity(run: &str) -> Identity {
    Identity {
        run: run.into(),
        job_hash: "job".into(),
        job_toml: "seed = 1".into(),
        artifact: "ebbtide 0.1.0".into(),
        data_fingerprint: "data".into(),
        order_version: 1,
        numerics_version: 1,
        kinds: vec!["cpu".into()],
    }
}

fn tensor(name: &str, shape: &[usize], first: f32) -> NamedTensor {
    let values = shape.iter().product();
    NamedTensor {
        name: name.into(),
        shape: shape.to_vec(),
        data: (0..values)
            .map(|index| first + index as f32 / 7.0)
            .collect(),
    }
}

/// The state of run `run` after `round`, the same for every writer.
fn snapshot(run: &str, round: u64, writer: &str) -> Snapshot {
    let first = round as f32;
    let weights = vec![
        tensor("dense1.bias", &[4], first),
        tensor("dense1.weight", &[4, 8], first + 1.0),
        tensor("dense2.weight", &[2, 4], first + 2.0),
    ];
    let optimizer = vec![
        tensor("adam.m", &[44], -first),
        tensor("adam.v", &[44], first / 3.0),
    ];
    let listed = weights
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor.data.as_slice()));
    let header = Header {
        identity: identity(run),
        round,
        step: round - round / 10,
        epoch: round / 10,
        generation: "1.4".into(),
        writer: writer.into(),
        state_digest: format!("state after {round}"),
        weights_sha256: weights_sha256(listed),
        is_final: false,
        best: false,
        metrics: BTreeMap::from([
            ("val_loss".into(), 0.1 + 0.2),
            ("val_perplexity".into(), f64::NAN),
        ]),
        state: json!({"beta1_power": bits::from_f64(0.9f64.sqrt()), "t": round}),
        counters: json!({"recomputed_micro_batches": 3}),
    };
    Snapshot {
        header,
        weights,
        optimizer,
    }
}

async fn save(run: &RunStore, snapshot: Snapshot) -> Saved {
    run.save(&Arc::new(snapshot), SHARD_BYTES_MAX)
        .await
        .unwrap()
}

async fn save_round(run: &RunStore, round: u64) -> Saved {
    save(run, snapshot(run.run(), round, "worker-1")).await
}

/// What another process would find: nothing is remembered as verified.
async fn newest_round(store: &Store, run: &str) -> Option<u64> {
    let fresh = store.run(run).unwrap();
    let newest = fresh
        .newest_verified(|damage| println!("{damage}"))
        .await
        .unwrap();
    newest.map(|manifest| manifest.header.round)
}

async fn read(store: &Store, key: &str) -> Vec<u8> {
    match store.fetch(key, 0..=u64::MAX).await.unwrap() {
        Fetched::Whole(bytes) => bytes.to_vec(),
        Fetched::OtherSize(size) => panic!("{key}: {size} bytes"),
    }
}

async fn overwrite(store: &Store, key: &str, bytes: impl Into<Vec<u8>>) {
    store.put(key, Bytes::from(bytes.into())).await.unwrap();
}

async fn keys(store: &Store, below: &str) -> Vec<String> {
    let mut keys: Vec<String> = store
        .list(below)
        .await
        .unwrap()
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    keys.sort_unstable();
    keys
}

/// Bit-for-bit, NaN included.
fn assert_same(loaded: &Snapshot, saved: &Snapshot) {
    let bits = |tensors: &[NamedTensor]| -> Vec<(String, Vec<usize>, Vec<u32>)> {
        let mut all: Vec<_> = tensors
            .iter()
            .map(|t| {
                (
                    t.name.clone(),
                    t.shape.clone(),
                    t.data.iter().map(|v| v.to_bits()).collect(),
                )
            })
            .collect();
        all.sort();
        all
    };
    assert_eq!(bits(&loaded.weights), bits(&saved.weights));
    assert_eq!(bits(&loaded.optimizer), bits(&saved.optimizer));
    let metrics = |header: &Header| -> Vec<(String, u64)> {
        header
            .metrics
            .iter()
            .map(|(name, value)| (name.clone(), value.to_bits()))
            .collect()
    };
    assert_eq!(metrics(&loaded.header), metrics(&saved.header));
    let without = |header: &Header| Header {
        metrics: BTreeMap::new(),
        ..header.clone()
    };
    assert_eq!(without(&loaded.header), without(&saved.header));
}

fn exists(path: &Path) -> bool {
    path.try_exists().unwrap()
}
