//! The rim on a training node: threads, sockets and signals around
//! [`crate::world::member::Member`].
//!
//! ```text
//!   coordinator ◀─gRPC─▶ session ─┐                 ┌─▶ engine: gradients, updates
//!                                 ├─▶ driver ◀──────┤   (owns replicas and state)
//!   peers ◀─frames─▶ transport ───┘   (owns Member, └─▶ saver: checkpoints
//!                                      the sums)
//! ```
//!
//! The driver never waits for anything but its inbox; the engine does one
//! thing at a time. `inject` holds the planned faults of our own tests, `ledger`
//! what they count.

mod config;
mod driver;
mod engine;
mod fault;
mod gpus;
mod inject;
mod ledger;
mod peers;
mod records;
pub mod rehearsal;
mod repeats;
mod rounding;
mod rounds;
mod saver;
mod session;
mod signals;
mod steps;
mod sums;
mod trailer;
mod uploads;

pub use config::Config;
pub(crate) use signals::SIGNAL_ECHO;

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use driver::{Driver, Input};
use engine::Engine;
use inject::{Faults, Point};
use peers::Peers;
use saver::Saver;
use session::{Contact, Session};
use signals::Signals;
use trailer::Shape;

use crate::checkpoint::{Identity, RunStore, Store};
use crate::collective::{
    Connector, Hello, PeerListener, Refusal, RunTag, TcpTransport, TransportLimits, Verdict,
};
use crate::job::Job;
use crate::observe::LogTail;
use crate::strategy::Plan;
use crate::wire::{build, control as pb};
use crate::world::WorkerId;
use crate::world::message::ReleaseReason;

/// Inputs that may wait for the driver.
const INBOX: usize = 4096;
/// How long goodbyes may take to be sent.
const FAREWELL: Duration = Duration::from_millis(500);
/// An evicted worker waits this long before it comes back as a newcomer.
const COME_BACK: Duration = Duration::from_secs(1);

/// How a worker's part ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Let go by the coordinator.
    Released(ReleaseReason),
    /// Left as a person's Ctrl-C asked it to, with nothing lost.
    Interrupted,
    /// The command line or the environment has to be changed.
    Usage(String),
    /// Not taken: another build, a wrong token, other data.
    Refused(String),
    /// Not taken any more: its node crashed in the same way again and again.
    CrashLoop(String),
    /// The coordinator could not be reached for too long.
    Unreachable(String),
    /// Training can't go on.
    Failed(String),
    /// Something of this process broke; another one may do better.
    Broken(String),
}

/// Works for a coordinator until the run ends, the worker is drained, or it
/// can't go on. A worker that was evicted comes back as a newcomer.
pub fn run(config: &Config, tail: &LogTail) -> Ended {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return Ended::Broken(format!("no runtime: {error}")),
    };
    let signals = Signals::watch(&runtime);
    loop {
        let ended = match once(config, tail, &runtime, &signals) {
            Ended::Released(ReleaseReason::Evicted(why)) if signals.ended().is_none() => {
                tracing::warn!(%why, "evicted; coming back as a newcomer");
                std::thread::sleep(COME_BACK);
                continue;
            }
            Ended::Released(ReleaseReason::Evicted(_) | ReleaseReason::Drained) => signals
                .ended()
                .unwrap_or(Ended::Released(ReleaseReason::Drained)),
            ended => ended,
        };
        runtime.shutdown_timeout(FAREWELL);
        return ended;
    }
}

fn once(
    config: &Config,
    tail: &LogTail,
    runtime: &tokio::runtime::Runtime,
    signals: &Signals,
) -> Ended {
    match join(config, tail, runtime, signals) {
        Ok(ended) | Err(ended) => ended,
    }
}

/// Registers, prepares, and hands over to the driver.
fn join(
    config: &Config,
    tail: &LogTail,
    runtime: &tokio::runtime::Runtime,
    signals: &Signals,
) -> Result<Ended, Ended> {
    let broken =
        |what: &str, error: &dyn std::fmt::Display| Ended::Broken(format!("{what}: {error}"));
    let faults = Faults::from_env().map_err(Ended::Usage)?;
    let kind = config.devices.numerics_kind();
    let kind = kind.map_err(|e| broken("what its devices compute", &e))?;
    let (inputs, inbox) = sync_channel(INBOX);
    let connector = Connector::new(config.token.clone());
    let (transport, listener, door) = listen(config, &connector, inputs.clone())?;
    let contact = Contact {
        connector,
        address: config.coordinator.clone(),
        request: introduction(config, &listener, kind),
        limit: config.reconnect_timeout,
    };
    let registered = runtime.block_on(async {
        tokio::select! {
            registered = contact.register(None) => registered,
            left = signals.told() => Err(left),
        }
    })?;
    let reply = registered.reply.clone();
    let me = WorkerId(reply.worker);
    tracing::info!(worker = %me, run = %reply.run, "registered");
    faults.reached_anywhere(Point::Registered);

    let plan = plan(config, &reply)?;
    let run = runtime.block_on(checkpoints(&reply))?;
    // Two rounds and a sum that is fetched; two sums for a follower.
    let (limits, sum) = (
        TransportLimits::default(),
        rounds::sum_bytes_max(plan.layout.elements()),
    );
    transport.set_queue_limits(
        limits.exchange_queue_bytes_max.max(3 * sum),
        limits.stream_queue_bytes_max.max(2 * sum),
    );
    let tag = RunTag::of(&reply.run);
    door.open(me, tag);
    let identity = Identity {
        run: reply.run.clone(),
        kinds: reply.numerics_kinds.clone(),
        ..plan.identity()
    };
    let saver = Saver::new(
        me,
        run.clone(),
        identity,
        runtime.handle().clone(),
        faults.clone(),
        inputs.clone(),
    );
    let engine = Engine::start(
        Arc::clone(&plan),
        (!config.shadow).then(|| config.devices.clone()),
        run,
        saver,
        runtime.handle().clone(),
        faults.clone(),
        inputs.clone(),
    )
    .map_err(|e| broken("the engine", &e))?;
    let session = Session::new(me, reply.data_fingerprint, tail.clone());
    let _watched = gpus::watch(&config.devices, &session);
    let mut talk = runtime.spawn(session.clone().keep(contact, registered, inputs.clone()));
    signals.forward(inputs);
    let peers = Peers::new(Arc::clone(&transport), me, tag);
    let driver = Driver::new(
        me,
        Shape {
            values: plan.layout.elements(),
            metrics: plan.factory.metrics().len(),
            parameters: plan.layout.len(),
        },
        engine,
        session.clone(),
        peers,
        faults,
    )
    .with_shadow(config.shadow);
    let ended = driver.run(&inbox);
    drop(inbox); // whoever waits to tell the driver something goes on
    session.close();
    // Our last words, unless nobody listens.
    let said = runtime.block_on(async { tokio::time::timeout(FAREWELL, &mut talk).await });
    if said.is_err() {
        talk.abort();
    }
    transport.shutdown(FAREWELL);
    Ok(ended)
}

