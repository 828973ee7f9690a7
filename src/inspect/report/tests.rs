//! A night made up, and what the page says about it.

use super::*;
use crate::inspect::testing::{at, finished, joined, left, rows_of};
use crate::observe::Event;
use crate::observe::events::{InstallReason, LeaveReason};
use crate::world::{Generation, WorkerId};

fn installed(counter: u32, members: &[u32], step: u64, reason: InstallReason) -> Event {
    let id = |number: &u32| WorkerId::new(0, *number);
    Event::GenerationInstalled {
        generation: Generation {
            incarnation: 1,
            counter,
        },
        members: members.iter().map(id).collect(),
        weights: Vec::new(),
        base: step,
        step,
        reason,
        why: "worker 2 left".into(),
        recomputed_micro_batches: 3,
        source: None,
    }
}

/// Two workers; one is lost in step 3, then the other; a third one goes on.
fn night() -> Report {
    let events = [
        at(
            0,
            Event::RunStarted {
                job: "small".into(),
                steps: Some(8),
                epochs: Some(1),
                parent: None,
                parent_step: None,
            },
        ),
        at(1_000, joined(1, 0)),
        at(1_000, joined(2, 0)),
        at(5_000, left(2, 3, LeaveReason::Lost)),
        at(5_100, installed(2, &[1], 3, InstallReason::Loss)),
        at(9_000, left(1, 6, LeaveReason::Lost)),
        at(
            9_000,
            Event::WorldLost {
                step: 6,
                round: 6,
                shadow: false,
            },
        ),
        at(
            20_000,
            Event::RunResumed {
                step: 4,
                round: 4,
                checkpoint: None,
                steps_lost: 2,
            },
        ),
        at(21_000, joined(3, 4)),
        at(
            25_000,
            Event::Finished {
                step: 8,
                epochs: 1,
                seconds: 25.0,
                weights_sha256: "ab".into(),
                checkpoint: None,
            },
        ),
    ];
    let micros = [1000, 1000, 1000, 41_000, 1000, 1100, 1000, 1000];
    report(&events, &[], &rows_of(&micros), Some(8))
}

#[test]
fn who_came_and_left_why_and_the_time_without_anybody() {
    let night = night();
    assert_eq!((night.status, night.steps), ("finished", 8));
    let stays: Vec<_> = night
        .workers
        .iter()
        .map(|s| {
            (
                s.worker.0 as u32,
                s.joined_step,
                s.left_step,
                s.reason,
                s.seconds,
            )
        })
        .collect();
    assert_eq!(
        stays,
        [
            (1, 0, Some(6), Some("lost"), 8.0),
            (2, 0, Some(3), Some("lost"), 4.0),
            (3, 4, None, None, 4.0)
        ]
    );
    assert_eq!(night.workers_max, 2);
    let [(from, lasted)] = night.zero[..] else {
        panic!("{:?}", night.zero);
    };
    assert_eq!((from.0 % 100_000, lasted), (9_000, 12.0));
    // 2 for 4 s, 1 for 4 s, 1 for 4 s.
    assert!(
        (night.workers_mean - 16.0 / 12.0).abs() < 1e-9,
        "{}",
        night.workers_mean
    );
}

/// Two workers, one of which is lost while the coordinator is away; the other drains, and
/// somebody else goes on.
#[test]
fn a_worker_that_went_while_the_coordinator_was_away_is_a_loss_and_a_drain_is_none() {
    let resumed = Event::RunResumed {
        step: 6,
        round: 6,
        checkpoint: None,
        steps_lost: 0,
    };
    let events = [
        at(1_000, joined(1, 0)),
        at(1_000, joined(2, 0)),
        at(5_000, installed(2, &[1], 3, InstallReason::Restarted)),
        at(9_000, left(1, 6, LeaveReason::Drained)),
        at(9_500, resumed),
        at(9_900, joined(3, 6)),
    ];
    let night = report(&events, &[], &[], Some(8));
    let [loss] = &night.losses[..] else {
        panic!("{:?}", night.losses);
    };
    let what = "worker 2 left: gone while the coordinator was away";
    assert_eq!(
        (loss.step, loss.micro_batches, loss.what.as_str()),
        (3, 3, what)
    );
    assert_eq!(
        (night.workers[1].reason, night.restarts.len()),
        (Some("lost"), 1)
    );
}

#[test]
fn what_each_loss_cost_in_seconds_and_micro_batches() {
    let night = night();
    let [loss, resumed] = &night.losses[..] else {
        panic!("{:?}", night.losses);
    };
    assert_eq!(
        (loss.step, loss.micro_batches, loss.what.as_str()),
        (3, 3, "worker 2 left")
    );
    assert_eq!(loss.seconds, Some(0.04));
    assert_eq!((resumed.steps_again, resumed.micro_batches), (2, 16));
    let pace = night.pace.as_ref().unwrap();
    assert_eq!(pace.median_ms, 1.0);
    assert_eq!(pace.slowest[0], (3, 41.0, "worker 2 left".into()));
    assert_eq!(pace.slowest[1].0, 5);
}

#[test]
fn the_page_says_it_in_words() {
    let text = night().lines().join("\n");
    for words in [
        "run r (small): finished, 8 steps",
        "workers  3 took part, at most 2 at once, 1.3 on average; none for 12.0s",
        "lost: its process is gone",
        "stayed to the end",
        "losses   2: 40.0ms of waiting, 19 micro-batches again, 16 of them in 2 whole steps",
        "everybody gone: resumed from step 4 (2 steps done again)",
        "step         3    41.0ms  worker 2 left",
    ] {
        assert!(text.contains(words), "{words:?} in\n{text}");
    }
    assert!(
        finished("r", "x")
            .lines()
            .join("\n")
            .contains("losses   none")
    );
}
