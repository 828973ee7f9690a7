//! The compute thread of a simulated worker: one thing at a time, in order.

use std::collections::VecDeque;
use std::time::Duration;

use super::Planted;
use super::env::Env;
use super::invariants;
use super::store::Checkpoint;
use super::values::{Standing, Sum};
use crate::world::member::{Event, Task};
use crate::world::message::WorkerCounters;
use crate::world::{Round, WorkerId};

/// A partial sum and the micro-batches in it.
#[derive(Clone, Default, Debug)]
pub struct Partial {
    pub sum: Sum,
    pub held: Vec<u32>,
}

pub enum Job {
    Restore {
        task: Task,
        manifest: Option<String>,
    },
    Compute {
        task: Task,
        round: Round,
        left: VecDeque<u32>,
        partial: Partial,
        stop: bool,
    },
    Apply {
        task: Task,
        round: Round,
        sum: Sum,
    },
    Save {
        last: bool,
    },
}

/// What a finished job came to.
pub enum Answer {
    Restored(Event),
    Computed(Event, Partial),
    Applied(Event, Round, Sum),
    Saved(Checkpoint),
}

#[derive(Default)]
pub struct Engine {
    pub jobs: VecDeque<Job>,
    pub state: Option<(Round, u64)>,
    /// What it has decided by itself.
    pub standing: Standing,
    /// The round of the checkpoint that it began with.
    pub restored: Option<Round>,
    /// Its next bit is on the agenda.
    pub busy: bool,
    /// What it tells of its speed.
    pub counters: WorkerCounters,
}

impl Engine {
    /// How long the next bit takes on a node so many times slower than the
    /// fastest; `None` if there is nothing to do.
    pub fn takes(&self, slowness: u32, env: &mut Env) -> Option<Duration> {
        let (micro_batch, store) = (env.weather.micro_batch * slowness, env.weather.store);
        Some(match self.jobs.front()? {
            Job::Compute { .. } => env.between(micro_batch, micro_batch * 2),
            Job::Apply { .. } | Job::Save { .. } => env.between(micro_batch / 20, micro_batch / 10),
            Job::Restore { manifest: None, .. } => env.between(store / 10, store / 2),
            Job::Restore { .. } => {
                let outage = env.store.down_until.saturating_sub(env.now);
                outage + env.between(store / 2, store)
            }
        })
    }

    pub fn is_computing(&self) -> bool {
        self.jobs
            .iter()
            .any(|job| matches!(job, Job::Compute { .. }))
    }

    /// Whether the next bit is a micro-batch.
    pub fn is_at_work(&self) -> bool {
        matches!(self.jobs.front(), Some(Job::Compute { .. }))
    }

    pub fn stop(&mut self) {
        for job in &mut self.jobs {
            if let Job::Compute { stop, .. } = job {
                *stop = true;
            }
        }
    }

    /// Does the next bit of work.
    pub fn work(&mut self, me: WorkerId, env: &mut Env) -> Option<Answer> {
        if let Some(Job::Compute {
            round,
            left,
            partial,
            stop,
            ..
        }) = self.jobs.front_mut()
        {
            // A micro-batch that was at hand when it was told to stop is finished.
            let goes_on = !*stop || env.random.chance(30);
            if let (Some(m), true) = (left.front().copied(), goes_on) {
                left.pop_front();
                let (round, state) = (*round, self.state);
                match state {
                    Some((at, state)) if at == round => {
                        let early = env.planted == Some(Planted::SentBeforeApplied)
                            && env.random.chance(10);
                        let state = match round.previous().filter(|_| early) {
                            Some(before) => env.course.state(before),
                            None => state,
                        };
                        partial.sum.add(Sum::gradient(round, m, state));
                        if env.planted == Some(Planted::CountedTwice) && env.random.chance(10) {
                            partial.sum.add(Sum::gradient(round, m, state));
                        }
                        partial.held.push(m);
                        self.counters.micro_batches += 1;
                        self.counters.timed += 1;
                        *env.computed.entry((round, m)).or_default() += 1;
                        env.log(|| format!("{me:?} computed {m} of {round:?}"));
                    }
                    other => env.broken(format!("{me:?} computes {round:?} at {other:?}")),
                }
                if !left.is_empty() {
                    return None;
                }
            }
        }
        Some(match self.jobs.pop_front()? {
            Job::Restore { task, manifest } => self.restore(me, task, manifest, env),
            Job::Compute { task, partial, .. } => {
                let held = partial.held.clone();
                Answer::Computed(Event::Computed { task, held }, partial)
            }
            Job::Apply { task, round, sum } => self.apply(me, task, round, sum, env),
            Job::Save { last } => {
                let (round, state) = self.state.unwrap_or_default();
                Answer::Saved(Checkpoint {
                    round,
                    state,
                    standing: self.standing,
                    last,
                })
            }
        })
    }

    fn restore(
        &mut self,
        me: WorkerId,
        task: Task,
        manifest: Option<String>,
        env: &mut Env,
    ) -> Answer {
        let beginning = (Round(0), env.course.state(Round(0)), Standing::default());
        let (round, state, standing) = match &manifest {
            None => beginning,
            Some(manifest) => match env.store.read(manifest) {
                Some(found) => (found.round, found.state, found.standing),
                None => {
                    env.broken(format!("checkpoint {manifest} is not whole"));
                    beginning
                }
            },
        };
        self.standing = match env.planted {
            Some(Planted::StandingNotRestored) => Standing::default(),
            _ => standing,
        };
        invariants::digests_agree(env, me, round, state);
        self.state = Some((round, state));
        self.restored = Some(round);
        Answer::Restored(Event::Restored {
            task,
            round,
            next: env.course.next(round, self.standing),
        })
    }

    fn apply(&mut self, me: WorkerId, task: Task, round: Round, sum: Sum, env: &mut Env) -> Answer {
        let state = match self.state {
            Some((at, state)) if at == round => {
                invariants::exactly_once(env, me, round, sum);
                env.course.apply(state, sum)
            }
            other => {
                env.broken(format!("{me:?}: sum {round} at {other:?}"));
                env.course.state(round.next())
            }
        };
        invariants::digests_agree(env, me, round.next(), state);
        self.standing = env.course.judged(round, state, self.standing);
        self.state = Some((round.next(), state));
        let next = env.course.next(round.next(), self.standing);
        let checkpoint = env.course.wants_checkpoint(round.next(), self.standing);
        Answer::Applied(
            Event::Applied {
                task,
                next,
                checkpoint,
            },
            round,
            sum,
        )
    }
}
