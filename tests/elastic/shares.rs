//! Members write a large state's checkpoint together.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::support::{Fleet, Outcome};

/// Twelve steps of 1.5 million parameters: a state of 17 MiB. After step 4 no
/// evaluation has come yet, so its checkpoint is that of round 4.
fn job() -> String {
    JOB.replace("hidden = [16]", "hidden = [1024, 640]")
        .replace("epochs = 2", "steps = 12")
        .replace("\"20 steps\"", "\"4 steps\"")
}

/// In the step after the checkpoint, until its shards are uploaded.
const NEXT: &str = "hold@computed,step=4";
/// Three sums later.
const LATER: &str = "hold@computed,step=7";
const COMMITTED: &str = "tell@committed,step=4";

/// Three workers in the step after the checkpoint, held by the first; the second
/// may meet a fault.
fn in_step_4(second: &str) -> Fleet {
    let mut fleet = Fleet::start(&job(), &["--world-size", "3"]);
    let holds = format!("{NEXT},until=HOLD;{COMMITTED};{LATER},until=HOLD");
    fleet.hire("w1", &holds);
    fleet.hire("w2", second);
    fleet.hire("w3", "tell@uploaded,step=4");
    fleet.struck("w1", NEXT);
    fleet.struck("w2", second);
    fleet.struck("w3", "tell@uploaded,step=4");
    fleet
}

/// The sums after the checkpoint are exchanged, and it is committed.
fn until_it_is_committed(fleet: &mut Fleet) {
    fleet.release("w1");
    fleet.struck("w1", LATER);
    fleet.struck("w1", COMMITTED);
}

/// The numbers of those who wrote the checkpoint's shards.
fn writers(fleet: &Fleet) -> BTreeSet<u64> {
    let manifest = std::fs::read(fleet.manifest(4)).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let shards = manifest["manifest"]["shards"].as_array().unwrap().iter();
    let keys = shards.map(|shard| shard["key"].as_str().unwrap());
    let writers = keys.map(|key| key.split('/').nth(2).unwrap());
    let ids = writers.map(|w| w.strip_prefix("worker-").unwrap().parse::<u64>().unwrap());
    ids.map(|id| id & u64::from(u32::MAX)).collect() // without the incarnation
}

/// All are killed, and another one goes on from the checkpoint.
fn resumed(mut fleet: Fleet, left: &[&str]) -> Outcome {
    left.iter().for_each(|name| fleet.kill(name));
    fleet.said("all workers are gone");
    fleet.hire("w4", "");
    let outcome = fleet.finish();
    assert_eq!(outcome.number("resumed_from_step"), 4);
    outcome
}

#[test]
fn a_large_state_is_written_by_all_members_and_is_whole() {
    let mut fleet = in_step_4("tell@uploaded,step=4");
    until_it_is_committed(&mut fleet);
    assert_eq!(writers(&fleet), [1, 2, 3].into());
    // The first one holds the others up until it is killed itself.
    resumed(fleet, &["w2", "w3", "w1"]);
}

#[test]
fn members_write_together_while_the_coordinator_is_down() {
    let mut fleet = in_step_4("tell@uploaded,step=4");
    fleet.kill_coordinator();
    until_it_is_committed(&mut fleet);
    assert_eq!(writers(&fleet), [1, 2, 3].into());
    fleet.start_coordinator();
    fleet.said("coordinator is back");
    fleet.release("w1");
    let outcome = fleet.finish();
    assert_eq!(outcome.number("recomputed_after_resume"), 0);
}

/// Its shards are in the store, but nobody has heard of them.
#[test]
fn member_killed_before_it_tells_of_its_shards_loses_no_checkpoint() {
    let mut fleet = in_step_4("kill@uploaded,step=4");
    until_it_is_committed(&mut fleet);
    let writers = writers(&fleet);
    assert!(writers.contains(&1) && !writers.contains(&2), "{writers:?}");
    let outcome = resumed(fleet, &["w3", "w1"]);
    assert_eq!(outcome.exits["w2"], None, "killed");
}

#[test]
fn first_member_killed_while_all_write_loses_that_checkpoint_and_no_other() {
    let mut fleet = Fleet::start(&job(), &["--world-size", "3"]);
    fleet.hire("w1", "kill@uploaded,step=4");
    fleet.hire("w2", &format!("{NEXT},until=HOLD;tell@uploaded,step=8"));
    fleet.hire("w3", "tell@uploaded,step=4;tell@uploaded,step=8");
    fleet.struck("w1", "kill@uploaded,step=4");
    fleet.struck("w3", "tell@uploaded,step=4");
    fleet.struck("w2", NEXT);
    fleet.release("w2");
    let outcome = fleet.finish();
    let committed = outcome.events("checkpoint_committed");
    let committed: Vec<(u64, &str)> = committed
        .map(|e| (e["step"].as_u64().unwrap(), e["worker"].as_str().unwrap()))
        .collect();
    assert_eq!(committed, [(8, "2"), (12, "2")]);
    assert_eq!(outcome.number("recomputed_after_resume"), 0);
}
