//! Nobody waits without a deadline: from a Prepare to its Install, for members
//! that were recorded, for a world to begin with those who are there, and as a
//! worker for another one's part, a sum, an Install, a source or a state, it
//! never takes longer than it may take to find out that nothing comes, and the
//! patience that follows.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::sim::coordinator::Coordinator;
use crate::sim::engine::Job;
use crate::sim::env::Env;
use crate::sim::process::Process;
use crate::sim::run::{STALLS_FORGOTTEN, TICK};
use crate::world::membership::{Settings, World};
use crate::world::{Generation, Round, WorkerId};

/// From the break of a connection until it is noticed, and what is under way.
const NOTICED_AFTER: Duration = Duration::from_secs(40);

/// For how many ticks the coordinator has been in the same wait. (Time in which
/// it is stopped itself doesn't count.)
#[derive(Default)]
pub struct EveryWaitEnds {
    wait: (&'static str, u32, Generation),
    ticks: u32,
}

impl EveryWaitEnds {
    /// At each tick: the world of an incarnation, and the newest number given
    /// out.
    pub fn check(
        &mut self,
        env: &mut Env,
        world: &World,
        (incarnation, number): (u32, Generation),
        settings: &Settings,
    ) {
        let phase = world.phase_name();
        let here = world.pool().values().filter(|n| n.can_train()).count();
        let wanted = settings.start_size.max(settings.members_min).max(1);
        let waits = match phase {
            "reconciling" | "recovering" => true,
            "gathering" => here >= wanted,
            _ => false,
        };
        let wait = (phase, incarnation, number);
        if !waits || self.wait != wait {
            (self.wait, self.ticks) = (wait, 0);
            return;
        }
        // Who waits for others than workers, or for those to give up by
        // themselves, has to do so while nothing answers.
        let counts = phase == "reconciling" || env.is_calm();
        self.ticks += u32::from(counts);
        let alone = env.weather.reconnect * if phase == "reconciling" { 1 } else { 2 };
        let limit = alone + settings.patience * 2 + NOTICED_AFTER;
        if TICK * self.ticks > limit {
            env.broken(match phase {
                "reconciling" => format!("generation {number} is prepared for ever"),
                _ => format!("coordinator {incarnation} is {phase} for ever"),
            });
        }
    }
}

/// What a worker waits for.
#[derive(Clone, PartialEq, Debug)]
enum Wait {
    /// Parts of this round.
    Part(Generation, Round),
    /// The sum that leads to the first round of its world.
    Sum(Generation),
    /// The Install after a Prepare.
    Install(Generation),
    /// Sums that its source has.
    Source(WorkerId, Round),
    /// The state to start from.
    State(Generation),
}

/// For how many ticks each worker has been in the same wait. Those in which
/// anybody is frozen, anything cut off, or the store doesn't answer don't count.
#[derive(Default)]
pub struct WorkersWaitsEnd(BTreeMap<WorkerId, (Wait, u32)>);

impl WorkersWaitsEnd {
    pub fn check(
        &mut self,
        env: &mut Env,
        processes: &BTreeMap<WorkerId, Process>,
        coordinator: &Coordinator,
    ) {
        if !env.is_calm() {
            return;
        }
        let patience = coordinator.settings.patience;
        // A shadow rests until there are workers again, others until there is room.
        let world = coordinator.world.as_ref();
        let gathers = world.is_some_and(World::is_gathering);
        let waits = |p: &Process| {
            if world.is_some_and(|world| world.is_idle(p.id)) {
                return None;
            }
            let wait = wait_of(p, processes)?;
            (!gathers || !matches!(wait, Wait::Install(_))).then_some((p.id, wait))
        };
        let now: Vec<(WorkerId, Wait)> = processes.values().filter_map(waits).collect();
        let mut before = std::mem::take(&mut self.0);
        for (worker, wait) in now {
            let ticks = match before.remove(&worker) {
                Some((same, ticks)) if same == wait => ticks + 1,
                _ => 0,
            };
            // Members that wait for each other are helped after many times the
            // longest round.
            let stalls = match wait {
                Wait::Part(..) | Wait::Sum(_) => STALLS_FORGOTTEN,
                _ => Duration::ZERO,
            };
            let limit = env.weather.reconnect * 2 + patience * 2 + NOTICED_AFTER + stalls;
            if TICK * ticks > limit {
                env.broken(format!("{worker:?} waits for ever: {wait:?}"));
            }
            self.0.insert(worker, (wait, ticks));
        }
    }
}

/// Who has no session waits for that, and gives up by itself.
fn wait_of(process: &Process, processes: &BTreeMap<WorkerId, Process>) -> Option<Wait> {
    process.session?;
    let holdings = process.member.holdings();
    let jobs = &process.engine.jobs;
    if jobs.iter().any(|job| matches!(job, Job::Restore { .. })) {
        return Some(Wait::State(holdings.fence));
    }
    let round = holdings.round.filter(|_| jobs.is_empty())?;
    let record = process.member.record();
    if record.is_some() && holdings.fence > holdings.installed {
        return Some(Wait::Install(holdings.fence));
    }
    if let Some(record) = record.filter(|r| r.has(process.id)) {
        if round.next() == record.base {
            return Some(Wait::Sum(record.generation));
        }
        let awaits = process
            .member
            .exchange()
            .is_some_and(|x| !x.awaits().is_empty());
        return awaits.then_some(Wait::Part(record.generation, round));
    }
    let (source, _) = process.source?;
    let ahead = processes.get(&source)?.member.round() > Some(round);
    // A checkpoint to catch up from is one of those on their way.
    let ahead = ahead && processes.values().all(|p| p.uploads.is_empty());
    ahead.then_some(Wait::Source(source, round))
}
