//! What is wrong with `[optimizer]`, by key, so that the job file's line can be named.

/// What is wrong with `[optimizer]`, and at which key.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct SpecError {
    /// The full path in the job file, with array indices as segments:
    /// `optimizer.groups.0.pattern`.
    pub key: String,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with one key.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Problem {
    /// A value beyond its limits.
    #[error("expected {expected}, found {found}")]
    Value {
        /// What is allowed.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A key that this kind of optimizer or schedule doesn't have.
    #[error("kind = \"{kind}\" has no such key; it belongs to {belongs_to}")]
    Misplaced {
        /// The kind that was given.
        kind: &'static str,
        /// The kinds that have the key.
        belongs_to: &'static str,
    },
    /// A pattern for nothing.
    #[error(
        "no parameter matches {pattern:?}; the nearest names are {}",
        list(nearest)
    )]
    NoMatch {
        /// The pattern as given.
        pattern: String,
        /// Up to three names of parameters, the nearest first.
        nearest: Vec<String>,
    },
    /// A pattern whose every parameter an earlier group has taken.
    #[error(
        "each parameter that {pattern:?} matches is already in group {earlier:?}; \
         the first match counts, so the narrower pattern goes first"
    )]
    Shadowed {
        /// The pattern as given.
        pattern: String,
        /// The pattern of an earlier group.
        earlier: String,
    },
    /// Groups freeze every parameter.
    #[error("every parameter is frozen, so there is nothing to train")]
    AllFrozen,
}

fn list(names: &[String]) -> String {
    names
        .iter()
        .map(|name| format!("{name:?}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// An error at `optimizer.{key}`.
pub(super) fn error(key: impl AsRef<str>, problem: Problem) -> SpecError {
    SpecError {
        key: format!("optimizer.{}", key.as_ref()),
        problem,
    }
}

/// `optimizer.{key}`: not `valid`, so `expected` something else.
pub(super) fn check(
    key: impl AsRef<str>,
    valid: bool,
    expected: &str,
    found: impl ToString,
) -> Result<(), SpecError> {
    if valid {
        return Ok(());
    }
    Err(error(
        key,
        Problem::Value {
            expected: expected.to_owned(),
            found: found.to_string(),
        },
    ))
}
