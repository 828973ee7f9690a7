//! The one task that owns the world: calls in, commands out, in order.

mod copy;
mod crashing;
mod errands;
mod lead;
mod sessions;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use self::copy::Copies;
use self::errands::{Errands, Found, StartPoint};
use self::lead::Waiting;
use super::config::{Config, WorldSize};
use super::crashes::Crashes;
use super::opening::OpenRun;
use super::report::Report;
use super::service::{Call, Outbox};
use super::shadow::{self, ShadowMode};
use super::{CoordinatorError, FAREWELL, status};
use crate::checkpoint::{Retention, RunStore};
use crate::collective::{Caller, Connector};
use crate::devices::GpuReading;
use crate::observe::Summary;
use crate::observe::telemetry::SharedScreen;
use crate::strategy::Plan;
use crate::wire::{ToMany, control as pb};
use crate::world::membership::{Command, Durable, Event, Outcome, Settings, World};
use crate::world::message::FromWorker;
use crate::world::{Lead, Round, WorkerId};

/// How often time passes for the world.
const TICK: Duration = Duration::from_millis(100);
/// Findings that may wait.
const FINDS: usize = 1024;
/// A registration without a session is forgotten after so long; its worker
/// registers again.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// A process that has registered.
#[derive(Clone, Debug)]
pub(super) struct Registered {
    pub request: pb::RegisterRequest,
    pub address: String,
    /// The connection on which it registered: its session comes on the same one.
    from: Caller,
    at: Duration,
    /// A session has come since.
    met: bool,
    /// What its GPUs have said last.
    pub gpus: Vec<GpuReading>,
}

struct OpenSession {
    worker: WorkerId,
    outbox: Outbox,
}

/// Owns the world and carries out its commands.
pub(super) struct Driver {
    plan: Arc<Plan>,
    run: RunStore,
    /// On the run's folder, for as long as we live.
    _lock: File,
    checkpoint_url: String,
    data_url: String,
    world: World,
    report: Report,
    registered: BTreeMap<WorkerId, Registered>,
    sessions: BTreeMap<u64, OpenSession>,
    session_of: BTreeMap<WorkerId, u64>,
    next_session: u64,
    incarnation: u32,
    next_worker: u32,
    errands: Errands,
    copies: Copies,
    lead: Lead,
    waiting: Waiting,
    crashes: Crashes,
    /// Checkpoints after this round go before the next search.
    go_back: Option<u64>,
    finds: mpsc::Receiver<Found>,
    begun: Instant,
    outcome: Option<Outcome>,
    to_many: ToMany,
    /// The numerics kinds that have ever taken part in the run.
    kinds: BTreeSet<String>,
    shadow: ShadowMode,
    watch: shadow::Watch,
}

