//! A node that is lost again and again waits before it becomes a member again.

use super::*;
use crate::support::Fleet;

#[test]
fn node_lost_again_and_again_follows_for_a_while_before_it_is_a_member() {
    let flap = ["--node", "flap"];
    let mut fleet = Fleet::start(JOB, &["--world-size", "2"]);
    let holds = "hold@computed,step=25,until=HOLD;hold@computed,step=60,until=HOLD";
    fleet.hire("w1", holds);
    fleet.hire_with("w2", "kill@compute,step=20", &flap);
    fleet.struck("w1", "hold@computed,step=25");
    fleet.hire_with("w3", "tell@proposed;kill@compute", &flap);
    fleet.struck("w3", "tell@proposed");
    fleet.release("w1");
    fleet.struck("w3", "kill@compute");
    fleet.struck("w1", "hold@computed,step=60");
    fleet.hire_with("w4", "tell@proposed", &flap);
    fleet.said("worker 4 (flap) was lost 2 times lately");
    let status = fleet.status(&[]);
    let waits = status["workers"].as_array().unwrap().iter();
    let waits: Vec<_> = waits.filter(|w| w["joins_in_seconds"].is_f64()).collect();
    assert_eq!(waits.len(), 1, "{status}");
    fleet.struck("w4", "tell@proposed");
    fleet.release("w1");
    let outcome = fleet.finish();
    let flapping = outcome.events("flapping").next().unwrap();
    assert_eq!(flapping["losses"], 2);
    assert_eq!(flapping["seconds"], 1.0);
    let joined = outcome.events("worker_joined").last().unwrap();
    assert_eq!(joined["worker"], "4");
    let waited = joined["time"].as_f64().unwrap() - flapping["time"].as_f64().unwrap();
    assert!(waited >= 1.0, "taken in after {waited} s");
    // It followed meanwhile, from the step where w1 was held.
    assert!(outcome.first_contribution("w4") >= 61);
    assert_eq!(outcome.count("flapping"), 1, "one loss is none");
}
