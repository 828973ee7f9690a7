//! `report`, `diff`, `replay`: what runs have left behind.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::args::{DiffArgs, ReplayArgs, ReportArgs};
use super::exit::{Exit, complain};
use super::serve::runtime;
use crate::exact::SumDigest;
use crate::inspect::{
    self, Difference, InspectError, Kinds, Question, ReplayError, Report, RunFolder, Watch, compare,
};
use crate::job::Job;
use crate::model::Registry;
use crate::wire::StepRow;

/// Where runs are, if not said otherwise.
fn runs(out: Option<&PathBuf>) -> &Path {
    out.map_or(Path::new("runs"), PathBuf::as_path)
}

/// A run's folder with what `report` and `diff` read of it.
struct Read {
    folder: PathBuf,
    config: String,
    report: Report,
    steps: Vec<Option<StepRow>>,
}

fn read(run: &str, out: Option<&PathBuf>) -> Result<Read, InspectError> {
    let folder = RunFolder::find(run, runs(out))?;
    let (config, steps) = (folder.config()?, folder.steps()?);
    let job = Job::from_resolved(&config).ok();
    let micro_batches = job.map(|job| u64::from(job.train.micro_batches()));
    let (events, metrics) = (folder.events()?, folder.metrics()?);
    Ok(Read {
        folder: folder.path().to_owned(),
        report: inspect::report(&events, &metrics, &steps, micro_batches),
        config,
        steps,
    })
}

/// One JSON object, or lines.
pub(super) fn print(json: bool, object: &impl Serialize, lines: &[String]) -> Result<(), Exit> {
    let text = match json {
        false => lines.join("\n"),
        true => serde_json::to_string(object).map_err(|error| complain(Exit::Failed, error))?,
    };
    say!("{text}");
    Ok(())
}

/// `ebbtide report`.
pub(super) fn report(args: &ReportArgs) -> Exit {
    let report = match read(&args.run, args.out.as_ref()) {
        Ok(read) => read.report,
        Err(error) => return complain(Exit::Usage, error),
    };
    match print(args.json, &report, &report.lines()) {
        Ok(()) => Exit::Done,
        Err(exit) => exit,
    }
}

/// `ebbtide diff`: 0 when the runs are identical, 1 when they differ.
pub(super) fn diff(args: &DiffArgs) -> Exit {
    let both = [&args.a, &args.b].map(|run| read(run, args.out.as_ref()));
    let [a, b] = match both {
        [Ok(a), Ok(b)] => [a, b],
        [Err(error), _] | [_, Err(error)] => return complain(Exit::Usage, error),
    };
    let difference = compare(
        (&a.report, &b.report),
        (&a.config, &b.config),
        (&a.steps, &b.steps),
    );
    let difference = Difference {
        folders: Some([a.folder, b.folder].map(|path| path.display().to_string())),
        ..difference
    };
    if let Err(exit) = print(args.json, &difference, &difference.lines()) {
        return exit;
    }
    match difference.is_identical() {
        Some(true) => Exit::Done,
        Some(false) => Exit::Failed,
        None => complain(Exit::Usage, "neither sums nor final weights to compare"),
    }
}

/// Tells on standard error how it goes.
struct Told;

impl Watch for Told {
    fn begins(&mut self, from: u64, step: u64) {
        if step > from {
            eprintln!("computing steps {from} to {step} again ...");
        }
    }

    fn differs(&mut self, step: u64, here: SumDigest, logged: SumDigest, kinds: &Kinds) {
        eprintln!(
            "step {step} is the first whose sum is not the logged one: {here}, logged {logged}"
        );
        let run = kinds.run.join(", ");
        if kinds.run == [kinds.here.as_str()] {
            eprintln!(
                "  this machine is of the run's kind, {run}: the data, the build or the hardware differ"
            );
        } else {
            eprintln!(
                "  this machine's numerics kind is {}, the run's {run}: small differences are to be expected",
                kinds.here
            );
        }
    }
}

/// `ebbtide replay`.
pub(super) fn replay(args: ReplayArgs, registry: &Registry) -> Exit {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return complain(Exit::Failed, error),
    };
    let question = Question {
        step: args.step,
        micro_batch: args.micro_batch,
        trace_ops: args.trace_ops,
        data: args.data,
    };
    let replayed = runtime.block_on(async {
        let folder = RunFolder::find(&args.run, runs(args.out.as_ref()))?;
        inspect::replay(&folder, registry, &question, &mut Told).await
    });
    let replay = match replayed {
        Ok(replay) => replay,
        Err(error @ ReplayError::Strategy(_)) => return complain(Exit::Failed, error),
        Err(error) => return complain(Exit::Usage, error),
    };
    match print(args.json, &replay, &replay.lines()) {
        Ok(()) => Exit::Done,
        Err(exit) => exit,
    }
}
