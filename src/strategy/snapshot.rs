//! The state as a checkpoint keeps it, and back.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::hash::{hex, unhex};
use super::plan::Plan;
use super::state::TrainState;
use crate::checkpoint::{Extent, Extents, NamedTensor, Part, Snapshot};
use crate::job::CourseState;
use crate::job::course::StateError;
use crate::optim;

/// Values of an optimizer's buffer that are one tensor in a checkpoint. Longer
/// buffers are cut, so that their parts can be in several shards.
const PIECE_VALUES: usize = 1 << 20;

/// The parts of a [`Snapshot`] that the state fills; the rest of its header
/// (identity, generation, writer, counters) is for who writes it.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedState {
    /// Rounds that the state contains.
    pub round: u64,
    /// Steps, skipped ones included.
    pub step: u64,
    /// The epoch that `step` lies in, from 0.
    pub epoch: u64,
    /// [`TrainState::digest`].
    pub state_digest: String,
    /// [`TrainState::weights_sha256`].
    pub weights_sha256: String,
    /// The parameters in layout order.
    pub weights: Vec<NamedTensor>,
    /// The optimizer's buffers, flat in layout order; long ones in pieces.
    pub optimizer: Vec<NamedTensor>,
    /// Course, the optimizer's scalars and the digest chain.
    pub state: Value,
}

/// What [`SavedState::state`] holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rest {
    course: CourseState,
    /// Scalars by name, as decimal text: JSON readers round large numbers.
    optimizer: BTreeMap<String, String>,
    /// Hex.
    chain: String,
}

