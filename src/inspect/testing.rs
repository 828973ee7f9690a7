//! Records for this room's tests.

use super::report::{Report, report};
use crate::exact::SumDigest;
use crate::observe::events::{EventRecord, LeaveReason};
use crate::observe::{Event, UnixMillis};
use crate::wire::StepRow;
use crate::world::{Generation, WorkerId};

pub(super) fn at(ms: u64, event: Event) -> EventRecord {
    EventRecord {
        time: UnixMillis(1_763_900_000_000 + ms),
        run: "r".into(),
        event,
    }
}

pub(super) fn joined(worker: u32, step: u64) -> Event {
    Event::WorkerJoined {
        worker: WorkerId::new(0, worker),
        name: format!("spot-{worker}"),
        devices: "cpu".into(),
        generation: Generation::NONE,
        step,
    }
}

pub(super) fn left(worker: u32, step: u64, reason: LeaveReason) -> Event {
    Event::WorkerLeft {
        worker: WorkerId::new(0, worker),
        name: format!("spot-{worker}"),
        reason,
        why: "its process is gone".into(),
        step: Some(step),
        recomputed_micro_batches: None,
        last_error: None,
        log_tail: Vec::new(),
    }
}

/// A complete run that nothing happened to.
pub(super) fn finished(run: &str, weights: &str) -> Report {
    let event = Event::Finished {
        step: 3,
        epochs: 1,
        seconds: 1.0,
        weights_sha256: weights.into(),
        checkpoint: None,
    };
    Report {
        run: run.into(),
        ..report(&[at(0, event)], &[], &[], None)
    }
}

/// Steps by the bits of their sums; zero: not known.
pub(super) fn rows(sums: &[u64]) -> Vec<Option<StepRow>> {
    let row = |bits: &u64| {
        let sum = SumDigest::from_bits(*bits)?;
        Some(StepRow { sum, micros: 0 })
    };
    sums.iter().map(row).collect()
}

/// Steps that took so many microseconds.
pub(super) fn rows_of(micros: &[u32]) -> Vec<Option<StepRow>> {
    let sum = SumDigest::from_bits(7);
    let row = |micros: &u32| {
        sum.map(|sum| StepRow {
            sum,
            micros: *micros,
        })
    };
    micros.iter().map(row).collect()
}
