//! When the validation samples are looked at, and what comes of it.

use super::*;

#[test]
fn steps_that_end_within_an_epoch_are_evaluated_at_the_end() {
    let run = Run::of(&["train.steps=13", "log.every=6", "verify.every=5"]);
    let run = run.play_out(|step| step as f64, |_| 0.5);
    assert_eq!(
        run.story(),
        [
            "5 digest",
            "6 log",
            "10 digest",
            "10 evaluated",
            "10 epoch 1",
            "10 checkpoint",
            "12 log",
            "13 log",
            "13 digest",
            "13 evaluated",
            "13 epoch 2 cut",
            "13 checkpoint last",
            "13 completed",
        ]
    );
    assert_eq!(run.course.last_train_means(&run.state).unwrap().loss, 12.0);
    let validation = run.course.last_validation(&run.state).unwrap();
    assert_eq!(
        validation,
        Validation {
            means: Some(Means {
                loss: 0.5,
                metrics: vec![0.25],
                weight: 8
            }),
            unusable: 0
        }
    );
}

#[test]
fn evaluation_may_follow_steps_and_wait_for_several_epochs() {
    let run = Run::of(&[
        "evaluation.every=8 steps",
        "train.epochs=2",
        "checkpoint.every=never",
    ]);
    assert_eq!(
        run.play_out(|_| 1.0, |_| 1.0).story(),
        [
            "8 evaluated",
            "10 epoch 1",
            "16 evaluated",
            "20 log",
            "20 digest",
            "20 evaluated",
            "20 epoch 2",
            "20 checkpoint last",
            "20 completed",
        ]
    );
    let run = Run::of(&["evaluation.every=2 epochs", "checkpoint.every=2 epochs"]);
    assert_eq!(
        run.play_out(|_| 1.0, |_| 1.0).story(),
        [
            "10 epoch 1",
            "20 evaluated",
            "20 epoch 2",
            "20 checkpoint",
            "30 log",
            "30 digest",
            "30 evaluated",
            "30 epoch 3",
            "30 checkpoint last",
            "30 completed",
        ]
    );
}

#[test]
fn checkpoint_due_with_an_evaluation_waits_for_it() {
    let run = Run::of(&[
        "train.epochs=1",
        "checkpoint.every=5 steps",
        "evaluation.every=5 steps",
    ]);
    let story = run.play_out(|_| 1.0, |_| 1.0).story();
    assert_eq!(story[..2], ["5 evaluated", "5 checkpoint"]);
}

#[test]
fn long_evaluation_goes_in_parts_of_2048_micro_batches() {
    let job = job(&["evaluation.micro_batch=1", "train.steps=1"]);
    let course = Course::new(&job, &["accuracy"], STEPS_PER_EPOCH, 5000).unwrap();
    let mut run = Run {
        state: course.start(),
        course,
        decisions: Vec::new(),
    };
    run.round(|c, k| totals(c, k, 1.0, 4));
    let mut sizes = Vec::new();
    for (part, loss) in [(0, 1.0), (1, 1.0), (2, 3.0)] {
        let kind = run.course.kind(&run.state);
        assert_eq!(
            kind,
            Kind::Evaluate {
                index: part,
                parts: 3,
                after_step: 1
            }
        );
        let size = run.course.micro_batches(&kind);
        sizes.push((run.course.evaluation_micro_batch(part, 0), size));
        run.round(|c, k| totals(c, k, loss, u64::from(size)));
    }
    assert_eq!(sizes, [(0, 2048), (2048, 2048), (4096, 904)]);
    let means = run
        .course
        .last_validation(&run.state)
        .unwrap()
        .means
        .unwrap();
    assert_eq!(means.weight, 5000);
    assert!((means.loss - (4096.0 + 3.0 * 904.0) / 5000.0).abs() < 1e-9);
}

#[test]
fn evaluation_with_a_non_finite_micro_batch_has_no_mean_and_is_no_improvement() {
    let mut run = Run::of(&["train.steps=1", "checkpoint.keep_best=val_loss"]);
    run.round(|c, k| totals(c, k, 1.0, 4));
    run.round(|c, k| {
        let mut totals = totals(c, k, 1.0, 4);
        totals.non_finite.insert(1);
        totals
    });
    assert_eq!(
        run.course.last_validation(&run.state),
        Some(Validation {
            means: None,
            unusable: 1
        })
    );
    assert_eq!(
        run.story()[2..],
        [
            "1 evaluated",
            "1 epoch 1 cut",
            "1 checkpoint last",
            "1 completed"
        ]
    );
}