/// A snapshot that isn't one of this job's states.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Other parameters than the model's.
    #[error("the checkpoint is of another model: {reason}")]
    Weights {
        /// Which parameter, and what is different.
        reason: String,
    },
    /// Another optimizer's state.
    #[error(transparent)]
    Optimizer(#[from] optim::RestoreError),
    /// Another course's state.
    #[error(transparent)]
    Course(#[from] StateError),
    /// What stands beside the tensors can't be read.
    #[error("the state in the checkpoint's manifest can't be read: {reason}")]
    Unreadable {
        /// What is wrong with it.
        reason: String,
    },
    /// All parts could be read, but together they aren't what was saved.
    #[error("the restored state has digest {found}, the checkpoint says {expected}")]
    Digest {
        /// Of what was restored.
        found: String,
        /// In the checkpoint.
        expected: String,
    },
}

/// A state that goes on from another run's.
#[derive(Debug)]
pub struct Fork {
    /// The other run's weights, at the same step, with nothing watched yet.
    pub state: TrainState,
    /// Why the optimizer starts anew, where its state doesn't fit the changed job.
    pub optimizer_reset: Option<optim::RestoreError>,
}

impl TrainState {
    /// Copies the state into the parts of a snapshot.
    pub fn save(&self, plan: &Plan) -> SavedState {
        let rest = Rest {
            course: self.course.clone(),
            optimizer: self
                .optimizer
                .scalars()
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_string()))
                .collect(),
            chain: hex(&self.chain),
        };
        SavedState {
            round: self.course.round,
            step: self.course.step,
            epoch: self.course.step / plan.course.steps_per_epoch(),
            state_digest: self.digest(plan),
            weights_sha256: self.weights_sha256(plan),
            weights: self.weights_where(plan, |_| true),
            optimizer: self.optimizer_where(|_| true),
            state: serde_json::to_value(rest).expect("the state is plain data"),
        }
    }

    /// Copies only those of the tensors that are wanted, weights and optimizer.
    pub fn save_some(
        &self,
        plan: &Plan,
        wanted: impl Fn(Part, &str) -> bool,
    ) -> [Vec<NamedTensor>; 2] {
        [
            self.weights_where(plan, |name| wanted(Part::Weights, name)),
            self.optimizer_where(|name| wanted(Part::Optimizer, name)),
        ]
    }

    /// The tensors that [`save`](TrainState::save) copies, without their values.
    pub fn extents(&self, plan: &Plan) -> Extents {
        let extent = |name: String, values: usize| Extent {
            name,
            bytes: 4 * values,
        };
        let weights = plan.layout.iter();
        let weights = weights.map(|p| extent(p.name.clone(), p.range.len()));
        let optimizer = self.optimizer.buffers().into_iter();
        let optimizer = optimizer.flat_map(|(name, values)| pieces(name, values, PIECE_VALUES));
        Extents {
            weights: weights.collect(),
            optimizer: optimizer
                .map(|(name, values)| extent(name, values.len()))
                .collect(),
        }
    }

    fn weights_where(&self, plan: &Plan, wanted: impl Fn(&str) -> bool) -> Vec<NamedTensor> {
        let wanted = plan.layout.iter().filter(|p| wanted(&p.name));
        wanted
            .map(|parameter| NamedTensor {
                name: parameter.name.clone(),
                shape: parameter.shape.clone(),
                data: self.weights()[parameter.range.clone()].to_vec(),
            })
            .collect()
    }

    fn optimizer_where(&self, wanted: impl Fn(&str) -> bool) -> Vec<NamedTensor> {
        let buffers = self.optimizer().buffers().into_iter();
        let pieces = buffers.flat_map(|(name, values)| pieces(name, values, PIECE_VALUES));
        pieces
            .filter(|(name, _)| wanted(name))
            .map(|(name, values)| NamedTensor {
                name,
                shape: vec![values.len()],
                data: values.to_vec(),
            })
            .collect()
    }

    /// The state that was saved, checked against its digest.
    ///
    /// # Errors
    /// What doesn't fit the job, by name.
    pub fn restore(plan: &Plan, snapshot: &Snapshot) -> Result<TrainState, RestoreError> {
        let rest = Rest::read(&snapshot.header.state)?;
        let mut state = TrainState {
            weights: weights(plan, &snapshot.weights)?,
            optimizer: plan.optimizer(),
            behind: false,
            course: rest.course.clone(),
            chain: rest.chain()?,
        };
        restore_optimizer(&mut state, &snapshot.optimizer, &rest.scalars()?)?;
        let found = state.digest(plan);
        if found != snapshot.header.state_digest {
            return Err(RestoreError::Digest {
                found,
                expected: snapshot.header.state_digest.clone(),
            });
        }
        // Only now: what the job watches differently may start anew.
        state.course = plan.course.restore(rest.course)?;
        Ok(state)
    }

    /// A state for a changed job that goes on from the snapshot of another run:
    /// its weights and step; its moments, where the optimizer is still the same.
    ///
    /// # Errors
    /// Weights that don't fit the model, or a job that ends before that step.
    pub fn fork(plan: &Plan, snapshot: &Snapshot) -> Result<Fork, RestoreError> {
        let rest = Rest::read(&snapshot.header.state)?;
        let scalars = rest.scalars()?;
        // The origin's digest stands at the beginning of the fork's chain.
        let origin = unhex(&snapshot.header.state_digest);
        let mut state = TrainState {
            weights: weights(plan, &snapshot.weights)?,
            optimizer: plan.optimizer(),
            behind: false,
            course: plan.course.fork(&rest.course)?,
            chain: origin.ok_or_else(|| unreadable("its state digest is no SHA-256"))?,
        };
        let optimizer_reset = restore_optimizer(&mut state, &snapshot.optimizer, &scalars).err();
        Ok(Fork {
            state,
            optimizer_reset,
        })
    }
}

impl Rest {
    fn read(state: &Value) -> Result<Rest, RestoreError> {
        Rest::deserialize(state).map_err(unreadable)
    }

    fn chain(&self) -> Result<[u8; 32], RestoreError> {
        unhex(&self.chain).ok_or_else(|| unreadable("its digest chain is no SHA-256"))
    }

    fn scalars(&self) -> Result<Vec<(&str, u64)>, RestoreError> {
        self.optimizer
            .iter()
            .map(|(name, text)| match text.parse() {
                Ok(value) => Ok((name.as_str(), value)),
                Err(_) => Err(unreadable(format!("{name} of the optimizer is {text:?}"))),
            })
            .collect()
    }
}

fn unreadable(reason: impl ToString) -> RestoreError {
    RestoreError::Unreadable {
        reason: reason.to_string(),
    }
}

