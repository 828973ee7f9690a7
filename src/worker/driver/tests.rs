//! The driver between a network that is only imagined, an engine that answers
//! when the test does, and a coordinator whose words are the test's.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::super::engine::Done;
use super::*;
use crate::collective::{
    ConnectionKind, Connector, FrameHead, FrameKind, Path, Payload, PeerIdentity, RunTag,
    TcpTransport, Token, TransportLimits,
};
use crate::observe::LogTail;
use crate::strategy::Partial;
use crate::wire::control as pb;
use crate::world::member::{Next, SumSource};
use crate::world::{GenerationRecord, Member as Node};

const ME: u64 = 2;
/// Of a round's sum.
const SHAPE: Shape = Shape {
    values: 3,
    metrics: 1,
    parameters: 1,
};
const NEXT: Next = Next::Round {
    micro_batches: 1,
    values: SHAPE.values as u64,
};

fn generation(counter: u32) -> Generation {
    Generation {
        incarnation: 1,
        counter,
    }
}

fn world(counter: u32, members: &[u64]) -> GenerationRecord {
    let node = |id: &u64| Node {
        id: WorkerId(*id),
        address: "127.0.0.1:1".into(),
        weight: 1,
    };
    GenerationRecord::installed(generation(counter), members.iter().map(node).collect())
}

/// A driver and the other ends of all that it speaks with.
struct Stage {
    driver: Driver,
    asked: Receiver<Ask>,
    said: tokio::sync::mpsc::Receiver<pb::WorkerMessage>,
}

impl Stage {
    fn new() -> Stage {
        let (me, log) = (WorkerId(ME), LogTail::new());
        let nowhere = Arc::new(|_: PeerEvent| {});
        let connector = Connector::new(Token::none());
        let transport = TcpTransport::new(connector, TransportLimits::default(), nowhere);
        let peers = Peers::new(Arc::new(transport), me, RunTag::default());
        let (asks, asked) = sync_channel(64);
        let session = Session::new(me, String::new(), log);
        let said = session.opened();
        let engine = Engine::stand_in(asks);
        let mut driver = Driver::new(me, SHAPE, engine, session, peers, Faults::default());
        driver.input(Input::Session(Said::Opened));
        Stage {
            driver,
            asked,
            said,
        }
    }

    /// At round 0 in the first generation, with nothing arrived yet.
    fn member_of(members: &[u64]) -> Stage {
        let mut stage = Stage::new();
        stage.told(ToWorker::Restore {
            generation: Generation::NONE,
            manifest: None,
        });
        stage.restores();
        stage.installed(world(1, members));
        stage
    }

    fn told(&mut self, message: ToWorker) {
        self.driver.input(Input::Session(Said::Message(message)));
    }

    fn installed(&mut self, record: GenerationRecord) {
        self.told(ToWorker::Prepare {
            generation: record.generation,
        });
        self.told(ToWorker::Install(record));
    }

    fn answers(&mut self, answer: Answer) {
        self.driver.input(Input::Engine(answer));
    }

    /// The engine does what it was asked last.
    fn asked(&self) -> Ask {
        self.asked.try_recv().expect("the engine was asked")
    }

    fn restores(&mut self) {
        let Ask::Restore { task, .. } = self.asked() else {
            panic!("a restore was due");
        };
        self.answers(Answer::Restored {
            task,
            round: Round(0),
            next: NEXT,
            kind: Kind::Train { step: 0, epoch: 0 },
        });
    }

    fn computes(&mut self) {
        let Ask::Compute { task, .. } = self.asked() else {
            panic!("a share was to be computed");
        };
        let mut partial = Box::new(Partial::default());
        partial.sum = vec![1; SHAPE.values];
        partial.totals = crate::exact::Totals::new(SHAPE.metrics, SHAPE.parameters);
        partial.totals.add_empty(0);
        self.answers(Answer::Computed {
            task,
            partial,
            took: Duration::ZERO,
        });
    }

    /// What it said to the coordinator since it was last asked.
    fn said(&mut self) -> Vec<FromWorker> {
        let said = std::iter::from_fn(|| self.said.try_recv().ok()?.body);
        said.filter_map(|body| FromWorker::try_from(body).ok())
            .collect()
    }

    fn connected(&mut self, link: Link, counter: u32, side: Side) {
        let peer = PeerIdentity {
            worker: Some(link.peer),
            kind: link.kind,
            generation: generation(counter),
            run: RunTag::default(),
            remote_addr: ([127, 0, 0, 1], 1).into(),
            path: Path::Direct,
        };
        self.driver
            .input(Input::Peer(PeerEvent::Connected { link, peer, side }));
    }

