//! Every key of a job file and what it takes, in the words that errors use.
//!
//! serde knows which keys exist but not in which other table a misplaced key
//! belongs, nor how to say `u32` to a person. A test compares this list with
//! what the structs really accept, so the two can't drift apart.

/// Key path (`*` stands for an array index) and what it takes.
pub(super) const KEYS: &[(&str, &str)] = &[
    ("name", "a name such as \"mnist\""),
    ("seed", "a whole number of at least 0"),
    ("model", "a table [model]"),
    (
        "model.kind",
        "the name of a registered model, such as \"mlp\"",
    ),
    ("data", "a table [data]"),
    (
        "data.kind",
        "the name of a registered data set, such as \"mnist\"",
    ),
    ("data.url", "a URL, or a path relative to the job file"),
    ("data.shuffle", "\"full\", \"none\" or \"blocks:N\""),
    ("data.options", "a table [data.options]"),
    ("train", "a table [train]"),
    ("train.epochs", "a whole number of at least 1"),
    ("train.steps", "a whole number of at least 1"),
    (
        "train.global_batch",
        "a whole number of samples, at least 1",
    ),
    (
        "train.micro_batch",
        "a whole number of samples that divides train.global_batch",
    ),
    ("train.max_skipped_steps", "a whole number of at least 0"),
    ("optimizer", "a table [optimizer]"),
    ("optimizer.kind", "\"adam\", \"adamw\" or \"sgd\""),
    ("optimizer.lr", "a number above 0"),
    ("optimizer.beta1", "a number of at least 0 and below 1"),
    ("optimizer.beta2", "a number of at least 0 and below 1"),
    ("optimizer.eps", "a number above 0"),
    ("optimizer.momentum", "a number of at least 0 and below 1"),
    ("optimizer.nesterov", "true or false"),
    ("optimizer.weight_decay", "a number of at least 0"),
    ("optimizer.clip_norm", "a number above 0"),
    ("optimizer.groups", "tables [[optimizer.groups]]"),
    (
        "optimizer.groups.*.pattern",
        "a pattern of parameter names, such as \"*.bias\"",
    ),
    ("optimizer.groups.*.lr_multiplier", "a number of at least 0"),
    (
        "optimizer.groups.*.decay_multiplier",
        "a number of at least 0",
    ),
    ("optimizer.groups.*.frozen", "true or false"),
    ("optimizer.schedule", "a table [optimizer.schedule]"),
    (
        "optimizer.schedule.kind",
        "\"constant\", \"linear\" or \"cosine\"",
    ),
    (
        "optimizer.schedule.warmup_steps",
        "a whole number of steps, at least 0",
    ),
    (
        "optimizer.schedule.final_lr_fraction",
        "a number from 0 to 1",
    ),
    ("evaluation", "a table [evaluation]"),
    (
        "evaluation.every",
        "\"1 epoch\", \"200 steps\" or \"never\"",
    ),
    (
        "evaluation.micro_batch",
        "a whole number of samples, at least 1",
    ),
    ("early_stopping", "a table [early_stopping]"),
    (
        "early_stopping.monitor",
        "a metric such as \"val_loss\" or \"val_accuracy\"",
    ),
    ("early_stopping.mode", "\"min\" or \"max\""),
    ("early_stopping.patience", "a whole number of at least 1"),
    ("early_stopping.min_delta", "a number of at least 0"),
    ("checkpoint", "a table [checkpoint]"),
    (
        "checkpoint.every",
        "\"1 epoch\", \"200 steps\" or \"never\"",
    ),
    ("checkpoint.keep_last", "a whole number of at least 1"),
    (
        "checkpoint.keep_best",
        "a metric such as \"val_loss\" or \"val_accuracy\"",
    ),
    ("checkpoint.keep_best_mode", "\"min\" or \"max\""),
    ("checkpoint.export_weights", "true or false"),
    ("init", "a table [init]"),
    (
        "init.from",
        "a safetensors file: a path relative to the job file, or a file:// URL",
    ),
    ("init.partial", "true or false"),
    ("init.sha256", "the SHA-256 of the file in 64 hex digits"),
    ("exact", "a table [exact]"),
    ("exact.fraction_bits", "a whole number from 8 to 48"),
    ("verify", "a table [verify]"),
    ("verify.every", "a whole number of steps, at least 1"),
    ("numerics", "a table [numerics]"),
    ("numerics.mode", "\"announce\" or \"pinned\""),
    ("log", "a table [log]"),
    ("log.every", "a whole number of steps, at least 1"),
];

/// What the key at `path` takes, if it is one of ours.
pub(super) fn expected(path: &[String]) -> Option<&'static str> {
    let pattern: Vec<&str> = path
        .iter()
        .map(|key| {
            if key.parse::<usize>().is_ok() {
                "*"
            } else {
                key
            }
        })
        .collect();
    let pattern = pattern.join(".");
    KEYS.iter()
        .find(|(key, _)| *key == pattern)
        .map(|(_, what)| *what)
}

/// What serde expects, as a person would say it: for keys that aren't ours.
pub(super) fn spoken(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of at least 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "an array",
        "a map" => "a table",
        other if other.starts_with("a nonzero u") => "a whole number of at least 1",
        other if other.starts_with("struct ") => "a table",
        other => other,
    }
}

/// Where a key of this name does stand, in words; `None` if nowhere or in several
/// tables, as `kind` and `every` do: no hint is better than a wrong one.
pub(super) fn other_table(path: &[String]) -> Option<String> {
    let key = path.last()?;
    let tables: Vec<&str> = KEYS
        .iter()
        .map(|(full, _)| full.rsplit_once('.').unwrap_or(("", full)))
        .filter(|(_, name)| name == key)
        .map(|(table, _)| table)
        .collect();
    match tables[..] {
        [""] => Some("at the top of the file".to_owned()),
        ["optimizer.groups.*"] => Some("in [[optimizer.groups]]".to_owned()),
        [table] => Some(format!("in [{table}]")),
        _ => None,
    }
}

/// Of `candidates`, the one that takes the fewest edits to become `wrong`
/// (Levenshtein; the first of equals). `None` only if there are none.
pub fn nearest<'a, S: AsRef<str>>(wrong: &str, candidates: &'a [S]) -> Option<&'a str> {
    candidates
        .iter()
        .map(AsRef::as_ref)
        .min_by_key(|candidate| edits(wrong, candidate))
}

/// Levenshtein distance over characters; looks at the first 64 of each.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
