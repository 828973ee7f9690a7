//! The control session: found again when it breaks, for as long as the
//! operator allows. What must not get lost waits for the next one.

use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::Ended;
use super::driver::Input;
use crate::collective::{
    CONTROL_MESSAGE_LEN_MAX, ConnectError, ConnectionKind, Connector, Hello, RunTag,
    control_channel,
};
use crate::devices::GpuReading;
use crate::observe::LogTail;
use crate::wire::control as pb;
use crate::wire::control::control_client::ControlClient;
use crate::wire::control::worker_message::Body;
use crate::wire::{Record, gpus_message};
use crate::world::message::{FromWorker, Holdings, ToWorker};
use crate::world::{Generation, WorkerId};

/// Messages that may wait for the network.
const OUTBOX: usize = 1024;
/// Messages that may wait for the next session.
const BACKLOG: usize = 64;
/// First pause between two tries; doubled up to the longest.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long a call may take.
const CALL: Duration = Duration::from_secs(10);
/// How long the opening of a session may take, our Hello included.
const OPENING: Duration = Duration::from_secs(20);
/// A session that lasts so long counts as one.
const STEADY: Duration = Duration::from_secs(1);
/// A wait that is longer is told to people, and again each so often.
const STALL: Duration = Duration::from_secs(10);

type Client = ControlClient<Channel>;
type Outbox = mpsc::Sender<pb::WorkerMessage>;

/// What the session tells the driver.
pub(super) enum Said {
    /// A session is open: say Hello.
    Opened,
    Message(ToWorker),
    /// There will be no further session.
    Ended(Ended),
}

/// How to reach the coordinator, and as whom.
#[derive(Clone)]
pub(super) struct Contact {
    pub connector: Connector,
    /// `HOST:PORT`.
    pub address: String,
    pub request: pb::RegisterRequest,
    pub limit: Duration,
}

/// The answer to the first registration.
pub(super) struct Registered {
    pub reply: pb::RegisterReply,
    client: Client,
}

