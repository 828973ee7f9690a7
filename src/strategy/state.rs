//! What training has come to: the same bits on every member after every round.

use sha2::{Digest, Sha256};

use super::apply::{Applied, Block, apply, blocks};
use super::error::StrategyError;
use super::hash::{hex, update_f32};
use super::mirrored::Replicas;
use super::plan::Plan;
use super::resident::CompleteSum;
use crate::checkpoint::weights_sha256;
use crate::exact::{SumDigest, SumHash, Totals};
use crate::job::{CourseState, Decision, Kind};
use crate::model::{ModelError, Variables};
use crate::optim::Optimizer;

/// Weights, optimizer state and course: everything that a checkpoint keeps and
/// that a member has in common with the others.
#[derive(Debug, Clone)]
pub struct TrainState {
    /// All weights, flat, in layout order.
    pub(super) weights: Vec<f32>,
    /// Moments and their count.
    pub(super) optimizer: Optimizer,
    /// The replicas' GPUs have updated weights and moments since these were read from them.
    pub(super) behind: bool,
    /// Rounds and steps finished, running sums, what is watched.
    pub course: CourseState,
    /// Chained digest: each comparison of state covers all earlier ones.
    pub(super) chain: [u8; 32],
}

/// The name of a sum that is not applied.
fn skip(
    plan: &Plan,
    replicas: Option<&mut Replicas>,
    sum: CompleteSum,
) -> Result<SumHash, StrategyError> {
    match (sum, replicas.and_then(Replicas::resident)) {
        (CompleteSum::OnReplica, Some(resident)) => resident.forget(plan),
        (sum, _) => {
            let mut hash = SumHash::new();
            blocks(plan).for_each(|block| hash.add(&sum.here()[block.range]));
            Ok(hash)
        }
    }
}

/// What a finished round came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// The round that was finished.
    pub kind: Kind,
    /// `None` when nothing was applied: an evaluation, or a skipped step.
    pub applied: Option<Applied>,
    /// The name of a training step's sum, applied or skipped.
    pub sum: Option<SumDigest>,
    /// What follows, in the order in which it is to be done.
    pub decisions: Vec<Decision>,
    /// The state's digest, where the decisions ask for it.
    pub digest: Option<ChainedDigest>,
}

/// A digest of the state, and what the chain of them has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainedDigest {
    /// SHA-256 over weights, optimizer state and course, in hex.
    pub state: String,
    /// SHA-256 over the chain before and the digest above: equal only where all
    /// states so far were.
    pub chain: [u8; 32],
}

impl ChainedDigest {
    /// The chain, in hex.
    pub fn chain_hex(&self) -> String {
        hex(&self.chain)
    }
}

impl TrainState {
    /// The state before the first round: seeded initial values on a zero course.
    ///
    /// [`initial`](Self::initial) is this with the weights of `[init]`.
    ///
    /// # Errors
    /// When the model can't be built.
    pub fn seeded(plan: &Plan) -> Result<TrainState, ModelError> {
        let variables = Variables::seeded(plan.job.seed, &candle_core::Device::Cpu);
        plan.factory.build(variables.builder())?;
        let mut weights = Vec::with_capacity(plan.layout.elements());
        for (_, variable) in variables.in_order() {
            let values = variable
                .flatten_all()
                .and_then(|flat| flat.to_vec1::<f32>());
            weights.extend(values.map_err(|source| ModelError::Build {
                kind: plan.factory.kind().to_owned(),
                source,
            })?);
        }
        Ok(TrainState {
            weights,
            optimizer: plan.optimizer(),
            behind: false,
            course: plan.course.start(),
            chain: [0; 32],
        })
    }

    /// All weights, flat, in layout order.
    ///
    /// # Panics
    /// When the replicas' GPUs are ahead: a mistake of ours, see [`settle`](Self::settle).
    pub fn weights(&self) -> &[f32] {
        self.assert_settled();
        &self.weights
    }

    /// The same, to be changed.
    ///
    /// # Panics
    /// As [`weights`](Self::weights).
    pub fn weights_mut(&mut self) -> &mut [f32] {
        self.assert_settled();
        &mut self.weights
    }

    /// Moments and their count.
    ///
    /// # Panics
    /// As [`weights`](Self::weights).
    pub fn optimizer(&self) -> &Optimizer {
        self.assert_settled();
        &self.optimizer
    }

    fn assert_settled(&self) {
        assert!(
            !self.behind,
            "weights and moments are read from the GPU first"
        );
    }

    /// Copies weights and moments to every replica.
    ///
    /// # Errors
    /// When a device fails.
    ///
    /// # Panics
    /// When they are those of another model.
    pub fn put(&self, plan: &Plan, replicas: &mut Replicas) -> Result<(), StrategyError> {
        self.assert_settled();
        replicas.put(plan, &self.weights, &self.optimizer)
    }

