//! An optimizer's state by name: saved, taken over bit by bit, hashed.

use super::optimizer::{Method, Optimizer};
use sha2::{Digest, Sha256};

const STEPS: &str = "steps";
const ADAM_M: &str = "adam.m";
const ADAM_V: &str = "adam.v";
const BETA1_POWER: &str = "adam.beta1_power";
const BETA2_POWER: &str = "adam.beta2_power";
const VELOCITY: &str = "sgd.velocity";

/// Saved state that doesn't belong to this optimizer. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// A buffer or scalar isn't there.
    #[error("the saved optimizer state lacks {name:?}, which this optimizer needs")]
    Missing {
        /// The buffer or scalar.
        name: &'static str,
    },
    /// A buffer or scalar that this optimizer doesn't have.
    #[error("the saved optimizer state holds {name:?}, which this optimizer doesn't have")]
    Unknown {
        /// The buffer or scalar.
        name: String,
    },
    /// A buffer for another model.
    #[error("{name:?} of the saved optimizer state has {found} elements, the model {expected}")]
    Length {
        /// The buffer.
        name: &'static str,
        /// Elements of the model.
        expected: usize,
        /// Elements of the buffer.
        found: usize,
    },
    /// A scalar that can't have been saved by an optimizer.
    #[error("{name:?} of the saved optimizer state is {found}, expected a number from 0 to 1")]
    Value {
        /// The scalar.
        name: &'static str,
        /// Its value.
        found: String,
    },
}

impl Optimizer {
    /// The state's vectors, each as long as the parameter vector, by name.
    pub fn buffers(&self) -> Vec<(&'static str, &[f32])> {
        match &self.method {
            Method::Adam(adam) => vec![(ADAM_M, &adam.m[..]), (ADAM_V, &adam.v[..])],
            Method::Sgd => vec![],
            Method::Momentum { velocity, .. } => vec![(VELOCITY, &velocity[..])],
        }
    }

    /// The same, to be written; in the same order.
    #[cfg(feature = "cuda")]
    pub(crate) fn buffers_mut(&mut self) -> Vec<&mut [f32]> {
        match &mut self.method {
            Method::Adam(adam) => vec![&mut adam.m[..], &mut adam.v[..]],
            Method::Sgd => vec![],
            Method::Momentum { velocity, .. } => vec![&mut velocity[..]],
        }
    }

    /// The state's numbers by name: counts as they are, floating-point numbers as the
    /// bits of an `f64`.
    pub fn scalars(&self) -> Vec<(&'static str, u64)> {
        let mut scalars = vec![(STEPS, self.steps)];
        if let Method::Adam(adam) = &self.method {
            scalars.push((BETA1_POWER, adam.beta1_power.to_bits()));
            scalars.push((BETA2_POWER, adam.beta2_power.to_bits()));
        }
        scalars
    }

    /// Takes over what [`buffers`](Optimizer::buffers) and
    /// [`scalars`](Optimizer::scalars) gave, bit by bit.
    ///
    /// # Errors
    /// State of another optimizer or model; then nothing was changed.
    pub fn restore(
        &mut self,
        buffers: &[(&str, &[f32])],
        scalars: &[(&str, u64)],
    ) -> Result<(), RestoreError> {
        let known_buffers: Vec<_> = self.buffers().iter().map(|(name, _)| *name).collect();
        let known_scalars: Vec<_> = self.scalars().iter().map(|(name, _)| *name).collect();
        refuse_unknown(buffers.iter().map(|(name, _)| *name), &known_buffers)?;
        refuse_unknown(scalars.iter().map(|(name, _)| *name), &known_scalars)?;

        let len = self.len;
        let buffer = |name: &'static str| {
            let (_, values) = buffers
                .iter()
                .find(|(n, _)| *n == name)
                .ok_or(RestoreError::Missing { name })?;
            let found = values.len();
            let fits = found == len;
            fits.then_some(*values).ok_or(RestoreError::Length {
                name,
                expected: len,
                found,
            })
        };
        let scalar = |name: &'static str| {
            let found = scalars.iter().find(|(n, _)| *n == name);
            found
                .map(|(_, value)| *value)
                .ok_or(RestoreError::Missing { name })
        };
        let power = |name: &'static str| {
            let value = f64::from_bits(scalar(name)?);
            let valid = (0.0..=1.0).contains(&value);
            valid.then_some(value).ok_or(RestoreError::Value {
                name,
                found: value.to_string(),
            })
        };

        let steps = scalar(STEPS)?;
        match &mut self.method {
            Method::Adam(adam) => {
                let (m, v) = (buffer(ADAM_M)?, buffer(ADAM_V)?);
                let powers = (power(BETA1_POWER)?, power(BETA2_POWER)?);
                adam.m.copy_from_slice(m);
                adam.v.copy_from_slice(v);
                (adam.beta1_power, adam.beta2_power) = powers;
            }
            Method::Sgd => {}
            Method::Momentum { velocity, .. } => velocity.copy_from_slice(buffer(VELOCITY)?),
        }
        self.steps = steps;
        self.updated = self.len;
        Ok(())
    }

    /// Feeds a hash with the whole state: for each buffer its name, a zero byte and
    /// the values as little-endian `f32`; then each scalar's name, a zero byte and
    /// its value as a little-endian `u64`.
    pub fn write_digest(&self, sha: &mut Sha256) {
        let mut bytes = [0; 4096];
        for (name, values) in self.buffers() {
            sha.update(name.as_bytes());
            sha.update([0]);
            for values in values.chunks(bytes.len() / 4) {
                for (place, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
                    *place = value.to_le_bytes();
                }
                sha.update(&bytes[..4 * values.len()]);
            }
        }
        for (name, value) in self.scalars() {
            sha.update(name.as_bytes());
            sha.update([0]);
            sha.update(value.to_le_bytes());
        }
    }
}

fn refuse_unknown<'a>(
    mut names: impl Iterator<Item = &'a str>,
    known: &[&'static str],
) -> Result<(), RestoreError> {
    let unknown = names.find(|name| !known.contains(name));
    unknown.map_or(Ok(()), |name| {
        Err(RestoreError::Unknown {
            name: name.to_owned(),
        })
    })
}
