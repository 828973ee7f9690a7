//! What is wrong with a model or its data is told by name.

use super::*;
use crate::job::Decision;

fn fails(overrides: &[&str]) -> String {
    let plan = line(overrides);
    let (_, result) = whole_round(&plan, &TrainState::initial(&plan).unwrap());
    result.unwrap_err().to_string()
}

#[test]
fn a_parameter_without_a_gradient_is_named_unless_it_is_frozen() {
    let error = fails(&["model.mistake=\"detach\""]);
    assert!(
        error.contains("step 0, micro-batch 0") && error.contains("reaches b:"),
        "{error}"
    );

    let frozen = "optimizer.groups=[{pattern=\"b\", frozen=true}]";
    let plan = line(&["model.mistake=\"detach\"", frozen]);
    let mut state = TrainState::initial(&plan).unwrap();
    let (_, round) = whole_round(&plan, &state);
    let round = round.unwrap();
    assert_eq!(round.sum[0], 0);
    state
        .finish(&plan, None, round.complete(), &round.totals)
        .unwrap();
    assert_eq!(state.weights[0], 0.0);
    assert_ne!(state.weights[1], 0.0);
}

#[test]
fn a_panic_in_a_model_is_an_error_on_every_replica() {
    let error = fails(&["model.mistake=\"panic\""]);
    assert!(error.contains("panicked: a line that panics"), "{error}");
    let plan = line(&["model.mistake=\"panic\""]);
    let state = TrainState::initial(&plan).unwrap();
    let result = train_alone(&plan, &Devices::cpu(3), state, |_, _| ());
    assert!(matches!(result, Err(StrategyError::Panicked { .. })));
}

#[test]
fn other_metrics_than_announced_are_named() {
    let error = fails(&["model.mistake=\"metrics\""]);
    assert!(error.contains("[\"error\"]"), "{error}");
}

/// The step and micro-batch that hold sample `index` in the first epoch.
fn place_of(plan: &Plan, index: u64) -> (u64, u32) {
    let mut places = (0..3).flat_map(|step| (0..2).map(move |m| (step, m)));
    places
        .find(|&(step, m)| plan.order.samples(step, m).contains(&index))
        .unwrap()
}

/// Runs an epoch with one odd sample; gives the state before and after the step
/// that holds it, and its decisions.
fn odd_step(value: &str) -> (Arc<Plan>, TrainState, TrainState, Finished) {
    let odd = format!("data.options.odd=[3, {value}]");
    let sets = [
        "optimizer.kind=\"adam\"",
        "train.epochs=1",
        "evaluation.every=\"never\"",
        &odd,
    ];
    let plan = line(&sets);
    let (step, _) = place_of(&plan, 3);
    let mut states = vec![TrainState::initial(&plan).unwrap()];
    let mut all = vec![];
    train_alone(
        &plan,
        &Devices::cpu(2),
        states[0].clone(),
        |state, finished| {
            states.push(state.clone());
            all.push(finished.clone());
        },
    )
    .unwrap();
    assert_eq!(all.len(), 3, "the run goes on");
    let step = step as usize;
    (
        plan,
        states[step].clone(),
        states[step + 1].clone(),
        all[step].clone(),
    )
}

#[test]
fn a_nan_sample_skips_its_step_and_is_told_apart_from_one_out_of_range() {
    for value in ["nan", "1e9"] {
        let (plan, before, after, finished) = odd_step(value);
        let (step, micro_batch) = place_of(&plan, 3);
        assert_eq!(finished.applied, None);
        assert_eq!(before.weights, after.weights);
        assert_eq!(before.optimizer.scalars(), after.optimizer.scalars());
        assert_eq!(before.optimizer.buffers(), after.optimizer.buffers());
        assert_eq!(after.course.step, before.course.step + 1);
        let Some(Decision::StepSkipped(skipped)) = finished.decisions.first() else {
            panic!("{:?}", finished.decisions);
        };
        assert_eq!(skipped.step, step);
        let (bad, good) = match value {
            "nan" => (&skipped.non_finite, &skipped.out_of_range),
            _ => (&skipped.out_of_range, &skipped.non_finite),
        };
        assert_eq!((&bad[..], &good[..]), (&[micro_batch][..], &[][..]));
        assert!(!skipped.parameters.is_empty());
    }
}

#[test]
fn a_model_that_differs_between_devices_is_refused() {
    let calls = std::cell::Cell::new(0);
    let strategy = MirroredStrategy::new(Devices::cpu(2), 1);
    let plan = line(&[]);
    let result = strategy.scope(|vars| {
        calls.set(calls.get() + 1);
        let vars = if calls.get() == 2 {
            vars.pp("second")
        } else {
            vars
        };
        plan.factory.build(vars)
    });
    match result {
        Err(StrategyError::OtherParameters { replica: 1 }) => {}
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("two different models"),
    }
}

#[test]
fn a_group_that_matches_nothing_is_refused_by_its_key() {
    let job = line(&[]).job.clone();
    let text = job.resolved_toml() + "\n[[optimizer.groups]]\npattern = \"x*\"\nfrozen = true\n";
    let job = Job::parse(&text, Path::new("job.toml"), &[]).unwrap();
    let registry = Registry::builtin()
        .model::<Line>("line")
        .dataset_with_options("points", open_points);
    let error = Plan::new(&job, &registry).err().unwrap().to_string();
    assert!(error.contains("optimizer.groups"), "{error}");
}

#[test]
fn a_model_that_refuses_the_first_sample_is_refused_before_anything_starts() {
    line(&[]).try_samples().unwrap();
    let error = line(&["model.mistake=refuse"]).try_samples().unwrap_err();
    let error = error.to_string();
    for words in [
        "model.kind: ",
        "the training data",
        "these samples aren't mine",
    ] {
        assert!(error.contains(words), "{words} in {error}");
    }
    assert_eq!(error.lines().count(), 1, "{error}");
}
