//! What the engine is asked for and what becomes of its answers.

use std::sync::Arc;
use std::time::Instant;

use super::super::engine::{Answer, Ask, Done};
use super::super::fault::Fault;
use super::super::rounds::Rounds;
use super::super::saver::Saved;
use super::super::sums::PackedSum;
use super::super::trailer::{Shape, StateDigest, Written};
use super::{Driver, Input, RECORDS_KEPT};
use crate::checkpoint;
use crate::exact::Totals;
use crate::job::Kind;
use crate::strategy::Stop;
use crate::wire::Record;
use crate::world::member::{Event, SumSource, Task};
use crate::world::membership::Drift;
use crate::world::message::FromWorker;
use crate::world::{GenerationRecord, Round, WorkerId};

impl Driver {
    pub(super) fn answered(&mut self, answer: Answer) {
        match answer {
            Answer::Restored {
                task,
                round,
                next,
                kind,
            } => {
                // An update that the restore overtook was of another state.
                (self.kept, self.coming, self.alone) = (None, None, None);
                (self.digest, self.drift) = (None, None);
                self.uploads.forget();
                // All that are told to restore come to this state; who follows is
                // told by the others how far they agreed.
                let all = self.member.must_restore(task);
                self.agreed = if all { round.0 } else { 0 };
                self.repeats.restored(round.0);
                match kind {
                    Kind::Train { step, .. } => self.steps.go_back(step),
                    Kind::Evaluate { after_step, .. } => self.steps.go_back(after_step),
                    Kind::End(_) => {}
                }
                self.applied_at = None;
                self.kind = kind;
                self.event(Event::Restored { task, round, next });
            }
            Answer::Gone { task, error } if self.member.must_restore(task) => {
                self.give_up(error.fault(), error.to_string());
            }
            Answer::Gone { task, error } => {
                tracing::warn!(%error, "asking for a newer checkpoint");
                self.event(Event::CheckpointGone { task });
            }
            Answer::Computed {
                task,
                partial,
                took,
            } => {
                self.rounds.partial = *partial;
                if self.computing.take_if(|asked| *asked == task).is_some() {
                    let held: Vec<u32> = self.rounds.partial.totals.contributed.iter().collect();
                    let computed = u64::from((held.len() as u32).saturating_sub(self.counted));
                    self.counters.micro_batches += computed;
                    if matches!(self.kind, Kind::Train { .. }) {
                        self.counters.timed += computed;
                        self.counters.computing += took;
                    }
                    self.event(Event::Computed { task, held });
                }
            }
            Answer::Applied { task, sum, done } => self.applied(task, sum, *done),
            Answer::Failed(error) => {
                self.give_up(error.fault(), error.to_string());
            }
        }
    }

    pub(super) fn applied(&mut self, task: Task, sum: Option<Vec<i64>>, done: Done) {
        if let Some(round) = self.member.round() {
            let at = (self.me, self.member.installed(), round);
            // A new member may first apply what those before it had done.
            let takes_part = |r: &GenerationRecord| r.has(self.me) && r.base <= round;
            let member = self.member.record().is_some_and(takes_part);
            self.ledger.applied(at, member, &self.kind, &self.applying);
            self.kept = match (self.coming.take(), self.alone.take(), &sum) {
                (Some(kept), ..) => Some(kept),
                (None, Some(totals), Some(sum)) if self.member.keeps_sums_of_its_own() => {
                    Some(Arc::new(Rounds::pack_all(round.0, sum, totals)))
                }
                _ => None,
            };
        }
        if self.shadow {
            self.counters.timed += 1;
            self.counters.computing += self.applies_since.elapsed();
        }
        if let Some(sum) = sum {
            self.rounds.give_back(sum);
        }
        self.counters.steps += u64::from(done.trained);
        self.digest = done.digest.or(self.digest);
        self.kind = done.kind;
        let before = self.applied_at.replace(Instant::now());
        if let Some((step, sum)) = done.sum {
            self.steps.applied(step, sum, before.map(|at| at.elapsed()));
        }
        self.running = Some(done.running);
        self.failed = done.failed;
        for record in done.records {
            if self.records.len() == RECORDS_KEPT {
                self.records.pop_front();
            }
            self.records.push_back(record);
            self.unsent = (self.unsent + 1).min(RECORDS_KEPT);
        }
        if done.checkpoint && self.stands_in_for_the_shadow() {
            self.save(false);
        }
        self.event(Event::Applied {
            task,
            next: done.next,
            checkpoint: done.checkpoint,
        });
        self.send_records();
        if self.faults.take_drain() {
            self.input(Input::Drain("a planned fault".into()));
        }
    }

    pub(super) fn saved(&mut self, saved: Saved) {
        let Saved {
            round,
            last,
            outcome,
        } = saved;
        match outcome {
            Ok(manifest) => self.session.tell(FromWorker::Committed {
                manifest,
                round,
                last,
            }),
            Err(error) => {
                tracing::warn!(%round, %error, "a checkpoint could not be written");
                self.session.tell(FromWorker::SaveFailed { round, error });
                if last {
                    // Nobody else will try while we live: the end waits for it.
                    self.save(true);
                }
            }
        }
    }

