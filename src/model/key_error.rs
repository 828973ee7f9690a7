//! What models say is wrong, in words for a person: a key with an impossible value, and candle's
//! errors.

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

/// What candle says, without the backtrace that it carries under `RUST_BACKTRACE`.
pub fn plainly(error: &candle_core::Error) -> String {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => plainly(inner),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::backtrace::Backtrace;

    #[test]
    fn candles_errors_are_said_on_one_line() {
        let error = candle_core::Error::WithBacktrace {
            inner: Box::new(candle_core::Error::Msg("shapes differ".to_owned())),
            backtrace: Box::new(Backtrace::force_capture()),
        };
        assert!(error.to_string().contains('\n'));
        assert_eq!(plainly(&error), "shapes differ");
    }
}
