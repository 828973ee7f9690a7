//! What rides beside the gradients in the same sum: how much of what is in it,
//! and whether it may be applied.
//!
//! A micro-batch's way into a sum, in the order of the calls:
//!
//! 1. Each parameter's gradient is [inspected](super::FixedPoint::inspect).
//! 2. [`Totals::add_micro_batch`] takes loss, metrics and inspections, and gives
//!    the [`Verdict`]. The micro-batch is accounted for from here on, whatever it is.
//! 3. Only when [`Verdict::Clean`]: each parameter's gradient is accumulated, and
//!    [`Totals::add_rounding`] told what was rounded away. All others contribute zeros.
//!
//! Everything in it is a sum of integers or a union of disjoint sets, so merging is
//! as free of order as the sums of the gradients are.

use thiserror::Error;

use super::fixed::{FixedPoint, Inspection, RangeError, Rounding};
use super::set::{MicroBatchSet, MicroBatchSetError};
use super::totals_bytes::{MAX_METRICS, MAX_PARAMETERS};

/// What a micro-batch is, decided once for all of its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All values can be summed.
    Clean,
    /// Weight zero, so nothing to sum: what a mean over nothing is doesn't matter.
    Empty,
    /// A gradient element, the loss or a metric is NaN or an infinity.
    NonFinite,
    /// All are finite, and one is too large for the fixed point.
    OutOfRange,
}

/// A micro-batch as the model saw it.
#[derive(Clone, Copy, Debug)]
pub struct MicroBatch<'a> {
    /// Its index in the step.
    pub index: u32,
    /// Samples or unmasked tokens in it.
    pub weight: u64,
    /// The weight of a whole global batch, a constant of the job, not zero.
    pub nominal: u64,
    /// The mean loss over it.
    pub mean_loss: f64,
    /// The means of the model's metrics over it, in the model's order.
    pub metrics: &'a [f64],
}

impl MicroBatch<'_> {
    /// weight / nominal: the scale of its gradients, loss and metrics in the sums.
    pub fn scale(&self) -> f64 {
        self.weight as f64 / self.nominal as f64
    }
}

/// One parameter's counters, summed over the micro-batches of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParameterCounts {
    /// Gradient elements that were NaN or an infinity.
    pub non_finite: u64,
    /// Finite gradient elements beyond the range of the fixed point.
    pub out_of_range: u64,
    /// Gradient elements that weren't zero, in clean micro-batches.
    pub nonzero: u64,
    /// Those of them that the rounding made zero.
    pub rounded_to_zero: u64,
}

impl ParameterCounts {
    /// The share of nonzero gradient elements that the rounding made zero, 0 to 1;
    /// 0 when there were none. When it grows, more fraction bits are due.
    pub fn share_rounded_to_zero(&self) -> f64 {
        self.rounded_to_zero as f64 / self.nonzero.max(1) as f64
    }
}

/// Why two sums can't be merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MergeError {
    /// They have micro-batches in common.
    #[error(transparent)]
    Overlap(#[from] MicroBatchSetError),
    /// They are of different models.
    #[error(
        "the sums are of different models: {ours_metrics} metrics and {ours_parameters} parameters \
         here, {theirs_metrics} and {theirs_parameters} there"
    )]
    Shape {
        /// Metrics here.
        ours_metrics: usize,
        /// Parameters here.
        ours_parameters: usize,
        /// Metrics there.
        theirs_metrics: usize,
        /// Parameters there.
        theirs_parameters: usize,
    },
    /// A counter would overflow, which honest sums never do.
    #[error("a counter of the merged sum would overflow")]
    Overflow,
}

/// The exact sums of a step that aren't gradients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Samples or unmasked tokens in the sums.
    pub weight: u64,
    /// Sum of mean loss * weight / nominal, with [`Totals::FRACTION_BITS`].
    pub loss: i64,
    /// The same for each metric, in the model's order.
    pub metrics: Vec<i64>,
    /// Micro-batches that are accounted for, whatever their verdict.
    pub contributed: MicroBatchSet,
    /// Those of them that contribute zeros because a value wasn't finite.
    pub non_finite: MicroBatchSet,
    /// Those of them that contribute zeros because a value was too large.
    pub out_of_range: MicroBatchSet,
    /// One for each parameter, in layout order.
    pub parameters: Vec<ParameterCounts>,
}

impl Totals {
    /// Fraction bits of loss and metrics: a resolution of 2.3e-10, for values up to
    /// 524,288 in proportion to the weight of the micro-batch.
    pub const FRACTION_BITS: u32 = 32;

