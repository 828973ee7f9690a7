//! Looking into a run afterwards, by the commands that a person types.
//!
//! | chapter | what it shows |
//! |---|---|
//! | `night` | `ebbtide report`: who came and left, why, what it cost |
//! | `pairs` | `ebbtide diff`: identical runs, and where others part |
//! | `again` | `ebbtide replay`: a step computed again, and what was wrong in it |
//!
//! That the sums of all steps are told, whoever died meanwhile, is checked by
//! [`crate::support::Fleet::finish`] in every scenario.

mod again;
mod night;
mod pairs;

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::elastic::JOB;
use crate::support::{Ended, Fleet, Outcome, to_its_end};

/// `ebbtide` with these arguments, to its end.
fn ebbtide(command: &str, runs: &[&Path], flags: &[&str]) -> Ended {
    let mut ebbtide = Command::new(env!("CARGO_BIN_EXE_ebbtide"));
    to_its_end(ebbtide.arg(command).args(runs).args(flags))
}

/// A run of one worker that nothing happens to.
fn undisturbed() -> Outcome {
    let mut fleet = Fleet::start(JOB, &[]);
    fleet.hire("w1", "");
    fleet.finish()
}

/// A run whose only worker was killed in step 50, ten after a checkpoint.
fn without_its_only_worker() -> Fleet {
    let mut fleet = Fleet::start(JOB, &["--world-size", "1"]);
    let kill = "tell@committed,step=40;hold@computed,step=50,until=HOLD";
    fleet.hire("first", kill);
    fleet.struck("first", "tell@committed,step=40");
    fleet.struck("first", "hold@computed,step=50");
    fleet.kill("first");
    fleet.said("all workers are gone");
    fleet
}

#[track_caller]
fn says(ended: &Ended, words: &[&str]) {
    for words in words {
        assert!(
            ended.stdout.contains(words),
            "{words:?} in\n{}",
            ended.all()
        );
    }
}

/// The elements of an array.
fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("{value}"))
}