impl Driver {
    pub(super) fn new(
        config: &Config,
        plan: Arc<Plan>,
        opened: OpenRun,
        screen: SharedScreen,
        connector: Connector,
        begun: Instant,
    ) -> Result<Driver, CoordinatorError> {
        let micro_batches = config.job.train.micro_batches() as usize;
        let settings = Settings {
            micro_batches: config.job.train.micro_batches(),
            start_size: match config.world_size {
                WorldSize::Auto => config.world_size_min,
                WorldSize::Workers(n) => n,
            },
            members_min: config.world_size_min,
            members_max: config
                .world_size_max
                .unwrap_or(usize::MAX)
                .min(micro_batches),
            spares: config.spares,
            patience: config.patience,
        };
        let mut report = Report::open(config, &plan, &opened, screen)?;
        let incarnation = opened.incarnation;
        let durable = newest(report.durable()?, opened.world.as_deref());
        let start = opened.start.as_ref().map(|m| &m.header.identity.kinds);
        let mut kinds: BTreeSet<String> = start.into_iter().flatten().cloned().collect();
        kinds.extend(report.recorded_kinds()?);
        let last = opened.start.as_ref().filter(|m| m.header.is_final);
        let world = World::new(settings, incarnation, durable, begun.elapsed())
            .finished_by(last.map(|m| m.reference.key.clone()));
        report.begin(&opened);
        let (found, finds) = mpsc::channel(FINDS);
        let errands = Errands {
            found,
            run: opened.run.clone(),
            kept: Retention {
                keep_last: config.job.checkpoint.keep_last as usize,
                keep_best: config.job.checkpoint.keep_best.is_some(),
            },
            connector,
        };
        Ok(Driver {
            copies: Copies::new(opened.run.clone(), incarnation),
            checkpoint_url: absolute(&config.checkpoint_url()),
            data_url: config.job.data.url.clone(),
            run: opened.run,
            _lock: opened.lock,
            plan,
            world,
            report,
            registered: BTreeMap::new(),
            sessions: BTreeMap::new(),
            session_of: BTreeMap::new(),
            next_session: 1,
            incarnation,
            next_worker: 1,
            errands,
            lead: Lead::new(incarnation, begun.elapsed()),
            waiting: Waiting::default(),
            crashes: Crashes::default(),
            go_back: None,
            finds,
            begun,
            outcome: None,
            to_many: ToMany::default(),
            kinds,
            shadow: config.shadow,
            watch: shadow::Watch::default(),
        })
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// How many members of an earlier start's world may train on.
    pub(super) fn recorded_members(&self) -> usize {
        self.world.current().map_or(0, |r| r.members.len())
    }

    /// Runs until the run has ended and everybody has left. If we can't go on ourselves (our disk
    /// is full), that is how the run has failed, and the summary says so as of any other failure.
    pub(super) async fn run(
        mut self,
        inbox: mpsc::Receiver<Call>,
        shutdown: impl Future<Output = String> + Send,
    ) -> Summary {
        let served = self.serve(inbox, shutdown).await;
        if !matches!(served, Err(CoordinatorError::Superseded { .. })) {
            // What the last checkpoint has made superfluous.
            self.errands.clear_now().await;
        }
        let outcome = served.unwrap_or_else(|error| Outcome::Failed(error.to_string()));
        let elapsed = self.begun.elapsed();
        self.report
            .finish(&self.run, &self.plan, outcome, self.kinds, elapsed)
            .await
    }

    async fn serve(
        &mut self,
        mut inbox: mpsc::Receiver<Call>,
        shutdown: impl Future<Output = String> + Send,
    ) -> Result<Outcome, CoordinatorError> {
        let commands = self.world.begin();
        self.execute(commands)?;
        let mut ticks = tokio::time::interval(TICK);
        tokio::pin!(shutdown);
        let mut stopping = false;
        let mut deadline = None;
        loop {
            if let Some(deadline) = deadline
                && (self.is_deserted() || Instant::now() >= deadline)
            {
                break;
            }
            tokio::select! {
                Some(call) = inbox.recv(), if self.lead.is_sure() => self.call(call)?,
                Some(found) = self.finds.recv() => self.learned(found)?,
                _ = ticks.tick() => self.tick()?,
                reason = &mut shutdown, if !stopping && self.outcome.is_none() => {
                    stopping = true;
                    self.report.stopping(&reason);
                    self.handle(Event::Stop)?;
                }
            }
            if self.outcome.is_some() && deadline.is_none() {
                deadline = Some(Instant::now() + FAREWELL);
            }
        }
        Ok(self.outcome.take().unwrap_or(Outcome::Stopped))
    }

    /// Whether nobody is left to be told how the run ended: also nobody who has
    /// registered and still prepares for a first session.
    fn is_deserted(&self) -> bool {
        let prepares = |r: &Registered| !r.met && r.from.is_connected();
        self.world.is_empty() && !self.registered.values().any(prepares)
    }

    fn handle(&mut self, event: Event) -> Result<(), CoordinatorError> {
        let commands = self.world.handle(self.now(), event);
        self.execute(commands)
    }

    fn tick(&mut self) -> Result<(), CoordinatorError> {
        if !self.leads() {
            return Ok(());
        }
        let now = self.now();
        self.handle(Event::Tick)?;
        self.registered.retain(|worker, registered| {
            self.session_of.contains_key(worker)
                || self.world.pool().contains_key(worker)
                || now.saturating_sub(registered.at) < FORGOTTEN
        });
        self.report.tick(now, &self.world);
        self.watch_shadow(now)
    }

    /// One that can't keep up is let go, or people are told.
    fn watch_shadow(&mut self, now: Duration) -> Result<(), CoordinatorError> {
        let Some(slow) = self.watch.look(now, &self.world) else {
            return Ok(());
        };
        let kept = self.shadow == ShadowMode::On;
        self.report.shadow_too_slow(slow, kept);
        if kept {
            return Ok(());
        }
        let reason = "it can't keep up with the workers".to_owned();
        self.handle(Event::From(slow.shadow, FromWorker::Drain { reason }))
    }

    fn call(&mut self, call: Call) -> Result<(), CoordinatorError> {
        if !self.leads() {
            self.call_later(call);
            return Ok(());
        }
        match call {
            Call::Register {
                request,
                from,
                reply,
            } => {
                let _ = reply.send(self.register(request, from));
            }
            Call::Open {
                hello,
                from,
                outbox,
                reply,
            } => self.open((hello, from), outbox, reply)?,
            Call::Said { session, body } => self.said(session, body)?,
            Call::Closed { session } => self.closed(session)?,
            Call::Status { reply } => {
                let json = status::json(&self.world, &self.report, &self.registered, self.now());
                let _ = reply.send(pb::StatusReply { json });
            }
            Call::Drain { worker, reply } => {
                let draining = self.drain(worker)?;
                let _ = reply.send(pb::DrainReply { draining });
            }
        }
        Ok(())
    }

    fn learned(&mut self, found: Found) -> Result<(), CoordinatorError> {
        if !self.leads() && !matches!(found, Found::Leads(_)) {
            self.learn_later(found);
            return Ok(());
        }
        match found {
            Found::Probed(worker, probe) => self.handle(Event::Probed(worker, probe)),
            Found::Leads(newest) => self.led_by(newest),
            Found::Start(start, damages) => {
                for damage in damages {
                    self.report.damaged(&damage, start.is_some());
                }
                let (manifest, round, step) = match start {
                    Some(StartPoint {
                        manifest,
                        round,
                        step,
                    }) => (Some(manifest), round, step),
                    None => (None, 0, 0),
                };
                // A world that trains goes on; only its joiners start there.
                if self.world.is_gathering() {
                    self.report.starting(manifest.as_deref(), round, step);
                }
                let round = Round(round);
                self.handle(Event::Start { manifest, round })
            }
        }
    }

    fn execute(&mut self, commands: Vec<Command>) -> Result<(), CoordinatorError> {
        let mut commands = commands.into_iter();
        while let Some(command) = commands.next() {
            match command {
                Command::Persist(durable) => {
                    self.report.persist(&durable, commands.as_slice())?;
                    self.copies.put(&durable);
                }
                Command::Send(worker, message) => {
                    let message = self.to_many.message(message);
                    self.send(worker, message)?;
                }
                Command::Probe {
                    worker,
                    address,
                    within,
                } => self.errands.probe(worker, address, within),
                Command::GoBack(Round(round)) => self.go_back = Some(round),
                Command::FindStart => {
                    let known = self.world.newest_known().map(str::to_owned);
                    self.errands.find_start(self.go_back.take(), known);
                }
                Command::Note(note) => {
                    let now = self.now();
                    if self.report.note(now, note, &self.world)?.is_some() {
                        self.errands.clear();
                    }
                }
                Command::End(outcome) => self.outcome = Some(outcome),
            }
        }
        Ok(())
    }

    /// A full outbox means that the worker doesn't read: its session is lost.
    fn send(
        &mut self,
        worker: WorkerId,
        message: pb::CoordinatorMessage,
    ) -> Result<(), CoordinatorError> {
        let Some(session) = self.session_of.get(&worker).copied() else {
            return Ok(());
        };
        let sent = self
            .sessions
            .get(&session)
            .is_some_and(|s| s.outbox.try_send(Ok(message)).is_ok());
        if sent { Ok(()) } else { self.closed(session) }
    }
}

/// A plain relative path means another place to a worker elsewhere.
fn absolute(url: &str) -> String {
    if url.contains("://") {
        return url.to_owned();
    }
    std::path::absolute(url).map_or_else(|_| url.to_owned(), |path| path.display().to_string())
}

/// Our own record, unless another coordinator has written a newer one since: our
/// disk is new, or it was somebody else's turn in between.
fn newest(ours: Durable, copy: Option<&[u8]>) -> Durable {
    let copy = copy.and_then(|bytes| match serde_json::from_slice::<Durable>(bytes) {
        Ok(durable) => Some(durable),
        Err(error) => {
            tracing::warn!(%error, "the copy of the newest world can't be read");
            None
        }
    });
    match copy.filter(|copy| copy.number > ours.number) {
        Some(copy) => copy,
        None => ours,
    }
}
