//! The night in a page: from a run's records to figures.
//!
//! One pass over the events (`night`), then the steps' times beside it. A loss
//! costs what the step in which it happened took longer than the median one.

mod figures;
mod night;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;

use figures::Pace;
pub use figures::Report;

use crate::observe::events::EventRecord;
use crate::observe::{MetricsKind, MetricsRecord};
use crate::wire::StepRow;
use night::Night;

/// Slowest steps that are shown.
const SLOWEST: usize = 5;

/// Makes the report of a run; `micro_batches` of a step, where it is known.
pub fn report(
    events: &[EventRecord],
    metrics: &[MetricsRecord],
    steps: &[Option<StepRow>],
    micro_batches: Option<u64>,
) -> Report {
    let mut night = Night::new(micro_batches);
    for record in events {
        night.goes_on(record);
    }
    let mut report = night.ends();
    let known = steps.iter().rposition(Option::is_some);
    report.steps = report.steps.max(known.map_or(0, |last| last as u64 + 1));
    report.last_values = last_values(metrics);
    time_steps(&mut report, steps);
    report
}

/// The newest value of each name, epochs' and evaluations' first.
fn last_values(metrics: &[MetricsRecord]) -> BTreeMap<String, f64> {
    let mut last = BTreeMap::new();
    for wanted in [
        MetricsKind::Step,
        MetricsKind::Evaluation,
        MetricsKind::Epoch,
    ] {
        for record in metrics.iter().filter(|record| record.kind == wanted) {
            let values = record.values().iter();
            last.extend(values.filter_map(|(name, value)| Some((name.clone(), (*value)?))));
        }
    }
    last
}

/// What each loss cost, and which steps were the slowest.
fn time_steps(report: &mut Report, steps: &[Option<StepRow>]) {
    let micros = |step: u64| {
        steps
            .get(step as usize)
            .copied()
            .flatten()
            .map(|row| row.micros)
    };
    let mut known: Vec<(u32, u64)> = (0..steps.len() as u64)
        .filter_map(|step| Some((micros(step).filter(|micros| *micros > 0)?, step)))
        .collect();
    if known.is_empty() {
        return;
    }
    known.sort_unstable();
    let at = |share: f64| f64::from(known[((known.len() - 1) as f64 * share) as usize].0);
    let (median, p99) = (at(0.5), at(0.99));
    for loss in report
        .losses
        .iter_mut()
        .filter(|loss| loss.steps_again == 0)
    {
        let took = micros(loss.step).filter(|micros| *micros > 0);
        loss.seconds = took.map(|took| (f64::from(took) - median).max(0.0) / 1e6);
    }
    let slowest = known.iter().rev().take(SLOWEST);
    let slowest =
        slowest.map(|(micros, step)| (*step, f64::from(*micros) / 1e3, happened(report, *step)));
    report.pace = Some(Pace {
        slowest: slowest.collect(),
        median_ms: median / 1e3,
        p99_ms: p99 / 1e3,
    });
}

/// What is known to have happened in a step.
fn happened(report: &Report, step: u64) -> String {
    let mut all: Vec<String> = Vec::new();
    let losses = report.losses.iter().filter(|loss| loss.step == step);
    all.extend(losses.map(|loss| loss.what.clone()));
    for stay in &report.workers {
        if stay.joined_step == step {
            all.push(format!("worker {} came", stay.worker));
        }
        if stay.left_step == Some(step) && stay.reason == Some("drained") {
            all.push(format!("worker {} drained", stay.worker));
        }
    }
    let restarts = report.restarts.iter().filter(|(_, at, _)| *at == step);
    all.extend(restarts.map(|_| "the coordinator came back".to_owned()));
    all.join("; ")
}