    const FIXED: FixedPoint = match FixedPoint::new(Self::FRACTION_BITS) {
        Some(fixed) => fixed,
        None => unreachable!(),
    };

    /// Sums of nothing, for a model with so many metrics and parameters.
    ///
    /// # Panics
    /// When there are more than [`MAX_METRICS`] or [`MAX_PARAMETERS`].
    pub fn new(metrics: usize, parameters: usize) -> Self {
        assert!(metrics <= MAX_METRICS, "{metrics} metrics");
        assert!(parameters <= MAX_PARAMETERS, "{parameters} parameters");
        Totals {
            weight: 0,
            loss: 0,
            metrics: vec![0; metrics],
            contributed: MicroBatchSet::new(),
            non_finite: MicroBatchSet::new(),
            out_of_range: MicroBatchSet::new(),
            parameters: vec![ParameterCounts::default(); parameters],
        }
    }

    /// Accounts for one micro-batch with the inspections of its gradients, one for
    /// each parameter in layout order, and says whether the gradients are to be
    /// accumulated: only when [`Verdict::Clean`].
    ///
    /// # Panics
    /// When the micro-batch is in the sums already, metrics or inspections aren't as many
    /// as the model has, the nominal weight is zero or a weight is 2^53 or more: mistakes
    /// of the caller.
    pub fn add_micro_batch(
        &mut self,
        micro_batch: &MicroBatch,
        inspections: &[Inspection],
    ) -> Verdict {
        assert_eq!(micro_batch.metrics.len(), self.metrics.len(), "metrics");
        assert_eq!(inspections.len(), self.parameters.len(), "inspections");
        assert!(micro_batch.nominal > 0, "a global batch weighs something");
        assert!(micro_batch.weight < 1 << 53, "2,048 weights fit 64 bits");
        if micro_batch.weight == 0 {
            self.add_empty(micro_batch.index);
            return Verdict::Empty;
        }
        let scalars = encode_scalars(micro_batch);
        let verdict = judge(&scalars, inspections);
        self.contribute(micro_batch.index);
        match (verdict, scalars) {
            (Verdict::Clean, Ok((loss, metrics))) => {
                self.weight += micro_batch.weight;
                // At most 2,048 values of at most 2^51 in magnitude each.
                self.loss += loss;
                for (sum, metric) in self.metrics.iter_mut().zip(metrics) {
                    *sum += metric;
                }
            }
            (Verdict::NonFinite, _) => {
                self.non_finite.insert(micro_batch.index);
            }
            _ => {
                self.out_of_range.insert(micro_batch.index);
            }
        }
        for (counts, found) in self.parameters.iter_mut().zip(inspections) {
            counts.non_finite += found.non_finite;
            counts.out_of_range += found.out_of_range;
        }
        verdict
    }

    /// Accounts for a micro-batch without samples, as the last step of an epoch may
    /// have.
    ///
    /// # Panics
    /// When it's in the sums already, which is a mistake of the caller.
    pub fn add_empty(&mut self, micro_batch: u32) {
        self.contribute(micro_batch);
    }

    /// Counts what [`FixedPoint::accumulate`] rounded away in one parameter.
    ///
    /// # Panics
    /// When there is no such parameter, which is a mistake of the caller.
    pub fn add_rounding(&mut self, parameter: usize, rounding: Rounding) {
        let counts = &mut self.parameters[parameter];
        counts.nonzero += rounding.nonzero;
        counts.rounded_to_zero += rounding.to_zero;
    }

    fn contribute(&mut self, micro_batch: u32) {
        let added = self.contributed.insert(micro_batch);
        assert!(added, "micro-batch {micro_batch} contributes once");
    }

    /// Adds the sums of other micro-batches.
    ///
    /// # Errors
    /// When a micro-batch is in both, the models differ, or a counter would overflow;
    /// these sums are then unchanged.
    pub fn merge(&mut self, other: &Totals) -> Result<(), MergeError> {
        if self.metrics.len() != other.metrics.len()
            || self.parameters.len() != other.parameters.len()
        {
            return Err(MergeError::Shape {
                ours_metrics: self.metrics.len(),
                ours_parameters: self.parameters.len(),
                theirs_metrics: other.metrics.len(),
                theirs_parameters: other.parameters.len(),
            });
        }
        let mut merged = self.clone();
        merged.contributed.union_disjoint(&other.contributed)?;
        merged.non_finite.union_disjoint(&other.non_finite)?;
        merged.out_of_range.union_disjoint(&other.out_of_range)?;
        merged.add_counters(other).ok_or(MergeError::Overflow)?;
        *self = merged;
        Ok(())
    }

