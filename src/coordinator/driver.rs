//! The one task that owns the world: calls in, commands out, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use super::admission::{self, Ours, REGISTERED_MAX};
use super::config::{Config, WorldSize};
use super::opening::OpenRun;
use super::report::Report;
use super::service::{Call, Outbox};
use super::{CoordinatorError, FAREWELL, status};
use crate::checkpoint::{LoadError, Retention, RunStore};
use crate::observe::Summary;
use crate::observe::telemetry::SharedScreen;
use crate::strategy::Plan;
use crate::wire::control as pb;
use crate::wire::control::worker_message::Body;
use crate::wire::{Record, build};
use crate::world::membership::{Command, Event, Outcome, Probe, Settings, World};
use crate::world::message::FromWorker;
use crate::world::{Member, Round, WorkerId};

/// Shards of a checkpoint are at most this large, unless one tensor is.
pub(crate) const SHARD_BYTES_MAX: usize = 256 << 20;
/// How often time passes for the world.
const TICK: Duration = Duration::from_millis(250);
/// Findings that may wait.
const FINDS: usize = 1024;
/// How long a probe waits for an answer.
const PROBE: Duration = Duration::from_secs(1);
/// A registration without a session is forgotten after so long; its worker
/// registers again.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// Different numerics kinds that are believed.
const KINDS_MAX: usize = 256;

/// A process that has registered.
#[derive(Clone, Debug)]
pub(super) struct Registered {
    pub request: pb::RegisterRequest,
    pub address: String,
    /// The other end of the connection on which it registered: its session
    /// comes on the same one.
    from: SocketAddr,
    at: Duration,
}

struct OpenSession {
    worker: WorkerId,
    outbox: Outbox,
}

/// What a task of the driver's own found out.
enum Found {
    Probed(WorkerId, Probe),
    Start(Option<(String, u64, u64)>, Vec<String>),
}

/// Owns the world and carries out its commands.
pub(super) struct Driver {
    plan: Arc<Plan>,
    run: RunStore,
    kept: Retention,
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
    found: mpsc::Sender<Found>,
    finds: mpsc::Receiver<Found>,
    begun: Instant,
    outcome: Option<Outcome>,
    kinds: BTreeSet<String>,
}

