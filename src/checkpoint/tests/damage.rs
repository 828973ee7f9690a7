//! Bytes that aren't those that were written: named, passed over, never deleted.

use super::*;

/// A way to damage an object.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Missing,
    Emptied,
    Truncated,
    Longer,
    Bit { at: f64 },
}

const HARMS: [Harm; 7] = [
    Harm::Missing,
    Harm::Emptied,
    Harm::Truncated,
    Harm::Longer,
    Harm::Bit { at: 0.0 },
    Harm::Bit { at: 0.5 },
    Harm::Bit { at: 1.0 },
];

async fn harm(store: &Store, key: &str, harm: Harm) {
    let mut bytes = read(store, key).await;
    match harm {
        Harm::Missing => return store.delete(key).await.unwrap(),
        Harm::Emptied => bytes.clear(),
        Harm::Truncated => bytes.truncate(bytes.len() - 1),
        Harm::Longer => bytes.push(0),
        Harm::Bit { at } => {
            let place = ((bytes.len() - 1) as f64 * at) as usize;
            bytes[place] ^= 1;
        }
    }
    overwrite(store, key, bytes).await;
}

#[tokio::test]
async fn a_damaged_shard_is_named_and_the_checkpoint_before_it_is_used() {
    on_every_store(async |store| {
        let run = store.run("r").unwrap();
        save_round(&run, 10).await;
        save_round(&run, 20).await;
        let newest = newest(&run).await;
        for shard in &newest.shards {
            let key = format!("r/{}", shard.key);
            let sound = read(&store, &key).await;
            for kind in HARMS {
                harm(&store, &key, kind).await;
                let before = keys(&store, "r").await;
                for loads in [false, true] {
                    let mut said = Vec::new();
                    let fresh = store.run("r").unwrap();
                    let note = |damage: Damage| said.push(damage);
                    let found = match loads {
                        true => fresh
                            .load_newest(note)
                            .await
                            .unwrap()
                            .map(|(manifest, _)| manifest),
                        false => fresh.newest_verified(note).await.unwrap(),
                    };
                    assert_eq!(
                        found.map(|manifest| manifest.header.round),
                        Some(10),
                        "{kind:?}"
                    );
                    assert_eq!(said.len(), 1, "{kind:?}");
                    assert_eq!(said[0].shard.as_deref(), Some(key.as_str()), "{kind:?}");
                    assert_eq!(said[0].manifest, newest.reference.key);
                    assert!(matches_harm(&said[0], kind), "{kind:?}: {}", said[0]);
                }
                assert_eq!(keys(&store, "r").await, before, "nothing was deleted");
                overwrite(&store, &key, sound.clone()).await;
            }
        }
        assert_eq!(newest_round(&store, "r").await, Some(20));
    })
    .await;
}

fn matches_harm(damage: &Damage, harm: Harm) -> bool {
    let said = damage.to_string();
    match harm {
        Harm::Missing => said.ends_with("is missing"),
        Harm::Emptied | Harm::Truncated => said.contains("is truncated"),
        Harm::Longer => said.contains("is too long"),
        Harm::Bit { .. } => said.contains("has changed: checksum"),
    }
}

#[tokio::test]
async fn a_damaged_manifest_is_named_and_the_one_before_it_is_used() {
    on_every_store(async |store| {
        let run = store.run("r").unwrap();
        save_round(&run, 10).await;
        let key = save_round(&run, 20).await.manifest.key;
        let sound = read(&store, &key).await;
        for length in [0, 1, 80, sound.len() / 2, sound.len() - 1] {
            overwrite(&store, &key, &sound[..length]).await;
            assert_one_damage(&store, &key, 10).await;
        }
        for garbage in ["{}", "null", "{\"sha256\":\"", "\u{0}\u{0}"] {
            overwrite(&store, &key, garbage).await;
            assert_one_damage(&store, &key, 10).await;
        }
        overwrite(&store, &key, sound).await;
        assert_eq!(newest_round(&store, "r").await, Some(20));
        // A manifest that is missing altogether leaves only orphans.
        store.delete(&key).await.unwrap();
        assert_eq!(newest_round(&store, "r").await, Some(10));
    })
    .await;
}

