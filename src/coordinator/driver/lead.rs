//! Whether we are still the one that coordinates the run: what
//! [`crate::world::Lead`] wants to know from the store, and what has to wait
//! until it does.

use super::super::CoordinatorError;
use super::super::service::Call;
use super::Driver;
use super::errands::{Errands, Found};
use crate::checkpoint::Incarnation;

/// What came while we were in doubt.
#[derive(Default)]
pub(super) struct Waiting {
    calls: Vec<Call>,
    finds: Vec<Found>,
}

impl Driver {
    /// Something happens here. Whether we may act on it, or have slept so long
    /// that another one may lead by now.
    pub(super) fn leads(&mut self) -> bool {
        let now = self.now();
        if self.lead.awake(now) {
            self.errands.look_who_leads();
        }
        self.lead.is_sure()
    }

    pub(super) fn call_later(&mut self, call: Call) {
        self.waiting.calls.push(call);
    }

    pub(super) fn learn_later(&mut self, found: Found) {
        self.waiting.finds.push(found);
    }

    /// The store knows this one as the newest.
    ///
    /// # Errors
    /// It isn't us.
    pub(super) fn led_by(&mut self, newest: Incarnation) -> Result<(), CoordinatorError> {
        if !self.lead.is_newest(newest.number) {
            return Err(CoordinatorError::Superseded {
                address: newest.address,
                record: newest.key,
            });
        }
        let Waiting { calls, finds } = std::mem::take(&mut self.waiting);
        finds
            .into_iter()
            .try_for_each(|found| self.learned(found))?;
        calls.into_iter().try_for_each(|call| self.call(call))
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
