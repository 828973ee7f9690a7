//! [`Totals`] on the wire.
//!
//! ```text
//! metrics  parameters  weight  loss  metric...  3 x (length, set)  4 counters x parameters
//! ```
//! All numbers are variable-length: seven bits a byte, lowest first, the highest bit
//! says that more follow; signed ones with the sign in the lowest bit. A parameter
//! takes about nine bytes.

use thiserror::Error;

use super::set::{MicroBatchSet, MicroBatchSetError};
use super::totals::{ParameterCounts, Totals};

/// The most metrics a model may have.
pub const MAX_METRICS: usize = 64;

/// The most parameters (named tensors) a model may have.
pub const MAX_PARAMETERS: usize = 1 << 16;

/// Why bytes are no [`Totals`]: the sender is of another version or not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TotalsError {
    /// They end early.
    #[error("the totals of a sum end early")]
    Truncated,
    /// More follow.
    #[error("{extra} bytes follow the totals of a sum")]
    TrailingBytes {
        /// How many.
        extra: usize,
    },
    /// A number that doesn't fit 64 bits.
    #[error("a number in the totals of a sum is longer than 64 bits")]
    Number,
    /// More metrics or parameters than any model has.
    #[error("the totals of a sum claim {claimed} {what}, at most {limit} are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many they claim.
        claimed: u64,
        /// How many there may be.
        limit: usize,
    },
    /// A set of micro-batches is damaged.
    #[error("the totals of a sum hold a damaged set of micro-batches")]
    Set(#[from] MicroBatchSetError),
    /// A micro-batch has a verdict without having contributed, or has both.
    #[error("the totals of a sum contradict themselves about micro-batch {micro_batch}")]
    Contradiction {
        /// Which one.
        micro_batch: u32,
    },
}

