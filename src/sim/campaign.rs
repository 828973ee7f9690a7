//! Many seeds, and what to do with one that fails.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::Planted;
use super::faults::Schedule;
use super::run::{Report, Run};

/// A seed whose run broke a promise.
#[derive(Clone, Debug)]
pub struct Failure {
    /// So many things had happened.
    pub steps: u64,
    /// Draws the run.
    pub seed: u64,
    /// What was broken.
    pub broken: Vec<String>,
}

/// What many runs came to.
#[derive(Default)]
pub struct Campaign {
    /// How many there were.
    pub runs: u64,
    /// How often each thing happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// Those that broke a promise, the shortest first.
    pub failures: Vec<Failure>,
    /// Things that happened, over all runs.
    pub steps: u64,
    /// Virtual time, over all runs.
    pub took: Duration,
}

/// Runs all these seeds.
pub fn campaign(seeds: Range<u64>) -> Campaign {
    campaign_with(seeds, None)
}

pub(super) fn campaign_with(seeds: Range<u64>, planted: Option<Planted>) -> Campaign {
    let mut campaign = Campaign::default();
    for seed in seeds {
        let report = run(seed, None, planted, false);
        campaign.runs += 1;
        campaign.steps += report.steps;
        campaign.took += report.took;
        for (what, times) in report.counts {
            *campaign.counts.entry(what).or_default() += times;
        }
        if !report.broken.is_empty() {
            campaign.failures.push(Failure {
                steps: report.steps,
                seed,
                broken: report.broken,
            });
        }
    }
    campaign.failures.sort_by_key(|failure| failure.steps);
    campaign
}

impl Campaign {
    /// Adds what others came to.
    pub fn add(&mut self, other: Campaign) {
        self.runs += other.runs;
        self.steps += other.steps;
        self.took += other.took;
        for (what, times) in other.counts {
            *self.counts.entry(what).or_default() += times;
        }
        self.failures.extend(other.failures);
        self.failures.sort_by_key(|failure| failure.steps);
    }

    /// For people: the shortest failures, each with the fewest faults that
    /// still make it fail.
    pub fn explain(&self) -> String {
        let mut text = String::new();
        for failure in self.failures.iter().take(20) {
            let Failure {
                steps,
                seed,
                broken,
            } = failure;
            text += &format!("SEED={seed}, after {steps} events: {}\n", broken.join("; "));
        }
        if let Some(first) = self.failures.first() {
            let fewest = shrink(first.seed);
            let faults: Vec<String> = fewest.faults.iter().map(|f| format!("{f:?}")).collect();
            text += &format!(
                "SEED={} still fails with these faults alone: [{}]\n",
                first.seed,
                faults.join(", ")
            );
        }
        text
    }
}

/// One seed, told as it goes: with the fewest faults that still make it fail,
/// if it fails.
pub fn trace(seed: u64) -> Report {
    let schedule = shrink(seed);
    run(seed, Some(schedule), None, true)
}

/// The fewest of a seed's faults with which its run still breaks a promise: no
/// single one of them can be left out. All of them, if it breaks none.
pub fn shrink(seed: u64) -> Schedule {
    shrink_with(seed, None)
}

pub(super) fn shrink_with(seed: u64, planted: Option<Planted>) -> Schedule {
    let mut schedule = drawn(seed);
    let fails = |schedule: &Schedule| fails_with(seed, schedule, planted);
    if !fails(&schedule) {
        return schedule;
    }
    let mut next = 0;
    while next < schedule.faults.len() {
        let mut fewer = schedule.clone();
        fewer.faults.remove(next);
        match fails(&fewer) {
            true => (schedule, next) = (fewer, 0),
            false => next += 1,
        }
    }
    schedule
}

/// The faults that a seed draws.
pub(super) fn drawn(seed: u64) -> Schedule {
    Run::new(seed, None, None, false).schedule().clone()
}

/// Whether the run of this seed breaks a promise when these faults are all it meets.
pub(super) fn fails_with(seed: u64, faults: &Schedule, planted: Option<Planted>) -> bool {
    let report = run(seed, Some(faults.clone()), planted, false);
    !report.broken.is_empty()
}

fn run(seed: u64, faults: Option<Schedule>, planted: Option<Planted>, trace: bool) -> Report {
    let run = || Run::new(seed, faults, planted, trace).run();
    let caught = catch_unwind(AssertUnwindSafe(run));
    caught.unwrap_or_else(|_| Report {
        broken: vec!["a machine panicked".into()],
        counts: BTreeMap::new(),
        steps: 0,
        took: Duration::ZERO,
    })
}
