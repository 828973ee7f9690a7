//! What may go, and what never does.

use super::super::testing::{Fault, Operation};
use super::*;

const LAST_TWO: Retention = Retention {
    keep_last: 2,
    keep_best: true,
};

fn rounds(manifests: &[ManifestRef]) -> Vec<u64> {
    manifests.iter().map(|manifest| manifest.round).collect()
}

async fn save_best(run: &RunStore, round: u64) {
    let mut snapshot = snapshot(run.run(), round, "worker-1");
    snapshot.header.best = true;
    save(run, snapshot).await;
}

/// Every remaining checkpoint loads, and no other shard is left.
async fn assert_tidy(store: &Store, run: &str) {
    let fresh = store.run(run).unwrap();
    let mut shards = Vec::new();
    for reference in fresh.manifests().await.unwrap() {
        let manifest = fresh.read_manifest(&reference).await.unwrap();
        fresh.load(&manifest).await.unwrap();
        shards.extend(
            manifest
                .shards
                .iter()
                .map(|shard| format!("{run}/{}", shard.key)),
        );
    }
    shards.sort_unstable();
    assert_eq!(keys(store, &format!("{run}/shards")).await, shards);
}

#[tokio::test]
async fn the_last_ones_and_the_newest_best_stay() {
    on_every_store(async |store| {
        let run = store.run("r").unwrap();
        let other = store.run("other").unwrap();
        save_round(&other, 5).await;
        for round in [10, 40, 50, 60] {
            save_round(&run, round).await;
        }
        for round in [20, 30] {
            save_best(&run, round).await;
        }
        let others = keys(&store, "other").await;
        let deleted = run.retain(LAST_TWO).await.unwrap();
        assert!(
            deleted[0].contains("/manifests/"),
            "manifests go first: {deleted:?}"
        );
        assert_eq!(rounds(&run.manifests().await.unwrap()), [60, 50, 30]);
        assert_tidy(&store, "r").await;
        assert_eq!(keys(&store, "other").await, others);
        assert!(
            run.retain(LAST_TWO).await.unwrap().is_empty(),
            "nothing left to do"
        );
    })
    .await;
}

#[tokio::test]
async fn keeping_nothing_still_keeps_the_newest_and_the_final_one() {
    on_every_store(async |store| {
        let run = store.run("r").unwrap();
        let mut last = snapshot("r", 20, "w");
        last.header.is_final = true;
        save_round(&run, 10).await;
        save(&run, last).await;
        save_round(&run, 30).await;
        let nothing = Retention {
            keep_last: 0,
            keep_best: false,
        };
        run.retain(nothing).await.unwrap();
        assert_eq!(rounds(&run.manifests().await.unwrap()), [30, 20]);
        assert_tidy(&store, "r").await;
    })
    .await;
}

#[tokio::test]
async fn a_damaged_checkpoint_is_no_reason_to_delete_an_older_one() {
    on_every_store(async |store| {
        let run = store.run("r").unwrap();
        for round in [10, 20, 30, 40] {
            save_best(&run, round).await;
        }
        let newest = newest(&run).await;
        store
            .delete(&format!("r/{}", newest.shards[1].key))
            .await
            .unwrap();
        let fresh = store.run("r").unwrap();
        fresh
            .retain(Retention {
                keep_last: 1,
                keep_best: true,
            })
            .await
            .unwrap();
        assert_eq!(
            rounds(&fresh.manifests().await.unwrap()),
            [40, 30],
            "the damaged one, and a sound one"
        );
        assert_eq!(newest_round(&store, "r").await, Some(30));
    })
    .await;
}

#[tokio::test]
async fn an_unreadable_manifest_protects_its_shards() {
    on_every_store(async |store| {
        let run = store.run("r").unwrap();
        let old = save_round(&run, 10).await.manifest;
        overwrite(&store, &old.key, "{").await;
        save_round(&run, 20).await;
        save_round(&run, 30).await;
        let before = keys(&store, "r/shards/step-000000000009-r000000000010").await;
        run.retain(Retention {
            keep_last: 1,
            keep_best: false,
        })
        .await
        .unwrap();
        assert_eq!(rounds(&run.manifests().await.unwrap()), [30, 10]);
        assert_eq!(
            keys(&store, "r/shards/step-000000000009-r000000000010").await,
            before
        );
        assert!(!before.is_empty());
    })
    .await;
}

#[tokio::test]
async fn orphans_of_dead_writers_go_only_when_older_than_the_newest() {
    on_every_store(async |store| {
        let run = store.run("r").unwrap();
        for (round, writer) in [(10, "dead-1"), (30, "dead-2")] {
            let snapshot = Arc::new(snapshot("r", round, writer));
            run.upload(&snapshot, snapshot.plan_shards(SHARD_BYTES_MAX))
                .await
                .unwrap();
        }
        let orphans = keys(&store, "r/shards").await;
        assert!(
            run.retain(LAST_TWO).await.unwrap().is_empty(),
            "without a checkpoint nothing is an orphan"
        );
        save_round(&run, 20).await;
        let deleted = run.retain(LAST_TWO).await.unwrap();
        assert!(
            !deleted.is_empty() && deleted.iter().all(|key| key.contains("/dead-1/")),
            "{deleted:?}"
        );
        let left = keys(&store, "r/shards").await;
        let of =
            |writer: &str, keys: &[String]| keys.iter().filter(|key| key.contains(writer)).count();
        assert_eq!(of("dead-1", &left), 0);
        assert_eq!(
            of("dead-2", &left),
            of("dead-2", &orphans),
            "it may be uploading still"
        );
        assert_eq!(newest_round(&store, "r").await, Some(20));
    })
    .await;
}

#[tokio::test]
async fn what_a_killed_writer_left_half_written_is_removed_from_a_folder() {
    let folder = TempFolder::new();
    let store = Store::open(&folder.url()).unwrap();
    let run = store.run("r").unwrap();
    let staged = |step: &str| {
        let at = folder.0.join("r/shards").join(step).join("dead-1");
        std::fs::create_dir_all(&at).unwrap();
        let file = at.join("weights-00000-of-00001-0123.safetensors#1");
        std::fs::write(&file, "half").unwrap();
        file
    };
    let old = staged("step-000000000009-r000000000010");
    let new = staged("step-000000000027-r000000000030");
    save_round(&run, 20).await;
    assert_eq!(
        newest_round(&store, "r").await,
        Some(20),
        "nobody sees half a file"
    );
    run.retain(LAST_TWO).await.unwrap();
    assert!(!exists(&old) && !exists(old.parent().unwrap().parent().unwrap()));
    assert!(exists(&new));
}

#[tokio::test]
async fn retention_killed_at_any_deletion_is_finished_by_the_next() {
    for nth in 0.. {
        let (faults, store) = faulty(1);
        let run = store.run("r").unwrap();
        for round in [10, 20, 30] {
            save_round(&run, round).await;
        }
        faults.plan(Operation::Delete, "", nth, 1, Fault::Die);
        let outcome = run
            .retain(Retention {
                keep_last: 1,
                keep_best: false,
            })
            .await;
        let fired = faults.all_fired();
        faults.revive();
        assert_eq!(outcome.is_err(), fired);
        assert_eq!(newest_round(&store, "r").await, Some(30));
        run.retain(Retention {
            keep_last: 1,
            keep_best: false,
        })
        .await
        .unwrap();
        assert_tidy(&store, "r").await;
        if !fired {
            assert!(nth > 4, "{nth} deletions");
            break;
        }
    }
}
