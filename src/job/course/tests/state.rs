//! A state that is saved, restored, forked, or misused.

use super::*;

#[test]
fn run_resumed_from_any_round_decides_the_same() {
    let overrides = [
        "train.steps=25",
        "early_stopping={patience=4, min_delta=0.01}",
        "log.every=3",
        "verify.every=4",
        "checkpoint.every=7 steps",
        "checkpoint.keep_best=train_loss",
        "evaluation.every=6 steps",
    ];
    // Values that decimal text of a few digits doesn't hold.
    let loss = |round: u64| 1.0 / (3.0 + (round * 7 % 11) as f64);
    let play = |resume_each_round: bool| {
        let mut run = Run::of(&overrides);
        while !matches!(run.course.kind(&run.state), Kind::End(_)) {
            let round = run.state.round;
            if round == 5 {
                run.round(bad);
            } else {
                let weight = if run.state.step == 9 { 1 } else { 4 };
                run.round(|c, k| totals(c, k, loss(round), weight));
            }
            if resume_each_round {
                let saved = serde_json::to_value(&run.state).unwrap();
                let text = serde_json::to_string(&saved).unwrap();
                let state = serde_json::from_str(&text).unwrap();
                assert_eq!(run.state, state);
                run.state = run.course.restore(state).unwrap();
            }
        }
        run
    };
    let (straight, resumed) = (play(false), play(true));
    assert_eq!(straight.decisions, resumed.decisions);
    assert_eq!(straight.state, resumed.state);
    assert!(straight.decisions.len() > 20, "{:?}", straight.story());
}

#[test]
fn state_of_another_course_is_refused() {
    let course = course(&[]);
    let good = Run::of(&[]).play_out(|_| 1.0, |_| 1.0).state;
    assert!(course.restore(good.clone()).is_ok());

    let mut unfinished = good.clone();
    unfinished.stopped = None;
    let error = course.restore(unfinished).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the state is after step 30, and the job ends after step 30"
    );

    let other = Course::new(&job(&[]), &["accuracy", "recall"], STEPS_PER_EPOCH, 8).unwrap();
    let error = other.restore(good).unwrap_err();
    assert_eq!(
        error,
        StateError::Metrics {
            found: 1,
            metrics: 2
        }
    );

    let mut evaluating = Run::of(&["train.steps=1"]);
    evaluating.round(|c, k| totals(c, k, 1.0, 4));
    let blind = Course::new(&job(&[]), &["accuracy"], STEPS_PER_EPOCH, 0).unwrap();
    let error = blind.restore(evaluating.state).unwrap_err();
    assert_eq!(error, StateError::Evaluation { part: 0, parts: 0 });
}

#[test]
fn fork_goes_on_from_a_finished_run() {
    let finished = Run::of(&[]).play_out(|_| 1.0, |_| 1.0).state;
    let longer = course(&["train.epochs=4"]);
    let state = longer.fork(&finished).unwrap();
    assert_eq!(longer.kind(&state), Kind::Train { step: 30, epoch: 3 });
    let run = Run {
        course: longer,
        state,
        decisions: Vec::new(),
    }
    .play_out(|_| 1.0, |_| 1.0);
    assert_eq!((run.state.step, run.state.round), (40, 44));
    assert!(course(&[]).fork(&finished).is_err());
}

#[test]
#[should_panic(expected = "is complete with each of its micro-batches")]
fn incomplete_sum_is_our_mistake() {
    let mut run = Run::of(&[]);
    run.round(|_, _| Totals::new(1, 2));
}

#[test]
#[should_panic(expected = "finished after the end")]
fn round_after_the_end_is_our_mistake() {
    let mut run = Run::of(&["train.steps=1"]).play_out(|_| 1.0, |_| 1.0);
    run.round(|_, _| Totals::new(1, 2));
}

#[test]
fn steps_after_a_round_are_those_that_the_run_has_finished_by_then() {
    for overrides in [
        &["train.epochs=3"][..],
        &["train.steps=25"],
        &["evaluation.every=4 steps", "train.steps=23"],
        &["evaluation.every=2 epochs", "train.epochs=5"],
        &["evaluation.every=never", "train.epochs=2"],
        &["evaluation.micro_batch=1"],
    ] {
        let mut run = Run::of(overrides);
        loop {
            let (state, course) = (&run.state, &run.course);
            assert_eq!(course.steps_after(state.round), state.step, "{overrides:?}");
            let weight = match course.kind(state) {
                Kind::Train { .. } => 4,
                Kind::Evaluate { .. } => 8,
                Kind::End(_) => break,
            };
            run.round(|c, k| totals(c, k, 1.0, weight));
        }
        assert_eq!(run.course.steps_after(u64::MAX), run.state.step);
    }
}