impl Contact {
    /// Registers, however long the coordinator takes to come up within the
    /// limit.
    pub async fn register(&self, worker: Option<WorkerId>) -> Result<Registered, Ended> {
        let since = Instant::now();
        let (mut pause, mut told) = (PAUSE, STALL);
        loop {
            let error = match self.try_register(worker).await {
                Ok(registered) => return Ok(registered),
                Err(Failed::ForGood(ended)) => return Err(ended),
                Err(Failed::ForNow(error)) => error,
            };
            if since.elapsed() >= self.limit {
                return Err(Ended::Unreachable(format!(
                    "the coordinator at {} could not be reached for {} s: {error}",
                    self.address,
                    self.limit.as_secs(),
                )));
            }
            if since.elapsed() >= told {
                tracing::warn!(
                    coordinator = %self.address, %error, waited_s = since.elapsed().as_secs(),
                    gives_up_after_s = self.limit.as_secs(), "waiting for the coordinator"
                );
                told += STALL;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn try_register(&self, worker: Option<WorkerId>) -> Result<Registered, Failed> {
        let hello = Hello {
            kind: ConnectionKind::Control,
            worker,
            generation: Generation::NONE,
            run: RunTag::default(),
        };
        let dialled = control_channel(&self.connector, &self.address, &hello).await;
        let (channel, _) = dialled.map_err(Failed::of_connect)?;
        let mut client = ControlClient::new(channel)
            .max_decoding_message_size(CONTROL_MESSAGE_LEN_MAX)
            .max_encoding_message_size(CONTROL_MESSAGE_LEN_MAX);
        let request = pb::RegisterRequest {
            worker: worker.map_or(0, |w| w.0),
            ..self.request.clone()
        };
        let reply = tokio::time::timeout(CALL, client.register(request))
            .await
            .map_err(|_| Failed::ForNow("it does not answer".into()))?
            .map_err(Failed::of_status)?;
        Ok(Registered {
            reply: reply.into_inner(),
            client,
        })
    }
}

enum Failed {
    ForNow(String),
    ForGood(Ended),
}

impl Failed {
    fn of_connect(error: ConnectError) -> Failed {
        if error.is_worth_retrying() {
            Failed::ForNow(error.to_string())
        } else {
            Failed::ForGood(Ended::Refused(error.to_string()))
        }
    }

    fn of_status(status: Status) -> Failed {
        match status.code() {
            Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::InvalidArgument
            | Code::Unimplemented => Failed::ForGood(Ended::Refused(status.message().to_owned())),
            Code::Aborted => Failed::ForGood(Ended::CrashLoop(status.message().to_owned())),
            _ => Failed::ForNow(status.message().to_owned()),
        }
    }
}

/// The driver's end of the session.
#[derive(Clone)]
pub(super) struct Session {
    shared: Arc<Mutex<Shared>>,
    worker: WorkerId,
    data_fingerprint: String,
    log_tail: LogTail,
}

#[derive(Default)]
struct Shared {
    /// Of a session in which no Hello has been said.
    opening: Option<Outbox>,
    /// Of a session that we can speak in.
    outbox: Option<Outbox>,
    backlog: VecDeque<FromWorker>,
    /// What our GPUs have said last; said again in each new session.
    gpus: Vec<GpuReading>,
    /// The driver has ended: no other session is to follow.
    over: bool,
}

impl Session {
    pub fn new(worker: WorkerId, data_fingerprint: String, log_tail: LogTail) -> Session {
        Session {
            shared: Arc::default(),
            worker,
            data_fingerprint,
            log_tail,
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the conversation, and says what had to wait. Until then nothing is
    /// said in a new session: the coordinator refuses one that begins otherwise.
    pub fn hello(&self, holdings: &Holdings) {
        let hello = pb::Hello {
            worker: self.worker.0,
            holdings: Some(holdings.into()),
            data_fingerprint: self.data_fingerprint.clone(),
        };
        let (backlog, gpus) = {
            let mut shared = self.shared();
            shared.outbox = shared.opening.take();
            (std::mem::take(&mut shared.backlog), shared.gpus.clone())
        };
        self.push(Body::Hello(hello));
        if !gpus.is_empty() {
            self.push(Body::Gpus(gpus_message(&gpus)));
        }
        backlog.into_iter().for_each(|message| self.tell(message));
    }

    /// Says something; what counts beyond this session waits for the next.
    pub fn tell(&self, message: FromWorker) {
        let lasting = matches!(
            message,
            FromWorker::Committed { .. }
                | FromWorker::SaveFailed { .. }
                | FromWorker::JobFailed { .. }
        );
        if !self.push(message.clone().into()) && lasting {
            let mut shared = self.shared();
            if shared.backlog.len() < BACKLOG {
                shared.backlog.push_back(message);
            }
        }
    }

    /// Whether the coordinator can be told something now.
    pub fn is_open(&self) -> bool {
        self.shared().outbox.is_some()
    }

    /// Tells people's records.
    pub fn records<'a>(&self, records: impl Iterator<Item = &'a Record>) {
        let json: Vec<String> = records
            .filter_map(|record| serde_json::to_string(record).ok())
            .collect();
        if !json.is_empty() {
            self.push(Body::Records(pb::Records { json }));
        }
    }

    /// What our GPUs say now. Where they have never said anything, nothing is told.
    pub fn gpus_say(&self, now: Vec<GpuReading>) {
        let message = gpus_message(&now);
        let before = std::mem::replace(&mut self.shared().gpus, now);
        if !(message.gpus.is_empty() && before.is_empty()) {
            self.push(Body::Gpus(message));
        }
    }

    /// Tells the last error, the log's tail, and the manifest of a checkpoint that
    /// is damaged, if that is it.
    pub fn trouble(&self, error: String, damaged: String) {
        let log_tail = self.log_tail.lines();
        self.push(Body::Trouble(pb::Trouble {
            error,
            log_tail,
            damaged,
        }));
    }

    /// A full outbox means that nobody reads: the session ends, and the Hello of
    /// the next one makes good what is not said here.
    fn push(&self, body: Body) -> bool {
        let message = pb::WorkerMessage { body: Some(body) };
        let mut shared = self.shared();
        let sent = shared
            .outbox
            .as_ref()
            .is_some_and(|outbox| outbox.try_send(message).is_ok());
        if !sent {
            shared.outbox = None;
        }
        sent
    }

    /// A session is there, in which our Hello comes first.
    pub(super) fn opened(&self) -> mpsc::Receiver<pb::WorkerMessage> {
        let (outbox, outward) = mpsc::channel(OUTBOX);
        self.shared().opening = Some(outbox);
        outward
    }

    fn ended(&self) {
        let mut shared = self.shared();
        (shared.opening, shared.outbox) = (None, None);
    }

    /// Ends the conversation for good, once everything has been sent.
    pub fn close(&self) {
        self.ended();
        self.shared().over = true;
    }

    fn is_over(&self) -> bool {
        self.shared().over
    }

    /// Keeps a session open until the driver is gone or nothing more can come.
    pub async fn keep(self, contact: Contact, first: Registered, driver: SyncSender<Input>) {
        let run = first.reply.run.clone();
        let mut client = first.client;
        let (mut pause, mut unsteady) = (Duration::ZERO, None);
        loop {
            let begun = Instant::now();
            let broken = self.converse(&mut client, &driver).await;
            self.ended();
            if self.is_over() {
                return;
            }
            let problem = match broken.map_err(Failed::of_status) {
                Ok(()) => "the coordinator ended the session".to_owned(),
                Err(Failed::ForNow(problem)) => problem,
                Err(Failed::ForGood(ended)) => {
                    let _ = driver.send(Input::Session(Said::Ended(ended)));
                    return;
                }
            };
            // One that held is looked for again at once; one that doesn't last
            // is no better than none.
            if begun.elapsed() >= STEADY {
                (pause, unsteady) = (Duration::ZERO, None);
            } else if unsteady.get_or_insert(begun).elapsed() >= contact.limit {
                let why = format!("no session with {} lasts: {problem}", contact.address);
                let _ = driver.send(Input::Session(Said::Ended(Ended::Unreachable(why))));
                return;
            } else {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).clamp(PAUSE, PAUSE_MAX);
            }
            match contact.register(Some(self.worker)).await {
                Ok(again) if again.reply.run == run => client = again.client,
                Ok(other) => {
                    let why = format!("the coordinator now trains run {}", other.reply.run);
                    let _ = driver.send(Input::Session(Said::Ended(Ended::Refused(why))));
                    return;
                }
                Err(ended) => {
                    let _ = driver.send(Input::Session(Said::Ended(ended)));
                    return;
                }
            }
        }
    }

    /// One session, to its end.
    async fn converse(
        &self,
        client: &mut Client,
        driver: &SyncSender<Input>,
    ) -> Result<(), Status> {
        let outward = self.opened();
        let gone = |_| Status::cancelled("the worker has ended");
        driver.send(Input::Session(Said::Opened)).map_err(gone)?;
        let opening = client.session(ReceiverStream::new(outward));
        let opened = tokio::time::timeout(OPENING, opening).await;
        let mut inward = opened
            .map_err(|_| Status::deadline_exceeded("no session was opened in time"))??
            .into_inner();
        while let Some(message) = inward.message().await? {
            let message = message
                .try_into()
                .map_err(|e| Status::internal(format!("{e}")))?;
            // Without a driver the rest of what it said is still on its way out.
            if let Err(error) = driver.send(Input::Session(Said::Message(message)))
                && !self.is_over()
            {
                return Err(gone(error));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