/// The coordinator's job, on the same data wherever it lies here.
fn plan(config: &Config, reply: &pb::RegisterReply) -> Result<Arc<Plan>, Ended> {
    let mut job = Job::from_resolved(&reply.job).map_err(|e| Ended::Refused(e.to_string()))?;
    if let Some(data) = &config.data {
        job.relocate_data("--data", data);
    }
    let plan = Plan::new(&job, &config.registry)
        .map_err(|e| Ended::Refused(format!("{e} (the data's place can be given with --data)")))?;
    plan.check_memory(1, config.devices.replicas())
        .map_err(|e| Ended::Refused(e.to_string()))?;
    let fingerprint = plan.data_fingerprint();
    if fingerprint != reply.data_fingerprint {
        return Err(Ended::Refused(format!(
            "the data at {} has fingerprint {fingerprint}, the coordinator's has {}: \
             both have to be the same files",
            job.data.url, reply.data_fingerprint
        )));
    }
    Ok(Arc::new(plan))
}

/// The coordinator's checkpoints, if they are to be found from here.
async fn checkpoints(reply: &pb::RegisterReply) -> Result<RunStore, Ended> {
    let refused = |problem: &dyn std::fmt::Display| Ended::Refused(problem.to_string());
    let run = Store::open(&reply.checkpoint_url)
        .and_then(|store| store.run(&reply.run))
        .map_err(|e| refused(&e))?;
    match run.run_record().await {
        Ok(Some(_)) => Ok(run),
        Ok(None) => Err(Ended::Refused(format!(
            "{} is not the coordinator's checkpoint store: it has to be one place that \
             all nodes share (coordinator --checkpoint)",
            run.url()
        ))),
        Err(error) => Err(refused(&error)),
    }
}

fn introduction(config: &Config, listener: &PeerListener, kind: String) -> pb::RegisterRequest {
    let port = listener.local_addr().port();
    let (host, port) = match &config.advertise {
        Some((host, Some(port))) => (host.clone(), *port),
        Some((host, None)) => (host.clone(), port),
        None => (String::new(), port),
    };
    pb::RegisterRequest {
        node: config.node.clone(),
        devices: vec![match config.shadow {
            true => "shadow".to_owned(),
            false => config.devices.to_string(),
        }],
        zone: config.zone.clone().unwrap_or_default(),
        price: config.price.unwrap_or_default(),
        build: config.build.clone().unwrap_or_else(build),
        artifact: config.registry.artifact_name().to_owned(),
        advertise_host: host,
        advertise_port: u32::from(port),
        replicas: config.devices.replicas() as u32,
        process: std::process::id(),
        worker: 0,
        numerics_kind: kind,
        shadow: config.shadow,
        trains_on_ms: config.reconnect_timeout.as_millis() as u64,
    }
}

/// Who may come in, once we know who we are.
#[derive(Clone, Default)]
struct Door(Arc<std::sync::OnceLock<(WorkerId, RunTag)>>);

impl Door {
    fn open(&self, me: WorkerId, run: RunTag) {
        let _ = self.0.set((me, run));
    }

    fn decide(&self, hello: &Hello) -> Verdict {
        match self.0.get() {
            None => Verdict::Refuse(Refusal::Busy),
            Some((_, run)) if *run != hello.run => Verdict::Refuse(Refusal::WrongRun),
            // Nobody else speaks in our name, least of all to us.
            Some((me, _)) if hello.worker == Some(*me) => Verdict::Refuse(Refusal::UnknownWorker),
            Some((me, _)) => Verdict::Welcome { worker: Some(*me) },
        }
    }
}

fn listen(
    config: &Config,
    connector: &Connector,
    inputs: SyncSender<Input>,
) -> Result<(Arc<TcpTransport>, PeerListener, Door), Ended> {
    let sink = Arc::new(move |event| {
        let _ = inputs.send(Input::Peer(event)); // the driver has ended
    });
    let transport = TcpTransport::new(connector.clone(), TransportLimits::default(), sink);
    let door = Door::default();
    let policy = door.clone();
    let listener = transport
        .listen(
            &config.peer_listen,
            Arc::new(move |hello: &Hello| policy.decide(hello)),
        )
        .map_err(|e| Ended::Usage(format!("{e}; give another --peer-listen")))?;
    Ok((Arc::new(transport), listener, door))
}