impl Driver {
    pub(super) fn new(
        config: &Config,
        plan: Arc<Plan>,
        opened: OpenRun,
        screen: SharedScreen,
        begun: Instant,
    ) -> Result<Driver, CoordinatorError> {
        let micro_batches = config.job.train.micro_batches() as usize;
        let settings = Settings {
            start_size: match config.world_size {
                WorldSize::Auto => config.world_size_min.max(1),
                WorldSize::Workers(n) => n,
            },
            members_min: config.world_size_min.max(1),
            members_max: config
                .world_size_max
                .unwrap_or(usize::MAX)
                .min(micro_batches),
            patience: config.patience,
        };
        let mut report = Report::open(config, &plan, &opened, screen)?;
        let incarnation = opened.incarnation;
        let durable = report.durable()?;
        let world = World::new(settings, incarnation, durable, begun.elapsed());
        report.begin(&opened);
        let (found, finds) = mpsc::channel(FINDS);
        Ok(Driver {
            kept: Retention {
                keep_last: config.job.checkpoint.keep_last as usize,
                keep_best: config.job.checkpoint.keep_best.is_some(),
            },
            checkpoint_url: absolute(&config.checkpoint_url()),
            data_url: config.job.data.url.clone(),
            run: opened.run,
            plan,
            world,
            report,
            registered: BTreeMap::new(),
            sessions: BTreeMap::new(),
            session_of: BTreeMap::new(),
            next_session: 1,
            incarnation,
            next_worker: 1,
            found,
            finds,
            begun,
            outcome: None,
            kinds: BTreeSet::new(),
        })
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Runs until the run has ended and everybody has left.
    pub(super) async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Call>,
        shutdown: impl Future<Output = String> + Send,
    ) -> Result<Summary, CoordinatorError> {
        let commands = self.world.begin();
        self.execute(commands)?;
        let mut ticks = tokio::time::interval(TICK);
        tokio::pin!(shutdown);
        let mut stopping = false;
        let mut deadline = None;
        loop {
            if let Some(deadline) = deadline
                && (self.world.is_empty() || Instant::now() >= deadline)
            {
                break;
            }
            tokio::select! {
                Some(call) = inbox.recv() => self.call(call)?,
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
        let outcome = self.outcome.take().unwrap_or(Outcome::Stopped);
        // What the last checkpoint has made superfluous.
        if let Err(error) = self.run.retain(self.kept).await {
            tracing::warn!(%error, "older checkpoints could not be removed");
        }
        self.report
            .finish(
                &self.run,
                &self.plan,
                outcome,
                self.kinds,
                self.begun.elapsed(),
            )
            .await
    }

    fn handle(&mut self, event: Event) -> Result<(), CoordinatorError> {
        let commands = self.world.handle(self.now(), event);
        self.execute(commands)
    }

    fn tick(&mut self) -> Result<(), CoordinatorError> {
        self.handle(Event::Tick)?;
        let now = self.now();
        self.registered.retain(|worker, registered| {
            self.session_of.contains_key(worker)
                || self.world.pool().contains_key(worker)
                || now.saturating_sub(registered.at) < FORGOTTEN
        });
        self.report.tick(now, &self.world);
        Ok(())
    }

    fn call(&mut self, call: Call) -> Result<(), CoordinatorError> {
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
                let json = status::json(&self.world, &self.report, &self.registered);
                let _ = reply.send(pb::StatusReply { json });
            }
            Call::Drain { worker, reply } => {
                let draining = self.drain(worker)?;
                let _ = reply.send(pb::DrainReply { draining });
            }
        }
        Ok(())
    }

