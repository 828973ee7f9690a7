//! Which keys make a run, and what it is called.

use proptest::prelude::*;

use super::*;

#[test]
fn identity_is_one_sorted_line_a_key() {
    let job = short(&[
        "optimizer.groups=[{pattern='a\"b', frozen=true}]",
        "model.hidden=[128]",
        "model.\"odd key\"=1",
        "train.steps=3",
    ]);
    assert_eq!(
        job.identity(),
        "\
data.kind = \"mnist\"
data.shuffle = \"full\"
evaluation.every = \"1 epoch\"
evaluation.micro_batch = 250
exact.fraction_bits = 36
model.\"odd key\" = 1
model.hidden = [128]
model.kind = \"mlp\"
optimizer.beta1 = 0.9
optimizer.beta2 = 0.999
optimizer.eps = 1e-7
optimizer.groups = [{ decay_multiplier = 1.0, frozen = true, lr_multiplier = 1.0, pattern = \"a\\\"b\" }]
optimizer.kind = \"adam\"
optimizer.lr = 0.001
optimizer.schedule.kind = \"constant\"
optimizer.schedule.warmup_steps = 0
seed = 0
train.global_batch = 64
train.micro_batch = 16
train.steps = 3
"
    );
    assert!(diff(&job.identity(), &job.identity()).is_empty());
    assert!(toml::from_str::<toml::Table>(&job.identity()).is_ok());
}

#[test]
fn output_keys_change_no_identity_and_others_do() {
    let plain = short(&[]).identity();
    for output in [
        "name=other",
        "data.url=/elsewhere",
        "checkpoint.every=5 steps",
        "checkpoint.keep_best=val_loss",
        "log.every=1",
        "verify.every=7",
        "numerics.mode=pinned",
        "train.max_skipped_steps=99",
        "evaluation.every=1 epoch",
        "seed=0",
    ] {
        assert_eq!(short(&[output]).identity(), plain, "{output}");
    }
    for number in [
        "seed=1",
        "model.hidden=[1]",
        "data.shuffle=none",
        "data.options.x=1",
        "train.epochs=3",
        "train.steps=1876",
        "train.micro_batch=32",
        "optimizer.lr=2e-3",
        "evaluation.every=5 steps",
        "evaluation.micro_batch=100",
        "early_stopping.patience=3",
        "exact.fraction_bits=32",
        "init.from=/w",
    ] {
        assert_ne!(short(&[number]).identity(), plain, "{number}");
    }
}

#[test]
fn difference_of_two_jobs_names_keys_and_values() {
    let old = short(&["train.micro_batch=32"]).identity();
    let new = short(&["optimizer.lr=2e-3", "early_stopping={patience=2}"]).identity();
    let changes: Vec<String> = diff(&old, &new).iter().map(ToString::to_string).collect();
    assert_eq!(
        changes,
        [
            "early_stopping.min_delta: (not set) -> 0.0",
            "early_stopping.mode: (not set) -> \"min\"",
            "early_stopping.monitor: (not set) -> \"val_loss\"",
            "early_stopping.patience: (not set) -> 2",
            "optimizer.lr: 0.001 -> 0.002",
            "train.micro_batch: 32 -> 16",
        ]
    );
    assert_eq!(diff("a.b = 1", "[a]\nb = 1\n"), []);
}

#[test]
fn run_id_depends_on_each_part_and_not_on_their_seams() {
    let id = run_id("seed = 1\n", "ebbtide 0.1.0", "abc");
    assert_eq!(id, "218a3f444d9c"); // runs are found by it: it never changes
    assert_eq!(id.len(), 12);
    for other in [
        run_id("seed = 2\n", "ebbtide 0.1.0", "abc"),
        run_id("seed = 1\n", "ebbtide 0.1.1", "abc"),
        run_id("seed = 1\n", "ebbtide 0.1.0", "abd"),
        run_id("seed = 1\ne", "bbtide 0.1.0", "abc"),
    ] {
        assert_ne!(other, id);
    }
}

proptest! {
    #[test]
    fn any_text_gives_a_job_or_an_error(text in "[a-z\\[\\]{}=\"'.,0-9\n #-]{0,200}") {
        let _ = parse(&text, &[]);
        let _ = parse(SHORT, &[&text]);
        let _ = parse(SHORT, &[&format!("model.x={text}")]).map(|job| {
            let again = Job::from_resolved(&job.resolved_toml()).unwrap();
            assert_eq!(again.identity(), job.identity());
        });
    }

    #[test]
    fn names_of_any_sort_survive_the_canonical_text(text in any::<String>(), number in any::<f64>()) {
        let mut job = short(&[]);
        job.model.config.insert(text.clone(), toml::Value::String(text));
        job.model.config.insert("x".into(), toml::Value::Float(number));
        prop_assume!(!job.model.config.contains_key("kind"));
        let identity = job.identity();
        let table: toml::Table = toml::from_str(&identity).unwrap();
        let model = table["model"].as_table().unwrap();
        prop_assert_eq!(model.len(), job.model.config.len() + 1);
        for (key, value) in &job.model.config {
            let is_nan = value.as_float().is_some_and(f64::is_nan);
            prop_assert!(is_nan || &model[key] == value, "{:?}", key);
        }
    }
}
