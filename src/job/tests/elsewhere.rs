//! Mistakes in an override, and in the tables that others read.

use serde::Deserialize;

use super::*;
use crate::job::keys::KEYS;

#[test]
fn mistake_in_an_override_cites_the_override() {
    let cases = [
        (
            "optimizer.lrr=1",
            "--set optimizer.lrr=1: optimizer.lrr: unknown key; the nearest valid key is `lr`; the \
             keys of [optimizer] are kind, lr, beta1, beta2, eps, momentum, nesterov, weight_decay, \
             clip_norm, schedule, groups",
        ),
        (
            "optimizer.lr=fast",
            "--set optimizer.lr=fast: optimizer.lr: expected a number above 0; found the string \
             \"fast\"",
        ),
        (
            "train.global_batch=100",
            "--set train.global_batch=100: train.global_batch: expected a multiple of \
             train.micro_batch = 16 (/jobs/job.toml:10); found 100; the nearest is 96 or 112",
        ),
        (
            "lr",
            "--set lr: expected key=value, such as optimizer.lr=3e-4",
        ),
        ("=3", "--set =3: expected a dotted key before `=`, found ``"),
        (
            "a b=3",
            "--set a b=3: expected a dotted key before `=`, found `a b`",
        ),
        (
            "x=1\ny=2",
            "--set x=1\ny=2: x: unknown key; the nearest valid key is `log`; the keys of a job \
                      file are name, seed, model, data, train, optimizer, evaluation, early_stopping, \
                      checkpoint, init, exact, verify, numerics, log",
        ),
        (
            "seed.x=3",
            "--set seed.x=3: seed: expected a whole number of at least 0; found a table",
        ),
        (
            "train.epochs.x=3",
            "--set train.epochs.x=3: `train.epochs` has no entry `x`: it is no table, or a shorter \
             array",
        ),
        (
            "optimizer.groups=[{pattern='a'}",
            "--set optimizer.groups=[{pattern='a'}: the value is no TOML: unclosed array, expected `]`",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(message_set(&[text]), expected);
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only read by serde")]
struct Widths {
    hidden: Vec<u32>,
    #[serde(default)]
    dropout: f32,
}

#[test]
fn mistake_in_the_models_own_keys_is_led_back_to_its_line() {
    let with = |line: &str| {
        parse(
            &SHORT.replace("kind = 'mlp'", &format!("kind = 'mlp'\n{line}")),
            &[],
        )
        .unwrap()
    };
    with("hidden = [128]").model_config::<Widths>().unwrap();
    let message = |line: &str| with(line).model_config::<Widths>().unwrap_err().to_string();
    assert_eq!(
        message("hiden = [128]"),
        "/jobs/job.toml:4: model.hiden: unknown key; the nearest valid key is `hidden`; the keys of \
         [model] are hidden, dropout"
    );
    assert_eq!(
        message("hidden = [128,\n\n 'x']"),
        "/jobs/job.toml:6: model.hidden.1: expected a whole number of at least 0; found the string \"x\""
    );
    assert_eq!(
        message("dropout = 0.5"),
        "/jobs/job.toml:2: model.hidden: missing; expected a value"
    );
    assert_eq!(
        short(&["model.hidden=3"])
            .model_config::<Widths>()
            .unwrap_err()
            .to_string(),
        "--set model.hidden=3: model.hidden: expected an array; found the whole number 3"
    );
    assert_eq!(
        short(&[])
            .unknown_kind("model.kind", "mlpp", &["gpt", "mlp"])
            .to_string(),
        "/jobs/job.toml:3: model.kind: expected a registered kind (\"gpt\", \"mlp\"); found \
         \"mlpp\"; the nearest is \"mlp\""
    );
}

#[test]
fn list_of_keys_is_what_the_tables_take() {
    let tables = [
        "",
        "data",
        "train",
        "optimizer",
        "optimizer.schedule",
        "optimizer.groups.0",
        "evaluation",
        "early_stopping",
        "checkpoint",
        "init",
        "exact",
        "verify",
        "numerics",
        "log",
    ];
    let mut accepted = vec!["model.kind".to_owned()];
    for table in tables {
        let at = if table.is_empty() {
            String::new()
        } else {
            format!("{table}.")
        };
        let groups = if table == "optimizer.groups.0" {
            vec!["optimizer.groups=[{}]"]
        } else {
            vec![]
        };
        // `0` sorts before every key, so that it is the first to be refused.
        let bogus = format!("{at}0=1");
        let message = message_set(&[groups, vec![&bogus]].concat());
        let (_, keys) = message
            .split_once(" are ")
            .unwrap_or_else(|| panic!("{message}"));
        accepted.extend(
            keys.split(", ")
                .map(|key| format!("{at}{key}").replace(".0.", ".*.")),
        );
    }
    let mut listed: Vec<_> = KEYS.iter().map(|(key, _)| (*key).to_owned()).collect();
    accepted.sort();
    listed.sort();
    assert_eq!(listed, accepted);
}
