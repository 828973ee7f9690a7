//! Copies of the state, for the saver.

use super::super::fault::EngineError;
use super::super::records;
use super::super::saver::{Dealt, Occasion, SavedPart};
use super::Worker;
use crate::world::{Generation, WorkerId};

/// Smaller states are written by one alone: to tell of the shards would take
/// longer.
const TOGETHER_BYTES_MIN: usize = 16 << 20;

impl Worker {
    /// Reads the state from the GPU where it is ahead there.
    fn settle(&mut self) -> Result<(), EngineError> {
        let state = self.state.as_mut().ok_or(EngineError::NoState)?;
        state.settle(&self.plan, self.replicas.as_mut())?;
        Ok(())
    }

    /// Copies the state and leaves the writing to the saver; `together`: the
    /// others write their parts of it, too.
    pub(super) fn save(
        &mut self,
        last: bool,
        generation: Generation,
        together: Option<Dealt>,
    ) -> Result<(), EngineError> {
        self.settle()?;
        let state = self.state.as_ref().ok_or(EngineError::NoState)?;
        let saved = state.save(&self.plan);
        let occasion = Occasion {
            metrics: records::metrics(&self.plan, state),
            last,
            best: self.best,
            generation,
        };
        self.saver.save(saved, occasion, together);
        Ok(())
    }

    /// Which shards are whose follows from the state's layout, so all agree. Who
    /// commits keeps a copy of everything, the others of what they write.
    pub(super) fn save_together(
        &mut self,
        rank: usize,
        members: &[WorkerId],
        generation: Generation,
    ) -> Result<(), EngineError> {
        let state = self.state.as_ref().ok_or(EngineError::NoState)?;
        let extents = state.extents(&self.plan);
        let large = extents.byte_len() >= TOGETHER_BYTES_MIN;
        if rank == 0 {
            let dealt = large.then(|| extents.deal(members.len()));
            let dealt = dealt.map(|dealt| members.iter().copied().zip(dealt).collect());
            return self.save(false, generation, dealt);
        }
        let shards = match extents.deal(members.len()).into_iter().nth(rank) {
            Some(shards) if large && !shards.is_empty() => shards,
            _ => return Ok(()),
        };
        self.settle()?;
        let state = self.state.as_ref().ok_or(EngineError::NoState)?;
        let wanted = |part, name: &str| shards.iter().any(|shard| shard.holds(part, name));
        let [weights, optimizer] = state.save_some(&self.plan, wanted);
        self.saver.save_part(SavedPart {
            round: state.course.round,
            step: state.course.step,
            best: self.best,
            shards,
            weights,
            optimizer,
        });
        Ok(())
    }
}
