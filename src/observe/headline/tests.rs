use super::*;
use crate::observe::events::tests::every_event;

#[test]
fn every_event_has_its_sentence_or_none() {
    let said: Vec<(&str, Option<String>)> = every_event()
        .iter()
        .map(|event| (event.name(), event.headline().map(|h| h.text)))
        .collect();
    let expected = [
        ("run_started", None),
        (
            "run_resumed",
            Some("  resumed from step 400; 12 steps done again"),
        ),
        ("worker_registered", None),
        (
            "connection_refused",
            Some("! refused 10.0.0.9:4711: wrong token"),
        ),
        (
            "worker_joined",
            Some("+ worker 3 (spot-7f, cpu) joined at step 412"),
        ),
        (
            "drain_requested",
            Some("  worker 2 (spot-2) leaves after this round: notice of its cloud"),
        ),
        (
            "worker_left",
            Some("- worker 2 left: lost; 0 micro-batches recomputed"),
        ),
        (
            "generation_installed",
            Some("  2 workers from step 420 (gen 1.3); 3 micro-batches recomputed"),
        ),
        (
            "world_lost",
            Some("! all workers are gone after step 450; a checkpoint brings it back"),
        ),
        (
            "suspicious",
            Some("! worker 4 reported what another one holds"),
        ),
        (
            "kinds_changed",
            Some("  numerics kinds: cpu-9a1b, cpu-77 (exact: false)"),
        ),
        (
            "state_mismatch",
            Some(
                "! the members hold 2 different states after step 9, the same after step 4: worker 2 (b) is wrong",
            ),
        ),
        (
            "step_skipped",
            Some(
                "! step 7 skipped: non-finite gradient in micro-batch 2 (samples 32, 33) of dense1.weight",
            ),
        ),
        (
            "rounded_to_zero",
            Some(
                "! gradients of epoch 2 too small for 12 fraction bits (exact.fraction_bits), lost: dense1.weight 25.0 %, dense1.bias 1.0 %",
            ),
        ),
        ("checkpoint_committed", None),
        (
            "checkpoint_failed",
            Some("! checkpoint of step 938 not written to file:///c: disk full; training goes on"),
        ),
        (
            "checkpoint_damaged",
            Some(
                "! damaged checkpoint file:///c/938: weights-0: checksum differs; using file:///c/469",
            ),
        ),
        ("epoch_ended", None),
        (
            "stalled",
            Some("… waiting for worker 2 (12.0s); next: it is evicted at 15s"),
        ),
        ("paused", Some("… paused at step 50: 1 worker, 2 needed")),
        (
            "writer_changed",
            Some("  the shadow has caught up: it writes the checkpoints"),
        ),
        (
            "shadow_too_slow",
            Some(
                "  the shadow can't keep up: 910 rounds a second, it can do 420; it is let go (--shadow on keeps it)",
            ),
        ),
        (
            "hot_spare",
            Some("  worker 9 (spot-9) follows as a hot spare"),
        ),
        (
            "idle_workers",
            Some("  idle, a step has only 4 micro-batches: worker 9 (spot-9)"),
        ),
        (
            "early_stopped",
            Some(
                "  stopping early after epoch 4: val_loss no better than 0.0700 for 2 evaluations",
            ),
        ),
        ("finished", None),
        ("stopped", Some("  stopped at step 99: Ctrl-C")),
        (
            "failed",
            Some("! failed at step 12: parameter `b` receives no gradient"),
        ),
        (
            "sum_differs",
            Some(
                "! step 41 was trained again and came to another sum: 00000000000000aa before, 00000000000000bb now",
            ),
        ),
        (
            "flapping",
            Some("… worker 4 (spot-7f) was lost 3 times lately: it follows, and joins in 2.0s"),
        ),
        (
            "crash_loop",
            Some(
                "! spot-7f crashed 3 times at step 420 in the same way, and isn't taken in any more: CUDA error",
            ),
        ),
    ];
    assert_eq!(said.len(), expected.len());
    for ((name, text), (expected_name, expected_text)) in said.iter().zip(expected) {
        assert_eq!((*name, text.as_deref()), (expected_name, expected_text));
    }
}

#[test]
fn a_crash_shows_its_first_line_and_others_no_noise() {
    let worker = WorkerId::new(2, 7);
    let text = |reason, why, recomputed| {
        let error = Some("out of memory\n  at step.rs:7");
        left(worker, reason, why, recomputed, error).text
    };
    assert_eq!(
        text(LeaveReason::Crashed, "its stream ended", Some(1)),
        "- worker 2.7 left: crashed (out of memory); 1 micro-batch recomputed"
    );
    assert_eq!(
        text(LeaveReason::Lost, "its process is gone", None),
        "- worker 2.7 left: lost (its process is gone)"
    );
    assert_eq!(
        text(LeaveReason::Drained, "", Some(0)),
        "- worker 2.7 left: drained; 0 micro-batches recomputed"
    );
}

#[test]
fn a_pause_says_whom_it_waits_for() {
    let text = |members, minimum| {
        let step = 7;
        let paused = Event::Paused {
            members,
            minimum,
            step,
        };
        paused.headline().expect("people are told").text
    };
    assert_eq!(text(1, 2), "… paused at step 7: 1 worker, 2 needed");
    let left = "… paused at step 7: all workers have left; training goes on when";
    assert_eq!(text(0, 1), format!("{left} one comes"));
    assert_eq!(text(0, 3), format!("{left} 3 have come"));
}

#[test]
fn idle_workers_learn_what_keeps_them_out() {
    let text = |members_max| {
        let idle = Event::IdleWorkers {
            workers: vec!["worker 9".into()],
            micro_batches: 4,
            members_max,
        };
        idle.headline().expect("people are told").text
    };
    assert_eq!(text(4), "  idle, a step has only 4 micro-batches: worker 9");
    assert_eq!(text(2), "  idle, --max-world-size is 2: worker 9");
}

#[test]
fn a_worker_without_a_name_still_has_a_number() {
    assert_eq!(worker_label(WorkerId::new(1, 1), "", ""), "worker 1");
    assert_eq!(worker_label(WorkerId::new(1, 1), "a", ""), "worker 1 (a)");
    assert_eq!(
        worker_label(WorkerId::new(1, 1), "a", "cpu:2"),
        "worker 1 (a, cpu:2)"
    );
}
