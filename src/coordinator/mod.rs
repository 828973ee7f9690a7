//! The rim on the stable node: sockets, disk and clock around
//! [`crate::world::membership::World`].
//!
//! ```text
//!   workers ──gRPC──▶ service ──▶ driver ──▶ World (pure)
//!      ▲                            │  commands, in order
//!      └───────── sessions ◀────────┤
//!                 history.sqlite ◀──┤  durable before anybody hears of it
//!                 events, metrics ◀─┤  (report)
//!                 checkpoint store ◀┘  start points, retention, a copy of the world
//! ```
//!
//! `opening` decides what to do with a run that is there already; `admission`
//! who may register; `config` is what the operator asked for.

mod admission;
mod config;
mod crashes;
mod driver;
mod opening;
mod report;
mod service;
mod shadow;
mod status;
mod takeover;

pub use config::{Config, Fork, SizesError, WorldSize};
pub use opening::OpeningError;
pub use shadow::ShadowMode;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::checkpoint;
use crate::collective::{
    CONTROL_MESSAGE_LEN_MAX, Connector, DoorCounters, DoorLimits, Hello, ListenError, Verdict,
    control_incoming, requires_token,
};
use crate::job::JobError;
use crate::observe::Summary;
use crate::observe::history::HistoryError;
use crate::observe::telemetry::SharedScreen;
use crate::strategy::{InitialError, Plan, TrainState};
use crate::wire::control::control_server::ControlServer;

/// Why the coordinator could not run.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// The job, its data or its model.
    #[error(transparent)]
    Plan(#[from] JobError),
    /// The initial weights.
    #[error(transparent)]
    Initial(#[from] InitialError),
    /// The run can't be opened, or must not be continued like this.
    #[error(transparent)]
    Opening(#[from] OpeningError),
    /// World sizes that can't be.
    #[error(transparent)]
    Sizes(#[from] SizesError),
    /// The address can't be listened on.
    #[error("{0}; give another --listen")]
    Listen(#[from] ListenError),
    /// Beyond loopback everybody could join.
    #[error("a token could not be made: {0}; give one with EBBTIDE_TOKEN")]
    Token(std::io::Error),
    /// The run's files.
    #[error(transparent)]
    Files(#[from] HistoryError),
    /// The run's files.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: std::path::PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// The checkpoint store.
    #[error(transparent)]
    Store(#[from] checkpoint::StoreError),
    /// We were frozen or cut off, and taken for dead.
    #[error(
        "another coordinator, at {address}, has taken this run over ({record}); this one was \
         frozen or cut off from its store and ends without touching anything: workers belong there"
    )]
    Superseded {
        /// Where it listens.
        address: String,
        /// Where the store records it.
        record: String,
    },
    /// Something of ours stopped working.
    #[error("{0}")]
    Internal(String),
}

impl CoordinatorError {
    /// Whether another command line or job file would help, rather than
    /// another try.
    pub fn is_usage(&self) -> bool {
        !matches!(
            self,
            CoordinatorError::Internal(_) | CoordinatorError::Superseded { .. }
        )
    }
}

/// How long the door stays open after the end, for workers to say goodbye.
const FAREWELL: Duration = Duration::from_secs(5);

/// Connections that may wait at the door, and be inside.
const DOOR: DoorLimits = DoorLimits {
    handshakes_max: 64,
    connections_max: 20_000,
};

/// Calls under way at once on one connection: a worker needs two.
const CALLS_MAX: u32 = 16;

/// What the outside learns once the coordinator listens.
#[derive(Clone, Debug)]
pub struct Listening {
    /// Where.
    pub address: std::net::SocketAddr,
    /// The run.
    pub run: String,
    /// What a worker has to bring; empty on loopback without a token.
    pub token: crate::collective::Token,
    /// Members of an earlier start's world, which may train on.
    pub recorded: usize,
}

/// Runs one job to its end, or until `shutdown` resolves to a reason (then
/// everything is saved and everybody let go). `listening` is called once, when workers may
/// come; never for a run that is complete already.
///
/// # Errors
/// [`CoordinatorError`]: nothing has started.
pub async fn run(
    config: Config,
    screen: SharedScreen,
    shutdown: impl Future<Output = String> + Send,
    listening: impl FnOnce(&Listening),
) -> Result<Summary, CoordinatorError> {
    let started = std::time::Instant::now();
    config.check_sizes()?;
    let plan = Arc::new(Plan::new(&config.job, &config.registry)?);
    plan.try_samples()?;
    if let Some((workers, replicas)) = config.crew {
        plan.check_memory(workers, replicas)?;
    }
    if config.job.init.is_some() {
        // Each worker makes the state for itself; a file that doesn't fit has
        // to be known before any of them starts.
        TrainState::initial(&plan)?;
    }
    // The address first: two coordinators on one node must not both open the run.
    let socket = std::net::TcpListener::bind(&config.listen).map_err(|source| ListenError {
        addr: config.listen.clone(),
        source,
    })?;
    let io = |source| CoordinatorError::Io {
        path: config.listen.clone().into(),
        source,
    };
    socket.set_nonblocking(true).map_err(io)?;
    let address = socket.local_addr().map_err(io)?;
    let token = config.token(requires_token(address))?;

    let connector = Connector::new(token.clone());
    let public = config.join_address(address);
    let opened = match opening::open(&config, &plan, &connector, &public).await? {
        opening::Opened::Complete(summary) => return Ok(*summary),
        opening::Opened::Run(opened) => *opened,
    };
    let listener = tokio::net::TcpListener::from_std(socket).map_err(io)?;
    let run = opened.run.run().to_owned();
    // The run's files before the word that workers may come.
    let driver = driver::Driver::new(&config, plan, opened, screen, connector.clone(), started)?;
    listening(&Listening {
        address,
        run,
        token,
        recorded: driver.recorded_members(),
    });

    let (service, inbox) = service::ControlService::new();
    let incoming = control_incoming(
        listener,
        connector,
        DOOR,
        Arc::new(DoorCounters::default()),
        Arc::new(|_: &Hello| Verdict::Welcome { worker: None }),
    );
    let server = ControlServer::new(service)
        .max_decoding_message_size(CONTROL_MESSAGE_LEN_MAX)
        .max_encoding_message_size(CONTROL_MESSAGE_LEN_MAX);
    let (close, closed) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(
        tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(crate::collective::CONTROL_PING_AFTER))
            .http2_keepalive_timeout(Some(crate::collective::CONTROL_PING_TIMEOUT))
            .tcp_nodelay(true)
            .max_concurrent_streams(CALLS_MAX)
            .add_service(server)
            .serve_with_incoming_shutdown(incoming, async {
                let _ = closed.await;
            }),
    );
    let summary = driver.run(inbox, shutdown).await;
    let _ = close.send(());
    let _ = tokio::time::timeout(Duration::from_millis(500), serving).await;
    Ok(summary)
}
