//! Whether we are still the one that coordinates the run.
//!
//! A coordinator that was frozen, or cut off, may have been taken for dead:
//! another one has taken the next incarnation, and its workers listen to
//! nothing older. The first one finds that out by looking into the store, at
//! once when it notices that it slept, and now and then.

use std::time::Duration;

use super::super::CoordinatorError;
use super::errands::{Errands, Found};
use crate::checkpoint::Incarnation;

/// Between two ticks there is much less than this: if there isn't, we slept.
const WE_SLEPT: Duration = Duration::from_secs(1);
/// Who was cut off, and not asleep, looks so often.
const EVERY: Duration = Duration::from_secs(30);

/// When we looked.
#[derive(Default)]
pub(super) struct Lead {
    ticked: Duration,
    looked: Duration,
}

impl Lead {
    /// Time passes; whether it is time to look.
    pub fn tick(&mut self, now: Duration) -> bool {
        let slept = now.saturating_sub(self.ticked) >= WE_SLEPT;
        self.ticked = now;
        let due = slept || now.saturating_sub(self.looked) >= EVERY;
        if due {
            self.looked = now;
        }
        due
    }
}

impl Errands {
    /// Looks which coordinator the store knows as the newest. A store that
    /// doesn't answer is asked again when it is time to.
    pub fn look_who_leads(&self) {
        let errands = self.clone();
        tokio::spawn(async move {
            match errands.run.newest_incarnation().await {
                Ok(Some(newest)) => {
                    let _ = errands.found.send(Found::Leads(newest)).await;
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "who coordinates the run is not known"),
            }
        });
    }
}

/// # Errors
/// It isn't us, the `ours`-th one.
pub(super) fn is_ours(newest: Incarnation, ours: u32) -> Result<(), CoordinatorError> {
    if newest.number <= ours {
        return Ok(());
    }
    Err(CoordinatorError::Superseded {
        address: newest.address,
        record: newest.key,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_looked_at_once_after_a_sleep_and_else_now_and_then() {
        let mut lead = Lead::default();
        let looked: Vec<u64> = (1..=700)
            .filter(|tick| lead.tick(Duration::from_millis(tick * 100)))
            .collect();
        assert_eq!(looked, [300, 600]);
        assert!(lead.tick(Duration::from_secs(75)));
        assert!(!lead.tick(Duration::from_millis(75_100)));
    }

    #[test]
    fn only_a_newer_one_supersedes_us() {
        let newest = |number| Incarnation {
            number,
            address: "stable-2:7070".into(),
            key: "runs/r/incarnations/000003".into(),
        };
        assert!(is_ours(newest(2), 2).is_ok() && is_ours(newest(1), 2).is_ok());
        let error = is_ours(newest(3), 2).unwrap_err().to_string();
        assert!(error.contains("stable-2:7070"), "{error}");
    }
}