/// The tensors' values in one flat buffer, where they are exactly the model's.
fn weights(plan: &Plan, tensors: &[NamedTensor]) -> Result<Vec<f32>, RestoreError> {
    let mut by_name: BTreeMap<&str, &NamedTensor> = tensors
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor))
        .collect();
    let mut weights = Vec::with_capacity(plan.layout.elements());
    for parameter in &plan.layout {
        let name = &parameter.name;
        let reason = match by_name.remove(name.as_str()) {
            Some(tensor)
                if tensor.shape == parameter.shape
                    && tensor.data.len() == parameter.range.len() =>
            {
                weights.extend_from_slice(&tensor.data);
                continue;
            }
            Some(tensor) => format!(
                "{name} has shape {:?} there, {:?} here",
                tensor.shape, parameter.shape
            ),
            None => format!("it lacks {name}"),
        };
        return Err(RestoreError::Weights { reason });
    }
    match by_name.keys().next() {
        None => Ok(weights),
        Some(name) => Err(RestoreError::Weights {
            reason: format!("it holds {name}, which the model doesn't have"),
        }),
    }
}

fn restore_optimizer(
    state: &mut TrainState,
    tensors: &[NamedTensor],
    scalars: &[(&str, u64)],
) -> Result<(), optim::RestoreError> {
    let joined = joined(tensors);
    let buffers: Vec<_> = joined
        .iter()
        .map(|(name, values)| (*name, &**values))
        .collect();
    state.optimizer.restore(&buffers, scalars)
}

/// A buffer as one tensor of its name, or in pieces `name#00000`, `name#00001`...
fn pieces<'a>(
    name: &'a str,
    values: &'a [f32],
    piece: usize,
) -> impl Iterator<Item = (String, &'a [f32])> {
    let whole = (values.len() <= piece).then(|| (name.to_owned(), values));
    let cut = if whole.is_some() { &[] } else { values };
    let cut = cut.chunks(piece).enumerate();
    let cut = cut.map(move |(at, values)| (format!("{name}#{at:05}"), values));
    whole.into_iter().chain(cut)
}

/// The buffers that were cut into these pieces, which come in order of names.
/// What can't be a piece keeps its name, and is refused by it.
fn joined(tensors: &[NamedTensor]) -> Vec<(&str, Cow<'_, [f32]>)> {
    let mut buffers: Vec<(&str, Cow<'_, [f32]>)> = Vec::new();
    let mut next = 0;
    for NamedTensor { name, data, .. } in tensors {
        let piece = name.rsplit_once('#');
        let piece = piece.and_then(|(buffer, at)| Some((buffer, at.parse::<usize>().ok()?)));
        match (piece, buffers.last_mut()) {
            (Some((buffer, 0)), _) => {
                buffers.push((buffer, data.into()));
                next = 1;
            }
            (Some((buffer, at)), Some((last, values))) if *last == buffer && at == next => {
                values.to_mut().extend_from_slice(data);
                next += 1;
            }
            _ => {
                buffers.push((name, data.into()));
                next = usize::MAX;
            }
        }
    }
    buffers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tensors(name: &str, values: &[f32], piece: usize) -> Vec<NamedTensor> {
        let pieces = pieces(name, values, piece);
        let tensor = |(name, values): (String, &[f32])| NamedTensor {
            name,
            shape: vec![values.len()],
            data: values.to_vec(),
        };
        pieces.map(tensor).collect()
    }

    proptest! {
        #[test]
        fn buffers_come_back_from_their_pieces(
            m in prop::collection::vec(0f32..1.0, 0..50),
            v in prop::collection::vec(0f32..1.0, 0..50),
            piece in 1usize..60,
        ) {
            let cut = [tensors("m", &m, piece), tensors("v", &v, piece)].concat();
            prop_assert!(cut.iter().all(|t| t.data.len() <= piece));
            prop_assert!(cut.is_sorted_by(|a, b| a.name < b.name), "as shards order them");
            let joined = joined(&cut);
            prop_assert_eq!(joined.len(), 2);
            prop_assert_eq!((joined[0].0, &*joined[0].1), ("m", &m[..]));
            prop_assert_eq!((joined[1].0, &*joined[1].1), ("v", &v[..]));
        }
    }

    #[test]
    fn a_piece_that_is_missing_is_not_passed_over() {
        let mut cut = tensors("m", &[1.0, 2.0, 3.0], 1);
        cut.remove(1);
        let names: Vec<&str> = joined(&cut).iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["m", "m#00002"]);
    }
}
