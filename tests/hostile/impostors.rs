//! What a worker dials and takes for its coordinator: it says what it found
//! there, and ends with the exit code that tells whether to try again.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use crate::support::Process;

const UNREACHABLE: i32 = 69;
const REFUSED: i32 = 78;

/// A worker that dials somebody who answers with these bytes, each time: its
/// exit code and what it says.
fn met_by(answer: Vec<u8>) -> (Option<i32>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // Ends with the test binary at the latest: it waits for nothing but more
    // connections.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut hello = [0; 72];
            let _ = stream.read_exact(&mut hello);
            let _ = stream.write_all(&answer);
        }
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker"));
    command.args(["--coordinator", &address, "--exit-with-parent"]);
    command.args(["--reconnect-timeout", "0.1"]);
    let mut worker = Process::start("worker", &mut command);
    let code = worker.end().code();
    let text = worker.stderr.all().join("\n");
    assert!(text.contains(&address), "{text}");
    (code, text)
}

#[test]
fn a_port_of_something_else_is_told_from_a_coordinators() {
    let (code, text) = met_by(vec![b'H'; 100]);
    assert_eq!(code, Some(REFUSED), "{text}");
    assert!(text.contains("not an ebbtide port"), "{text}");
}

#[test]
fn a_coordinator_of_another_protocol_version_is_named_as_that() {
    let mut challenge = [0; 40];
    challenge[..4].copy_from_slice(b"EBBT");
    challenge[4..6].copy_from_slice(&7u16.to_le_bytes());
    challenge[6] = 1;
    let (code, text) = met_by(challenge.to_vec());
    assert_eq!(code, Some(REFUSED), "{text}");
    assert!(text.contains("protocol version 7"), "{text}");
    assert!(text.contains("the same build on both"), "{text}");
}

#[test]
fn a_coordinator_that_cannot_prove_the_token_is_not_believed() {
    // A fair challenge, then a welcome that nobody signed.
    let mut answer = vec![0; 40 + 56];
    answer[..4].copy_from_slice(b"EBBT");
    answer[4..6].copy_from_slice(&1u16.to_le_bytes());
    answer[40..44].copy_from_slice(b"EBBT");
    let (code, text) = met_by(answer);
    assert_eq!(code, Some(REFUSED), "{text}");
    assert!(text.contains("wrong token"), "{text}");
}

#[test]
fn who_only_hangs_up_is_tried_again_until_the_time_is_over() {
    let (code, text) = met_by(Vec::new());
    assert_eq!(code, Some(UNREACHABLE), "{text}");
    assert!(text.contains("could not be reached"), "{text}");
}
