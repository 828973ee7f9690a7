//! What a worker says.

use std::time::Duration;

use super::super::control as pb;
use super::super::control::worker_message::Body as FromBody;
use super::{WireError, generation, need, round};
use crate::world::WorkerId;
use crate::world::message::{FromWorker, WorkerCounters};

impl From<FromWorker> for FromBody {
    /// A Hello needs more than the world knows; the worker's session fills
    /// the rest in.
    fn from(message: FromWorker) -> Self {
        match message {
            FromWorker::Hello(holdings) => FromBody::Hello(pb::Hello {
                holdings: Some((&holdings).into()),
                ..Default::default()
            }),
            FromWorker::Report {
                generation,
                holdings,
            } => FromBody::Report(pb::Report {
                generation: Some(generation.into()),
                holdings: Some((&holdings).into()),
            }),
            FromWorker::Progress {
                generation,
                round,
                counters,
                awaits,
            } => FromBody::Progress(pb::Progress {
                generation: Some(generation.into()),
                round: round.0,
                counters: Some(pb::Counters {
                    micro_batches: counters.micro_batches,
                    sums_fetched: counters.sums_fetched,
                    steps: counters.steps,
                    timed: counters.timed,
                    computing_us: counters.computing.as_micros() as u64,
                    damaged_frames: counters.damaged_frames,
                }),
                awaits: awaits.iter().map(|w| w.0).collect(),
            }),
            FromWorker::Ready {
                generation,
                round,
                source,
            } => FromBody::Ready(pb::Ready {
                generation: Some(generation.into()),
                round: round.0,
                source: source.map(|worker| worker.0),
            }),
            FromWorker::NeedCheckpoint { round } => {
                FromBody::NeedCheckpoint(pb::NeedCheckpoint { round: round.0 })
            }
            FromWorker::Ack { generation } => FromBody::Ack(pb::Ack {
                generation: Some(generation.into()),
            }),
            FromWorker::Drain { reason } => FromBody::Drain(pb::DrainMe { reason }),
            FromWorker::PeerLost {
                peer,
                generation,
                garbled,
            } => FromBody::PeerLost(pb::PeerLost {
                peer: peer.0,
                generation: Some(generation.into()),
                garbled,
            }),
            FromWorker::Committed {
                manifest,
                round,
                last,
            } => FromBody::Committed(pb::Committed {
                manifest,
                round: round.0,
                last,
            }),
            FromWorker::SaveFailed { round, error } => FromBody::SaveFailed(pb::SaveFailed {
                round: round.0,
                error,
            }),
            FromWorker::SourceLost { error } => FromBody::SourceLost(pb::SourceLost { error }),
            FromWorker::JobFailed { error } => FromBody::JobFailed(pb::JobFailed { error }),
            FromWorker::Bye { reason } => FromBody::Bye(pb::Bye { reason }),
        }
    }
}

impl TryFrom<FromBody> for FromWorker {
    type Error = WireError;

    fn try_from(body: FromBody) -> Result<Self, WireError> {
        Ok(match body {
            FromBody::Hello(m) => FromWorker::Hello(need("holdings", m.holdings)?.try_into()?),
            FromBody::Report(m) => FromWorker::Report {
                generation: generation(m.generation)?,
                holdings: need("holdings", m.holdings)?.try_into()?,
            },
            FromBody::Progress(m) => {
                let c = m.counters.unwrap_or_default();
                FromWorker::Progress {
                    generation: generation(m.generation)?,
                    round: round(m.round)?,
                    counters: WorkerCounters {
                        micro_batches: c.micro_batches,
                        sums_fetched: c.sums_fetched,
                        steps: c.steps,
                        timed: c.timed,
                        computing: Duration::from_micros(c.computing_us),
                        damaged_frames: c.damaged_frames,
                    },
                    awaits: m.awaits.into_iter().map(WorkerId).collect(),
                }
            }
            FromBody::Ready(m) => FromWorker::Ready {
                generation: generation(m.generation)?,
                round: round(m.round)?,
                source: m.source.map(WorkerId),
            },
            FromBody::NeedCheckpoint(m) => FromWorker::NeedCheckpoint {
                round: round(m.round)?,
            },
            FromBody::Ack(m) => FromWorker::Ack {
                generation: generation(m.generation)?,
            },
            FromBody::Drain(m) => FromWorker::Drain { reason: m.reason },
            FromBody::PeerLost(m) => FromWorker::PeerLost {
                peer: WorkerId(m.peer),
                generation: generation(m.generation)?,
                garbled: m.garbled,
            },
            FromBody::Committed(m) => FromWorker::Committed {
                manifest: m.manifest,
                round: round(m.round)?,
                last: m.last,
            },
            FromBody::SaveFailed(m) => FromWorker::SaveFailed {
                round: round(m.round)?,
                error: m.error,
            },
            FromBody::SourceLost(m) => FromWorker::SourceLost { error: m.error },
            FromBody::JobFailed(m) => FromWorker::JobFailed { error: m.error },
            FromBody::Bye(m) => FromWorker::Bye { reason: m.reason },
            FromBody::Records(_) | FromBody::Trouble(_) | FromBody::Gpus(_) => {
                return Err(WireError::Missing("a protocol message"));
            }
        })
    }
}
