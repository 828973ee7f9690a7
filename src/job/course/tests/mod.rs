//! Whole runs in sums alone: what is decided when.

mod evaluation;
mod state;
mod watch;

use super::*;
use crate::exact::ParameterCounts;
use std::path::Path;

/// Ten steps an epoch, four micro-batches of one sample, eight validation samples.
const STEPS_PER_EPOCH: u64 = 10;

fn job(overrides: &[&str]) -> Job {
    let text = "\
name = 'course'
[model]
kind = 'mlp'
[data]
kind = 'mnist'
url = '/data'
[train]
epochs = 3
global_batch = 4
micro_batch = 1
max_skipped_steps = 2
[optimizer]
kind = 'sgd'
[evaluation]
micro_batch = 4
[log]
every = 1000
[verify]
every = 1000
";
    let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
    Job::parse(text, Path::new("job.toml"), &overrides).unwrap_or_else(|error| panic!("{error}"))
}

fn course(overrides: &[&str]) -> Course {
    Course::new(&job(overrides), &["accuracy"], STEPS_PER_EPOCH, 8)
        .unwrap_or_else(|error| panic!("{error}"))
}

/// The complete sums of a round in which every sample has this loss; the
/// accuracy is a half of it.
fn totals(course: &Course, kind: &Kind, loss: f64, weight: u64) -> Totals {
    let mut totals = Totals::new(1, 2);
    let scale = weight as f64 / course.nominal_weight(kind) as f64;
    let fixed = |value: f64| (value * scale * (1_u64 << Totals::FRACTION_BITS) as f64) as i64;
    totals.weight = weight;
    totals.loss = fixed(loss);
    totals.metrics[0] = fixed(loss / 2.0);
    for m in 0..course.micro_batches(kind) {
        totals.contributed.insert(m);
    }
    totals
}

fn bad(course: &Course, kind: &Kind) -> Totals {
    let mut totals = totals(course, kind, 1.0, 2);
    totals.non_finite.insert(1);
    totals.out_of_range.insert(3);
    totals.parameters[1] = ParameterCounts {
        non_finite: 7,
        out_of_range: 1,
        ..Default::default()
    };
    totals
}

/// One run under way, with all it has decided.
struct Run {
    course: Course,
    state: CourseState,
    decisions: Vec<Decision>,
}

impl Run {
    fn of(overrides: &[&str]) -> Run {
        let course = course(overrides);
        Run {
            state: course.start(),
            course,
            decisions: Vec::new(),
        }
    }

    fn round(&mut self, make: impl FnOnce(&Course, &Kind) -> Totals) {
        let kind = self.course.kind(&self.state);
        let totals = make(&self.course, &kind);
        self.decisions
            .extend(self.course.finish(&mut self.state, &totals));
    }

    /// To the end, with a loss for each step and one for each evaluation, by
    /// the number of finished steps.
    fn play_out(mut self, train: impl Fn(u64) -> f64, validation: impl Fn(u64) -> f64) -> Run {
        loop {
            match self.course.kind(&self.state) {
                Kind::Train { step, .. } => self.round(|c, k| totals(c, k, train(step + 1), 4)),
                Kind::Evaluate { after_step, .. } => {
                    self.round(|c, k| totals(c, k, validation(after_step), 8));
                }
                Kind::End(_) => return self,
            }
        }
    }

    /// Each decision as `STEP what`, without numbers.
    fn story(&self) -> Vec<String> {
        let tell = |decision: &Decision| match decision {
            Decision::StepSkipped(skipped) => format!("{} skipped", skipped.step),
            Decision::Log { step, .. } => format!("{step} log"),
            Decision::VerifyDigest { step } => format!("{step} digest"),
            Decision::Evaluated { step, .. } => format!("{step} evaluated"),
            Decision::EpochEnded {
                step,
                epoch,
                complete,
                ..
            } => {
                format!(
                    "{step} epoch {epoch}{}",
                    if *complete { "" } else { " cut" }
                )
            }
            Decision::Checkpoint { step, best, last } => {
                let best = if *best { " best" } else { "" };
                format!(
                    "{step} checkpoint{best}{}",
                    if *last { " last" } else { "" }
                )
            }
            Decision::Stopped { step, reason } => match reason {
                StopReason::Completed => format!("{step} completed"),
                StopReason::EarlyStopping { .. } => format!("{step} stopped early"),
                StopReason::Failed { .. } => format!("{step} failed"),
            },
        };
        self.decisions.iter().map(tell).collect()
    }
}

