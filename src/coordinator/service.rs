//! gRPC to the driver's inbox and back: no decision is taken here.

use std::pin::Pin;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::collective::Caller;
use crate::wire::control as pb;
use crate::wire::control::control_server::Control;
use crate::wire::control::worker_message::Body;

/// Calls that may wait for the driver.
const INBOX: usize = 1024;
/// Messages that may wait for one worker; a worker that lets more pile up has
/// lost its session.
const OUTBOX: usize = 256;
/// A session whose first message takes longer is closed.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);

/// Messages to one worker.
pub(super) type Outbox = mpsc::Sender<Result<pb::CoordinatorMessage, Status>>;

/// What reaches the driver.
pub(super) enum Call {
    /// A process introduces itself.
    Register {
        request: pb::RegisterRequest,
        from: Caller,
        reply: oneshot::Sender<Result<pb::RegisterReply, Status>>,
    },
    /// A session begins; the reply says whether it may.
    Open {
        hello: pb::Hello,
        from: Caller,
        outbox: Outbox,
        reply: oneshot::Sender<Result<u64, Status>>,
    },
    /// A worker said something in its session.
    Said { session: u64, body: Body },
    /// A session is over.
    Closed { session: u64 },
    /// A person asks.
    Status {
        reply: oneshot::Sender<pb::StatusReply>,
    },
    /// A person asks a worker, or all of them, to leave.
    Drain {
        worker: u64,
        reply: oneshot::Sender<pb::DrainReply>,
    },
}

/// The gRPC service.
pub(super) struct ControlService {
    driver: mpsc::Sender<Call>,
}

impl ControlService {
    pub(super) fn new() -> (ControlService, mpsc::Receiver<Call>) {
        let (driver, inbox) = mpsc::channel(INBOX);
        (ControlService { driver }, inbox)
    }

    async fn ask<T>(&self, call: impl FnOnce(oneshot::Sender<T>) -> Call) -> Result<T, Status> {
        let (reply, answer) = oneshot::channel();
        let gone = |_| Status::unavailable("the coordinator is stopping");
        self.driver.send(call(reply)).await.map_err(|_| gone(()))?;
        answer.await.map_err(|_| gone(()))
    }
}

/// The connection that a call came on.
fn from<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>();
    caller
        .cloned()
        .ok_or_else(|| Status::unauthenticated("a connection that did not come through the door"))
}

type Messages = Pin<Box<dyn Stream<Item = Result<pb::CoordinatorMessage, Status>> + Send>>;

#[tonic::async_trait]
impl Control for ControlService {
    type SessionStream = Messages;

    async fn register(
        &self,
        request: Request<pb::RegisterRequest>,
    ) -> Result<Response<pb::RegisterReply>, Status> {
        let from = from(&request)?;
        let request = request.into_inner();
        let reply = self
            .ask(|reply| Call::Register {
                request,
                from,
                reply,
            })
            .await??;
        Ok(Response::new(reply))
    }

    async fn session(
        &self,
        request: Request<Streaming<pb::WorkerMessage>>,
    ) -> Result<Response<Messages>, Status> {
        let from = from(&request)?;
        let mut inward = request.into_inner();
        let first = tokio::time::timeout(HELLO_DEADLINE, inward.message()).await;
        let hello = match first {
            Ok(Ok(Some(pb::WorkerMessage {
                body: Some(Body::Hello(hello)),
            }))) => hello,
            Err(_) => return Err(Status::deadline_exceeded("no Hello in time")),
            _ => return Err(Status::invalid_argument("a session begins with Hello")),
        };
        let (outbox, outward) = mpsc::channel(OUTBOX);
        let session = self
            .ask(|reply| Call::Open {
                hello,
                from,
                outbox,
                reply,
            })
            .await??;
        let driver = self.driver.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = inward.next().await {
                let Some(body) = message.body else { break };
                if driver.send(Call::Said { session, body }).await.is_err() {
                    return;
                }
            }
            let _ = driver.send(Call::Closed { session }).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outward))))
    }

    async fn status(
        &self,
        _: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusReply>, Status> {
        Ok(Response::new(
            self.ask(|reply| Call::Status { reply }).await?,
        ))
    }

    async fn drain(
        &self,
        request: Request<pb::DrainRequest>,
    ) -> Result<Response<pb::DrainReply>, Status> {
        let worker = request.into_inner().worker;
        Ok(Response::new(
            self.ask(|reply| Call::Drain { worker, reply }).await?,
        ))
    }
}
