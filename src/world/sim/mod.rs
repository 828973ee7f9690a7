//! The whole protocol under random trouble, in memory and in virtual time.
//!
//! Workers, a coordinator, a checkpoint store and the connections between them
//! are simulated; the machines are the very ones that run. Whatever can happen
//! next (a message arrives, a micro-batch is computed, a probe is answered) is
//! on a list, one entry is chosen at random, and now and then something
//! breaks. After a while nothing breaks any more: then the run has to finish.
//!
//! | what | where |
//! |---|---|
//! | one run, step by step | `run` |
//! | what breaks | `faults` |
//! | what has to hold | `invariants` |
//! | the rims | `process`, `exchange`, `engine`, `coordinator` |
//! | connections, store | `network`, `env` |
//! | gradients and sums | `values` |
//!
//! `SEED=n cargo test --lib one_seed -- --nocapture` replays a run with a
//! trace.

mod coordinator;
mod engine;
mod env;
mod exchange;
mod faults;
mod invariants;
mod network;
mod process;
mod run;
mod values;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use run::{Report, Run};

/// A rule that is left out on purpose, to see that the promises notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Planted {
    /// A worker forgets its partial sum at an Install.
    PartialNotKept,
    /// Frames that come early are thrown away.
    NewerDropped,
    /// Frames of an older generation are taken.
    OlderTaken,
    /// A planned change is entered as soon as one member has voted.
    OneVoteIsEnough,
    /// The coordinator forgets everything when it stops.
    NothingDurable,
    /// A worker reports before it has come to rest.
    ReportAtOnce,
    /// A leaver goes as soon as the others can do without it, by its own view.
    LeaverGoesAtOnce,
    /// A connection that is dialled anew hides that the old one broke.
    ReplacedSilently,
    /// A bucket that completes the whole round isn't sent any more.
    LastBucketKept,
}

const PLANTED: [Planted; 9] = [
    Planted::PartialNotKept,
    Planted::NewerDropped,
    Planted::OlderTaken,
    Planted::OneVoteIsEnough,
    Planted::NothingDurable,
    Planted::ReportAtOnce,
    Planted::LeaverGoesAtOnce,
    Planted::ReplacedSilently,
    Planted::LastBucketKept,
];

fn run(seed: u64, planted: Option<Planted>, trace: bool) -> Report {
    let caught = catch_unwind(AssertUnwindSafe(|| Run::new(seed, planted, trace).run()));
    caught.unwrap_or_else(|_| Report {
        broken: vec!["a machine panicked".into()],
        counts: BTreeMap::new(),
        steps: 0,
    })
}

/// A number from the environment.
fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .and_then(|value| value.parse().ok())
}

#[test]
fn one_seed() {
    if let Some(seed) = number_from("SEED") {
        let report = run(seed, None, true);
        assert!(report.broken.is_empty(), "SEED={seed}: {:?}", report.broken);
    }
}

/// What has to have happened in a campaign, or it would show nothing.
const HAPPENED: [&str; 29] = [
    "another one answered",
    "change entered",
    "connection replaced",
    "coordinator killed",
    "cut off",
    "drain",
    "drained",
    "everybody killed",
    "evicted",
    "exchange broken",
    "failed write",
    "fetched",
    "finished",
    "held",
    "installed",
    "join",
    "joined",
    "kept while it trains",
    "last bucket completes",
    "paused",
    "session broken",
    "source named",
    "stop",
    "stopped",
    "store down",
    "stream broken",
    "streamed",
    "worker killed",
    "world lost",
];

/// `SEEDS=n` for another length than the usual one, `FIRST=n` for other seeds.
#[test]
fn a_run_finishes_with_the_right_state_whatever_breaks() {
    let seeds = number_from("SEEDS").unwrap_or(10_000);
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut failed = Vec::new();
    let first = number_from("FIRST").unwrap_or(0);
    for seed in first..first + seeds {
        let report = run(seed, None, false);
        for (what, times) in report.counts {
            *counts.entry(what).or_default() += times;
        }
        if !report.broken.is_empty() {
            failed.push((report.steps, seed, report.broken));
        }
    }
    failed.sort();
    for (steps, seed, broken) in failed.iter().take(20) {
        println!("SEED={seed}, after {steps} steps: {}", broken.join("; "));
    }
    println!("{counts:#?}");
    assert!(
        failed.is_empty(),
        "{} of {seeds} runs broke a promise",
        failed.len()
    );
    for what in HAPPENED {
        let times = counts.get(what).copied().unwrap_or(0);
        assert!(
            times * 1000 >= seeds,
            "{what:?} happened only {times} times"
        );
    }
}

#[test]
fn every_planted_mistake_is_noticed() {
    for planted in PLANTED {
        let seeds = number_from("SEEDS").unwrap_or(10_000);
        let noticed = (0..seeds).find(|seed| !run(*seed, Some(planted), false).broken.is_empty());
        println!("{planted:?}: {noticed:?}");
        assert!(noticed.is_some(), "{planted:?} goes unnoticed");
    }
}
