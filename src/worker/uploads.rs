//! Shards that we have written, until everybody has heard of them.

use std::collections::VecDeque;

use super::trailer::{WRITTEN_OF_ONE_MAX, Written};

/// Alone, nobody hears of them: the oldest go.
const KEPT_MAX: usize = 1024;

/// What our next contributions have to tell.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    /// Oldest first.
    untold: VecDeque<Written>,
}

impl Uploads {
    /// These are in the store.
    pub fn add(&mut self, written: Vec<Written>) {
        self.untold.extend(written);
        let surplus = self.untold.len().saturating_sub(KEPT_MAX);
        self.untold.drain(..surplus);
    }

    /// As many as one contribution tells of.
    pub fn next(&self) -> Vec<Written> {
        let next = self.untold.iter().take(WRITTEN_OF_ONE_MAX);
        next.copied().collect()
    }

    /// All members have got a trailer with these.
    pub fn told(&mut self, written: &[Written]) {
        if !self.untold.is_empty() {
            self.untold.retain(|ours| !written.contains(ours));
        }
    }

    /// They are of a state that we leave.
    pub fn forget(&mut self) {
        self.untold.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Part;
    use crate::world::WorkerId;

    fn shards(count: u32) -> Vec<Written> {
        let shard = |index| Written {
            by: WorkerId(1),
            round: 5,
            part: Part::Weights,
            index,
            sha256: [0; 32],
        };
        (0..count).map(shard).collect()
    }

    #[test]
    fn a_shard_is_told_of_until_a_complete_trailer_has_carried_it() {
        let mut uploads = Uploads::default();
        let all = shards(WRITTEN_OF_ONE_MAX as u32 + 2);
        uploads.add(all.clone());
        let first = uploads.next();
        assert_eq!(first, all[..WRITTEN_OF_ONE_MAX]);
        // A loss: the sum that would have told of them never was.
        assert_eq!(uploads.next(), first);
        uploads.told(&first);
        assert_eq!(uploads.next(), all[WRITTEN_OF_ONE_MAX..]);
        uploads.told(&all);
        assert!(uploads.next().is_empty());
    }

    #[test]
    fn one_who_is_alone_does_not_keep_all_that_it_ever_wrote() {
        let mut uploads = Uploads::default();
        uploads.add(shards(KEPT_MAX as u32 + 3));
        assert_eq!(uploads.untold.len(), KEPT_MAX);
        assert_eq!(uploads.next()[0].index, 3);
    }
}
