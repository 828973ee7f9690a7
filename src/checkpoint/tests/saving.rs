//! Saving and loading without anything going wrong, and the refusals.

use super::*;

/// Makes a sound snapshot contradict itself.
type Spoil = fn(&mut Snapshot);

#[tokio::test]
async fn what_is_saved_is_loaded_to_the_bit() {
    on_every_store(async |store| {
        let run = store.run("mnist-1").unwrap();
        let saved = snapshot("mnist-1", 130, "worker-1");
        let reference = save(&run, saved.clone()).await;
        assert_eq!(reference.by, SavedBy::Us);
        let fresh = store.run("mnist-1").unwrap();
        let (manifest, loaded) = fresh
            .load_newest(|damage| panic!("{damage}"))
            .await
            .unwrap()
            .unwrap();
        assert_same(&loaded, &saved);
        assert_eq!(manifest.reference, reference.manifest);
        assert!(
            manifest.shards.len() >= 4,
            "{} shards",
            manifest.shards.len()
        );
        let names: Vec<&str> = loaded
            .weights
            .iter()
            .map(|tensor| tensor.name.as_str())
            .collect();
        assert_eq!(names, ["dense1.bias", "dense1.weight", "dense2.weight"]);
        assert_eq!(
            fresh.load_weights_only(&manifest).await.unwrap(),
            loaded.weights
        );
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_without_optimizer_tensors_or_values_is_saved_too() {
    on_every_store(async |store| {
        let run = store.run("r").unwrap();
        let mut empty = snapshot("r", 1, "w");
        empty.optimizer.clear();
        empty.weights = vec![tensor("nothing", &[0, 3], 0.0), tensor("scalar", &[], 2.0)];
        empty.header.weights_sha256 =
            weights_sha256([("nothing", &[][..]), ("scalar", &[2.0][..])]);
        save(&run, empty.clone()).await;
        let (_, loaded) = run
            .load_newest(|damage| panic!("{damage}"))
            .await
            .unwrap()
            .unwrap();
        assert_same(&loaded, &empty);
    })
    .await;
}

#[tokio::test]
async fn an_empty_store_has_no_checkpoint() {
    on_every_store(async |store| {
        let run = store.run("r").unwrap();
        assert!(run.manifests().await.unwrap().is_empty());
        assert_eq!(
            run.newest_verified(|damage| panic!("{damage}"))
                .await
                .unwrap(),
            None
        );
        assert_eq!(run.finished().await.unwrap(), None);
        assert!(
            run.retain(Retention {
                keep_last: 1,
                keep_best: true
            })
            .await
            .unwrap()
            .is_empty()
        );
    })
    .await;
}

#[tokio::test]
async fn the_newest_round_comes_first_and_steps_are_found() {
    on_every_store(async |store| {
        let run = store.run("r").unwrap();
        for round in [30, 10, 20] {
            save_round(&run, round).await;
        }
        let rounds: Vec<u64> = run
            .manifests()
            .await
            .unwrap()
            .iter()
            .map(|manifest| manifest.round)
            .collect();
        assert_eq!(rounds, [30, 20, 10]);
        assert_eq!(newest_round(&store, "r").await, Some(30));
        assert_eq!(
            run.at_step(18)
                .await
                .unwrap()
                .map(|manifest| manifest.header.round),
            Some(20)
        );
        assert_eq!(run.at_step(19).await.unwrap(), None);
        assert_eq!(run.finished().await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn a_final_checkpoint_of_a_round_saved_before_is_added_not_swallowed() {
    on_every_store(async |store| {
        let run = store.run("r").unwrap();
        save_round(&run, 10).await;
        let mut last = snapshot("r", 10, "worker-2");
        last.header.is_final = true;
        let saved = save(&run, last).await;
        assert_eq!((saved.by, saved.manifest.attempt), (SavedBy::Us, 1));
        assert!(store.run("r").unwrap().finished().await.unwrap().is_some());
        // And it serves whoever wanted less.
        assert_eq!(save_round(&run, 10).await.by, SavedBy::Another);
    })
    .await;
}

#[tokio::test]
async fn saving_again_after_a_restart_writes_nothing() {
    on_every_store(async |store| {
        let first = store.run("r").unwrap();
        save_round(&first, 10).await;
        let before = keys(&store, "r").await;
        let second = store.run("r").unwrap();
        let again = save(&second, snapshot("r", 10, "worker-2")).await;
        assert_eq!(again.by, SavedBy::Another);
        assert_eq!(keys(&store, "r").await, before);
    })
    .await;
}

#[tokio::test]
async fn members_share_the_upload_and_one_commits() {
    on_every_store(async |store| {
        let run = store.run("r").unwrap();
        let mut entries = Vec::new();
        for (member, writer) in ["worker-1", "worker-2"].into_iter().enumerate() {
            let snapshot = Arc::new(snapshot("r", 10, writer));
            let plan = snapshot.plan_shards(SHARD_BYTES_MAX);
            let own: Vec<PlannedShard> = plan.into_iter().skip(member).step_by(2).collect();
            entries.extend(run.upload(&snapshot, own).await.unwrap());
        }
        let whole = snapshot("r", 10, "worker-2");
        let short = run
            .commit(&whole.header, entries[1..].to_vec())
            .await
            .unwrap_err();
        assert!(matches!(short, SaveError::Invalid { .. }), "{short}");
        run.commit(&whole.header, entries).await.unwrap();
        let (_, loaded) = store
            .run("r")
            .unwrap()
            .load_newest(|damage| panic!("{damage}"))
            .await
            .unwrap()
            .unwrap();
        assert_same(&loaded, &whole);
    })
    .await;
}

#[tokio::test]
async fn two_writers_race_for_one_manifest_and_both_succeed() {
    on_every_store(async |store| {
        let (one, two) = (store.run("r").unwrap(), store.run("r").unwrap());
        for round in 1..=8 {
            let (a, b) = tokio::join!(
                save(&one, snapshot("r", round, "worker-1")),
                save(&two, snapshot("r", round, "worker-2"))
            );
            assert_ne!(a.by, b.by, "exactly one wrote round {round}");
            assert_eq!(a.manifest, b.manifest);
        }
        assert_eq!(one.manifests().await.unwrap().len(), 8);
        assert_eq!(newest_round(&store, "r").await, Some(8));
    })
    .await;
}

#[tokio::test]
async fn another_state_at_the_same_round_is_refused() {
    on_every_store(async |store| {
        let run = store.run("r").unwrap();
        save_round(&run, 10).await;
        let mut other = snapshot("r", 10, "zombie");
        other.header.state_digest = "apart".into();
        let error = run
            .save(&Arc::new(other), SHARD_BYTES_MAX)
            .await
            .unwrap_err();
        assert!(matches!(error, SaveError::Diverged(_)));
        let said = error.to_string();
        for part in [
            "round 10",
            "worker-1",
            "state after 10",
            "apart",
            "r/manifests/r000000000010.json",
        ] {
            assert!(said.contains(part), "{part} in {said}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_that_contradicts_itself_is_not_saved() {
    let store = Store::open("memory://").unwrap();
    let run = store.run("r").unwrap();
    let sound = snapshot("r", 10, "w");
    let wrong: [(&str, Spoil); 7] = [
        ("belongs to run", |snapshot| {
            snapshot.header.identity.run = "other".into()
        }),
        ("has 32 values", |snapshot| {
            snapshot.weights[1].shape = vec![5, 8]
        }),
        ("has 32 values", |snapshot| {
            snapshot.weights[1].shape = vec![usize::MAX, 8]
        }),
        ("twice", |snapshot| {
            snapshot.optimizer[1].name = "adam.m".into()
        }),
        ("can't be a tensor's name", |snapshot| {
            snapshot.weights[0].name = "__metadata__".into()
        }),
        ("have digest", |snapshot| snapshot.weights[0].data[0] += 1.0),
        ("writer id", |snapshot| {
            snapshot.header.writer = "a/../b".into()
        }),
    ];
    for (expected, spoil) in wrong {
        let mut spoiled = sound.clone();
        spoil(&mut spoiled);
        let error = run
            .save(&Arc::new(spoiled), SHARD_BYTES_MAX)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{expected} in {error}");
    }
    assert!(keys(&store, "").await.is_empty());
}

#[tokio::test]
async fn a_save_can_be_spawned() {
    let run = Store::open("memory://").unwrap().run("r").unwrap();
    let task = tokio::spawn(async move {
        let saved = run
            .save(&Arc::new(snapshot("r", 1, "w")), SHARD_BYTES_MAX)
            .await;
        let newest = run.load_newest(|_| {}).await;
        let kept = run
            .retain(Retention {
                keep_last: 1,
                keep_best: true,
            })
            .await;
        (saved.is_ok(), newest.is_ok(), kept.is_ok())
    });
    assert_eq!(task.await.unwrap(), (true, true, true));
}
