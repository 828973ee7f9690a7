//! A share of a round's sum: what some of the micro-batches add up to.

use super::resident::CompleteSum;
use crate::exact::{MergeError, Totals};

/// The exact sum over some micro-batches of a round, and what they were.
///
/// Integer sums: which replica or worker added which micro-batch, in which
/// order, and how partial sums were merged, leaves no trace in the values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partial {
    /// One fixed-point value an element of the flat buffer; empty in an
    /// evaluation, which has no gradients. Frozen parameters stay 0.
    pub sum: Vec<i64>,
    /// The sum is on the GPUs of this worker's replicas, and [`sum`](Partial::sum) is empty.
    pub resident: bool,
    /// Weight, loss, metrics, counters, and which micro-batches are in.
    pub totals: Totals,
}

impl Default for Partial {
    /// Of a model without anything; takes no memory.
    fn default() -> Self {
        Partial {
            sum: Vec::new(),
            resident: false,
            totals: Totals::new(0, 0),
        }
    }
}

impl Partial {
    /// The sum over all micro-batches of a round.
    pub fn complete(&self) -> CompleteSum<'_> {
        match self.resident {
            true => CompleteSum::OnReplica,
            false => CompleteSum::Here(&self.sum),
        }
    }

    /// Adds the sum over other micro-batches.
    ///
    /// # Errors
    /// When a micro-batch is in both or they are of different models or rounds;
    /// nothing has changed then.
    pub fn merge(&mut self, other: &Partial) -> Result<(), MergeError> {
        assert!(!self.resident && !other.resident, "sums that are here");
        assert_eq!(self.sum.len(), other.sum.len(), "sums over one model");
        self.totals.merge(&other.totals)?;
        for (sum, value) in self.sum.iter_mut().zip(&other.sum) {
            *sum += value;
        }
        Ok(())
    }
}
