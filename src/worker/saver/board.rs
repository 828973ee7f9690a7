//! What others have written of the checkpoints that we are to commit.

use std::collections::BTreeMap;

use super::queue::Dealt;
use crate::checkpoint::Part;
use crate::worker::trailer::Written;
use crate::world::WorkerId;

/// A shard that another one is to write.
#[derive(Debug)]
struct Expected {
    from: WorkerId,
    written: Option<Written>,
}

/// Of one checkpoint, by the shards' places.
type Shards = BTreeMap<(Part, u32), Expected>;

/// What is awaited, and from whom.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// By the states' rounds.
    due: BTreeMap<u64, Shards>,
    /// All that exchange with us, ourselves included.
    members: Vec<WorkerId>,
    /// Complete trailers since the beginning.
    pub trailers: u64,
    /// Something waits that others are not awaited for.
    pub hurry: bool,
}

impl Board {
    /// The others are to write their shards of a checkpoint.
    pub fn expect(&mut self, round: u64, dealt: &Dealt) {
        let shards = dealt.iter().skip(1);
        let shards = shards.flat_map(|(from, shards)| {
            let expected = |from| Expected {
                from,
                written: None,
            };
            shards.iter().map(move |s| (s.place(), expected(*from)))
        });
        self.due.insert(round, shards.collect());
    }

    /// The checkpoint is not to be written any more.
    pub fn give_up(&mut self, round: u64) {
        self.due.remove(&round);
    }

    pub fn give_up_all(&mut self) {
        self.due.clear();
        self.hurry = false;
    }

    /// A complete trailer told of these.
    pub fn told(&mut self, written: &[Written]) {
        self.trailers += 1;
        for written in written {
            let shards = self.due.get_mut(&written.round);
            let expected = shards.and_then(|s| s.get_mut(&(written.part, written.index)));
            if let Some(expected) = expected.filter(|expected| expected.from == written.by) {
                expected.written = Some(*written);
            }
        }
    }

    /// The world has changed.
    pub fn members_are(&mut self, members: Vec<WorkerId>) {
        self.members = members;
    }

    /// Whether all shards are there, or `me` will not hear of the others: one of
    /// those that were to write has left, or we have ourselves.
    pub fn is_settled(&self, round: u64, me: WorkerId) -> bool {
        let here = |worker| self.members.contains(&worker);
        let Some(shards) = self.due.get(&round) else {
            return true;
        };
        self.hurry
            || !here(me)
            || shards.values().all(|shard| shard.written.is_some())
            || shards.values().any(|shard| !here(shard.from))
    }

    /// What has been written, and who has something left to write. Nothing more
    /// is awaited.
    pub fn take(&mut self, round: u64) -> (BTreeMap<(Part, u32), Written>, Vec<WorkerId>) {
        let shards = self.due.remove(&round).unwrap_or_default();
        let mut missing: Vec<WorkerId> = Vec::new();
        let mut found = BTreeMap::new();
        for (place, shard) in shards {
            match shard.written {
                Some(written) => drop(found.insert(place, written)),
                None => missing.push(shard.from),
            }
        }
        missing.sort_unstable();
        missing.dedup();
        (found, missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Extent, Extents};

    const ROUND: u64 = 7;
    const ALL: [WorkerId; 3] = [WorkerId(1), WorkerId(2), WorkerId(3)];

    fn dealt() -> Dealt {
        let tensor = |i: u32| Extent {
            name: format!("t{i}"),
            bytes: 4 << 20,
        };
        let state = Extents {
            weights: (0..3).map(tensor).collect(),
            optimizer: Vec::new(),
        };
        ALL.into_iter().zip(state.deal(ALL.len())).collect()
    }

    /// The first one's, that awaits the others' shards.
    fn board() -> Board {
        let mut board = Board::default();
        board.members_are(ALL.to_vec());
        board.expect(ROUND, &dealt());
        board
    }

    fn written(by: usize) -> Written {
        let (by, shards) = &dealt()[by];
        let (part, index) = shards[0].place();
        Written {
            by: *by,
            round: ROUND,
            part,
            index,
            sha256: [0; 32],
        }
    }

    #[test]
    fn all_shards_settle_it_however_often_they_are_told_of() {
        let mut board = board();
        board.told(&[written(1)]);
        board.told(&[written(1)]);
        assert!(!board.is_settled(ROUND, ALL[0]));
        board.told(&[written(2)]);
        assert!(board.is_settled(ROUND, ALL[0]));
        let (found, missing) = board.take(ROUND);
        assert_eq!((found.len(), missing), (2, Vec::new()));
    }

    #[test]
    fn what_is_not_awaited_is_not_kept() {
        let mut board = board();
        let other_round = Written {
            round: 8,
            ..written(1)
        };
        let anothers = Written {
            by: ALL[2],
            ..written(1)
        };
        let no_shard = Written {
            index: 99,
            ..written(1)
        };
        board.told(&[other_round, anothers, no_shard, written(0)]);
        let (found, missing) = board.take(ROUND);
        assert_eq!((found.len(), missing), (0, vec![ALL[1], ALL[2]]));
    }

    #[test]
    fn nobody_is_waited_for_who_has_left() {
        for left in ALL {
            let mut board = board();
            board.members_are(ALL.into_iter().filter(|w| *w != left).collect());
            assert!(board.is_settled(ROUND, ALL[0]), "{left:?}");
        }
        let mut board = board();
        board.members_are([&ALL[..], &[WorkerId(4)]].concat());
        assert!(!board.is_settled(ROUND, ALL[0]), "one more changes nothing");
        board.hurry = true;
        assert!(board.is_settled(ROUND, ALL[0]));
    }
}
