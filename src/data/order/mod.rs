//! Which samples a micro-batch holds: a pure function of (seed, step, micro-batch).
//!
//! An epoch is a permutation of the sample indices. It is never written down: position
//! `p` of epoch `e` is looked up by a keyed `Permutation`, so that any worker can ask for
//! any micro-batch of any step at any time, without state, without a shuffle buffer and
//! without asking anyone. A worker that joins in step 7,000 knows the order as well as one
//! that was there from the start.
//!
//! ```text
//! epoch 3:  position   0 ........ 63 | 64 ...... 127 |  ...  | 59968 .. 59999     (len 60,000)
//!                      step 0        | step 1        |  ...  | step 937: short
//!           step 1:    micro-batch 0 | 1 | 2 | 3           each cut at a multiple of micro_batch
//!           sample  =  permutation(seed, epoch)[position]
//! ```
//!
//! The last step of an epoch holds what is left, as in Keras: its last micro-batches may be
//! short or empty. Every sample is seen exactly once an epoch, by construction: a permutation
//! is one-to-one whatever its key.
//!
//! Only integers are used, so the order is the same on every machine. Whoever changes what is
//! computed here raises [`ORDER_VERSION`]; it stands in every manifest and handshake.

mod permutation;
mod shuffle;
#[cfg(test)]
mod tests;

use std::ops::Range;

use permutation::{Permutation, derive};
pub use shuffle::{ParseShuffleError, Shuffle};

/// The version of the order: raised whenever some (seed, step, micro-batch) yields other samples.
pub const ORDER_VERSION: u32 = 1;

/// The largest data set that can be ordered: 2^48 samples.
pub const SAMPLES_MAX: u64 = 1 << 48;

/// Why an [`Order`] cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// There is nothing to train on.
    #[error("the training data holds no sample; point data.url at data that holds some")]
    Empty,
    /// More samples than positions can be computed for.
    #[error(
        "the training data holds {len} samples, more than the {SAMPLES_MAX} that can be ordered"
    )]
    TooManySamples { len: u64 },
    /// The global batch cannot be cut into whole micro-batches.
    #[error(
        "train.micro_batch = {micro_batch} does not divide train.global_batch = {global_batch}; \
         both must be at least 1 and global_batch a multiple of micro_batch"
    )]
    Indivisible { global_batch: u32, micro_batch: u32 },
}

/// The order of all samples over all epochs of a run. Pure and small: it can be copied freely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    len: u64,
    shuffle: Shuffle,
    seed: u64,
    global_batch: u32,
    micro_batch: u32,
}

impl Order {
    /// The order of `len` samples under `seed`, in steps of `global_batch` samples that are cut
    /// into micro-batches of `micro_batch` samples.
    pub fn new(
        len: u64,
        shuffle: &Shuffle,
        seed: u64,
        global_batch: u32,
        micro_batch: u32,
    ) -> Result<Order, OrderError> {
        if len == 0 {
            return Err(OrderError::Empty);
        }
        if len > SAMPLES_MAX {
            return Err(OrderError::TooManySamples { len });
        }
        if micro_batch == 0 || global_batch == 0 || !global_batch.is_multiple_of(micro_batch) {
            return Err(OrderError::Indivisible {
                global_batch,
                micro_batch,
            });
        }
        Ok(Order {
            len,
            shuffle: *shuffle,
            seed,
            global_batch,
            micro_batch,
        })
    }

    /// Steps in one pass over the data, the short last one included.
    pub fn steps_per_epoch(&self) -> u64 {
        self.len.div_ceil(u64::from(self.global_batch))
    }

    /// Micro-batches in every step, M; in the last step of an epoch some may be empty.
    pub fn micro_batches(&self) -> u32 {
        self.global_batch / self.micro_batch
    }

    /// The epoch that `step` belongs to; both count from zero.
    pub fn epoch_of(&self, step: u64) -> u64 {
        step / self.steps_per_epoch()
    }

    /// How many samples all micro-batches of `step` hold together.
    pub fn samples_in_step(&self, step: u64) -> u64 {
        let start = step % self.steps_per_epoch() * u64::from(self.global_batch);
        u64::from(self.global_batch).min(self.len - start)
    }

    /// The sample indices of one micro-batch of one step, in the order in which they are
    /// computed. Short or empty only in the last step of an epoch.
    ///
    /// # Panics
    /// If `micro_batch` is not below [`Order::micro_batches`]: who assigns work knows M.
    pub fn samples(&self, step: u64, micro_batch: u32) -> Vec<u64> {
        assert!(
            micro_batch < self.micro_batches(),
            "micro-batch {micro_batch} of step {step} was asked for, but a step has {}",
            self.micro_batches()
        );
        let first_of_step = step % self.steps_per_epoch() * u64::from(self.global_batch);
        let start = first_of_step + u64::from(micro_batch) * u64::from(self.micro_batch);
        let end = (start + u64::from(self.micro_batch)).min(self.len);
        let mut samples = Vec::with_capacity(end.saturating_sub(start) as usize);
        self.epoch(self.epoch_of(step))
            .extend(start..end, &mut samples);
        samples
    }

