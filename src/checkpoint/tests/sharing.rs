//! One commits what several have written.

use std::collections::BTreeSet;

use super::*;

/// Two members deal a state's shards out; the other one's are uploaded, with what
/// it says of them.
async fn written_by_the_other(run: &RunStore) -> Vec<(PlannedShard, Option<Offer>)> {
    let theirs = snapshot("r", 10, "worker-2");
    let theirs = Arc::new(Portion {
        identity: theirs.header.identity.clone(),
        writer: theirs.header.writer.clone(),
        round: theirs.header.round,
        step: theirs.header.step,
        weights: theirs.weights,
        optimizer: Vec::new(),
    });
    let (weights, _) = parts();
    let entries = run.upload(&theirs, weights.clone()).await.unwrap();
    let offers = entries.into_iter().map(|entry| Offer {
        writer: "worker-2".into(),
        sha256: entry.sha256,
    });
    weights.into_iter().zip(offers.map(Some)).collect()
}

/// The shards of the weights, and those of the optimizer.
fn parts() -> (Vec<PlannedShard>, Vec<PlannedShard>) {
    let shards = snapshot("r", 10, "").plan_shards(SHARD_BYTES_MAX);
    shards
        .into_iter()
        .partition(|shard| shard.place().0 == Part::Weights)
}

/// Commits our own part and what we make of the offers; who wrote the weights.
async fn commit(run: &RunStore, offers: Vec<(PlannedShard, Option<Offer>)>) -> BTreeSet<String> {
    let ours = Arc::new(snapshot("r", 10, "worker-1"));
    let (_, optimizer) = parts();
    let mut entries = run.upload(&ours, optimizer).await.unwrap();
    entries.extend(run.complete(&ours, offers).await.unwrap());
    run.commit(&ours.header, entries).await.unwrap();
    let fresh = run.store.run("r").unwrap();
    let newest = fresh.load_newest(|damage| panic!("{damage}")).await;
    let (manifest, loaded) = newest.unwrap().unwrap();
    assert_same(&loaded, &ours);
    let weights = manifest.shards.iter().filter(|s| s.part == Part::Weights);
    let writers = weights.map(|shard| shard.key.split('/').nth(2).unwrap().to_owned());
    writers.collect()
}

#[tokio::test]
async fn what_another_has_written_is_not_written_again() {
    on_every_store(async |store| {
        let run = store.run("r").unwrap();
        let offers = written_by_the_other(&run).await;
        let before = keys(&store, "r/shards").await.len();
        assert_eq!(commit(&run, offers).await, ["worker-2".to_owned()].into());
        let (_, ours) = parts();
        let after = keys(&store, "r/shards").await.len();
        assert_eq!(after, before + ours.len());
    })
    .await;
}

#[tokio::test]
async fn shard_that_holds_other_values_or_is_not_there_is_written_here() {
    on_every_store(async |store| {
        let run = store.run("r").unwrap();
        let mut offers = written_by_the_other(&run).await;
        assert!(offers.len() >= 2, "{}", offers.len());
        // One member's state has drifted, another's disk has lied, a third is silent.
        for (at, (_, offer)) in offers.iter_mut().enumerate() {
            match offer {
                Some(offer) if at == 0 => offer.sha256 = "0".repeat(64),
                Some(offer) if at == 1 => offer.writer = "worker-3".into(),
                offer => *offer = None,
            }
        }
        assert_eq!(commit(&run, offers).await, ["worker-1".to_owned()].into());
    })
    .await;
}

/// A helper that was not waited for: its shards are there twice, once for nothing.
#[tokio::test]
async fn shards_written_twice_hurt_nothing_and_go_with_their_round() {
    on_every_store(async |store| {
        let run = store.run("r").unwrap();
        let offers = written_by_the_other(&run).await;
        let unheard = offers.into_iter().map(|(shard, _)| (shard, None)).collect();
        assert_eq!(commit(&run, unheard).await, ["worker-1".to_owned()].into());
        save_round(&run, 20).await;
        let deleted = run.retain(Retention {
            keep_last: 2,
            keep_best: false,
        });
        let deleted = deleted.await.unwrap();
        let orphans = |key: &String| key.contains("-r000000000010/worker-2/");
        assert!(
            !deleted.is_empty() && deleted.iter().all(orphans),
            "{deleted:?}"
        );
        assert_eq!(run.manifests().await.unwrap().len(), 2);
    })
    .await;
}