    /// Brings weights and moments up to date where the replicas' GPUs are ahead.
    ///
    /// # Errors
    /// When a device fails.
    pub fn settle(
        &mut self,
        plan: &Plan,
        replicas: Option<&mut Replicas>,
    ) -> Result<(), StrategyError> {
        if let (true, Some(resident)) = (self.behind, replicas.and_then(Replicas::resident)) {
            resident.get(plan, &mut self.weights, &mut self.optimizer)?;
            self.behind = false;
        }
        Ok(())
    }

    /// Finishes the next round with its complete sum: applies a step that may be
    /// applied, to the replicas as well (a follower has none), and says what follows.
    ///
    /// A step with a non-finite or out-of-range gradient is skipped: the course
    /// goes on, weights and moments and their count don't.
    ///
    /// # Errors
    /// When a replica's device fails.
    ///
    /// # Panics
    /// When the sum isn't the one of the next round: a mistake of ours.
    pub fn finish(
        &mut self,
        plan: &Plan,
        mut replicas: Option<&mut Replicas>,
        sum: CompleteSum,
        totals: &Totals,
    ) -> Result<Finished, StrategyError> {
        let kind = plan.course.kind(&self.course);
        let (applied, hash) = match kind {
            Kind::Train { step, .. } if plan.course.applies(totals) => {
                let (applied, hash) =
                    self.apply(plan, replicas.as_deref_mut(), step, sum, totals)?;
                (Some(applied), Some(hash))
            }
            Kind::Train { .. } => (None, Some(skip(plan, replicas.as_deref_mut(), sum)?)),
            _ => (None, None),
        };
        let decisions = plan.course.finish(&mut self.course, totals);
        let verify = |decision: &Decision| matches!(decision, Decision::VerifyDigest { .. });
        let digest = if decisions.iter().any(verify) {
            self.settle(plan, replicas)?;
            Some(self.chain_on(plan))
        } else {
            None
        };
        Ok(Finished {
            kind,
            applied,
            sum: hash.map(|hash| hash.finish(totals)),
            decisions,
            digest,
        })
    }

    fn apply(
        &mut self,
        plan: &Plan,
        replicas: Option<&mut Replicas>,
        step: u64,
        sum: CompleteSum,
        totals: &Totals,
    ) -> Result<(Applied, SumHash), StrategyError> {
        let Some(replicas) = replicas else {
            return self.apply_here(plan, step, (sum, totals), |_, _| Ok(()));
        };
        if let Some(resident) = replicas.resident() {
            self.behind = true;
            return resident.apply(plan, step, sum, totals, &mut self.optimizer);
        }
        self.apply_here(plan, step, (sum, totals), |block, weights| {
            replicas.publish(block.parameter, &block.range, weights)
        })
    }

    fn apply_here(
        &mut self,
        plan: &Plan,
        step: u64,
        (sum, totals): (CompleteSum, &Totals),
        publish: impl FnMut(&Block, &[f32]) -> Result<(), StrategyError>,
    ) -> Result<(Applied, SumHash), StrategyError> {
        let mut hash = SumHash::new();
        let state = (&mut self.weights[..], &mut self.optimizer);
        let applied = apply(plan, step, (sum.here(), totals, &mut hash), state, publish)?;
        Ok((applied, hash))
    }

    /// SHA-256 over weights, optimizer state, course and the chain so far, in hex.
    pub fn digest(&self, plan: &Plan) -> String {
        let all = self.hashed(plan).chain_update(self.chain);
        hex(&all.finalize())
    }

    /// SHA-256 over all parameters in byte order of their names: the name in
    /// UTF-8, one zero byte, the values as little-endian f32; in hex.
    pub fn weights_sha256(&self, plan: &Plan) -> String {
        let parameters = plan.layout.iter();
        weights_sha256(parameters.map(|p| (p.name.as_str(), &self.weights()[p.range.clone()])))
    }

    /// Takes the present state into the chain.
    fn chain_on(&mut self, plan: &Plan) -> ChainedDigest {
        let state = self.hashed(plan).finalize();
        let chained = Sha256::new().chain_update(self.chain).chain_update(state);
        self.chain = chained.finalize().into();
        ChainedDigest {
            state: hex(&state),
            chain: self.chain,
        }
    }

    fn hashed(&self, plan: &Plan) -> Sha256 {
        let mut sha = Sha256::new();
        sha.update(b"ebbtide state 1\0");
        for parameter in &plan.layout {
            sha.update(parameter.name.as_bytes());
            sha.update([0]);
            update_f32(&mut sha, &self.weights()[parameter.range.clone()]);
        }
        self.optimizer().write_digest(&mut sha);
        let course = serde_json::to_vec(&self.course).expect("a course state is plain data");
        sha.update((course.len() as u64).to_le_bytes());
        sha.update(&course);
        sha
    }
}
