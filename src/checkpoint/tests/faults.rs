//! A store or a process that fails at the worst moment.

use super::super::testing::{Fault, Operation};
use super::*;

const OFTEN: u32 = 1000;

#[tokio::test]
async fn killed_at_any_write_the_checkpoint_is_whole_or_absent() {
    let mut died_at = 0;
    for nth in 0.. {
        let (faults, store) = faulty(1);
        let run = store.run("r").unwrap();
        save_round(&run, 10).await;
        faults.plan(Operation::Put, "", nth, 1, Fault::Die);
        let outcome = run
            .save(&Arc::new(snapshot("r", 20, "worker-1")), SHARD_BYTES_MAX)
            .await;
        if !faults.all_fired() {
            assert_eq!(outcome.unwrap().by, SavedBy::Us);
            break;
        }
        died_at += 1;
        assert!(
            matches!(
                outcome,
                Err(SaveError::Store(StoreError::Unavailable { .. }))
            ),
            "write {nth}"
        );
        faults.revive();
        assert_eq!(
            newest_round(&store, "r").await,
            Some(10),
            "killed at write {nth}"
        );
        // The next life saves it, whatever was left behind, and can tidy up.
        let next = store.run("r").unwrap();
        save(&next, snapshot("r", 20, "worker-2")).await;
        save(&next, snapshot("r", 30, "worker-2")).await;
        next.retain(Retention {
            keep_last: 1,
            keep_best: false,
        })
        .await
        .unwrap();
        let (manifest, _) = store
            .run("r")
            .unwrap()
            .load_newest(|d| panic!("{d}"))
            .await
            .unwrap()
            .unwrap();
        let shards = keys(&store, "r/shards").await;
        assert_eq!(
            shards.len(),
            manifest.shards.len(),
            "no orphans are left: {shards:?}"
        );
    }
    assert!(died_at > 4, "every shard and the manifest: {died_at}");
}

