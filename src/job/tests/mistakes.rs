//! Every message that people may get for their job, word by word.

use super::*;

/// The message for `SHORT` with one line replaced.
fn message_of(line: usize, replacement: &str) -> String {
    let mut lines: Vec<&str> = SHORT.lines().collect();
    lines[line - 1] = replacement;
    parse(&lines.join("\n"), &[]).unwrap_err().to_string()
}

/// The message for `SHORT` with lines added at its end (from line 14).
fn message_with(added: &str) -> String {
    parse(&format!("{SHORT}{added}"), &[])
        .unwrap_err()
        .to_string()
}

#[test]
fn unknown_key_names_the_nearest_one_or_its_own_table() {
    assert_eq!(
        message_of(10, "micro_bach = 16"),
        "/jobs/job.toml:10: train.micro_bach: unknown key; the nearest valid key is `micro_batch`; \
         the keys of [train] are epochs, steps, global_batch, micro_batch, max_skipped_steps"
    );
    assert_eq!(
        message_with("clip_norm = 1.0\nshuffle = 'full'\n"),
        "/jobs/job.toml:15: optimizer.shuffle: unknown key; `shuffle` stands in [data]; the keys of \
         [optimizer] are kind, lr, beta1, beta2, eps, momentum, nesterov, weight_decay, clip_norm, \
         schedule, groups"
    );
    assert_eq!(
        message_with("[[optimizer.groups]]\npatern = '*'\n"),
        "/jobs/job.toml:15: optimizer.groups.0.patern: unknown key; the nearest valid key is \
         `pattern`; the keys of [optimizer.groups.0] are pattern, lr_multiplier, decay_multiplier, \
         frozen"
    );
    assert_eq!(
        message_with("seed = 3\n"),
        "/jobs/job.toml:14: optimizer.seed: unknown key; `seed` stands at the top of the file; the \
         keys of [optimizer] are kind, lr, beta1, beta2, eps, momentum, nesterov, weight_decay, \
         clip_norm, schedule, groups"
    );
    assert!(message_with("[optimiser]\n").contains("the nearest valid key is `optimizer`"));
}

#[test]
fn wrong_type_says_what_was_expected_and_found() {
    let cases = [
        (
            8,
            "epochs = 'five'",
            "8: train.epochs: expected a whole number of at least 1; found the string \"five\"",
        ),
        (
            8,
            "epochs = 1.5",
            "8: train.epochs: expected a whole number of at least 1; found the number 1.5",
        ),
        (
            8,
            "epochs = -1",
            "8: train.epochs: expected a whole number of at least 1; found the whole number -1",
        ),
        (
            9,
            "global_batch = 5000000000",
            "9: train.global_batch: expected a whole number of samples, at least 1; found the whole number 5000000000",
        ),
        (
            13,
            "lr = true",
            "13: optimizer.lr: expected a number above 0; found `true`",
        ),
        (
            1,
            "name = 1979-05-27",
            "1: name: expected a name such as \"mnist\"; found a date or time (as a string it needs quotes)",
        ),
        (
            2,
            "model = 3\n[x]",
            "2: model: expected a table [model]; found the whole number 3",
        ),
        (
            3,
            "kind = 3",
            "3: model.kind: expected the name of a registered model, such as \"mlp\"; found the whole number 3",
        ),
        (
            8,
            "epochs = 99999999999999999999",
            "8: train.epochs: 99999999999999999999 is no 64-bit whole number",
        ),
        (
            12,
            "kind = 'adamm'",
            "12: optimizer.kind: expected \"adam\" or \"adamw\" or \"sgd\"; found \"adamm\"; the nearest is \"adam\"",
        ),
    ];
    for (line, text, expected) in cases {
        assert_eq!(message_of(line, text), format!("/jobs/job.toml:{expected}"));
    }
    assert_eq!(
        message_with("[evaluation]\nevery = '2 moons'\n"),
        "/jobs/job.toml:15: evaluation.every: expected a number of at least 1 and a unit, such as \
         \"200 steps\" or \"1 epoch\", or \"never\"; found \"2 moons\""
    );
    let error = message_of(6, "url = ''\nshuffle = 'blocks:0'");
    assert!(
        error.starts_with("/jobs/job.toml:7: data.shuffle: "),
        "{error}"
    );
    assert!(error.contains("blocks:N"), "{error}");
}

#[test]
fn missing_key_names_its_table() {
    assert_eq!(
        message_of(10, ""),
        "/jobs/job.toml:7: train.micro_batch: missing; expected a whole number of samples that \
         divides train.global_batch"
    );
    assert_eq!(
        message_of(8, ""),
        "/jobs/job.toml:7: train: has no length; expected train.epochs or train.steps"
    );
    assert_eq!(
        message_of(3, ""),
        "/jobs/job.toml:2: model.kind: missing; expected the name of a registered model, such as \
         \"mlp\""
    );
    let no_data = SHORT.replace("[data]\nkind = 'mnist'\nurl = '/data'\n", "");
    assert_eq!(
        parse(&no_data, &[]).unwrap_err().to_string(),
        "/jobs/job.toml: data: missing; expected a table [data]"
    );
}

