//! Who knocks at the coordinator's door and at a worker's while a step is
//! under way.

use std::io::{Read, Write};
use std::net::TcpStream;

use ebbtide::collective::handshake::Dialler;
use ebbtide::collective::{
    ConnectError, ConnectionKind, Connector, Frame, FrameHead, FrameKind, Generation, Hello,
    PAYLOAD_LEN_MAX, Payload, PayloadChecksum, RunTag, Token, WorkerId, control_channel,
};
use ebbtide::wire::control as pb;
use ebbtide::wire::control::control_client::ControlClient;
use serde_json::Value;
use tonic::Code;

use crate::elastic::JOB;
use crate::support::{Fleet, HANG, Outcome};

const TOKEN: &str = "open-sesame";
const WITH_TOKEN: [&str; 2] = ["--token", TOKEN];

/// A run of two workers, the first of them held in step 10: the second waits
/// for its sums.
struct Held {
    fleet: Fleet,
    status: Value,
}

impl Held {
    fn start() -> Held {
        let mut fleet = Fleet::start(JOB, &["--world-size", "2", "--token", TOKEN]);
        let hold = "hold@computed,step=10,until=HOLD";
        fleet.hire_with("w1", hold, &WITH_TOKEN);
        fleet.hire_with("w2", "", &WITH_TOKEN);
        fleet.struck("w1", "hold@computed");
        let status = fleet.status(&WITH_TOKEN);
        Held { fleet, status }
    }

    fn coordinator(&self) -> String {
        self.fleet.address().to_owned()
    }

    /// Where peers reach this worker.
    fn peer(&self, name: &str) -> String {
        let workers = self.status["workers"].as_array().unwrap();
        let worker = workers.iter().find(|w| w["name"] == name).unwrap();
        worker["address"].as_str().unwrap().to_owned()
    }

    /// What a connection of this run begins with.
    fn hello(&self, kind: ConnectionKind, number: u32) -> Hello {
        let mut tag = [0; 16];
        let run = self.status["run"].as_str().unwrap();
        tag.iter_mut().zip(run.bytes()).for_each(|(t, b)| *t = b);
        Hello {
            kind,
            worker: Some(WorkerId::new(1, number)),
            generation: Generation::NONE,
            run: RunTag(tag),
        }
    }

    /// The run goes on, and nobody in it has noticed a thing.
    fn unharmed(mut self) -> Outcome {
        self.fleet.release("w1");
        let outcome = self.fleet.finish();
        assert_eq!(outcome.number("generations"), 1);
        assert_eq!(outcome.number("recomputed_micro_batches"), 0);
        assert_eq!(outcome.exits["w1"], Some(0));
        assert_eq!(outcome.exits["w2"], Some(0));
        outcome
    }
}

fn connector(token: &str) -> Connector {
    Connector::new(token.parse::<Token>().unwrap())
}

/// Sends bytes, then reads to the end: how many came back.
fn knock(address: &str, bytes: &[u8]) -> usize {
    let stream = TcpStream::connect(address).unwrap();
    send(stream, bytes)
}

/// The same on a connection that was let in.
fn send(mut stream: TcpStream, bytes: &[u8]) -> usize {
    stream.set_read_timeout(Some(HANG)).unwrap();
    // The door may slam while we are still talking.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("not shut out"),
        Err(_) | Ok(_) => answer.len(),
    }
}

