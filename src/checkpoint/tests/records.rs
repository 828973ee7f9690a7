//! Opening and probing stores, run records, incarnations.

use super::super::testing::{Fault, Operation};
use super::*;

#[tokio::test]
async fn a_store_that_keeps_its_promises_passes_the_probe_and_keeps_no_trace() {
    on_every_store(async |store| {
        store.probe().await.unwrap();
        assert!(keys(&store, "").await.is_empty());
        assert!(store.runs().await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_store_that_lets_an_object_be_created_twice_is_refused() {
    let (faults, store) = faulty(3);
    faults.plan(Operation::Put, "probe/", 0, 2, Fault::Overwrites);
    let error = store.probe().await.unwrap_err();
    assert!(matches!(error, StoreError::Unfit { .. }));
    assert!(error.to_string().contains("created twice"), "{error}");
    assert!(faults.all_fired());
}

#[tokio::test]
async fn a_store_that_hides_or_loses_or_refuses_objects_is_refused() {
    let faults: [(Operation, Fault, &str); 4] = [
        (
            Operation::Put,
            Fault::Torn { keep_bytes: 2 },
            "created twice",
        ),
        (Operation::List, Fault::Stale, "isn't listed"),
        (Operation::Put, Fault::Fail, "cannot write"),
        (Operation::Delete, Fault::Fail, "cannot delete"),
    ];
    for (on, fault, expected) in faults {
        let (planned, store) = faulty(2);
        planned.plan(on, "", 0, 100, fault);
        let error = store.probe().await.unwrap_err().to_string();
        assert!(
            error.contains("faulty://") && error.contains(expected),
            "{expected} in {error}"
        );
    }
}

#[test]
fn an_unwritable_url_is_named_with_what_to_do() {
    let folder = TempFolder::new();
    let file = folder.0.join("a-file");
    std::fs::write(&file, "x").unwrap();
    let url = format!("file://{}/below", file.display());
    let error = Store::open(&url).unwrap_err().to_string();
    assert!(
        error.contains(&url) && error.contains("choose a folder"),
        "{error}"
    );
    let missing = folder.0.join("missing");
    assert!(Store::open_existing(&missing.display().to_string()).is_err());
    assert!(!exists(&missing), "opening for reading makes nothing");
    Store::open(&missing.display().to_string()).unwrap();
    assert!(exists(&missing));
}

#[tokio::test]
async fn a_folder_that_turns_unwritable_fails_without_retries() {
    let folder = TempFolder::new();
    let store = Store::open(&folder.url()).unwrap();
    std::fs::write(folder.0.join("r"), "a file where a run's folder should be").unwrap();
    let run = store.run("r").unwrap();
    let error = run
        .save(&Arc::new(snapshot("r", 1, "w")), SHARD_BYTES_MAX)
        .await
        .unwrap_err();
    assert!(
        matches!(error, SaveError::Store(StoreError::Refused { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn runs_are_known_by_their_record() {
    on_every_store(async |store| {
        let record = RunRecord {
            identity: identity("b-2"),
            parent: Some("a".into()),
            parent_step: Some(40),
        };
        let run = store.run("b-2").unwrap();
        assert_eq!(run.run_record().await.unwrap(), None);
        assert_eq!(run.create_run(&record).await.unwrap(), Recorded::Written);
        assert_eq!(
            run.create_run(&record).await.unwrap(),
            Recorded::Written,
            "the same again"
        );
        let other = RunRecord {
            parent_step: Some(41),
            ..record.clone()
        };
        assert_eq!(
            run.create_run(&other).await.unwrap(),
            Recorded::Found(record.clone())
        );
        assert_eq!(run.run_record().await.unwrap(), Some(record.clone()));
        store.run("a-1").unwrap().create_run(&record).await.unwrap();
        save_round(&store.run("without-record").unwrap(), 1).await;
        assert_eq!(store.runs().await.unwrap(), ["a-1", "b-2"]);
    })
    .await;
}

#[tokio::test]
async fn records_keep_to_their_place() {
    let store = Store::open("memory://").unwrap();
    let run = store.run("r").unwrap();
    for key in [
        "manifests/x",
        "shards/x",
        "incarnations/000001",
        "../other/x",
        "a//b",
        "",
    ] {
        assert!(run.write_record(key, &json!(1)).await.is_err(), "{key}");
    }
    for id in [
        "",
        ".",
        "..",
        "a/b",
        "a b",
        "é",
        ".hidden",
        &"x".repeat(129),
    ] {
        assert!(store.run(id).is_err(), "{id}");
    }
    assert_eq!(run.read_record("note.json").await.unwrap(), None);
    assert_eq!(
        run.write_record("note.json", &json!({"a": 1}))
            .await
            .unwrap(),
        Recorded::Written
    );
    assert_eq!(
        run.read_record("note.json").await.unwrap(),
        Some(json!({"a": 1}))
    );
}

#[tokio::test]
async fn no_two_coordinators_take_the_same_incarnation() {
    on_every_store(async |store| {
        let run = store.run("r").unwrap();
        let takes = (0..8).map(|n| {
            let run = store.run("r").unwrap();
            async move {
                let address = format!("host-{n}:7070");
                run.take_incarnation("a", &address).await.unwrap()
            }
        });
        let mut taken = futures_util::future::join_all(takes).await;
        taken.sort_unstable();
        assert_eq!(taken, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(run.take_incarnation("a", "last:7070").await.unwrap(), 9);
        let newest = run.newest_incarnation().await.unwrap().unwrap();
        assert_eq!((newest.number, newest.address.as_str()), (9, "last:7070"));
    })
    .await;
}

#[tokio::test]
async fn an_incarnation_whose_answer_was_lost_is_taken_once() {
    for attempts_max in [1, 3] {
        let (faults, store) = faulty(attempts_max);
        let run = store.run("r").unwrap();
        faults.plan(Operation::Put, "incarnations/", 0, 1, Fault::Ambiguous);
        assert_eq!(run.take_incarnation("a", "").await.unwrap(), 1);
        assert!(faults.all_fired());
        assert_eq!(
            run.take_incarnation("a", "").await.unwrap(),
            2,
            "the same owner is another life"
        );
    }
}

#[tokio::test]
async fn a_stale_listing_never_gives_an_incarnation_twice() {
    let (faults, store) = faulty(1);
    let run = store.run("r").unwrap();
    faults.plan(Operation::List, "incarnations", 0, 100, Fault::Stale);
    for expected in 1..=4 {
        assert_eq!(run.take_incarnation("a", "").await.unwrap(), expected);
    }
    let newest = run.newest_incarnation().await.unwrap().unwrap();
    assert_eq!(newest.number, 4, "nor hides the newest one");
}