#[tokio::test]
async fn failing_once_at_any_request_is_survived() {
    for on in [
        Operation::Put,
        Operation::Get,
        Operation::List,
        Operation::Delete,
    ] {
        for fault in [Fault::Fail, Fault::Ambiguous] {
            for nth in 0.. {
                let (faults, store) = faulty(2);
                let run = store.run("r").unwrap();
                save_round(&run, 10).await;
                faults.plan(on, "", nth, 1, fault);
                assert_eq!(
                    save_round(&run, 20).await.by,
                    SavedBy::Us,
                    "{on:?} {fault:?} {nth}"
                );
                let fresh = store.run("r").unwrap();
                fresh
                    .retain(Retention {
                        keep_last: 1,
                        keep_best: false,
                    })
                    .await
                    .unwrap();
                let (manifest, _) = fresh
                    .load_newest(|damage| panic!("{damage}"))
                    .await
                    .unwrap()
                    .unwrap();
                assert_eq!(manifest.header.round, 20);
                assert_eq!(fresh.manifests().await.unwrap().len(), 1);
                if !faults.all_fired() {
                    assert!(nth > 0, "{on:?} {fault:?} fired at least once");
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_manifest_whose_answer_was_lost_is_recognized_as_our_own() {
    for attempts_max in [1, 3] {
        let (faults, store) = faulty(attempts_max);
        let run = store.run("r").unwrap();
        faults.plan(Operation::Put, "manifests/", 0, 1, Fault::Ambiguous);
        let saved = save_round(&run, 10).await;
        assert!(faults.all_fired());
        assert_eq!((saved.by, saved.manifest.attempt), (SavedBy::Us, 0));
        assert_eq!(run.manifests().await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_shard_that_reads_back_short_is_written_again() {
    let (faults, store) = faulty(1);
    let run = store.run("r").unwrap();
    faults.plan(
        Operation::Put,
        "shards/",
        1,
        1,
        Fault::Torn { keep_bytes: 40 },
    );
    save_round(&run, 10).await;
    assert!(faults.all_fired());
    assert_eq!(newest_round(&store, "r").await, Some(10));
}

#[tokio::test]
async fn a_store_that_keeps_tearing_is_refused_before_a_manifest_exists() {
    let (faults, store) = faulty(1);
    let run = store.run("r").unwrap();
    faults.plan(
        Operation::Put,
        "shards/",
        0,
        OFTEN,
        Fault::Torn { keep_bytes: 40 },
    );
    let error = run
        .save(&Arc::new(snapshot("r", 10, "w")), SHARD_BYTES_MAX)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("reads back with"), "{error}");
    assert!(keys(&store, "r/manifests").await.is_empty());
}

#[tokio::test]
async fn a_torn_manifest_is_followed_by_a_whole_one() {
    let (faults, store) = faulty(1);
    let run = store.run("r").unwrap();
    faults.plan(
        Operation::Put,
        "manifests/",
        0,
        1,
        Fault::Torn { keep_bytes: 100 },
    );
    let saved = save_round(&run, 10).await;
    assert!(faults.all_fired());
    assert_eq!(saved.manifest.attempt, 1);
    assert_eq!(newest_round(&store, "r").await, Some(10));
}

#[tokio::test]
async fn an_outage_is_an_error_and_never_a_reason_to_go_back() {
    let (faults, store) = faulty(2);
    let run = store.run("r").unwrap();
    save_round(&run, 10).await;
    save_round(&run, 20).await;
    for within in ["r000000000020.json", "r000000000020/"] {
        faults.plan(Operation::Get, within, 0, OFTEN, Fault::Fail);
        let fresh = store.run("r").unwrap();
        let error = fresh
            .newest_verified(|damage| panic!("{damage}"))
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                LoadError::Store(StoreError::Unavailable { attempts: 2, .. })
            ),
            "{error}"
        );
        assert!(
            error.to_string().contains(within) && error.to_string().contains("planned Fail"),
            "{error}"
        );
        assert!(
            fresh
                .load_newest(|damage| panic!("{damage}"))
                .await
                .is_err()
        );
        assert!(fresh.finished().await.is_err());
        assert!(faults.all_fired());
        faults.revive();
    }
}

#[tokio::test]
async fn a_stale_listing_costs_time_and_no_truth() {
    let (faults, store) = faulty(1);
    let run = store.run("r").unwrap();
    save_round(&run, 10).await;
    faults.plan(Operation::List, "manifests", 1, OFTEN, Fault::Stale);
    save_round(&run, 20).await;
    assert_eq!(
        newest_round(&store, "r").await,
        Some(10),
        "the listing hides round 20"
    );
    // Trained again to round 20: the same state is met and counts, another doesn't.
    let second = store.run("r").unwrap();
    assert_eq!(
        save(&second, snapshot("r", 20, "worker-2")).await.by,
        SavedBy::Another
    );
    let mut other = snapshot("r", 20, "worker-3");
    other.header.state_digest = "apart".into();
    let error = second
        .save(&Arc::new(other), SHARD_BYTES_MAX)
        .await
        .unwrap_err();
    assert!(matches!(error, SaveError::Diverged(_)), "{error}");
    assert!(faults.all_fired());
}

#[tokio::test]
async fn a_checkpoint_that_a_stale_listing_lacks_is_found_by_who_was_told_of_it() {
    let (faults, store) = faulty(1);
    let run = store.run("r").unwrap();
    save_round(&run, 10).await;
    faults.plan(Operation::List, "manifests", 1, OFTEN, Fault::Stale);
    let told = save_round(&run, 20).await.manifest.key;
    let fresh = store.run("r").unwrap();
    let mut said = Vec::new();
    let found = fresh
        .newest_verified_of(Some(&told), |damage| said.push(damage))
        .await;
    assert_eq!(
        found.unwrap().map(|manifest| manifest.header.round),
        Some(20)
    );
    assert!(faults.all_fired() && said.is_empty());

    store.delete(&told).await.unwrap();
    let fresh = store.run("r").unwrap();
    let found = fresh
        .newest_verified_of(Some(&told), |damage| said.push(damage))
        .await;
    assert_eq!(
        found.unwrap().map(|manifest| manifest.header.round),
        Some(10)
    );
    assert_eq!((said.len(), &said[0].kind), (1, &DamageKind::Missing));
}

#[tokio::test]
async fn a_reader_overtaken_by_retention_finds_the_newer_checkpoint() {
    let (faults, store) = faulty(1);
    let run = store.run("r").unwrap();
    save_round(&run, 10).await;
    let old = newest(&run).await;
    // The reader's first listing is from before round 20, what it lists is gone.
    faults.plan(Operation::List, "manifests", 1, 1, Fault::Stale);
    save_round(&run, 20).await;
    store
        .delete(&format!("r/{}", old.shards[0].key))
        .await
        .unwrap();
    let reader = store.run("r").unwrap();
    let (manifest, _) = reader
        .load_newest(|damage| panic!("{damage}"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(manifest.header.round, 20);
    assert!(faults.all_fired());
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_given_up_after_the_time_limit() {
    #[derive(Debug)]
    struct Silent;
    impl std::fmt::Display for Silent {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "Silent")
        }
    }
    #[tonic::async_trait]
    impl object_store::ObjectStore for Silent {
        async fn put_opts(
            &self,
            _: &object_store::path::Path,
            _: object_store::PutPayload,
            _: object_store::PutOptions,
        ) -> object_store::Result<object_store::PutResult> {
            std::future::pending().await
        }
        async fn put_multipart_opts(
            &self,
            _: &object_store::path::Path,
            _: object_store::PutMultipartOptions,
        ) -> object_store::Result<Box<dyn object_store::MultipartUpload>> {
            std::future::pending().await
        }
        async fn get_opts(
            &self,
            _: &object_store::path::Path,
            _: object_store::GetOptions,
        ) -> object_store::Result<object_store::GetResult> {
            std::future::pending().await
        }
        fn delete_stream(
            &self,
            _: futures_util::stream::BoxStream<
                'static,
                object_store::Result<object_store::path::Path>,
            >,
        ) -> futures_util::stream::BoxStream<'static, object_store::Result<object_store::path::Path>>
        {
            Box::pin(futures_util::stream::pending())
        }
        fn list(
            &self,
            _: Option<&object_store::path::Path>,
        ) -> futures_util::stream::BoxStream<'static, object_store::Result<object_store::ObjectMeta>>
        {
            Box::pin(futures_util::stream::pending())
        }
        async fn list_with_delimiter(
            &self,
            _: Option<&object_store::path::Path>,
        ) -> object_store::Result<object_store::ListResult> {
            std::future::pending().await
        }
        async fn copy_opts(
            &self,
            _: &object_store::path::Path,
            _: &object_store::path::Path,
            _: object_store::CopyOptions,
        ) -> object_store::Result<()> {
            std::future::pending().await
        }
    }
    let options = StoreOptions {
        attempt_timeout: Duration::from_millis(1),
        ..quick(2)
    };
    let store = Store::over(Arc::new(Silent), "silent://", options);
    let error = store.probe().await.unwrap_err().to_string();
    assert!(
        error.contains("silent://") && error.contains("no answer within 1ms"),
        "{error}"
    );
}