    pub(super) fn compute(
        &mut self,
        task: Task,
        round: Round,
        micro_batches: Vec<u32>,
        fresh: bool,
    ) {
        self.stop = Stop::new();
        self.computing = Some(task);
        let owners = self.member.record().map_or(1, |r| r.members.len());
        self.rounds.begin(round.0, self.shape().values, owners);
        let partial = Box::new(std::mem::take(&mut self.rounds.partial));
        self.counted = if fresh {
            0
        } else {
            partial.totals.contributed.len() as u32
        };
        let stop = self.stop.clone();
        let ours = owners == 1 && !self.member.keeps_sums_of_its_own();
        self.engine.ask(Ask::Compute {
            task,
            micro_batches,
            fresh,
            ours,
            partial,
            stop,
        });
    }

    pub(super) fn apply(&mut self, task: Task, round: Round, source: SumSource) {
        self.applies_since = Instant::now();
        let taken = match source {
            SumSource::Partial => {
                let (sum, totals) = self.rounds.take_partial();
                self.alone = Some(totals.clone());
                Ok((sum, totals))
            }
            SumSource::Exchange => {
                let (sum, totals, kept) = self.rounds.take_exchanged();
                self.coming = Some(kept);
                Ok((Some(sum), totals))
            }
            SumSource::Fetched => {
                self.counters.sums_fetched += 1;
                let sum = self.fetched.take();
                self.unpack(sum).map(|(sum, totals)| (Some(sum), totals))
            }
            SumSource::Streamed => {
                self.streamed = self.streamed.split_off(&round.0);
                let sum = self.streamed.remove(&round.0);
                self.unpack(sum).map(|(sum, totals)| (Some(sum), totals))
            }
        };
        match taken {
            Ok((sum, totals)) => {
                if self.ledger.is_kept() {
                    self.applying = totals.contributed.clone();
                }
                self.engine.ask(Ask::Apply {
                    task,
                    sum,
                    totals: Box::new(totals),
                    ours: !self.member.keeps_sums_of_its_own(),
                });
            }
            Err(problem) => self.give_up(Fault::Ours, problem),
        }
    }

    pub(super) fn unpack(&mut self, sum: Option<PackedSum>) -> Result<(Vec<i64>, Totals), String> {
        let sum = sum.ok_or("a sum that was at hand is gone")?;
        let micro_batches = self.member.micro_batches();
        let unpacked = self.rounds.unpack(&sum, self.shape(), micro_batches);
        let unpacked = unpacked.map_err(|e| e.to_string())?;
        self.coming = Some(Arc::new(sum));
        Ok(unpacked)
    }

    pub(super) fn save(&mut self, last: bool) {
        if let (true, Some(error)) = (last, self.failed.clone()) {
            return self.session.tell(FromWorker::JobFailed { error });
        }
        self.send_all_steps();
        let generation = self.member.installed();
        self.engine.ask(Ask::Save { last, generation });
    }

    pub(super) fn save_together(&mut self, members: Vec<WorkerId>) {
        let Some(rank) = members.iter().position(|member| *member == self.me) else {
            return;
        };
        if rank == 0 {
            self.send_all_steps();
        }
        self.engine.ask(Ask::SaveTogether {
            rank,
            members,
            generation: self.member.installed(),
        });
    }

    /// All members have heard who has written which shards.
    pub(super) fn shards_told(&mut self, written: &[Written]) {
        self.uploads.told(written);
        self.engine.shards_told(written);
    }

    /// Members hold different states. The round comes to no end here: the
    /// coordinator tells everybody where to go back to.
    pub(super) fn drifted(&mut self, drift: Drift) {
        let (round, agreed) = (drift.round, drift.agreed);
        tracing::error!(%round, %agreed, "the members' states differ; waiting to be sent back");
        self.engine.forget_saves();
        self.uploads.forget();
        self.repeats.states_differ();
        self.drift = Some(drift);
        self.tell_drift();
    }

    /// Again with every Prepare, before our Report: a coordinator that was away has
    /// not heard of it, and would have us go on.
    pub(super) fn tell_drift(&self) {
        if let Some(drift) = self.drift.clone() {
            let drifted = Record::Drifted(drift);
            self.session.records(std::iter::once(&drifted));
        }
    }

    /// A shadow lives and dies beside the coordinator: while neither answers, the
    /// first member writes the checkpoints.
    fn stands_in_for_the_shadow(&self) -> bool {
        let of_shadow = |r: &&GenerationRecord| r.writer.is_some() && r.rank(self.me) == Some(0);
        self.member.record().is_some_and(|r| of_shadow(&r)) && !self.session.is_open()
    }

    /// All members have held this state. One alone has compared it with nobody's.
    pub(super) fn states_agreed(&mut self, state: &StateDigest, members: usize) {
        self.agreed = state.round;
        self.digest.take_if(|ours| ours.round <= state.round);
        let repeated = self.repeats.agreed(state.round);
        let shadowed = self.member.record().is_some_and(|r| r.writer.is_some());
        if members > 1 || shadowed {
            let agreed = Record::Agreed {
                round: state.round,
                chain: checkpoint::hex(&state.sha256),
                members,
                repeated,
            };
            self.session.records(std::iter::once(&agreed));
        }
    }

    /// Of the sum of the round at hand.
    pub(super) fn shape(&self) -> Shape {
        match self.kind {
            Kind::Train { .. } => self.train,
            Kind::Evaluate { .. } | Kind::End(_) => self.train.of_evaluation(),
        }
    }
}