#[test]
fn strangers_at_both_kinds_of_door_do_a_held_run_no_harm() {
    let held = Held::start();
    let doors = [
        (held.coordinator(), ConnectionKind::Control),
        (held.peer("w1"), ConnectionKind::Exchange),
        (held.peer("w2"), ConnectionKind::Stream),
    ];
    for (address, kind) in &doors {
        let hello = held.hello(*kind, 9);
        let ours = *Dialler::new(&hello, [3; 32]).hello();
        let mut other_version = ours;
        other_version[4] = 99;

        assert_eq!(knock(address, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"), 0);
        assert_eq!(knock(address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 0);
        assert_eq!(knock(address, &vec![0xee; 1 << 20]), 0);
        assert_eq!(knock(address, b""), 0);
        assert_eq!(knock(address, &ours[..20]), 0);
        assert_eq!(knock(address, &other_version), 40, "only our version");
        // A megabyte where 32 bytes of proof are due.
        let noisy = [&ours[..], &vec![0x55; 1 << 20]].concat();
        assert!(knock(address, &noisy) <= 40 + 56);

        for token in ["", "guessed"] {
            let error = connector(token).dial(address, &hello).unwrap_err();
            let words = error.to_string();
            assert!(matches!(error, ConnectError::WrongToken { .. }), "{words}");
            assert!(words.contains(address) && words.contains("EBBTIDE_TOKEN"));
        }
    }
    let outcome = held.unharmed();
    assert_eq!(outcome.number("workers_seen"), 2);
    assert_eq!(outcome.count("connection_refused"), 0, "none got that far");
}

#[test]
fn a_worker_of_another_build_is_sent_away_from_a_running_world() {
    let held = Held::start();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_worker"));
    command.args(["--coordinator", held.fleet.address(), "--exit-with-parent"]);
    command.args(WITH_TOKEN).args(["--claim-build", "older"]);
    let mut worker = crate::support::Process::start("stranger", &mut command);
    assert_eq!(worker.end().code(), Some(78));
    assert!(worker.stderr.contain("start the same build on both"));
    let outcome = held.unharmed();
    let refused: Vec<&Value> = outcome.events("connection_refused").collect();
    assert_eq!(refused.len(), 1);
    let problem = refused[0]["problem"].as_str().unwrap();
    assert!(problem.contains("\"older\""), "{problem}");
}

#[test]
fn who_has_the_token_but_the_wrong_door_is_told_so() {
    let held = Held::start();
    let friend = connector(TOKEN);
    let dial = |address: &str, hello: Hello| friend.dial(address, &hello).unwrap_err();

    let exchange = held.hello(ConnectionKind::Exchange, 9);
    let error = dial(&held.coordinator(), exchange);
    assert!(matches!(error, ConnectError::WrongKind { .. }), "{error}");
    let error = dial(&held.peer("w1"), held.hello(ConnectionKind::Control, 9));
    assert!(matches!(error, ConnectError::WrongKind { .. }), "{error}");

    let other_run = Hello {
        run: RunTag(*b"another run, 16b"),
        ..exchange
    };
    let error = dial(&held.peer("w1"), other_run);
    assert!(matches!(error, ConnectError::WrongRun { .. }), "{error}");
    // In the name of the very worker that is dialled.
    let itself = held.hello(ConnectionKind::Exchange, 1);
    let error = dial(&held.peer("w1"), itself);
    assert!(
        matches!(error, ConnectError::UnknownWorker { .. }),
        "{error}"
    );
    held.unharmed();
}

/// The header of a frame whose payload would have this many bytes.
fn header(len: u32) -> Vec<u8> {
    let frame = Frame {
        head: FrameHead {
            kind: FrameKind::Contribute,
            sender: WorkerId::new(1, 9),
            generation: Generation::NONE,
            round: 10,
            offset: 0,
            values: 1,
            bucket: 0,
        },
        payload: Payload::default(),
    };
    let mut bytes = frame.encode_header(PayloadChecksum::Omitted);
    bytes[48..52].copy_from_slice(&len.to_le_bytes());
    let checksum = crc32c::crc32c(&bytes[..60]);
    bytes[60..].copy_from_slice(&checksum.to_le_bytes());
    bytes.to_vec()
}

#[test]
fn who_breaks_the_protocol_behind_a_workers_door_is_cut_off() {
    let held = Held::start();
    let address = held.peer("w1");
    let dial = |number| {
        let hello = held.hello(ConnectionKind::Exchange, number);
        connector(TOKEN).dial(&address, &hello).unwrap().stream
    };
    // Nothing is allocated for what is announced, nor waited for.
    let oversized = header(PAYLOAD_LEN_MAX as u32 + 1);
    assert_eq!(send(dial(9), &oversized), 0);
    assert_eq!(send(dial(9), &header(u32::MAX)), 0);
    assert_eq!(
        send(dial(9), b"frames? never heard of them, sorry. ").min(1),
        0
    );
    assert_eq!(send(dial(9), &vec![0xee; 1 << 20]), 0);
    // A second connection in the name of a member whose own one stands.
    assert_eq!(send(dial(2), &[]), 0);
    held.unharmed();
}

#[tokio::test]
async fn who_says_too_much_to_the_coordinator_is_refused_and_nobody_else() {
    let held = Held::start();
    let hello = held.hello(ConnectionKind::Control, 9);
    let hello = Hello {
        worker: None,
        ..hello
    };
    let door = held.coordinator();
    let (channel, _) = control_channel(&connector(TOKEN), &door, &hello)
        .await
        .unwrap();
    let mut client = ControlClient::new(channel);
    let oversized = pb::RegisterRequest {
        node: "n".repeat(5 << 20),
        ..Default::default()
    };
    let refused = client.register(oversized).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    let nameless = client.register(pb::RegisterRequest::default()).await;
    assert_eq!(nameless.unwrap_err().code(), Code::FailedPrecondition);
    // A session has to begin with a Hello, of somebody who has registered.
    let silent = tokio_stream::iter([pb::WorkerMessage::default()]);
    let refused = client.session(silent).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let unknown = pb::Hello {
        worker: WorkerId::new(1, 9).0,
        ..Default::default()
    };
    let unknown = pb::WorkerMessage {
        body: Some(pb::worker_message::Body::Hello(unknown)),
    };
    assert!(client.session(tokio_stream::iter([unknown])).await.is_err());
    drop(client);
    // Not even HTTP/2 behind the handshake.
    let stream = connector(TOKEN).dial(&door, &hello).unwrap().stream;
    send(stream, &vec![0xee; 1 << 20]);
    let outcome = held.unharmed();
    assert_eq!(outcome.number("workers_seen"), 2);
}

/// More than may stand at a door at a time.
const SILENT: usize = 80;

#[test]
fn who_says_nothing_keeps_nobody_out_and_holds_nothing_up() {
    let mut held = Held::start();
    let mut silent: Vec<TcpStream> = Vec::new();
    for address in [held.coordinator(), held.peer("w1"), held.peer("w2")] {
        silent.extend((0..SILENT).map(|_| TcpStream::connect(&address).unwrap()));
    }
    // Through the crowds at all three doors.
    held.fleet.hire_with("w3", "tell@proposed", &WITH_TOKEN);
    held.fleet.struck("w3", "tell@proposed");
    held.fleet.release("w1");
    let outcome = held.fleet.finish();
    assert_eq!(outcome.count("worker_joined"), 3);
    assert_eq!(outcome.number("recomputed_micro_batches"), 0);
    drop(silent);
}
