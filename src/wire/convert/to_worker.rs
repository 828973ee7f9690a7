//! What the coordinator says.

use bytes::Bytes;
use prost::Message;

use super::super::control as pb;
use super::super::control::coordinator_message::Body as ToBody;
use super::{WireError, generation, need};
use crate::world::message::{ReleaseReason, ToWorker};
use crate::world::{GenerationRecord, WorkerId};

impl From<ToWorker> for pb::CoordinatorMessage {
    fn from(message: ToWorker) -> Self {
        let body = match message {
            ToWorker::Restore {
                generation,
                manifest,
            } => ToBody::Restore(pb::Restore {
                generation: Some(generation.into()),
                manifest,
            }),
            ToWorker::Follow { source, address } => ToBody::Follow(pb::Follow {
                source: source.0,
                address,
            }),
            ToWorker::RestoreFrom { manifest } => ToBody::RestoreFrom(pb::RestoreFrom { manifest }),
            ToWorker::Prepare { generation } => ToBody::Prepare(pb::Prepare {
                generation: Some(generation.into()),
            }),
            ToWorker::Install(record) => ToBody::Install(written(&record)),
            ToWorker::Propose(record) => ToBody::Propose(written(&record)),
            ToWorker::Save => ToBody::Save(pb::Save {}),
            ToWorker::Release(reason) => ToBody::Release(release(reason)),
        };
        pb::CoordinatorMessage { body: Some(body) }
    }
}

fn written(record: &GenerationRecord) -> Bytes {
    pb::GenerationRecord::from(record).encode_to_vec().into()
}

fn read(record: Bytes) -> Result<GenerationRecord, WireError> {
    pb::GenerationRecord::decode(record)?.try_into()
}

/// Writes what goes to many workers once: a record of thousands of members goes
/// to all of them.
#[derive(Default)]
pub struct ToMany {
    last: Option<(GenerationRecord, Bytes)>,
}

impl ToMany {
    /// The message for one of them.
    pub fn message(&mut self, message: ToWorker) -> pb::CoordinatorMessage {
        let body = match message {
            ToWorker::Install(record) => ToBody::Install(self.written(record)),
            ToWorker::Propose(record) => ToBody::Propose(self.written(record)),
            other => return other.into(),
        };
        pb::CoordinatorMessage { body: Some(body) }
    }

    fn written(&mut self, record: GenerationRecord) -> Bytes {
        match &self.last {
            Some((last, bytes)) if *last == record => bytes.clone(),
            _ => {
                let bytes = written(&record);
                self.last = Some((record, bytes.clone()));
                bytes
            }
        }
    }
}

fn release(reason: ReleaseReason) -> pb::Release {
    use pb::release::Reason;
    let (reason, message) = match reason {
        ReleaseReason::Finished => (Reason::Finished, String::new()),
        ReleaseReason::Drained => (Reason::Drained, String::new()),
        ReleaseReason::Failed(why) => (Reason::Failed, why),
        ReleaseReason::Evicted(why) => (Reason::Evicted, why),
        ReleaseReason::Stopped => (Reason::Stopped, String::new()),
    };
    pb::Release {
        reason: reason.into(),
        message,
    }
}

impl TryFrom<pb::CoordinatorMessage> for ToWorker {
    type Error = WireError;

    fn try_from(message: pb::CoordinatorMessage) -> Result<Self, WireError> {
        use pb::release::Reason;
        Ok(match need("body", message.body)? {
            ToBody::Restore(m) => ToWorker::Restore {
                generation: generation(m.generation)?,
                manifest: m.manifest,
            },
            ToBody::Follow(m) => ToWorker::Follow {
                source: WorkerId(m.source),
                address: m.address,
            },
            ToBody::RestoreFrom(m) => ToWorker::RestoreFrom {
                manifest: m.manifest,
            },
            ToBody::Prepare(m) => ToWorker::Prepare {
                generation: generation(m.generation)?,
            },
            ToBody::Install(record) => ToWorker::Install(read(record)?),
            ToBody::Propose(record) => ToWorker::Propose(read(record)?),
            ToBody::Save(_) => ToWorker::Save,
            ToBody::Release(m) => ToWorker::Release(match m.reason() {
                Reason::Finished => ReleaseReason::Finished,
                Reason::Drained => ReleaseReason::Drained,
                Reason::Failed => ReleaseReason::Failed(m.message),
                Reason::Evicted => ReleaseReason::Evicted(m.message),
                Reason::Stopped => ReleaseReason::Stopped,
            }),
        })
    }
}
