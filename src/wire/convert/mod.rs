//! World values to protobuf and back. Outward it always works; inward every
//! field is checked and every count bounded. What both directions are made of is
//! here, the messages themselves in a file for each.

mod from_worker;
mod to_worker;

pub use to_worker::ToMany;

use super::control as pb;
use crate::exact::MAX_MICRO_BATCHES;
use crate::world::message::Holdings;
use crate::world::{FirstShares, Generation, GenerationRecord, Member, Origin, Round, WorkerId};

/// More members than this are not believed.
const MEMBERS_MAX: usize = 1 << 16;

/// A message that makes no sense; the session it came on is closed.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A field that has to be there isn't.
    #[error("a message without `{0}`")]
    Missing(&'static str),
    /// A record can't be read.
    #[error("a damaged record: {0}")]
    Damaged(#[from] prost::DecodeError),
    /// A count or index beyond what can be.
    #[error("`{field}` is {value}, more than {limit}")]
    TooMany {
        /// Which field.
        field: &'static str,
        /// What it said.
        value: u64,
        /// The limit.
        limit: u64,
    },
}

fn bounded(field: &'static str, value: u64, limit: u64) -> Result<(), WireError> {
    if value <= limit {
        Ok(())
    } else {
        Err(WireError::TooMany {
            field,
            value,
            limit,
        })
    }
}

fn need<T>(field: &'static str, value: Option<T>) -> Result<T, WireError> {
    value.ok_or(WireError::Missing(field))
}

impl From<Generation> for pb::Generation {
    fn from(g: Generation) -> Self {
        pb::Generation {
            incarnation: g.incarnation,
            counter: g.counter,
        }
    }
}

impl From<pb::Generation> for Generation {
    fn from(g: pb::Generation) -> Self {
        Generation {
            incarnation: g.incarnation,
            counter: g.counter,
        }
    }
}

fn round(value: u64) -> Result<Round, WireError> {
    bounded("round", value, Round::MAX.0).map(|()| Round(value))
}

fn generation(g: Option<pb::Generation>) -> Result<Generation, WireError> {
    need("generation", g).map(Generation::from)
}

impl From<&Member> for pb::Member {
    fn from(m: &Member) -> Self {
        pb::Member {
            worker: m.id.0,
            address: m.address.clone(),
            weight: m.weight,
        }
    }
}

impl From<pb::Member> for Member {
    fn from(m: pb::Member) -> Self {
        Member {
            id: WorkerId(m.worker),
            address: m.address,
            weight: m.weight,
        }
    }
}

impl From<&GenerationRecord> for pb::GenerationRecord {
    fn from(r: &GenerationRecord) -> Self {
        let share = |(w, ms): (&WorkerId, &Vec<u32>)| pb::Share {
            worker: w.0,
            micro_batches: ms.clone(),
        };
        pb::GenerationRecord {
            generation: Some(r.generation.into()),
            members: r.members.iter().map(Into::into).collect(),
            base: r.base.0,
            has_first: r.first.is_some(),
            first: r.first.iter().flat_map(|f| f.iter()).map(share).collect(),
            source: r.source.as_ref().map(Into::into),
            leavers: r.leavers.iter().map(|w| w.0).collect(),
            paused: r.paused,
            writer: r.writer.map(|w| w.0),
            planned_from: match r.origin {
                Origin::Installed => None,
                Origin::Planned { from } => Some(from.into()),
            },
        }
    }
}

impl TryFrom<pb::GenerationRecord> for GenerationRecord {
    type Error = WireError;

    fn try_from(r: pb::GenerationRecord) -> Result<Self, WireError> {
        bounded("members", r.members.len() as u64, MEMBERS_MAX as u64)?;
        bounded("leavers", r.leavers.len() as u64, MEMBERS_MAX as u64)?;
        let mut first = FirstShares::new();
        for share in r.first {
            micro_batches(&share.micro_batches)?;
            first.insert(WorkerId(share.worker), share.micro_batches);
        }
        Ok(GenerationRecord {
            generation: generation(r.generation)?,
            members: r.members.into_iter().map(Into::into).collect(),
            base: round(r.base)?,
            first: r.has_first.then_some(first.into()),
            source: r.source.map(Into::into),
            leavers: r.leavers.into_iter().map(WorkerId).collect(),
            paused: r.paused,
            writer: r.writer.map(WorkerId),
            origin: match r.planned_from {
                None => Origin::Installed,
                Some(from) => Origin::Planned { from: from.into() },
            },
        })
    }
}

fn micro_batches(indices: &[u32]) -> Result<(), WireError> {
    let limit = u64::from(MAX_MICRO_BATCHES);
    bounded("micro_batches", indices.len() as u64, limit)?;
    indices
        .iter()
        .try_for_each(|m| bounded("micro_batch", u64::from(*m), limit - 1))
}

impl From<&Holdings> for pb::Holdings {
    fn from(h: &Holdings) -> Self {
        pb::Holdings {
            installed: Some(h.installed.into()),
            fence: Some(h.fence.into()),
            round: h.round.map(|r| r.0),
            has_last_sum: h.has_last_sum,
            held: h.held.clone(),
            micro_batches: h.micro_batches,
            leaving: h.leaving.clone(),
        }
    }
}

impl TryFrom<pb::Holdings> for Holdings {
    type Error = WireError;

    fn try_from(h: pb::Holdings) -> Result<Self, WireError> {
        micro_batches(&h.held)?;
        bounded(
            "micro_batches",
            u64::from(h.micro_batches),
            u64::from(MAX_MICRO_BATCHES),
        )?;
        Ok(Holdings {
            installed: generation(h.installed)?,
            fence: generation(h.fence)?,
            round: h.round.map(round).transpose()?,
            has_last_sum: h.has_last_sum,
            held: h.held,
            micro_batches: h.micro_batches,
            leaving: h.leaving,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::control::coordinator_message::Body as ToBody;
    use super::super::control::worker_message::Body as FromBody;
    use super::*;
    use crate::world::message::{FromWorker, ToWorker};

    fn record() -> GenerationRecord {
        let member = |n| Member {
            id: WorkerId(n),
            address: format!("127.0.0.1:{n}"),
            weight: 1,
        };
        GenerationRecord {
            generation: Generation {
                incarnation: 2,
                counter: 7,
            },
            members: vec![member(1), member(4)].into(),
            base: Round(12),
            first: Some(
                FirstShares::from([(WorkerId(1), vec![0, 3]), (WorkerId(4), vec![1, 2])]).into(),
            ),
            source: Some(member(9)),
            leavers: vec![WorkerId(9)],
            paused: false,
            writer: Some(WorkerId(11)),
            origin: Origin::Planned {
                from: Generation {
                    incarnation: 2,
                    counter: 6,
                },
            },
        }
    }

    #[test]
    fn a_record_survives_the_wire() {
        let there = pb::GenerationRecord::from(&record());
        assert_eq!(GenerationRecord::try_from(there).unwrap(), record());
    }

    #[test]
    fn a_record_that_goes_to_many_is_written_once() {
        let mut many = ToMany::default();
        let mut told = |record| match many.message(ToWorker::Install(record)).body {
            Some(ToBody::Install(bytes)) => bytes,
            other => panic!("{other:?}"),
        };
        let (one, two) = (told(record()), told(record()));
        assert_eq!(one.as_ptr(), two.as_ptr());
        let other = GenerationRecord {
            paused: true,
            ..record()
        };
        assert_ne!(told(other), one);
    }

    #[test]
    fn a_damaged_record_is_refused() {
        let body = Some(ToBody::Propose(vec![0xff; 9].into()));
        assert!(matches!(
            ToWorker::try_from(pb::CoordinatorMessage { body }),
            Err(WireError::Damaged(_))
        ));
    }

    #[test]
    fn a_micro_batch_that_cannot_be_is_refused() {
        let mut there = pb::GenerationRecord::from(&record());
        there.first[0].micro_batches.push(MAX_MICRO_BATCHES);
        assert!(matches!(
            GenerationRecord::try_from(there),
            Err(WireError::TooMany {
                field: "micro_batch",
                ..
            })
        ));
    }

    #[test]
    fn a_round_that_no_run_gets_to_is_refused() {
        let ready = FromBody::Ready(pb::Ready {
            generation: Some(record().generation.into()),
            round: u64::MAX,
            source: None,
        });
        assert!(matches!(
            FromWorker::try_from(ready),
            Err(WireError::TooMany { field: "round", .. })
        ));
    }

    #[test]
    fn a_message_without_a_body_is_refused() {
        assert!(ToWorker::try_from(pb::CoordinatorMessage { body: None }).is_err());
    }
}
