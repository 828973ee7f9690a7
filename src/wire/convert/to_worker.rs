//! What the coordinator says.

use super::super::control as pb;
use super::super::control::coordinator_message::Body as ToBody;
use super::{WireError, generation, need};
use crate::world::WorkerId;
use crate::world::message::{ReleaseReason, ToWorker};

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
            ToWorker::Install(record) => ToBody::Install((&record).into()),
            ToWorker::Propose(record) => ToBody::Propose((&record).into()),
            ToWorker::Save => ToBody::Save(pb::Save {}),
            ToWorker::Release(reason) => ToBody::Release(release(reason)),
        };
        pb::CoordinatorMessage { body: Some(body) }
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
            ToBody::Install(record) => ToWorker::Install(record.try_into()?),
            ToBody::Propose(record) => ToWorker::Propose(record.try_into()?),
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
