//! How many workers there are, at the start and at most.

use std::net::TcpListener;

use super::*;
use crate::support::{Fleet, Outcome, Proxy};

/// All start together and nobody leaves.
fn undisturbed(workers: usize, flags: &[&str]) -> Outcome {
    let size = workers.to_string();
    let mut fleet = Fleet::start(JOB, &["--world-size", &size]);
    for number in 1..=workers {
        fleet.hire_with(&format!("w{number}"), "", flags);
    }
    let outcome = fleet.finish();
    assert_eq!(outcome.number("generations"), 1);
    assert_eq!(outcome.number("recomputed_micro_batches"), 0);
    let shares = outcome.summary["micro_batches_by_worker"]
        .as_object()
        .unwrap();
    let counts: Vec<u64> = shares.values().map(|n| n.as_u64().unwrap()).collect();
    assert_eq!(counts.len(), workers);
    // Each took part in each step, and in nothing twice.
    assert!(counts.iter().all(|n| *n >= STEPS), "{counts:?}");
    let evaluations = 2 * 5;
    assert_eq!(counts.iter().sum::<u64>(), 8 * STEPS + evaluations);
    assert!(
        outcome.exits.values().all(|code| *code == Some(0)),
        "{:?}",
        outcome.exits
    );
    outcome
}

#[test]
fn one_worker_comes_to_the_bits_of_the_plain_loop() {
    undisturbed(1, &[]);
}

#[test]
fn two_workers_come_to_the_same_bits() {
    undisturbed(2, &[]);
}

#[test]
fn three_workers_come_to_the_same_bits() {
    undisturbed(3, &[]);
}

#[test]
fn five_workers_come_to_the_same_bits() {
    undisturbed(5, &[]);
}

#[test]
fn two_workers_of_two_replicas_each_come_to_the_same_bits() {
    undisturbed(2, &["--devices", "cpu:2"]);
}

/// A worker behind another address, as in a container or behind a forwarded
/// port: here a proxy of the test's own, the only way that is told.
#[test]
fn peers_reach_a_worker_where_it_says() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let listens = free.local_addr().unwrap().to_string();
    drop(free);
    let proxy = Proxy::to(&listens);
    let told = proxy.address();
    let mut fleet = Fleet::start(JOB, &["--world-size", "2"]);
    let flags = ["--peer-listen", &listens, "--advertise", &told];
    fleet.hire_with("w1", "", &flags);
    fleet.hire("w2", "");
    let outcome = fleet.finish();
    assert_eq!(outcome.number("generations"), 1);
    assert!(proxy.carried() > 0, "nobody came that way");
}

#[test]
fn a_world_of_four_starts_with_four() {
    let outcome = undisturbed(4, &[]);
    let first = outcome.events("generation_installed").next().unwrap();
    assert_eq!(first["members"].as_array().unwrap().len(), 4);
    assert_eq!(
        (first["base"].as_u64(), first["step"].as_u64()),
        (Some(0), Some(0))
    );
}

#[test]
fn below_the_minimum_it_pauses_says_who_is_missing_and_goes_on_with_the_next_one() {
    let mut fleet = Fleet::start(JOB, &["--world-size", "2", "--min-world-size", "2"]);
    fleet.hire("w1", "");
    fleet.hire("w2", "kill@compute,step=30");
    fleet.said("paused at step");
    fleet.said("waiting for 1 more worker");
    fleet.hire("w3", "");
    let outcome = fleet.finish();
    let paused = outcome.events("paused").next().unwrap();
    assert_eq!(
        (paused["members"].as_u64(), paused["minimum"].as_u64()),
        (Some(1), Some(2))
    );
    let stalled = outcome.events("stalled").next().unwrap();
    assert!(
        stalled["next"].as_str().unwrap().contains("goes on"),
        "{stalled}"
    );
    // The survivor's half was not computed again.
    assert!(outcome.number("recomputed_micro_batches") <= 4);
}

#[test]
fn workers_beyond_the_micro_batches_are_named_idle() {
    let job = JOB.replace("micro_batch = 8", "micro_batch = 32");
    idle(&job, &[]);
}

#[test]
fn workers_beyond_the_largest_world_are_named_idle() {
    idle(JOB, &["--max-world-size", "2"]);
}

/// Of three workers two can help.
fn idle(job: &str, flags: &[&str]) {
    let flags = [&["--world-size", "2"], flags].concat();
    let mut fleet = Fleet::start(job, &flags);
    fleet.hire("w1", "hold@computed,step=10,until=HOLD");
    fleet.hire("w2", "");
    fleet.struck("w1", "hold@computed");
    fleet.hire("w3", "");
    fleet.said("idle");
    fleet.release("w1");
    let outcome = fleet.finish();
    let idle = outcome.events("idle_workers").next().unwrap();
    assert_eq!(idle["workers"].as_array().unwrap().len(), 1);
    assert!(
        idle["workers"][0].as_str().unwrap().contains("w3"),
        "{idle}"
    );
    assert_eq!(outcome.summary["micro_batches_by_worker"]["3"], 0);
}
