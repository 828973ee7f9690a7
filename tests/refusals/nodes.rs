//! Coordinators and workers that can't have what they want, or aren't wanted.

use std::net::TcpListener;

use super::*;

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let place = Place::with(&mnist());
    let output = place.coordinator(&["--listen", &address]).output().unwrap();
    place.refuses(&output, &[&address, "in use", "give another --listen"]);

    let text = worker_says("127.0.0.1:1", &["--peer-listen", &address], USAGE);
    assert!(
        text.contains(&address) && text.contains("give another --peer-listen"),
        "{text}"
    );
}

#[test]
fn the_same_command_twice_at_once_is_refused_and_the_first_goes_on() {
    let place = Place::with(&mnist());
    let (mut first, url) = waiting(&place, &[]);
    let set = [
        "--listen",
        "127.0.0.1:0",
        "--set",
        "data.options.train_limit=640",
    ];
    let second = place.coordinator(&set).output().unwrap();
    let text = said(&second, USAGE);
    for word in ["trained by another process", "lock", "--new"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    let _joined = Process::start("worker", &mut worker(&url, &[]));
    assert_eq!(first.end().code(), Some(0));
}

/// As on another node, with a token of its own: no lock tells of the first.
#[test]
fn a_second_coordinator_takes_a_run_over_only_when_the_first_is_gone() {
    let (here, there) = (Place::with(&mnist()), Place::with(&mnist()));
    let store = here.path("store");
    let shared = ["--checkpoint", &store];
    let same = [
        "--listen",
        "127.0.0.1:0",
        "--set",
        "data.options.train_limit=640",
    ];
    let (mut first, url) = waiting(&here, &shared);
    let address = url.trim_start_matches("http://");
    for token in ["", "0123456789abcdef-of-its-own"] {
        let mut second = there.coordinator(&[shared.as_slice(), &same].concat());
        let text = said(&second.env("EBBTIDE_TOKEN", token).output().unwrap(), USAGE);
        for word in [address, "last coordinated", "--new", "incarnations/000001"] {
            assert!(text.contains(word), "{word} in {text}");
        }
    }
    first.kill();
    let (mut second, url) = waiting(&there, &shared);
    let _joined = Process::start("worker", &mut worker(&url, &[]));
    assert_eq!(second.end().code(), Some(0));
}

#[test]
fn peers_are_not_listened_for_beyond_loopback_without_a_token() {
    let text = worker_says("127.0.0.1:1", &["--peer-listen", "0.0.0.0:0"], USAGE);
    assert!(text.contains("EBBTIDE_TOKEN"), "{text}");
}

#[test]
fn a_worker_of_another_build_is_sent_away() {
    let place = Place::with(&mnist());
    let (_coordinator, url) = waiting(&place, &[]);
    let words = [
        "build is \"ebbtide 0.0 of old\"",
        "start the same build on both",
    ];
    sent_away(&url, &["--claim-build", "ebbtide 0.0 of old"], &words);
}

#[test]
fn a_worker_with_other_data_is_sent_away() {
    let place = Place::with(&mnist());
    let (_coordinator, url) = waiting(&place, &[]);
    let mut other = vec![0, 0, 8, 1, 0, 0, 0xea, 0x60];
    other.resize(8 + 60_000, 3);
    let folder = data_with(&place, "train-labels-idx1-ubyte", &other);
    sent_away(
        &url,
        &["--data", &folder],
        &["fingerprint", "the same files"],
    );
    let nowhere = place.path("nowhere");
    sent_away(&url, &["--data", &nowhere], &[&nowhere, "--data"]);
}

#[test]
fn a_worker_that_sees_another_checkpoint_store_is_sent_away() {
    let place = Place::with(&mnist());
    let (_coordinator, url) = waiting(&place, &["--checkpoint", "memory://of-the-coordinator"]);
    let words = ["not the coordinator's checkpoint store", "all nodes share"];
    sent_away(&url, &[], &words);
}

#[test]
fn without_the_token_nobody_gets_in_and_the_join_line_has_it() {
    let place = Place::with(&mnist());
    // A variable that was set to nothing is no token.
    let beyond = [
        "--listen",
        "0.0.0.0:0",
        "--public-host",
        "127.0.0.1",
        "--token",
        "",
    ];
    let flags = [&beyond[..], &["--json", "--set", "train.steps=6"]].concat();
    let (mut coordinator, url) = waiting(&place, &flags);
    let lines = coordinator.stdout.all();
    let line = lines
        .iter()
        .find(|line| line.starts_with("join with"))
        .unwrap();
    let command = line.strip_prefix("join with    ").unwrap();
    let token = command.strip_prefix("EBBTIDE_TOKEN=").unwrap();
    let token = token
        .strip_suffix(&format!(" worker --coordinator {url}"))
        .unwrap();
    assert_eq!(token.len(), 26, "128 bits in {line}");

    sent_away(&url, &[], &["wrong token", "EBBTIDE_TOKEN"]);
    sent_away(
        &url,
        &["--token", "guessed"],
        &["wrong token", "EBBTIDE_TOKEN"],
    );
    let asked = Command::new(env!("CARGO_BIN_EXE_ebbtide"))
        .args(["status", "--coordinator", &url])
        .output()
        .unwrap();
    assert!(said(&asked, REFUSED).contains("wrong token"));

    // The line itself, as a shell reads it.
    let bin = Path::new(env!("CARGO_BIN_EXE_worker")).parent().unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let mut pasted = Command::new("sh");
    let mut pasted = Process::start(
        "worker",
        pasted
            .args(["-c", &format!("{command} --exit-with-parent")])
            .env("PATH", path),
    );
    assert_eq!(pasted.end().code(), Some(0));
    assert_eq!(coordinator.end().code(), Some(0));
}

#[test]
fn a_token_that_a_person_gave_is_not_shown() {
    let place = Place::with(&mnist());
    let (coordinator, url) = waiting(&place, &["--token", "open-sesame"]);
    let said = coordinator.stdout.all().join("\n");
    assert!(!said.contains("open-sesame"), "{said}");
    let join = format!("join with    EBBTIDE_TOKEN=\"$EBBTIDE_TOKEN\" worker --coordinator {url}");
    assert!(said.contains(&join), "{said}");
}

#[test]
fn a_coordinator_that_cannot_be_reached_is_given_up() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let text = worker_says(
        &closed.to_string(),
        &["--reconnect-timeout", "0.1"],
        UNREACHABLE,
    );
    assert!(text.contains(&closed.to_string()), "{text}");
    let asked = Command::new(env!("CARGO_BIN_EXE_ebbtide"))
        .args(["status", "--coordinator", &format!("http://{closed}")])
        .output()
        .unwrap();
    assert!(said(&asked, UNREACHABLE).contains("connection refused"));
}

