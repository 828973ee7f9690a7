//! Checkpoints and resuming, by the command that a person types.
//!
//! | file | what |
//! |---|---|
//! | `command` | the command line, and where its run is |
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

use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::support::{Ended, FaultLog, Folder, Process, fifo, to_its_end};
use command::run;

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

/// Made once for all tests that hold it at a time; gone with the last of them, as
/// a static never is.
fn shared<T>(slot: &Mutex<Weak<T>>, make: impl FnOnce() -> T) -> Arc<T> {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    slot.upgrade().unwrap_or_else(|| {
        let made = Arc::new(make());
        *slot = Arc::downgrade(&made);
        made
    })
}

/// A run that nothing disturbed.
fn undisturbed() -> Arc<Folder> {
    static RUN: Mutex<Weak<Folder>> = Mutex::new(Weak::new());
    shared(&RUN, || {
        let folder = with_job();
        to_its_end(&mut run(&folder, &["--workers", "1"])).expect(0);
        folder
    })
}

/// A run that two workers were killed in: both in step 45, one of them with
/// the shards of the checkpoint of step 40 written and its manifest not. And
/// what it said at its end.
fn stopped() -> Arc<(Folder, Ended)> {
    static RUN: Mutex<Weak<(Folder, Ended)>> = Mutex::new(Weak::new());
    shared(&RUN, || {
        let folder = with_job();
        let mut held = held_in_step_45(&folder);
        held.gate.write_all(b"!!").unwrap();
        (folder, Ended::of(held.running))
    })
}

/// A run that has come to step 45, where both of its workers are held.
struct Held {
    running: Process,
    /// A byte for each worker, and it dies.
    gate: File,
    /// Ends only with the test: until then the one that uploads is held, and
    /// faults find somebody to tell.
    _kept: (File, FaultLog),
}

fn held_in_step_45(folder: &Folder) -> Held {
    let path = |name: &str| folder.path().join(name);
    let log = FaultLog::new(path("log"));
    let (never, gate) = (path("never"), path("gate"));
    let ends = (fifo(&never), fifo(&gate));
    let faults = format!(
        "hold@uploaded,step=40,until={};hold@applied,step=45,until={};kill@applied,step=45",
        never.display(),
        gate.display()
    );
    let running = Process::start(
        "ebbtide run",
        run(folder, &["--workers", "2"])
            .env("EBBTIDE_FAULT", faults)
            .env("EBBTIDE_FAULT_LOG", &log.path),
    );
    let struck = log.first("ebbtide run", 3);
    let told = |what: &str| {
        let it = struck.iter().filter(|l| l.to_lowercase().contains(what));
        it.count()
    };
    assert_eq!((told("uploaded"), told("applied")), (1, 2), "{struck:?}");
    Held {
        running,
        gate: ends.1,
        _kept: (ends.0, log),
    }
}
