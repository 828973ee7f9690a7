//! `[optimizer]` as people write it, right and wrong.

use super::*;

#[test]
fn the_spec_of_a_job_file_is_read_and_resolved() {
    let text = r#"
        kind = "adamw"
        lr = 3e-4
        clip_norm = 1
        [schedule]
        kind = "cosine"
        warmup_steps = 100
        [[groups]]
        pattern = "*.bias"
        decay_multiplier = 0
    "#;
    let spec: OptimizerSpec = toml::from_str(text).unwrap();
    spec.validate().unwrap();
    let resolved = spec.resolved();
    assert_eq!(resolved.weight_decay, Some(0.01));
    assert_eq!(resolved.schedule.final_lr_fraction, Some(0.0));
    assert_eq!(resolved.groups[0].lr_multiplier, 1.0);
    assert_eq!(resolved, resolved.resolved());
    assert_eq!(resolved.rule(), spec.rule());
    let again: OptimizerSpec = toml::from_str(&toml::to_string(&resolved).unwrap()).unwrap();
    assert_eq!(again, resolved);
    assert!(toml::from_str::<OptimizerSpec>("kind = \"adam\"\nlearning_rate = 1").is_err());
}

#[test]
fn errors_name_the_key_and_what_was_expected() {
    for (text, message) in [
        (
            "kind = 'adam'\nlr = 0",
            "optimizer.lr: expected a number above 0, found 0",
        ),
        (
            "kind = 'adam'\nbeta2 = 1",
            "optimizer.beta2: expected a number of at least 0 and below 1, found 1",
        ),
        (
            "kind = 'adam'\neps = 0",
            "optimizer.eps: expected a number from 1e-30 to 1, found 0",
        ),
        (
            "kind = 'adam'\nweight_decay = 0.1",
            "optimizer.weight_decay: kind = \"adam\" has no such key; it belongs to \"adamw\" and \"sgd\"",
        ),
        (
            "kind = 'sgd'\nbeta1 = 0.9",
            "optimizer.beta1: kind = \"sgd\" has no such key; it belongs to \"adam\" and \"adamw\"",
        ),
        (
            "kind = 'sgd'\nnesterov = true",
            "optimizer.momentum: expected a number above 0, as nesterov = true, found 0",
        ),
        (
            "kind = 'sgd'\nclip_norm = -1",
            "optimizer.clip_norm: expected a number above 0, found -1",
        ),
        (
            "kind = 'sgd'\nlr = 1\nweight_decay = 2",
            "optimizer.weight_decay: expected at most 1 / optimizer.lr, found 2",
        ),
        (
            "kind = 'sgd'\nlr = 0.1\nweight_decay = 1\n[[groups]]\npattern = 'a'\nlr_multiplier = 20",
            "optimizer.groups.0.lr_multiplier: expected a decay of at most all of a weight a step, \
             found 2 of it",
        ),
        (
            "kind = 'sgd'\n[schedule]\nkind = 'linear'\nfinal_lr_fraction = 2",
            "optimizer.schedule.final_lr_fraction: expected a number from 0 to 1, found 2",
        ),
        (
            "kind = 'sgd'\n[[groups]]\npattern = 'a'\n[[groups]]\npattern = 'b'\nlr_multiplier = nan",
            "optimizer.groups.1.lr_multiplier: expected a number of at least 0, found NaN",
        ),
    ] {
        let spec: OptimizerSpec = toml::from_str(text).unwrap();
        assert_eq!(spec.validate().unwrap_err().to_string(), message);
    }
}