#[test]
fn a_worker_that_came_first_joins_once_the_coordinator_is_there() {
    let place = Place::with(&mnist());
    let early = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = early.local_addr().unwrap().to_string();
    let mut worker = Process::start("worker", &mut worker(&address, &[]));
    drop(early.accept().unwrap()); // it knocks, and nobody is in
    drop(early);
    let flags = ["--listen", &address, "--set", "train.steps=6"];
    let (mut coordinator, _) = waiting(&place, &flags);
    assert_eq!(coordinator.end().code(), Some(0));
    assert_eq!(worker.end().code(), Some(0));
}

#[test]
fn a_gpu_that_is_not_here_is_refused_with_what_to_do() {
    let absent = ["--devices", "cuda:63"];
    let text = worker_says("127.0.0.1:1", &absent, USAGE);
    for word in ["--devices cuda:63", "no GPU"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    let place = Place::with(&mnist());
    place.refuses(&place.run(&absent), &["--devices cuda:63", "no GPU"]);
    let text = worker_says("127.0.0.1:1", &["--devices", "gpu"], USAGE);
    assert!(text.contains("cuda:0,2"), "{text}");
}

/// A build that knows no GPUs says so where one is asked for, and where none is.
#[cfg(not(feature = "cuda"))]
#[test]
fn a_build_without_gpus_says_how_to_get_one() {
    let how = "--features cuda";
    let text = worker_says("127.0.0.1:1", &["--devices", "cuda"], USAGE);
    assert!(text.contains(how), "{text}");
    let text = worker_says("127.0.0.1:1", &["--reconnect-timeout", "0.1"], UNREACHABLE);
    assert!(
        text.contains("computing on") && text.contains(how),
        "{text}"
    );
}

#[test]
fn devices_are_listed_without_a_coordinator() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker"));
    // As on a node that is set up to train.
    command
        .arg("devices")
        .env("EBBTIDE_COORDINATOR", "stable:7070");
    let ended = to_its_end(&mut command);
    let listed = ended.expect(0).stdout;
    for line in ["CPU: ", "numerics kind cpu:", "--devices auto: "] {
        assert!(listed.contains(line), "{line} in {listed}");
    }
    let text = said(
        &Command::new(env!("CARGO_BIN_EXE_worker")).output().unwrap(),
        USAGE,
    );
    assert!(text.contains("--coordinator"), "{text}");
}
