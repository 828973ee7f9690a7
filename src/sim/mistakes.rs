//! Planted mistakes of workers, where they are more than a word.

use super::Planted;
use super::env::Env;
use super::process::{Process, buckets};
use super::store::Checkpoint;
use crate::world::member::Event;
use crate::world::message::{FromWorker, ToWorker};
use crate::world::{Generation, GenerationRecord};

impl Process {
    /// What a mistaken worker makes of what it is told; `None` if it doesn't
    /// listen at all.
    pub(super) fn mishear(&mut self, env: &mut Env, message: ToWorker) -> Option<ToWorker> {
        match (env.planted, message, self.member.record()) {
            (
                Some(Planted::ReportAtOnce | Planted::NotFenced),
                ToWorker::Prepare { generation },
                _,
            ) => {
                let holdings = self.member.holdings();
                let report = FromWorker::Report {
                    generation,
                    holdings,
                };
                self.tell(env, report);
                let fenced = env.planted == Some(Planted::ReportAtOnce);
                fenced.then_some(ToWorker::Prepare { generation })
            }
            (Some(Planted::OlderInstallTaken), ToWorker::Install(new), Some(old))
                if env.random.chance(20) =>
            {
                let (generation, origin) = (new.generation, new.origin);
                let old = old.clone();
                Some(ToWorker::Install(GenerationRecord {
                    generation,
                    origin,
                    ..old
                }))
            }
            (Some(Planted::TwoIncarnations), message, _) => {
                Some(raised(message, self.member.holdings().fence))
            }
            (_, message, _) => Some(message),
        }
    }

    /// All buckets of a round are at hand, and the trailer is not waited for.
    pub(super) fn forget_trailer(&mut self, env: &mut Env) {
        let Some(members) = self.member.exchange().map(|x| x.members().len()) else {
            return;
        };
        let all: u32 = (0..members).map(|rank| buckets(rank, members)).sum();
        let first = self.member.exchange().is_some_and(|x| x.rank() == 0);
        if !first && self.stored.len() == all as usize {
            let votes = Default::default();
            self.handle(env, Event::TrailerReduced { votes });
        }
    }

    /// What a leaver contributed to its last round goes into the next as well.
    pub(super) fn count_leavers_again(&mut self) {
        let Some(record) = self.member.record() else {
            return;
        };
        for leaver in record.leavers.iter().filter(|w| !record.has(**w)) {
            if let Some(part) = self.parts.remove(leaver) {
                self.reduced.iter_mut().for_each(|sum| sum.add(part));
            }
        }
    }

    /// A shadow's checkpoint is named by what it has begun to receive.
    pub(super) fn name_too_early(&self, checkpoint: Checkpoint) -> Checkpoint {
        let newest = self.streamed.keys().max().map(|round| round.next());
        let round = newest.unwrap_or_default().max(checkpoint.round);
        Checkpoint {
            round,
            ..checkpoint
        }
    }
}

/// As if only the counters of two numbers were compared, and the older
/// incarnation's were the newer.
fn raised(mut message: ToWorker, fence: Generation) -> ToWorker {
    let raise = |generation: &mut Generation| {
        if generation.incarnation < fence.incarnation {
            *generation = Generation {
                counter: fence.counter + 1,
                ..fence
            };
        }
    };
    match &mut message {
        ToWorker::Prepare { generation } | ToWorker::Restore { generation, .. } => {
            raise(generation);
        }
        ToWorker::Install(record) => raise(&mut record.generation),
        _ => {}
    }
    message
}