    /// `None`, half done, when a counter overflows.
    fn add_counters(&mut self, other: &Totals) -> Option<()> {
        self.weight = self.weight.checked_add(other.weight)?;
        self.loss = self.loss.checked_add(other.loss)?;
        for (sum, &more) in self.metrics.iter_mut().zip(&other.metrics) {
            *sum = sum.checked_add(more)?;
        }
        for (sum, more) in self.parameters.iter_mut().zip(&other.parameters) {
            sum.non_finite = sum.non_finite.checked_add(more.non_finite)?;
            sum.out_of_range = sum.out_of_range.checked_add(more.out_of_range)?;
            sum.nonzero = sum.nonzero.checked_add(more.nonzero)?;
            sum.rounded_to_zero = sum.rounded_to_zero.checked_add(more.rounded_to_zero)?;
        }
        Some(())
    }

    /// Whether so many micro-batches can have come to these sums. Where all shares
    /// of a step do, merging them overflows nothing.
    pub fn is_possible(&self) -> bool {
        let micro_batches = self.contributed.len() as u64;
        // The limits of one, of which 2,048 fit.
        let (count, value) = (micro_batches * ((1 << 53) - 1), micro_batches << 51);
        let counts = self.parameters.iter().flat_map(|of| {
            [
                of.non_finite,
                of.out_of_range,
                of.nonzero,
                of.rounded_to_zero,
            ]
        });
        let values = self.metrics.iter().copied().chain([self.loss]);
        counts.chain([self.weight]).all(|n| n <= count)
            && values.into_iter().all(|v| v.unsigned_abs() <= value)
    }

    /// Whether the complete sum may be applied: no micro-batch in it had to
    /// contribute zeros.
    pub fn is_clean(&self) -> bool {
        self.non_finite.is_empty() && self.out_of_range.is_empty()
    }

    /// nominal / weight: what the summed gradients are to be multiplied with, so that
    /// they are the mean over what was really there. `None` when nothing was.
    pub fn correction(&self, nominal: u64) -> Option<f64> {
        (self.weight > 0).then(|| nominal as f64 / self.weight as f64)
    }

    /// The mean loss over all samples in the sums; NaN when there are none.
    pub fn mean_loss(&self, nominal: u64) -> f64 {
        self.mean(self.loss, nominal)
    }

    /// The mean of metric `i` over all samples in the sums; NaN when there are none.
    ///
    /// # Panics
    /// When there is no such metric, which is a mistake of the caller.
    pub fn mean_metric(&self, i: usize, nominal: u64) -> f64 {
        self.mean(self.metrics[i], nominal)
    }

    fn mean(&self, sum: i64, nominal: u64) -> f64 {
        let correction = self.correction(nominal).unwrap_or(f64::NAN);
        Self::FIXED.decode(sum) * correction
    }
}

/// Loss and metrics in fixed point, or the worst reason why not.
fn encode_scalars(micro_batch: &MicroBatch) -> Result<(i64, Vec<i64>), Verdict> {
    let scale = micro_batch.scale();
    let encode = |mean: f64| {
        Totals::FIXED.encode(mean * scale).map_err(|error| {
            // A finite mean whose product overflowed is large, not infinite.
            match error {
                RangeError::NonFinite { .. } if !mean.is_finite() => Verdict::NonFinite,
                _ => Verdict::OutOfRange,
            }
        })
    };
    let loss = encode(micro_batch.mean_loss);
    let metrics: Vec<_> = micro_batch.metrics.iter().map(|&m| encode(m)).collect();
    if loss == Err(Verdict::NonFinite) || metrics.contains(&Err(Verdict::NonFinite)) {
        return Err(Verdict::NonFinite);
    }
    Ok((loss?, metrics.into_iter().collect::<Result<_, _>>()?))
}

/// Non-finite outweighs out-of-range.
fn judge<T>(scalars: &Result<T, Verdict>, inspections: &[Inspection]) -> Verdict {
    let scalars = scalars.as_ref().err().copied();
    if scalars == Some(Verdict::NonFinite) || inspections.iter().any(|i| i.non_finite > 0) {
        Verdict::NonFinite
    } else if scalars.is_some() || inspections.iter().any(|i| i.out_of_range > 0) {
        Verdict::OutOfRange
    } else {
        Verdict::Clean
    }
}