async fn assert_one_damage(store: &Store, manifest: &str, used: u64) {
    let mut said = Vec::new();
    let fresh = store.run("r").unwrap();
    let newest = fresh
        .newest_verified(|damage| said.push(damage))
        .await
        .unwrap();
    assert_eq!(newest.map(|manifest| manifest.header.round), Some(used));
    assert_eq!(said.len(), 1);
    assert_eq!(
        (said[0].manifest.as_str(), &said[0].shard),
        (manifest, &None)
    );
}

#[tokio::test]
async fn every_flipped_bit_of_a_manifest_is_seen() {
    let store = Store::open("memory://").unwrap();
    let run = store.run("r").unwrap();
    let reference = save_round(&run, 10).await.manifest;
    let sound = read(&store, &reference.key).await;
    manifest::decode(&sound, &reference).unwrap();
    for place in 0..sound.len() {
        let mut flipped = sound.clone();
        flipped[place] ^= 1 << (place % 8);
        assert!(
            manifest::decode(&flipped, &reference).is_err(),
            "byte {place}"
        );
    }
}

#[tokio::test]
async fn a_manifest_without_any_shards_is_passed_over() {
    on_every_store(async |store| {
        let run = store.run("r").unwrap();
        save_round(&run, 10).await;
        save_round(&run, 20).await;
        let newest = newest(&run).await;
        for shard in &newest.shards {
            store.delete(&format!("r/{}", shard.key)).await.unwrap();
        }
        assert_eq!(newest_round(&store, "r").await, Some(10));
        // Its digests are right and it lists nothing: not a checkpoint either.
        let empty = manifest::encode(&newest.header, &newest.shards[..1]).unwrap();
        overwrite(&store, &newest.reference.key, empty).await;
        assert_one_damage(&store, &newest.reference.key, 10).await;
    })
    .await;
}

#[tokio::test]
async fn a_run_with_nothing_sound_says_so_once_for_each() {
    on_every_store(async |store| {
        let run = store.run("r").unwrap();
        for round in [10, 20, 30] {
            let key = save_round(&run, round).await.manifest.key;
            overwrite(&store, &key, "{").await;
        }
        let mut said = 0;
        let fresh = store.run("r").unwrap();
        assert!(fresh.load_newest(|_| said += 1).await.unwrap().is_none());
        assert_eq!(said, 3);
    })
    .await;
}

#[tokio::test]
async fn a_damaged_round_is_saved_again_beside_the_damaged_one() {
    on_every_store(async |store| {
        let run = store.run("r").unwrap();
        let damaged = save_round(&run, 20).await;
        let manifest = run.read_manifest(&damaged.manifest).await.unwrap();
        harm(
            &store,
            &format!("r/{}", manifest.shards[0].key),
            Harm::Bit { at: 0.5 },
        )
        .await;
        let fresh = store.run("r").unwrap();
        assert_eq!(newest_round(&store, "r").await, None);
        let again = save(&fresh, snapshot("r", 20, "worker-2")).await;
        assert_eq!((again.by, again.manifest.attempt), (SavedBy::Us, 1));
        assert_eq!(newest_round(&store, "r").await, Some(20));
        assert_eq!(
            fresh.manifests().await.unwrap().len(),
            2,
            "the damaged one is still there"
        );
    })
    .await;
}

#[tokio::test]
async fn a_later_format_is_an_error_and_not_a_reason_to_go_back() {
    let store = Store::open("memory://").unwrap();
    let run = store.run("r").unwrap();
    save_round(&run, 10).await;
    let key = save_round(&run, 20).await.manifest.key;
    let body = r#"{"format": 2, "anything": true}"#;
    let digest = digest::sha256(body.as_bytes());
    overwrite(
        &store,
        &key,
        format!("{{\"sha256\":\"{digest}\",\"manifest\":\n{body}\n}}\n"),
    )
    .await;
    let error = run
        .newest_verified(|damage| panic!("{damage}"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, LoadError::NewerFormat { found: 2, .. }),
        "{error}"
    );
    assert!(
        run.retain(Retention {
            keep_last: 1,
            keep_best: false
        })
        .await
        .unwrap()
        .is_empty()
    );
}
