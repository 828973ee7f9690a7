//! Early stopping and the best value.

use super::*;

#[test]
fn early_stopping_fires_after_patience() {
    let run = Run::of(&[
        "train.epochs=9",
        "early_stopping={patience=2, min_delta=0.1}",
    ]);
    // Epoch 3 is better, but by less than min_delta; epoch 4 is the second such look.
    let losses = [0.0, 2.0, 1.0, 0.95, 0.91, 0.1];
    let run = run.play_out(|_| 1.0, |step| losses[(step / 10) as usize]);
    assert_eq!(
        run.story()[9..],
        [
            "40 evaluated",
            "40 epoch 4",
            "40 checkpoint last",
            "40 stopped early"
        ]
    );
    assert_eq!(
        run.state.stopped,
        Some(StopReason::EarlyStopping {
            monitor: "val_loss".to_owned(),
            best: Some(1.0),
            best_step: 20,
            patience: 2
        })
    );
}

#[test]
fn early_stopping_may_watch_what_grows_or_the_training() {
    let stopped_at = |spec: &str, train: fn(u64) -> f64, validation: fn(u64) -> f64| {
        let run = Run::of(&["train.epochs=9", &format!("early_stopping={spec}")]);
        run.play_out(train, validation).state.step
    };
    let falling = |step: u64| 100.0 - step as f64;
    let rising = |step: u64| step as f64;
    assert_eq!(
        stopped_at("{patience=1, monitor='val_accuracy'}", rising, falling),
        20
    );
    assert_eq!(
        stopped_at("{patience=1, monitor='val_accuracy'}", rising, rising),
        90
    );
    assert_eq!(stopped_at("{patience=1}", rising, falling), 90);
    assert_eq!(
        stopped_at("{patience=3, monitor='train_loss'}", rising, falling),
        40
    );
    assert_eq!(
        stopped_at(
            "{patience=3, monitor='train_loss', mode='max'}",
            rising,
            falling
        ),
        90
    );
}

#[test]
fn last_step_is_completed_even_where_patience_is_over() {
    let run = Run::of(&["train.epochs=2", "early_stopping={patience=1}"]);
    assert_eq!(
        run.play_out(|_| 1.0, |_| 1.0).state.stopped,
        Some(StopReason::Completed)
    );
}

#[test]
fn best_value_is_saved_whenever_it_improves() {
    let run = Run::of(&[
        "checkpoint.keep_best=val_accuracy",
        "checkpoint.every=2 epochs",
    ]);
    let run = run.play_out(
        |_| 1.0,
        |step| if step == 20 { 1.0 } else { 2.0 + step as f64 },
    );
    let checkpoints: Vec<String> = run
        .story()
        .into_iter()
        .filter(|line| line.contains("checkpoint"))
        .collect();
    assert_eq!(
        checkpoints,
        [
            "10 checkpoint best",
            "20 checkpoint",
            "30 checkpoint best last"
        ]
    );
}

#[test]
fn other_best_metric_after_a_restart_is_watched_anew() {
    let mut run = Run::of(&["checkpoint.keep_best=val_loss"]);
    for _ in 0..11 {
        run.round(|c, k| {
            totals(
                c,
                k,
                1.0,
                if matches!(k, Kind::Train { .. }) {
                    4
                } else {
                    8
                },
            )
        });
    }
    let course = course(&["checkpoint.keep_best=val_accuracy"]);
    let state = course.restore(run.state).unwrap();
    let run = Run {
        course,
        state,
        decisions: Vec::new(),
    }
    .play_out(|_| 1.0, |_| 0.1);
    assert_eq!(
        run.story()[..3],
        ["20 evaluated", "20 epoch 2", "20 checkpoint best"]
    );
}

#[test]
fn metric_that_nobody_measures_is_refused_with_its_line() {
    let refuse = |overrides: &[&str], samples: u64| {
        Course::new(&job(overrides), &["accuracy"], STEPS_PER_EPOCH, samples)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refuse(&["early_stopping={patience=1, monitor='val_acc'}"], 8),
        "--set early_stopping={patience=1, monitor='val_acc'}: early_stopping.monitor: expected one \
         of val_loss, val_accuracy, train_loss, train_accuracy; found \"val_acc\"; the nearest is \
         \"val_loss\""
    );
    assert_eq!(
        refuse(&["checkpoint.keep_best=vall_los"], 8),
        "--set checkpoint.keep_best=vall_los: checkpoint.keep_best: expected one of val_loss, \
         val_accuracy, train_loss, train_accuracy; found \"vall_los\"; the nearest is \"val_loss\""
    );
    let silent = Course::new(
        &job(&["checkpoint.keep_best=val_bleu"]),
        &["bleu"],
        STEPS_PER_EPOCH,
        8,
    );
    assert_eq!(
        silent.unwrap_err().to_string(),
        "--set checkpoint.keep_best=val_bleu: checkpoint.keep_best_mode: missing; expected \"min\" or \
         \"max\": the name \"val_bleu\" doesn't say which is better"
    );
    assert_eq!(
        refuse(&["checkpoint.keep_best=val_loss"], 0),
        "--set checkpoint.keep_best=val_loss: checkpoint.keep_best: \"val_loss\" is never measured: \
         there is no validation data"
    );
    let error = refuse(&["optimizer.schedule={kind='cosine', warmup_steps=30}"], 8);
    assert!(
        error.contains("optimizer.schedule.warmup_steps: expected"),
        "{error}"
    );
    let error = refuse(&["evaluation.micro_batch=1"], 1 << 40);
    assert!(error.contains("expected fewer than 2^32"), "{error}");
}
