//! A key of a model's own with an impossible value.

/// What is wrong with one of the keys of `[model]`: the model says which, the job says where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct KeyError {
    /// The key below `[model]`, such as `dropout`; an entry of a list is `hidden.0`.
    pub key: String,
    /// What was expected and what was found.
    pub problem: String,
}

impl KeyError {
    /// Reads as `expected EXPECTED; found FOUND`.
    pub fn expected(
        key: impl Into<String>,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) -> KeyError {
        KeyError {
            key: key.into(),
            problem: format!("expected {expected}; found {found}"),
        }
    }
}
