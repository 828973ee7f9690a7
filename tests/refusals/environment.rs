//! Flags that are given as variables.

use super::*;

#[test]
fn a_switch_is_turned_on_in_the_environment_by_the_usual_words() {
    let place = Place(Folder::new());
    for word in ["1", "true", "yes", "on", "0"] {
        let mut command = place.coordinator(&[]);
        let command = command.env("EBBTIDE_NEW", word).env("EBBTIDE_JSON", word);
        let refused = command.output().unwrap();
        place.refuses(&refused, &["job.toml: cannot read the job file"]);
    }
}

/// Unit files and compose files can't leave a variable out.
#[test]
fn a_variable_that_was_set_to_nothing_was_not_set() {
    let place = Place::with(&mnist());
    let mut command = Command::new(env!("CARGO_BIN_EXE_ebbtide"));
    command.args(["run", &place.path("job.toml"), "--json"]);
    command.args([
        "--set",
        "train.steps=2",
        "--set",
        "data.options.train_limit=640",
    ]);
    for (name, value) in [
        ("EBBTIDE_OUT", place.path("out").as_str()),
        ("EBBTIDE_DATA", ""),
        ("EBBTIDE_CHECKPOINT", ""),
        ("EBBTIDE_FROM", ""),
        ("EBBTIDE_NEW", ""),
        ("EBBTIDE_MAX_WORLD_SIZE", ""),
        ("EBBTIDE_ZONE", ""),
        ("EBBTIDE_FAULT", ""),
        // Not one address for two workers: neither of them gets to see these.
        ("EBBTIDE_PEER_LISTEN", "no address"),
        ("EBBTIDE_ADVERTISE", "host:no-port"),
    ] {
        command.env(name, value);
    }
    let summary = to_its_end(&mut command).expect(0).summary();
    assert_eq!(
        (&summary["steps"], &summary["workers_seen"]),
        (&2.into(), &2.into())
    );
}

/// `ebbtide run ... | head`: its reader is gone before the first line.
#[test]
fn run_whose_lines_nobody_reads_is_trained_to_its_end() {
    let place = Place::with(&mnist());
    let mut command = Command::new(env!("CARGO_BIN_EXE_ebbtide"));
    command.args(["run", &place.path("job.toml"), "--out", &place.path("out")]);
    command.args(["--set", "train.epochs=1", "--set", "train.global_batch=512"]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    said(&ended, 0);
}