impl Totals {
    /// The bytes that go over the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.metrics.len() * 8 + self.parameters.len() * 12);
        put(&mut out, self.metrics.len() as u64);
        put(&mut out, self.parameters.len() as u64);
        put(&mut out, self.weight);
        put_signed(&mut out, self.loss);
        for &metric in &self.metrics {
            put_signed(&mut out, metric);
        }
        for set in [&self.contributed, &self.non_finite, &self.out_of_range] {
            let bytes = set.to_bytes();
            put(&mut out, bytes.len() as u64);
            out.extend_from_slice(&bytes);
        }
        for counts in &self.parameters {
            put(&mut out, counts.non_finite);
            put(&mut out, counts.out_of_range);
            put(&mut out, counts.nonzero);
            put(&mut out, counts.rounded_to_zero);
        }
        out
    }

    /// Reads what [`Totals::to_bytes`] wrote. Any bytes may come: no more is allocated
    /// than their number justifies.
    ///
    /// # Errors
    /// When the bytes aren't exactly one [`Totals`] that is consistent in itself.
    pub fn from_bytes(bytes: &[u8]) -> Result<Totals, TotalsError> {
        let mut reader = Reader { rest: bytes };
        let metrics = reader.count("metrics", MAX_METRICS, 1)?;
        let parameters = reader.count("parameters", MAX_PARAMETERS, 4)?;
        let mut totals = Totals::new(metrics, parameters);
        totals.weight = reader.number()?;
        totals.loss = reader.signed()?;
        for metric in &mut totals.metrics {
            *metric = reader.signed()?;
        }
        totals.contributed = reader.set()?;
        totals.non_finite = reader.set()?;
        totals.out_of_range = reader.set()?;
        for counts in &mut totals.parameters {
            *counts = ParameterCounts {
                non_finite: reader.number()?,
                out_of_range: reader.number()?,
                nonzero: reader.number()?,
                rounded_to_zero: reader.number()?,
            };
        }
        if !reader.rest.is_empty() {
            return Err(TotalsError::TrailingBytes {
                extra: reader.rest.len(),
            });
        }
        totals.check_verdicts()?;
        Ok(totals)
    }

    /// Each micro-batch with a verdict has contributed, and has only one.
    fn check_verdicts(&self) -> Result<(), TotalsError> {
        let strangers = self.non_finite.difference(&self.contributed);
        let more_strangers = self.out_of_range.difference(&self.contributed);
        let both = self.non_finite.intersection(&self.out_of_range);
        let found = [strangers, more_strangers, both]
            .iter()
            .find_map(|set| set.iter().next());
        found.map_or(Ok(()), |micro_batch| {
            Err(TotalsError::Contradiction { micro_batch })
        })
    }
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_signed(out: &mut Vec<u8>, number: i64) {
    put(out, (number.wrapping_shl(1) ^ (number >> 63)) as u64);
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], TotalsError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(TotalsError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, TotalsError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(TotalsError::Number);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(TotalsError::Number)
    }

    fn signed(&mut self) -> Result<i64, TotalsError> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// A number of things, each of which takes at least `bytes_min` bytes.
    fn count(
        &mut self,
        what: &'static str,
        limit: usize,
        bytes_min: usize,
    ) -> Result<usize, TotalsError> {
        let claimed = self.number()?;
        match usize::try_from(claimed) {
            Ok(count) if count <= limit => {
                if count * bytes_min > self.rest.len() {
                    return Err(TotalsError::Truncated);
                }
                Ok(count)
            }
            _ => Err(TotalsError::TooMany {
                what,
                claimed,
                limit,
            }),
        }
    }

    fn set(&mut self) -> Result<MicroBatchSet, TotalsError> {
        let length = usize::try_from(self.number()?).map_err(|_| TotalsError::Truncated)?;
        Ok(MicroBatchSet::from_bytes(self.take(length)?)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Totals {
        let mut totals = Totals::new(2, 3);
        totals.weight = 64;
        totals.loss = -123_456_789_012;
        totals.metrics = vec![i64::MIN, i64::MAX];
        totals.contributed = [0, 1, 9, 2047].into_iter().collect();
        totals.non_finite.insert(9);
        totals.out_of_range.insert(0);
        totals.parameters[1] = ParameterCounts {
            non_finite: 1,
            out_of_range: 300,
            nonzero: u64::MAX,
            rounded_to_zero: 0,
        };
        totals
    }

    #[test]
    fn totals_cut_anywhere_are_refused() {
        let bytes = sample().to_bytes();
        assert_eq!(Totals::from_bytes(&bytes).unwrap(), sample());
        for length in 0..bytes.len() {
            assert!(Totals::from_bytes(&bytes[..length]).is_err(), "{length}");
        }
        let longer = [&bytes[..], &[0]].concat();
        let error = Totals::from_bytes(&longer).unwrap_err();
        assert_eq!(error, TotalsError::TrailingBytes { extra: 1 });
    }

    #[test]
    fn claims_beyond_the_limits_are_refused_before_anything_is_allocated() {
        let error = Totals::from_bytes(&[65]).unwrap_err();
        assert!(matches!(error, TotalsError::TooMany { claimed: 65, .. }));
        let mut huge = vec![0];
        put(&mut huge, u64::MAX);
        let error = Totals::from_bytes(&huge).unwrap_err();
        assert!(matches!(error, TotalsError::TooMany { .. }));
        let mut many = vec![0];
        put(&mut many, MAX_PARAMETERS as u64);
        assert_eq!(Totals::from_bytes(&many), Err(TotalsError::Truncated));
    }

    #[test]
    fn number_of_more_than_64_bits_is_refused() {
        let mut reader = Reader {
            rest: &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
        };
        assert_eq!(reader.number(), Err(TotalsError::Number));
        let mut reader = Reader { rest: &[0x80; 11] };
        assert_eq!(reader.number(), Err(TotalsError::Number));
    }

    #[test]
    fn verdict_on_a_micro_batch_that_is_not_in_the_sum_is_refused() {
        for change in [
            |t: &mut Totals| t.non_finite.insert(5),
            |t: &mut Totals| t.out_of_range.insert(5),
            |t: &mut Totals| t.non_finite.insert(0),
        ] {
            let mut totals = sample();
            change(&mut totals);
            let error = Totals::from_bytes(&totals.to_bytes()).unwrap_err();
            assert!(matches!(error, TotalsError::Contradiction { .. }));
        }
    }

    proptest! {
        #[test]
        fn any_totals_come_back(
            weight: u64, loss: i64, metrics in prop::collection::vec(any::<i64>(), 0..5),
            counts in prop::collection::vec(any::<[u64; 4]>(), 0..20),
            verdicts in prop::collection::vec((0_u32..2048, 0..3), 0..20),
        ) {
            let mut totals = Totals::new(metrics.len(), counts.len());
            totals.weight = weight;
            totals.loss = loss;
            totals.metrics = metrics;
            for (to, [a, b, c, d]) in totals.parameters.iter_mut().zip(counts) {
                *to = ParameterCounts { non_finite: a, out_of_range: b, nonzero: c, rounded_to_zero: d };
            }
            for (index, verdict) in verdicts {
                if totals.contributed.insert(index) {
                    match verdict {
                        0 => {}
                        1 => { totals.non_finite.insert(index); }
                        _ => { totals.out_of_range.insert(index); }
                    }
                }
            }
            let bytes = totals.to_bytes();
            prop_assert_eq!(Totals::from_bytes(&bytes), Ok(totals));
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Totals::from_bytes(&bytes);
        }

        #[test]
        fn damaged_totals_are_survived(at in 0_usize..60, byte: u8) {
            let mut bytes = sample().to_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = Totals::from_bytes(&bytes);
        }
    }
}
