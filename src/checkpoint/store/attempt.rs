//! One request, tried again for as long as that may help.

use std::future::Future;

use object_store::Error;

use super::Store;
use crate::checkpoint::error::{Source, StoreError};

impl Store {
    /// Runs a request until it succeeds, can't, or has been tried often enough.
    pub(super) async fn attempt<T, Answer>(
        &self,
        action: &'static str,
        key: &str,
        mut request: impl FnMut() -> Answer,
    ) -> Result<T, StoreError>
    where
        Answer: Future<Output = object_store::Result<T>>,
    {
        let mut wait = self.options.first_wait;
        let mut attempt = 1;
        loop {
            let source: Source =
                match tokio::time::timeout(self.options.attempt_timeout, request()).await {
                    Ok(Ok(answer)) => return Ok(answer),
                    Ok(Err(error)) => match self.hopeless(action, key, error) {
                        Ok(error) => return Err(error),
                        Err(transient) => transient,
                    },
                    Err(_) => format!("no answer within {:?}", self.options.attempt_timeout).into(),
                };
            if attempt >= self.options.attempts_max {
                let (url, key) = (self.url.clone(), key.to_string());
                return Err(StoreError::Unavailable {
                    url,
                    key,
                    action,
                    attempts: attempt,
                    source,
                });
            }
            tracing::warn!(action, key, attempt, reason = %source, "the store failed, trying again");
            tokio::time::sleep(wait).await;
            wait = (2 * wait).min(self.options.wait_max);
            attempt += 1;
        }
    }

    /// The error if trying again is pointless, else what went wrong this time.
    fn hopeless(
        &self,
        action: &'static str,
        key: &str,
        error: Error,
    ) -> Result<StoreError, Source> {
        let (url, key) = (self.url.clone(), key.to_string());
        match error {
            Error::NotFound { .. } => Ok(StoreError::Missing { url, key }),
            Error::AlreadyExists { .. } => Ok(StoreError::Exists { url, key }),
            error if is_refusal(&error) => Ok(StoreError::Refused {
                url,
                key,
                action,
                source: error.into(),
            }),
            error => Err(error.into()),
        }
    }
}

/// True if the same request will fail the same way again.
fn is_refusal(error: &Error) -> bool {
    use std::io::ErrorKind as Kind;
    if let Error::Generic { .. } = error {
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref::<std::io::Error>() {
                return matches!(
                    io.kind(),
                    Kind::PermissionDenied
                        | Kind::ReadOnlyFilesystem
                        | Kind::NotADirectory
                        | Kind::IsADirectory
                );
            }
            cause = error.source();
        }
        return false;
    }
    matches!(
        error,
        Error::PermissionDenied { .. }
            | Error::Unauthenticated { .. }
            | Error::NotSupported { .. }
            | Error::NotImplemented { .. }
            | Error::InvalidPath { .. }
            | Error::UnknownConfigurationKey { .. }
    )
}
