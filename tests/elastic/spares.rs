//! Hot spares: workers beyond what the world needs, that follow it.

use super::*;
use crate::support::Fleet;

/// This job, and these flags.
const TWO_AT_MOST: (&str, &[&str]) = (JOB, &["--max-world-size", "2"]);

/// A full world of two and a spare, the third worker, that has caught up in
/// step 29.
fn with_a_spare(first: &str, second: &str, spare: &str) -> Fleet {
    full(TWO_AT_MOST, first, second, spare)
}

/// The same; the job or a flag says that two are enough.
fn full((job, flags): (&str, &[&str]), first: &str, second: &str, spare: &str) -> Fleet {
    let flags = [&["--world-size", "2", "--spares", "1"], flags].concat();
    let mut fleet = Fleet::start(job, &flags);
    fleet.hire("w1", first);
    fleet.hire("w2", &format!("hold@computed,step=29,until=HOLD;{second}"));
    fleet.struck("w2", "hold@computed");
    fleet.hire("w3", spare);
    fleet.said("worker 3 (w3) follows as a hot spare");
    fleet.release("w2");
    fleet
}

fn takes_the_share_of_the_lost_one_in_the_same_step(of: (&str, &[&str])) {
    // The first has the sum of the step before, and the spare keeps in step.
    let holds = "hold@compute,step=30,until=HOLD";
    let mut fleet = full(of, "tell@compute,step=30", holds, "tell@applied,step=29");
    fleet.struck("w1", "tell@compute");
    fleet.struck("w2", "hold@compute");
    fleet.struck("w3", "tell@applied");
    fleet.kill("w2");
    let outcome = fleet.finish();
    assert_eq!(outcome.left("w2"), "lost");
    let installed: Vec<_> = outcome.events("generation_installed").collect();
    let first = outcome.first_contribution("w3");
    assert_eq!(first, 31, "the step that was under way: {installed:#?}");
    assert_eq!(installed.len(), 2, "no join of its own: {installed:#?}");
}

#[test]
fn a_hot_spare_takes_the_share_of_a_lost_member_in_the_same_step() {
    takes_the_share_of_the_lost_one_in_the_same_step(TWO_AT_MOST);
}

/// Nobody has said how many members there are at most: a step has two
/// micro-batches.
#[test]
fn a_worker_beyond_the_micro_batches_is_a_hot_spare_too() {
    let job = JOB.replace("micro_batch = 8", "micro_batch = 32");
    takes_the_share_of_the_lost_one_in_the_same_step((&job, &[]));
}

#[test]
fn a_hot_spare_takes_the_place_of_one_that_drains() {
    let outcome = with_a_spare("", "drain@applied,step=30", "").finish();
    assert_eq!(outcome.left("w2"), "drained");
    assert_eq!(
        outcome.number("generations"),
        2,
        "it comes as the other goes"
    );
    assert_eq!(outcome.number("recomputed_micro_batches"), 0);
}

#[test]
fn a_hot_spare_that_dies_costs_nothing() {
    let outcome = with_a_spare("", "", "kill@applied,step=30").finish();
    assert_eq!(outcome.left("w3"), "lost");
    assert_eq!(outcome.number("generations"), 1);
}
