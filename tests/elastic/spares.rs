//! Hot spares: workers beyond what the world needs, that follow it.

use super::*;
use crate::support::Fleet;

/// A full world of two and a spare, the third worker, that has caught up in
/// step 29.
fn with_a_spare(first: &str, second: &str, spare: &str) -> Fleet {
    let flags = [
        "--world-size",
        "2",
        "--max-world-size",
        "2",
        "--spares",
        "1",
    ];
    let mut fleet = Fleet::start(JOB, &flags);
    fleet.hire("w1", first);
    fleet.hire("w2", &format!("hold@computed,step=29,until=HOLD;{second}"));
    fleet.struck("w2", "hold@computed");
    fleet.hire("w3", spare);
    fleet.said("worker 3 (w3) follows as a hot spare");
    fleet.release("w2");
    fleet
}

#[test]
fn a_hot_spare_takes_the_share_of_a_lost_member_in_the_same_step() {
    // The first has the sum of the step before, and the spare keeps in step.
    let holds = "hold@compute,step=30,until=HOLD";
    let mut fleet = with_a_spare("tell@compute,step=30", holds, "tell@applied,step=29");
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
