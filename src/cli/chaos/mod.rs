//! `ebbtide run JOB --chaos "kill 1/5s, join 1/5s"`: real processes under
//! random trouble, from a seed.
//!
//! ```text
//!   expression + seed --> schedule --> trouble, trouble, ...      pure
//!   trouble + crew    --> action, or why it is left out           pure
//!   action            --> signals and processes                   the rim
//!   ledgers           --> watch: does training go on?             pure
//! ```
//!
//! | file | what |
//! |---|---|
//! | `expression` | what is to happen, and how often |
//! | `schedule` | when it happens, from the seed |
//! | `crew` | whom it strikes, and when it has to be left out |
//! | `watch` | progress and standstill |
//! | `conduct` | does it, to the end of the run |
//! | `processes` | the processes themselves |
//! | `tally` | what really happened |
//!
//! The coordinator is a process like the workers here, so that it can be
//! killed too. All of them end with this process.

mod conduct;
mod crew;
pub(super) mod expression;
mod processes;
mod schedule;
mod tally;
mod watch;

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use self::conduct::{Conductor, Ended};
use self::expression::Expression;
use self::processes::{Stage, free_port, tail};
use self::schedule::Schedule;
use super::args::{CoordinatorAddress, RunArgs};
use super::ask;
use super::exit::{Exit, complain};
use super::serve::{self, LAST_WORDS, Stop};
use crate::collective::Token;

/// Lines of each log that the evidence shows.
const TAIL: usize = 5;

/// Runs the job under chaos; the folder of the runs is `out`.
pub(super) fn run(args: &RunArgs, expression: &Expression, out: &Path) -> Exit {
    let runtime = match serve::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return complain(Exit::Failed, error),
    };
    let prepared = seed(args).and_then(|seed| Ok((seed, stage(args, seed, out)?)));
    let (seed, stage) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return complain(Exit::Failed, format!("--chaos: {error}")),
    };
    say!(
        "chaos  {expression}   seed {seed}   logs {}",
        stage.folder.display()
    );
    let schedule = Schedule::new(expression, seed);
    let exit = runtime.block_on(async {
        let mut conductor = match Conductor::new(stage, schedule) {
            Ok(conductor) => conductor,
            Err(error) => return complain(Exit::Failed, format!("--chaos: {error}")),
        };
        let stop = Stop::default();
        let told = stop.clone();
        let signal = async move {
            told.clone().requested().await;
            if told.was_sigterm() {
                Signal::TERM
            } else {
                Signal::INT
            }
        };
        let ended = conductor.conduct(signal).await;
        if matches!(ended, Ended::Standstill) {
            show_evidence(&conductor).await;
        }
        let lasted = conductor.lasted();
        conductor.dismiss().await;
        let longest = conductor.watch.longest();
        say!(
            "{}",
            conductor
                .tally
                .line(seed, lasted, longest, &conductor.summary)
        );
        if let (true, Value::Object(summary)) = (args.common.json, &mut conductor.summary) {
            summary.insert("chaos".into(), conductor.tally.json(seed, lasted, longest));
            say!("{}", conductor.summary);
        }
        conclude(ended, args, seed, &stop)
    });
    runtime.shutdown_timeout(LAST_WORDS);
    exit
}

/// The one given, or one that nobody chose.
fn seed(args: &RunArgs) -> std::io::Result<u64> {
    if let Some(seed) = args.chaos_seed {
        return Ok(seed);
    }
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(u32::from_le_bytes(bytes).into())
}

/// A folder of its own for what the processes write.
fn stage<'a>(args: &'a RunArgs, seed: u64, out: &Path) -> std::io::Result<Stage<'a>> {
    let folder = out.join(format!("chaos-{seed}"));
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => std::fs::create_dir_all(&folder)?,
    }
    Ok(Stage {
        args,
        folder,
        port: free_port()?,
        token: Token::random()?,
    })
}

/// Who is there and what they did last, while they are still there.
async fn show_evidence(conductor: &Conductor<'_>) {
    let stage = conductor.stage();
    match conductor.watch.newest_round() {
        Some(round) => eprintln!("the newest round that anybody finished: {round}"),
        None => eprintln!("nobody has finished a round"),
    }
    eprintln!("the last that happened:");
    conductor
        .story
        .iter()
        .for_each(|line| eprintln!("  {line}"));
    for (number, worker) in conductor.workers() {
        let last = worker.ledger.last.as_deref().unwrap_or("nothing");
        let (process, how) = (worker.process(), worker.condition);
        eprintln!("worker process {number} (pid {process}, {how:?}): applied {last}");
        let lines = tail(&worker.log, TAIL);
        lines.iter().for_each(|line| eprintln!("  {line}"));
    }
    let at = CoordinatorAddress {
        coordinator: stage.url(),
        token: Some(stage.token.expose().to_owned()),
    };
    match ask::status_of(&at).await {
        Ok(status) => eprintln!("the coordinator's status: {status}"),
        Err(error) => eprintln!("the coordinator says nothing: {error}"),
    }
}

fn conclude(ended: Ended, args: &RunArgs, seed: u64, stop: &Stop) -> Exit {
    match ended {
        Ended::Coordinator(Some(code)) => {
            let known = Exit::ALL
                .into_iter()
                .find(|exit| i32::from(exit.number()) == code);
            known.unwrap_or(Exit::Failed)
        }
        Ended::Coordinator(None) => complain(
            Exit::Failed,
            "the coordinator was killed, and not by the chaos",
        ),
        Ended::Standstill => {
            let bound = args.chaos_bound.as_secs_f64();
            let error = format!(
                "no round was finished for {bound} s although a worker could train \
                 (--chaos-bound); --chaos-seed {seed} makes the same trouble again"
            );
            complain(Exit::Standstill, error)
        }
        Ended::Stopped if stop.was_sigterm() => Exit::Drained,
        Ended::Stopped => Exit::Done,
        Ended::Broken(error) => complain(Exit::Failed, format!("--chaos: {error}")),
    }
}
