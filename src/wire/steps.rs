//! Finished steps as the first member tells them: many in one record.

use serde::{Deserialize, Serialize};

use crate::exact::SumDigest;

/// One finished step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepRow {
    /// The name of its sum.
    pub sum: SumDigest,
    /// Since the round before, on the worker that tells; 0 if it doesn't know.
    pub micros: u32,
}

/// Consecutive finished steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Compact", into = "Compact")]
pub struct Steps {
    /// Index of the first one, from 0.
    pub first: u64,
    /// At most [`Steps::MAX`].
    pub rows: Vec<StepRow>,
}

impl Steps {
    /// Steps in one record.
    pub const MAX: usize = 4096;
}

/// As it is sent: 16 digits a sum, without anything between them.
#[derive(Serialize, Deserialize)]
struct Compact {
    first: u64,
    sums: String,
    micros: Vec<u32>,
}

impl From<Steps> for Compact {
    fn from(steps: Steps) -> Compact {
        Compact {
            first: steps.first,
            sums: steps.rows.iter().map(|row| row.sum.to_string()).collect(),
            micros: steps.rows.iter().map(|row| row.micros).collect(),
        }
    }
}

impl TryFrom<Compact> for Steps {
    type Error = &'static str;

    fn try_from(compact: Compact) -> Result<Steps, &'static str> {
        let (sums, rest) = compact.sums.as_bytes().as_chunks::<16>();
        if !rest.is_empty() || sums.len() != compact.micros.len() || sums.len() > Steps::MAX {
            return Err("steps that aren't as many as they say");
        }
        let rows = sums.iter().zip(compact.micros).map(|(digits, micros)| {
            let sum = sum(digits).ok_or("a sum's name that is none")?;
            Ok(StepRow { sum, micros })
        });
        Ok(Steps {
            first: compact.first,
            rows: rows.collect::<Result<_, Self::Error>>()?,
        })
    }
}

fn sum(digits: &[u8; 16]) -> Option<SumDigest> {
    let digit = |c: &u8| char::from(*c).to_digit(16);
    let bits = digits
        .iter()
        .try_fold(0, |bits, c| Some(bits << 4 | u64::from(digit(c)?)));
    SumDigest::from_bits(bits?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn steps_come_back_and_what_is_none_is_refused() {
        let sum = |bits| SumDigest::from_bits(bits).unwrap();
        let rows = vec![
            StepRow {
                sum: sum(1),
                micros: 0,
            },
            StepRow {
                sum: sum(u64::MAX),
                micros: 900,
            },
        ];
        let steps = Steps { first: 7, rows };
        let sent = serde_json::to_value(&steps).unwrap();
        assert_eq!(sent["sums"], "0000000000000001ffffffffffffffff");
        assert_eq!(serde_json::from_value::<Steps>(sent).unwrap(), steps);
        for (sums, micros) in [
            ("0000000000000001", vec![1, 2]),
            ("000000000000001", vec![1]),
            ("0000000000000000", vec![1]),
            ("000000000000000g", vec![1]),
        ] {
            let wrong = json!({ "first": 0, "sums": sums, "micros": micros });
            assert!(serde_json::from_value::<Steps>(wrong).is_err(), "{sums}");
        }
    }
}
