//! What waits to be written, and what a newer state stands for.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::checkpoint::{PlannedShard, Portion, Snapshot};
use crate::world::WorkerId;

/// All states that wait, unless it is one alone, the run's last, or the best.
const WAITING_BYTES_MAX: usize = 32 << 20;

/// So many wait at most, however small.
const WAITING_MAX: usize = 16;

/// The shards of a state by who is to write them, ourselves first.
pub(in crate::worker) type Dealt = Vec<(WorkerId, Vec<PlannedShard>)>;

/// What is to be written.
pub(super) enum Work {
    /// A checkpoint: all of it by us, or together with others.
    Checkpoint(Arc<Snapshot>, Option<Arc<Dealt>>),
    /// Our shards of another's.
    Shards {
        portion: Arc<Portion>,
        shards: Vec<PlannedShard>,
        best: bool,
    },
}

impl Work {
    fn due(&self) -> Due {
        match self {
            Work::Checkpoint(snapshot, _) => Due {
                bytes: snapshot.byte_len(),
                best: snapshot.header.best,
                last: snapshot.header.is_final,
            },
            Work::Shards { portion, best, .. } => Due {
                bytes: portion.byte_len(),
                best: *best,
                last: false,
            },
        }
    }
}

#[derive(Default)]
pub(super) struct Queue {
    /// Somebody is at it.
    pub writing: bool,
    /// Oldest first.
    pub waiting: VecDeque<Work>,
}

/// What decides whether a state may be left out.
#[derive(Clone, Copy, Debug)]
struct Due {
    bytes: usize,
    best: bool,
    last: bool,
}

impl Queue {
    /// Adds it, and returns what it stands for.
    pub fn add(&mut self, work: Work) -> Vec<Work> {
        self.waiting.push_back(work);
        let mut left_out = Vec::new();
        let dues = |waiting: &VecDeque<Work>| waiting.iter().map(Work::due).collect::<Vec<_>>();
        while let Some(at) = overtaken(&dues(&self.waiting)) {
            left_out.extend(self.waiting.remove(at));
        }
        left_out
    }

    /// Somebody waits for one of these: the end of the run, or a newcomer.
    pub fn is_urgent(&self) -> bool {
        let urgent = |work: &Work| matches!(work, Work::Checkpoint(_, None));
        self.waiting.iter().any(urgent)
    }

    /// The next one, if any waits.
    pub fn next(&mut self) -> Option<Work> {
        let next = self.waiting.pop_front();
        self.writing = next.is_some();
        next
    }
}

/// Which of those that wait, oldest first, the newest one stands for, if they
/// are too many: the oldest, but never the run's last and the best so far.
fn overtaken(waiting: &[Due]) -> Option<usize> {
    let (newer, older) = waiting.split_last()?;
    let bytes: usize = waiting.iter().map(|due| due.bytes).sum();
    if bytes <= WAITING_BYTES_MAX && waiting.len() <= WAITING_MAX {
        return None;
    }
    let stands_for = |old: &Due| (newer.best || !old.best) && (newer.last || !old.last);
    older.iter().position(stands_for)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The snapshots that still wait after these were due, by their number.
    fn left(dues: &[Due]) -> Vec<usize> {
        let mut waiting: Vec<(usize, Due)> = Vec::new();
        for due in dues.iter().copied().enumerate() {
            waiting.push(due);
            let all = |waiting: &[(usize, Due)]| waiting.iter().map(|w| w.1).collect::<Vec<_>>();
            while let Some(at) = overtaken(&all(&waiting)) {
                waiting.remove(at);
            }
        }
        waiting.into_iter().map(|(number, _)| number).collect()
    }

    const SMALL: Due = Due {
        bytes: 1000,
        best: false,
        last: false,
    };

    #[test]
    fn however_small_they_are_only_the_newest_wait() {
        let expected: Vec<usize> = (1000 - WAITING_MAX..1000).collect();
        assert_eq!(left(&[SMALL; 1000]), expected);
    }

    #[test]
    fn of_large_ones_the_newest_alone_waits() {
        let large = Due {
            bytes: WAITING_BYTES_MAX,
            ..SMALL
        };
        assert_eq!(left(&[large; 5]), [4]);
    }

    #[test]
    fn the_best_waits_for_a_better_one_and_the_last_for_good() {
        let mut dues = [SMALL; 100];
        (dues[20].last, dues[30].best, dues[60].best) = (true, true, true);
        let left = left(&dues);
        assert!(!left.contains(&30), "another was better: {left:?}");
        assert!(left.contains(&60) && left.contains(&20), "{left:?}");
    }
}