    /// The sample at `position` (below the number of samples) of `epoch`.
    ///
    /// # Panics
    /// If `position` is beyond the data.
    pub fn sample_at(&self, epoch: u64, position: u64) -> u64 {
        assert!(
            position < self.len,
            "position {position} is beyond {} samples",
            self.len
        );
        let mut sample = Vec::with_capacity(1);
        self.epoch(epoch)
            .extend(position..position + 1, &mut sample);
        sample[0]
    }

    /// How many micro-batches of `micro_batch` samples an evaluation of `len` samples has.
    pub fn evaluation_micro_batches(len: u64, micro_batch: u32) -> u64 {
        len.div_ceil(u64::from(micro_batch.max(1)))
    }

    /// The samples of micro-batch `m` of an evaluation pass over `len` samples: in the data's own
    /// order, the last one short, beyond it empty.
    pub fn evaluation(len: u64, micro_batch: u32, m: u32) -> Range<u64> {
        let start = (u64::from(m) * u64::from(micro_batch)).min(len);
        start..(start + u64::from(micro_batch)).min(len)
    }

    fn epoch(&self, epoch: u64) -> Epoch {
        match self.shuffle {
            Shuffle::None => Epoch::InOrder,
            Shuffle::Full => Epoch::Full(Permutation::new(
                self.len,
                derive(self.seed, [WHOLE, epoch, 0]),
            )),
            Shuffle::Blocks(samples) => {
                Epoch::Blocks(Blocks::new(self.len, samples.get(), self.seed, epoch))
            }
        }
    }
}

// What a derived key is for, so that no two permutations of a run share one.
const WHOLE: u64 = 1;
const AMONG_BLOCKS: u64 = 2;
const WITHIN_BLOCK: u64 = 3;

/// One epoch's order.
enum Epoch {
    InOrder,
    Full(Permutation),
    Blocks(Blocks),
}

impl Epoch {
    /// Appends the samples at `positions`, all of which are below the number of samples.
    fn extend(&self, positions: Range<u64>, samples: &mut Vec<u64>) {
        match self {
            Epoch::InOrder => samples.extend(positions),
            Epoch::Full(permutation) => samples.extend(positions.map(|p| permutation.at(p))),
            Epoch::Blocks(blocks) => blocks.extend(positions, samples),
        }
    }
}

/// Blocks of consecutive samples in permuted order, the samples of each permuted as well: a
/// worker touches one stretch of the data at a time.
struct Blocks {
    len: u64,
    block: u64,
    seed: u64,
    epoch: u64,
    /// Maps a slot of the epoch to the block that comes there.
    among: Permutation,
    /// The slot of the last block, the only one that may be short: what comes after it
    /// starts earlier than its slot alone would say.
    slot_of_last: u64,
    len_of_last: u64,
}

impl Blocks {
    fn new(len: u64, block: u64, seed: u64, epoch: u64) -> Blocks {
        let block = block.min(len);
        let count = len.div_ceil(block);
        let among = Permutation::new(count, derive(seed, [AMONG_BLOCKS, epoch, 0]));
        let slot_of_last = among.position_of(count - 1);
        let len_of_last = len - (count - 1) * block;
        Blocks {
            len,
            block,
            seed,
            epoch,
            among,
            slot_of_last,
            len_of_last,
        }
    }

    /// The slot that `position` falls into, and the positions that this slot covers.
    fn slot(&self, position: u64) -> (u64, Range<u64>) {
        let start_of_last = self.slot_of_last * self.block;
        let end_of_last = start_of_last + self.len_of_last;
        if position < start_of_last {
            let slot = position / self.block;
            (slot, slot * self.block..(slot + 1) * self.block)
        } else if position < end_of_last {
            (self.slot_of_last, start_of_last..end_of_last)
        } else {
            let after = (position - end_of_last) / self.block;
            let start = end_of_last + after * self.block;
            (self.slot_of_last + 1 + after, start..start + self.block)
        }
    }

    fn extend(&self, positions: Range<u64>, samples: &mut Vec<u64>) {
        debug_assert!(positions.is_empty() || positions.end <= self.len);
        let mut position = positions.start;
        while position < positions.end {
            let (slot, covered) = self.slot(position);
            let block = self.among.at(slot);
            let key = derive(self.seed, [WITHIN_BLOCK, self.epoch, block]);
            let within = Permutation::new(covered.end - covered.start, key);
            let end = covered.end.min(positions.end);
            let first = block * self.block;
            samples.extend((position..end).map(|p| first + within.at(p - covered.start)));
            position = end;
        }
    }
}