#[test]
fn epoch_ends_with_evaluation_then_record_then_checkpoint() {
    let run = Run::of(&["train.epochs=2"]).play_out(|_| 1.0, |_| 1.0);
    assert_eq!(
        run.story(),
        [
            "10 evaluated",
            "10 epoch 1",
            "10 checkpoint",
            "20 log",
            "20 digest",
            "20 evaluated",
            "20 epoch 2",
            "20 checkpoint last",
            "20 completed",
        ]
    );
    assert_eq!((run.state.round, run.state.step), (22, 20));
    assert_eq!(
        run.course.kind(&run.state),
        Kind::End(StopReason::Completed)
    );
    assert_eq!(
        run.course.micro_batches(&Kind::End(StopReason::Completed)),
        0
    );
}

#[test]
fn mean_of_an_epoch_is_over_its_samples_and_not_over_its_steps() {
    let mut run = Run::of(&["train.epochs=1", "evaluation.every=never"]);
    for _ in 0..9 {
        run.round(|c, k| totals(c, k, 1.0, 4));
    }
    assert_eq!(run.course.running_means(&run.state).unwrap().loss, 1.0);
    // The short last step: one sample of loss 38, so (36 * 1 + 38) / 37 = 2.
    run.round(|c, k| totals(c, k, 38.0, 1));
    let means = Means {
        loss: 2.0,
        metrics: vec![1.0],
        weight: 37,
    };
    assert_eq!(
        run.decisions[2],
        Decision::EpochEnded {
            epoch: 1,
            step: 10,
            complete: true,
            train: Some(means.clone()),
            validation: None
        }
    );
    assert_eq!(run.course.last_train_means(&run.state), Some(means));
    assert_eq!(run.course.running_means(&run.state), None);
    assert_eq!(run.course.last_validation(&run.state), None);
}

#[test]
fn skipped_step_counts_in_no_mean_and_goes_on() {
    let mut run = Run::of(&["train.steps=3", "evaluation.every=never", "log.every=1"]);
    run.round(|c, k| totals(c, k, 1.0, 4));
    run.round(bad);
    run.round(|c, k| totals(c, k, 3.0, 4));
    assert_eq!(
        run.story(),
        [
            "1 log",
            "1 skipped",
            "2 log",
            "3 log",
            "3 digest",
            "3 epoch 1 cut",
            "3 checkpoint last",
            "3 completed",
        ]
    );
    assert_eq!(
        run.decisions[1],
        Decision::StepSkipped(SkippedStep {
            step: 1,
            epoch: 0,
            non_finite: vec![1],
            out_of_range: vec![3],
            parameters: vec![ParameterFault {
                index: 1,
                non_finite: 7,
                out_of_range: 1
            }],
        })
    );
    assert_eq!(
        run.decisions[2],
        Decision::Log {
            step: 2,
            epoch: 1,
            train: None
        }
    );
    assert_eq!(run.course.last_train_means(&run.state).unwrap().loss, 2.0);
    assert_eq!(run.state.skipped, 1);
}

#[test]
fn step_without_any_weight_is_not_applied() {
    let course = course(&[]);
    let mut state = course.start();
    let kind = course.kind(&state);
    assert!(course.applies(&totals(&course, &kind, 1.0, 4)));
    assert!(!course.applies(&bad(&course, &kind)));
    let empty = totals(&course, &kind, 0.0, 0);
    assert!(!course.applies(&empty));
    assert!(matches!(
        course.finish(&mut state, &empty)[..],
        [Decision::StepSkipped(_)]
    ));
}

#[test]
fn one_skipped_step_too_many_fails_without_a_checkpoint() {
    let mut run = Run::of(&["checkpoint.every=1 step"]);
    run.round(|c, k| totals(c, k, 1.0, 4));
    (0..3).for_each(|_| run.round(bad));
    assert_eq!(
        run.story(),
        [
            "1 checkpoint",
            "1 skipped",
            "2 checkpoint",
            "2 skipped",
            "3 checkpoint",
            "3 skipped",
            "4 failed",
        ]
    );
    let Some(StopReason::Failed {
        skipped,
        skipped_steps_max: 2,
    }) = &run.state.stopped
    else {
        panic!("{:?}", run.state.stopped)
    };
    assert_eq!((skipped.step, &skipped.non_finite), (3, &vec![1]));
    assert_eq!(skipped.parameters[0].index, 1);
}

#[test]
fn limit_of_zero_fails_at_the_first_bad_step() {
    let mut run = Run::of(&["train.max_skipped_steps=0"]);
    run.round(bad);
    assert_eq!(run.story(), ["0 skipped", "1 failed"]);
}
