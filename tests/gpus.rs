//! What a worker's GPUs say of themselves, as `ebbtide status` shows it. The worker with GPUs
//! is the test's own: it speaks the protocol, and computes nothing.

use std::process::Command;

use ebbtide::collective::{
    ConnectionKind, Connector, Generation, Hello, RunTag, Token, control_channel,
};
use ebbtide::devices::{GpuReading, Reading};
use ebbtide::wire::control as pb;
use ebbtide::wire::control::control_client::ControlClient;
use ebbtide::wire::control::coordinator_message::Body as Told;
use ebbtide::wire::control::worker_message::Body;
use ebbtide::wire::{build, gpus_message};
use serde_json::json;
use tokio_stream::wrappers::ReceiverStream;

use crate::elastic::JOB;
use crate::support::Fleet;

type Said = tokio::sync::mpsc::Sender<pb::WorkerMessage>;
type Heard = tonic::Streaming<pb::CoordinatorMessage>;

/// A process that has registered and opened its session.
async fn spoken_for(address: &str) -> (Said, Heard) {
    let hello = Hello {
        kind: ConnectionKind::Control,
        worker: None,
        generation: Generation::NONE,
        run: RunTag::default(),
    };
    let connector = Connector::new(Token::none());
    let (channel, _) = control_channel(&connector, address, &hello).await.unwrap();
    let mut client = ControlClient::new(channel);
    let request = pb::RegisterRequest {
        node: "gpu-node".into(),
        devices: vec!["cuda:0,1".into()],
        build: build(),
        artifact: concat!("ebbtide ", env!("CARGO_PKG_VERSION")).into(),
        advertise_port: 9,
        replicas: 2,
        numerics_kind: "cuda:sm90:test".into(),
        ..Default::default()
    };
    let reply = client.register(request).await.unwrap().into_inner();
    let (said, outward) = tokio::sync::mpsc::channel(8);
    let none = Some(pb::Generation::default());
    let hello = Body::Hello(pb::Hello {
        worker: reply.worker,
        holdings: Some(pb::Holdings {
            installed: none,
            fence: none,
            ..Default::default()
        }),
        data_fingerprint: reply.data_fingerprint,
    });
    say(&said, hello).await;
    let heard = client.session(ReceiverStream::new(outward)).await;
    (said, heard.unwrap().into_inner())
}

async fn say(said: &Said, body: Body) {
    let message = pb::WorkerMessage { body: Some(body) };
    said.send(message).await.unwrap();
}

async fn hear(heard: &mut Heard) -> Told {
    heard.message().await.unwrap().unwrap().body.unwrap()
}

/// What is said before it is known by the time that the coordinator answers what is said last.
#[tokio::test]
async fn what_a_workers_gpus_say_is_in_the_status() {
    let fleet = Fleet::start(JOB, &["--world-size", "1"]);
    let (said, mut heard) = spoken_for(fleet.address()).await;
    let Told::Restore(restore) = hear(&mut heard).await else {
        panic!("a new world begins with a state")
    };
    let gpus = [0, 1].map(|index| GpuReading {
        index,
        name: "NVIDIA H200".into(),
        reading: Reading {
            memory_used_bytes: Some(70 << 30),
            memory_total_bytes: Some(140 << 30),
            utilisation_percent: Some(98 + index),
            power_watts: Some(640.5),
            temperature_celsius: None,
        },
    });
    say(&said, Body::Gpus(gpus_message(&gpus))).await;
    let ready = pb::Ready {
        generation: restore.generation,
        round: 0,
        source: None,
    };
    say(&said, Body::Ready(ready)).await;
    let answer = hear(&mut heard).await;
    assert!(matches!(answer, Told::Prepare(_)), "{answer:?}");
    let status = fleet.status(&[]);
    let first = json!({
        "index": 0, "name": "NVIDIA H200", "memory_used_bytes": 70u64 << 30,
        "memory_total_bytes": 140u64 << 30, "utilisation_percent": 98, "power_watts": 640.5,
    });
    let told = &status["workers"][0]["gpus"];
    assert_eq!(told[0], first, "{status}");
    assert_eq!(told[1]["utilisation_percent"], 99, "{status}");
    let text = Command::new(env!("CARGO_BIN_EXE_ebbtide"))
        .args(["status", "--coordinator", fleet.address()])
        .output()
        .unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    let line = "cuda:1 NVIDIA H200: 70.0 of 140.0 GiB used, 99 % busy, 640 W\n";
    assert!(text.contains(line), "{text}");
}

#[test]
fn a_worker_on_the_processor_has_no_gpus_in_its_status() {
    let mut fleet = Fleet::start(JOB, &["--world-size", "1"]);
    fleet.hire("w1", "hold@computed,step=1,until=HOLD");
    fleet.struck("w1", "hold@computed");
    let status = fleet.status(&[]);
    assert_eq!(status["workers"][0]["role"], "member", "{status}");
    assert!(status["workers"][0].get("gpus").is_none(), "{status}");
    fleet.release("w1");
    fleet.finish();
}