#[test]
fn text_that_is_no_toml_names_the_line() {
    assert_eq!(
        message_of(9, "epochs = 3"),
        "/jobs/job.toml:9: epochs: set a second time; expected each key once"
    );
    assert_eq!(
        message_with("[train]\n"),
        "/jobs/job.toml:14: train: set a second time; expected each key once"
    );
    assert!(message_of(9, "global_batch = ").starts_with("/jobs/job.toml:9: "));
    assert!(message_of(9, "global batch = 64").starts_with("/jobs/job.toml:9: "));
    assert!(
        parse(&format!("{SHORT}\u{0}"), &[])
            .unwrap_err()
            .to_string()
            .starts_with("/jobs/job.toml:14: ")
    );
    assert_eq!(
        parse(&"#".repeat(2 << 20), &[]).unwrap_err().to_string(),
        "/jobs/job.toml: cannot read the job file: it is longer than 1048576 bytes"
    );
    assert_eq!(
        Job::load(Path::new("/no/such.toml"), &[])
            .unwrap_err()
            .to_string(),
        "/no/such.toml: cannot read the job file: No such file or directory (os error 2)"
    );
}

#[test]
fn batches_that_do_not_fit_say_what_would() {
    assert_eq!(
        message_of(10, "micro_batch = 48"),
        "/jobs/job.toml:10: train.micro_batch: expected a divisor of train.global_batch = 64 \
         (/jobs/job.toml:9); found 48; the nearest is 32"
    );
    assert_eq!(
        message_set(&["train.global_batch=40960", "train.micro_batch=10"]),
        "--set train.micro_batch=10: train.micro_batch: cuts train.global_batch = 40960 (--set \
         train.global_batch=40960) into 4096 micro-batches; expected at most 2048; the smallest \
         possible is 20"
    );
    assert_eq!(
        short(&["train.global_batch=32768"]).train.micro_batches(),
        2048
    );
    assert_eq!(
        message_set(&["train.global_batch=8"]),
        "--set train.global_batch=8: train.global_batch: expected a multiple of train.micro_batch = \
         16 (/jobs/job.toml:10); found 8; the nearest is 16"
    );
}

#[test]
fn impossible_values_say_what_is_possible() {
    let cases = [
        (
            "train.epochs=0",
            "train.epochs: expected a whole number of at least 1; found 0",
        ),
        (
            "train.steps=0",
            "train.steps: expected a whole number of at least 1; found 0",
        ),
        (
            "train.global_batch=0",
            "train.global_batch: expected a whole number of samples, at least 1; found 0",
        ),
        (
            "train.micro_batch=0",
            "train.micro_batch: expected a whole number of samples that divides train.global_batch; found 0",
        ),
        (
            "evaluation.micro_batch=0",
            "evaluation.micro_batch: expected a whole number of samples, at least 1; found 0",
        ),
        (
            "checkpoint.keep_last=0",
            "checkpoint.keep_last: expected a whole number of at least 1; found 0",
        ),
        (
            "verify.every=0",
            "verify.every: expected a whole number of steps, at least 1; found 0",
        ),
        (
            "log.every=0",
            "log.every: expected a whole number of steps, at least 1; found 0",
        ),
        (
            "exact.fraction_bits=60",
            "exact.fraction_bits: expected a whole number from 8 to 48; found 60",
        ),
        (
            "name=a/b",
            "name: expected 1 to 64 letters, digits, `.`, `_` or `-`, not beginning with `.` (it becomes part of paths); found \"a/b\"",
        ),
        (
            "data.url=file://host/x",
            "data.url: expected file:/// and an absolute path; found \"file://host/x\"",
        ),
        (
            "init={from='w', sha256='12'}",
            "init.sha256: expected the SHA-256 of the file in 64 hex digits; found \"12\"",
        ),
        (
            "checkpoint.keep_best_mode=min",
            "checkpoint.keep_best_mode: expected only beside checkpoint.keep_best, which is not set",
        ),
        (
            "early_stopping={patience=0}",
            "early_stopping.patience: expected a whole number of at least 1; found 0",
        ),
        (
            "early_stopping={patience=1, min_delta=-1}",
            "early_stopping.min_delta: expected a number of at least 0; found -1",
        ),
        (
            "early_stopping={}",
            "early_stopping.patience: missing; expected a whole number of at least 1",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(message_set(&[text]), format!("--set {text}: {expected}"));
    }
    assert_eq!(
        message_set(&["evaluation.every=never", "early_stopping.patience=1"]),
        "--set early_stopping.patience=1: early_stopping.monitor: \"val_loss\" is never measured: evaluation.every is \
         \"never\" (--set evaluation.every=never); expected a `train_` metric, or an evaluation"
    );
    let error = message_set(&["optimizer.lr=0"]);
    assert!(
        error.starts_with("--set optimizer.lr=0: optimizer.lr: expected a number above 0"),
        "{error}"
    );
    let error = message_with("[[optimizer.groups]]\npattern = '*'\nlr_multiplier = -1\n");
    assert!(
        error.starts_with("/jobs/job.toml:16: optimizer.groups.0.lr_multiplier: "),
        "{error}"
    );
}

#[test]
fn mode_follows_from_the_name_of_the_metric() {
    let job = short(&[
        "early_stopping={patience=1}",
        "checkpoint.keep_best=val_accuracy",
    ]);
    assert_eq!(job.early_stopping.unwrap().mode, Some(Mode::Min));
    assert_eq!(job.checkpoint.keep_best_mode, Some(Mode::Max));
    let job = short(&[
        "early_stopping={patience=1, monitor='val_bleu', mode='max'}",
        "checkpoint.keep_best=val_bleu",
    ]);
    assert_eq!(job.checkpoint.keep_best_mode, Some(Mode::Max));
}
