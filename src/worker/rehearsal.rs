//! The exchange alone: the worker's own driver, machine, rounds and transport,
//! with the compute thread replaced by one that has its gradients ready. What
//! the benchmark of the all-reduce times is therefore what training does.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::driver::{Driver, Input};
use super::engine::{Answer, Ask, Done, Engine};
use super::inject::Faults;
use super::peers::Peers;
use super::session::{Said, Session};
use super::trailer::Shape;
use super::{Ended, FAREWELL};
use crate::collective::{
    Connector, Hello, ListenError, PeerListener, RunTag, TcpTransport, Token, TransportLimits,
    Verdict,
};
use crate::exact::Totals;
use crate::job::Kind;
use crate::numerics::philox::{Key, fill_normal};
use crate::observe::LogTail;
use crate::strategy::Partial;
use crate::wire::Record;
use crate::world::member::Next;
use crate::world::message::{ReleaseReason, ToWorker};
use crate::world::{Generation, GenerationRecord, Member, Round, WorkerId};

/// Inputs that may wait.
const INBOX: usize = 4096;

/// One process of a rehearsal, listening.
pub struct Rehearsal {
    me: WorkerId,
    transport: Arc<TcpTransport>,
    listener: PeerListener,
    inputs: SyncSender<Input>,
    inbox: Receiver<Input>,
}

impl Rehearsal {
    /// Listens on a free loopback port as member `rank`.
    ///
    /// # Errors
    /// No port.
    pub fn listen(rank: usize) -> Result<Rehearsal, ListenError> {
        let me = WorkerId(rank as u64 + 1);
        let (inputs, inbox) = sync_channel(INBOX);
        let events = inputs.clone();
        let sink = Arc::new(move |event| {
            let _ = events.send(Input::Peer(event));
        });
        let connector = Connector::new(Token::none());
        let transport = Arc::new(TcpTransport::new(
            connector,
            TransportLimits::default(),
            sink,
        ));
        let welcome = Arc::new(move |_: &Hello| Verdict::Welcome { worker: Some(me) });
        let listener = transport.listen("127.0.0.1:0", welcome)?;
        Ok(Rehearsal {
            me,
            transport,
            listener,
            inputs,
            inbox,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.listener.local_addr().to_string()
    }

    /// Exchanges a vector of `values` with the members at these addresses, so
    /// many times; how long each took from the accumulated partial sum to the
    /// complete one.
    ///
    /// # Panics
    /// If a complete sum isn't the sum.
    pub fn all_reduce(self, addresses: &[String], values: usize, rounds: u64) -> Vec<Duration> {
        let (asks, questions) = sync_channel(64);
        let stand_in = StandIn {
            rank: self.me.0 as u32 - 1,
            members: addresses.len() as u32,
            values,
            rounds,
            answers: self.inputs.clone(),
            ready: Instant::now(),
            took: Vec::new(),
        };
        let engine = std::thread::spawn(move || stand_in.answer(&questions));
        let record = record(addresses);
        let said = [
            ToWorker::Restore {
                generation: Generation::NONE,
                manifest: None,
            },
            ToWorker::Prepare {
                generation: record.generation,
            },
            ToWorker::Install(record),
        ];
        let inputs = self.inputs.clone();
        std::thread::spawn(move || {
            for message in said {
                let _ = inputs.send(Input::Session(Said::Message(message)));
                // The state has to be there before the next word.
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        let peers = Peers::new(Arc::clone(&self.transport), self.me, RunTag::default());
        let session = Session::new(self.me, String::new(), LogTail::new());
        let engine_end = Engine::stand_in(asks);
        let driver = Driver::new(
            self.me,
            Shape {
                values,
                metrics: 1,
                parameters: 1,
            },
            engine_end,
            session,
            peers,
            Faults::default(),
        );
        let ended = driver.run(&self.inbox);
        assert_eq!(ended, Ended::Released(ReleaseReason::Finished));
        self.transport.shutdown(FAREWELL);
        engine.join().unwrap_or_default()
    }
}

fn record(addresses: &[String]) -> GenerationRecord {
    let member = |(rank, address): (usize, &String)| Member {
        id: WorkerId(rank as u64 + 1),
        address: address.clone(),
        weight: 1,
    };
    let generation = Generation {
        incarnation: 1,
        counter: 1,
    };
    let members = addresses.iter().enumerate().map(member).collect();
    GenerationRecord::installed(generation, members)
}

/// Has its micro-batch's gradient ready, and checks the sums.
struct StandIn {
    rank: u32,
    members: u32,
    values: usize,
    rounds: u64,
    answers: SyncSender<Input>,
    ready: Instant,
    took: Vec<Duration>,
}

impl StandIn {
    fn answer(mut self, questions: &Receiver<Ask>) -> Vec<Duration> {
        while let Ok(ask) = questions.recv() {
            let answer = match ask {
                Ask::Restore { task, .. } => {
                    let (round, next) = (Round(0), self.next());
                    Answer::Restored {
                        task,
                        round,
                        next,
                        kind: self.kind(0),
                    }
                }
                Ask::Compute {
                    task, mut partial, ..
                } => {
                    self.fill(&mut partial);
                    self.ready = Instant::now();
                    Answer::Computed {
                        task,
                        partial,
                        took: Duration::ZERO,
                    }
                }
                Ask::Apply {
                    task, sum, totals, ..
                } => {
                    self.took.push(self.ready.elapsed());
                    let round = self.took.len() as u64;
                    assert_eq!(totals.contributed.len() as u32, self.members);
                    let last = round == self.rounds;
                    let next = if last { Next::End } else { self.next() };
                    let done = Box::new(self.done(next, round));
                    let _ = self
                        .answers
                        .send(Input::Engine(Answer::Applied { task, sum, done }));
                    if last {
                        let finished = ToWorker::Release(ReleaseReason::Finished);
                        let _ = self.answers.send(Input::Session(Said::Message(finished)));
                        return self.took;
                    }
                    continue;
                }
                Ask::Save { .. } | Ask::SaveTogether { .. } => continue,
            };
            let _ = self.answers.send(Input::Engine(answer));
        }
        self.took
    }

    fn next(&self) -> Next {
        Next::Round {
            micro_batches: self.members,
            values: self.values as u64,
        }
    }

    fn kind(&self, step: u64) -> Kind {
        Kind::Train { step, epoch: 0 }
    }

    fn done(&self, next: Next, step: u64) -> Done {
        Done {
            next,
            kind: self.kind(step),
            checkpoint: false,
            trained: true,
            records: Vec::new(),
            digest: None,
            sum: None,
            running: Record::Running {
                step,
                epoch: 1,
                values: Default::default(),
            },
            failed: None,
        }
    }

    /// Gradient-like values: normal, 1e-3 wide, at 36 fraction bits.
    fn fill(&self, partial: &mut Partial) {
        partial.totals = Totals::new(1, 1);
        partial.totals.add_empty(self.rank);
        if partial.sum.len() == self.values {
            return;
        }
        let mut normal = vec![0.0; 1 << 16];
        fill_normal(
            Key::derive(u64::from(self.rank), "rehearsal", &[]),
            0,
            &mut normal,
        );
        let fixed =
            |i: usize| (f64::from(normal[i % normal.len()]) * 1e-3 * (1u64 << 36) as f64) as i64;
        partial.sum = (0..self.values).map(fixed).collect();
    }
}