    /// Admits a process of the same build; everything else about it is for the
    /// world to decide when its session opens.
    fn register(
        &mut self,
        request: pb::RegisterRequest,
        from: SocketAddr,
    ) -> Result<pb::RegisterReply, Status> {
        let host = from.ip().to_canonical().to_string();
        let ours = Ours {
            build: &build(),
            artifact: &self.plan.artifact,
            incarnation: self.incarnation,
            next_worker: self.next_worker,
        };
        let known = self.registered.get(&WorkerId(request.worker));
        if let Err(refusal) = ours.judge(&request, known.map(|r| &r.request)) {
            self.report.refused(&host, refusal.message());
            return Err(refusal);
        }
        if self.registered.len() >= REGISTERED_MAX {
            return Err(Status::resource_exhausted(format!(
                "{REGISTERED_MAX} processes are registered, no more are taken for now"
            )));
        }
        let worker = if request.worker == 0 {
            let id = WorkerId::new(self.incarnation, self.next_worker);
            self.next_worker += 1;
            id
        } else {
            WorkerId(request.worker)
        };
        let host = if request.advertise_host.is_empty() {
            host
        } else {
            request.advertise_host.clone()
        };
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host
        };
        let address = format!("{host}:{}", request.advertise_port);
        let first = !self.registered.contains_key(&worker);
        let registered = Registered {
            request,
            address: address.clone(),
            from,
            at: self.now(),
        };
        if first {
            self.report.registered(worker, &registered);
        }
        self.registered.insert(worker, registered);
        Ok(pb::RegisterReply {
            worker: worker.0,
            run: self.run.run().to_owned(),
            job: self.plan.job.resolved_toml(),
            checkpoint_url: self.checkpoint_url.clone(),
            data_fingerprint: self.plan.data_fingerprint(),
            address,
            data_url: self.data_url.clone(),
        })
    }

    fn open(
        &mut self,
        (hello, from): (pb::Hello, SocketAddr),
        outbox: Outbox,
        reply: oneshot::Sender<Result<u64, Status>>,
    ) -> Result<(), CoordinatorError> {
        let worker = WorkerId(hello.worker);
        let admitted = self.admit(&hello, from);
        let (member, name, holdings) = match admitted {
            Ok(admitted) => admitted,
            Err(refused) => {
                let _ = reply.send(Err(refused));
                return Ok(());
            }
        };
        if let Some(old) = self.session_of.remove(&worker) {
            self.sessions.remove(&old);
        }
        let session = self.next_session;
        self.next_session += 1;
        self.sessions
            .insert(session, OpenSession { worker, outbox });
        self.session_of.insert(worker, session);
        if reply.send(Ok(session)).is_err() {
            return self.closed(session);
        }
        if self.kinds.insert(hello.numerics_kind.clone()) {
            self.report.kinds(worker, &self.kinds);
        }
        self.handle(Event::Hello {
            worker,
            member,
            name,
            holdings,
        })
    }

    fn admit(
        &self,
        hello: &pb::Hello,
        from: SocketAddr,
    ) -> Result<(Member, String, crate::world::message::Holdings), Status> {
        let worker = WorkerId(hello.worker);
        let registered = self.registered.get(&worker);
        let Some(registered) = registered.filter(|r| r.from == from) else {
            return Err(Status::not_found("register first, on this connection"));
        };
        admission::short("numerics kind", &hello.numerics_kind)?;
        if self.kinds.len() >= KINDS_MAX && !self.kinds.contains(&hello.numerics_kind) {
            return Err(Status::permission_denied("too many numerics kinds"));
        }
        let ours = self.plan.data_fingerprint();
        if hello.data_fingerprint != ours {
            return Err(Status::failed_precondition(format!(
                "this worker's data has fingerprint {}, the coordinator's {ours}: \
                 they have to be the same files (worker --data says where they are)",
                hello.data_fingerprint
            )));
        }
        let pinned = self.plan.job.numerics.mode == crate::job::NumericsMode::Pinned;
        if let Some(kind) = self
            .kinds
            .iter()
            .next()
            .filter(|k| pinned && **k != hello.numerics_kind)
        {
            return Err(Status::failed_precondition(format!(
                "this worker computes as {}, the run is pinned to {kind} (numerics.mode)",
                hello.numerics_kind
            )));
        }
        let holdings = hello
            .holdings
            .clone()
            .ok_or_else(|| Status::invalid_argument("Hello without holdings"))?
            .try_into()
            .map_err(|e: crate::wire::WireError| Status::invalid_argument(e.to_string()))?;
        let member = Member {
            id: worker,
            address: registered.address.clone(),
            weight: registered.request.replicas.clamp(1, 1 << 16),
        };
        Ok((member, registered.request.node.clone(), holdings))
    }

    fn said(&mut self, session: u64, body: Body) -> Result<(), CoordinatorError> {
        let Some(worker) = self.sessions.get(&session).map(|s| s.worker) else {
            return Ok(());
        };
        match body {
            Body::Records(records) => {
                let now = self.now();
                for json in records.json {
                    match serde_json::from_str::<Record>(&json) {
                        Ok(record) => self.report.record(now, record, &self.world)?,
                        Err(error) => tracing::warn!(%worker, %error, "a record that is none"),
                    }
                }
                Ok(())
            }
            Body::Trouble(trouble) => {
                self.report.trouble(worker, trouble);
                Ok(())
            }
            body => match FromWorker::try_from(body) {
                Ok(message) => {
                    self.report.heard(worker, &message);
                    self.handle(Event::From(worker, message))
                }
                Err(error) => {
                    tracing::warn!(%worker, %error, "closing its session");
                    self.closed(session)
                }
            },
        }
    }

    fn closed(&mut self, session: u64) -> Result<(), CoordinatorError> {
        let Some(open) = self.sessions.remove(&session) else {
            return Ok(());
        };
        if self.session_of.get(&open.worker) == Some(&session) {
            self.session_of.remove(&open.worker);
            self.handle(Event::SessionBroken(open.worker))?;
        }
        Ok(())
    }

    fn drain(&mut self, worker: u64) -> Result<u32, CoordinatorError> {
        let all: Vec<WorkerId> = self.session_of.keys().copied().collect();
        let chosen: Vec<WorkerId> = all
            .into_iter()
            .filter(|w| worker == 0 || w.0 == worker)
            .collect();
        for worker in &chosen {
            let reason = "asked to by a person".to_owned();
            self.handle(Event::From(*worker, FromWorker::Drain { reason }))?;
        }
        Ok(chosen.len() as u32)
    }

    fn learned(&mut self, found: Found) -> Result<(), CoordinatorError> {
        match found {
            Found::Probed(worker, probe) => self.handle(Event::Probed(worker, probe)),
            Found::Start(start, damages) => {
                for damage in damages {
                    self.report.damaged(&damage, start.is_some());
                }
                let (manifest, round, step) = match start {
                    Some((manifest, round, step)) => (Some(manifest), round, step),
                    None => (None, 0, 0),
                };
                self.report.starting(manifest.as_deref(), round, step);
                let round = Round(round);
                self.handle(Event::Start { manifest, round })
            }
        }
    }

    fn execute(&mut self, commands: Vec<Command>) -> Result<(), CoordinatorError> {
        for command in commands {
            match command {
                Command::Persist(durable) => self.report.persist(&durable)?,
                Command::Send(worker, message) => self.send(worker, message.into())?,
                Command::Probe(worker, address) => self.probe(worker, address),
                Command::FindStart => self.find_start(),
                Command::Note(note) => {
                    let now = self.now();
                    if let Some(manifest) = self.report.note(now, note, &self.world)? {
                        self.retain(manifest);
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

    /// Connects to a worker's peer address: a refusal proves that its process
    /// is gone.
    fn probe(&self, worker: WorkerId, address: String) {
        let found = self.found.clone();
        tokio::spawn(async move {
            let connected = tokio::net::TcpStream::connect(&address);
            let probe = match tokio::time::timeout(PROBE, connected).await {
                Ok(Ok(_)) => Probe::Accepted,
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    Probe::Refused
                }
                Ok(Err(_)) | Err(_) => Probe::Silent,
            };
            let _ = found.send(Found::Probed(worker, probe)).await;
        });
    }

    fn find_start(&self) {
        let (found, run) = (self.found.clone(), self.run.clone());
        tokio::spawn(async move {
            loop {
                match search(&run).await {
                    Ok((start, damages)) => {
                        let _ = found.send(Found::Start(start, damages)).await;
                        return;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the checkpoint store does not answer; trying again");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        });
    }

    /// Makes room after a newer checkpoint; never in anybody's way.
    fn retain(&self, manifest: String) {
        let (run, kept) = (self.run.clone(), self.kept);
        tokio::spawn(async move {
            if let Err(error) = run.retain(kept).await {
                tracing::warn!(%manifest, %error, "older checkpoints could not be removed");
            }
        });
    }
}

/// The newest sound checkpoint (manifest, round, step), and what is wrong with
/// newer ones.
async fn search(run: &RunStore) -> Result<(Option<(String, u64, u64)>, Vec<String>), LoadError> {
    let mut damages = Vec::new();
    let newest = run
        .newest_verified(|damage| damages.push(damage.to_string()))
        .await?;
    let round = newest.as_ref().map(|m| m.header.round);
    let unfinished = run.unfinished_after(round).await?;
    damages.extend(unfinished.iter().map(ToString::to_string));
    let start = newest.map(|m| (m.reference.key.clone(), m.header.round, m.header.step));
    Ok((start, damages))
}

/// A plain relative path means another place to a worker elsewhere.
fn absolute(url: &str) -> String {
    if url.contains("://") {
        return url.to_owned();
    }
    std::path::absolute(url).map_or_else(|_| url.to_owned(), |path| path.display().to_string())
}
