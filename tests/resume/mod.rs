//! Checkpoints and resuming, by the command that a person types.
//!
//! | file | what |
//! |---|---|
//! | `command` | starting it, waiting for it, reading what it left |
//! | `again` | the same command once more: resumed, complete, refused, forked |
//! | `damage` | checkpoints that are not what was written |
//! | `ending` | the run's folder, exported weights, early ends |
//! | `custom` | a person's own model and data |
//! | `accuracy` | the quick start as it is, and how well it does |

mod accuracy;
mod again;
mod command;
mod custom;
mod damage;
mod ending;

use std::process::Command;
use std::sync::OnceLock;

use command::{Ended, Fifo, Folder, Running, run};

/// 60 steps of 8 micro-batches; an evaluation and a checkpoint after each 10.
const JOB: &str = r#"
name = "small"
seed = 5
[model]
kind = "mlp"
hidden = [16]
[data]
kind = "mnist"
url = "MNIST"
options = { train_limit = 640, validation_limit = 200 }
[train]
epochs = 6
global_batch = 64
micro_batch = 8
[optimizer]
kind = "adam"
lr = 1e-3
[evaluation]
micro_batch = 50
[checkpoint]
every = "10 steps"
keep_last = 20
[verify]
every = 5
[log]
every = 1
"#;

/// Micro-batches of a step.
const MICRO_BATCHES: u64 = 8;

/// A folder with the job in it.
fn with_job() -> Folder {
    let folder = Folder::new();
    let mnist = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/mnist");
    let job = JOB.replace("MNIST", mnist);
    std::fs::write(folder.path().join("job.toml"), job).unwrap();
    folder
}

fn to_its_end(command: &mut Command) -> Ended {
    Running::start(command).end()
}

/// A run that nothing disturbed.
fn undisturbed() -> &'static Folder {
    static RUN: OnceLock<Folder> = OnceLock::new();
    RUN.get_or_init(|| {
        let folder = with_job();
        to_its_end(&mut run(&folder, &["--workers", "1"])).expect(0);
        folder
    })
}

/// A run that two workers were killed in: both in step 45, one of them with
/// the shards of the checkpoint of step 40 written and its manifest not. And
/// what it said at its end.
fn stopped() -> &'static (Folder, Ended) {
    static RUN: OnceLock<(Folder, Ended)> = OnceLock::new();
    RUN.get_or_init(|| {
        let folder = with_job();
        let ended = held_in_step_45(&folder, |running, gate| {
            gate.release(2);
            running.end()
        });
        (folder, ended)
    })
}

/// Starts a run, lets it come to step 45, and leaves the rest to `then`:
/// whoever is released from the gate dies.
fn held_in_step_45<T>(folder: &Folder, then: impl FnOnce(Running, &mut Fifo) -> T) -> T {
    let fifo = |name: &str| Fifo::new(folder.path().join(name));
    let (log, never, mut gate) = (fifo("log"), fifo("never"), fifo("gate"));
    let faults = format!(
        "hold@uploaded,step=40,until={};hold@applied,step=45,until={};kill@applied,step=45",
        never.path.display(),
        gate.path.display()
    );
    let running = Running::start(
        run(folder, &["--workers", "2"])
            .env("EBBTIDE_FAULT", faults)
            .env("EBBTIDE_FAULT_LOG", &log.path),
    );
    let struck = log.lines(3);
    let told = |what: &str| {
        struck
            .iter()
            .filter(|l| l.to_lowercase().contains(what))
            .count()
    };
    assert_eq!((told("uploaded"), told("applied")), (1, 2), "{struck:?}");
    let then = then(running, &mut gate);
    for fifo in [log, never, gate] {
        std::fs::remove_file(fifo.path).unwrap();
    }
    then
}

/// The folder of the run that the command told of.
fn folder_of(folder: &Folder, run: &str) -> std::path::PathBuf {
    folder.path().join("out").join(run)
}

/// The id of the only run there.
fn only_run(folder: &Folder) -> String {
    let checkpoints = folder.path().join("out/checkpoints");
    let mut runs = std::fs::read_dir(checkpoints).unwrap().map(Result::unwrap);
    let run = runs.next().unwrap().file_name().into_string().unwrap();
    assert!(runs.next().is_none(), "more than one run");
    run
}