    fn frame(&mut self, link: Link, kind: FrameKind, values: u32, payload: Bytes) {
        let head = FrameHead {
            kind,
            sender: link.peer,
            generation: generation(1),
            round: 0,
            offset: 0,
            values,
            bucket: 0,
        };
        let payload = Payload::new(payload).unwrap();
        let frame = Frame { head, payload };
        self.driver
            .input(Input::Peer(PeerEvent::Frame { link, frame }));
    }
}

fn link(peer: u64, kind: ConnectionKind, number: u64) -> Link {
    Link::imagined(WorkerId(peer), kind, number)
}

/// The sum of round 0.
fn sum() -> PackedSum {
    let mut totals = crate::exact::Totals::new(SHAPE.metrics, SHAPE.parameters);
    totals.add_empty(0);
    Rounds::pack_all(0, &[1; SHAPE.values], totals)
}

/// Worker 3 has lost a connection that stands here, and dials anew.
#[test]
fn connection_that_takes_the_place_of_a_standing_one_is_told_as_a_loss() {
    let mut stage = Stage::member_of(&[2, 3]);
    let (old, new) = (
        link(3, ConnectionKind::Exchange, 1),
        link(3, ConnectionKind::Exchange, 2),
    );
    let lost = FromWorker::PeerLost {
        peer: WorkerId(3),
        generation: generation(1),
        garbled: false,
    };
    stage.connected(old, 1, Side::Accepted);
    assert!(!stage.said().contains(&lost));
    stage.connected(new, 2, Side::Accepted);
    assert!(stage.said().contains(&lost));
    stage.driver.input(Input::Peer(PeerEvent::Lost {
        link: old,
        reason: crate::collective::LostReason::ClosedHere,
    }));
    assert_eq!(stage.said(), [], "told once");
}

/// What a follower is sent before it has subscribed, it has to refuse.
#[test]
fn follower_that_follows_again_is_sent_nothing_before_it_subscribes() {
    let mut stage = Stage::member_of(&[2]);
    // Its connection is closed already, which nobody has noticed yet.
    stage.driver.event(Event::Subscribe(WorkerId(3)));
    assert!(stage.driver.member.has_subscribers());
    let new = link(3, ConnectionKind::Stream, 2);
    stage.connected(new, 1, Side::Accepted);
    assert!(!stage.driver.member.has_subscribers());
}

/// All workers are gone but one, whose update is still under way.
#[test]
fn restore_that_overtakes_an_update_leaves_nothing_of_it() {
    let mut stage = Stage::member_of(&[2]);
    stage.computes();
    let Ask::Apply { task, sum, .. } = stage.asked() else {
        panic!("its sum was to be applied");
    };
    stage.told(ToWorker::Restore {
        generation: generation(2),
        manifest: None,
    });
    let kind = Kind::Train { step: 1, epoch: 0 };
    let done = Box::new(Done {
        next: NEXT,
        checkpoint: false,
        trained: true,
        records: Vec::new(),
        digest: None,
        sum: None,
        kind: kind.clone(),
        running: Record::Running {
            step: 1,
            epoch: 1,
            values: Default::default(),
        },
        failed: None,
    });
    stage.answers(Answer::Applied { task, sum, done });
    stage.restores();
    assert!(stage.driver.alone.is_none() && stage.driver.coming.is_none());
    assert_ne!(stage.driver.kind, kind);
}

#[test]
fn sums_of_a_source_that_is_not_followed_any_more_are_forgotten() {
    let mut stage = Stage::new();
    let source = link(1, ConnectionKind::Stream, 1);
    stage.told(ToWorker::Follow {
        source: WorkerId(1),
        address: "127.0.0.1:1".into(),
    });
    stage.connected(source, 1, Side::Dialled);
    let record = pb::GenerationRecord::from(&world(1, &[1])).encode_to_vec();
    stage.frame(source, FrameKind::Subscribed, 0, record.clone().into());
    let sum = sum();
    let values = sum.parts[&0].bytes.clone();
    stage.frame(source, FrameKind::StreamSum, SHAPE.values as u32, values);
    let mut trailer = (record.len() as u32).to_le_bytes().to_vec();
    trailer.extend(record);
    trailer.extend(&*sum.trailer);
    stage.frame(source, FrameKind::StreamTrailer, 0, trailer.into());
    assert_eq!(stage.driver.streamed.len(), 1);
    // Its source leaves the world.
    stage.installed(world(2, &[3]));
    assert!(stage.driver.streamed.is_empty());
}

#[test]
fn fetched_sum_is_held_once() {
    let mut stage = Stage::member_of(&[2]);
    stage.driver.fetched = Some(sum());
    stage.driver.apply(9, Round(0), SumSource::Fetched);
    assert!(stage.driver.fetched.is_none());
    assert!(stage.driver.coming.is_some(), "to be kept once applied");
}
