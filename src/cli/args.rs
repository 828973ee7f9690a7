//! Every flag. Each can also be given as `EBBTIDE_...` in the environment.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand};

use super::chaos::expression::Expression;
use crate::coordinator::{Fork, ShadowMode, WorldSize};
use crate::devices::Asked;
use crate::observe::labels::Labelled;
use crate::world::WorkerId;

/// Train one model on whatever machines are there right now, to the same bits.
#[derive(Debug, Parser)]
#[command(name = "ebbtide", version, about)]
pub(super) struct Ebbtide {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Train on this machine: a coordinator and its workers.
    Run(RunArgs),
    /// The stable node: keeps the world together.
    Coordinator(CoordinatorArgs),
    /// A training node: computes, exchanges, applies.
    Worker(Worker),
    /// Who trains what right now.
    Status(StatusArgs),
    /// Ask a worker, or all of them, to leave at a round boundary.
    Drain(DrainArgs),
    /// Write a run's weights as plain safetensors.
    Export(ExportArgs),
    /// A run in a page: who came and left, why, and what it cost.
    Report(ReportArgs),
    /// Two runs side by side: jobs, the first step that differs, results.
    Diff(DiffArgs),
    /// Compute one step of a run again, here, and look at it.
    Replay(ReplayArgs),
    /// What a job takes of memory, and the largest micro-batch for each device.
    Estimate(EstimateArgs),
}

/// The stable node of an ebbtide run.
#[derive(Debug, Parser)]
#[command(name = "coordinator", version, about)]
pub(super) struct Coordinator {
    #[command(flatten)]
    pub args: CoordinatorArgs,
}

/// A training node of an ebbtide run.
#[derive(Debug, Parser)]
#[command(name = "worker", version, about)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Worker {
    #[command(subcommand)]
    pub instead: Option<Instead>,
    #[command(flatten)]
    pub args: Option<WorkerArgs>,
}

/// What a worker does instead of training.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum Instead {
    /// List the devices of this node, and which of them `--devices auto` takes.
    Devices,
}

/// What `run` and `coordinator` have in common.
#[derive(Clone, Debug, Args)]
pub(super) struct JobArgs {
    /// Folder of the runs; each gets one of its own in it. Default: runs/NAME.
    #[arg(long, value_name = "DIR", env = "EBBTIDE_OUT")]
    pub out: Option<PathBuf>,
    /// Where checkpoints go: a folder or URL that all nodes share.
    /// Default: `checkpoints` in the folder of the runs.
    #[arg(long, value_name = "URL", env = "EBBTIDE_CHECKPOINT")]
    pub checkpoint: Option<String>,
    /// Overrides a key of the job, as in --set optimizer.lr=3e-4.
    #[arg(
        long = "set",
        value_name = "KEY=VALUE",
        env = "EBBTIDE_SET",
        value_delimiter = ';'
    )]
    pub set: Vec<String>,
    /// Train another repeat although there is a run of this job.
    #[arg(long, env = "EBBTIDE_NEW", value_parser = BoolishValueParser::new())]
    pub new: bool,
    /// Continue another run from one of its checkpoints.
    #[arg(long, value_name = "RUN@STEP", env = "EBBTIDE_FROM")]
    pub from: Option<Fork>,
    /// Members without which training pauses.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        env = "EBBTIDE_MIN_WORLD_SIZE"
    )]
    pub min_world_size: usize,
    /// Members beyond which workers stay idle.
    #[arg(long, value_name = "N", env = "EBBTIDE_MAX_WORLD_SIZE")]
    pub max_world_size: Option<usize>,
    /// Workers beyond that follow, to take a lost member's share in the same step.
    #[arg(long, value_name = "N", default_value_t = 0, env = "EBBTIDE_SPARES")]
    pub spares: usize,
    /// Seconds that a worker may be silent where it has to answer.
    #[arg(long, value_name = "S", default_value = "30", value_parser = patience, env = "EBBTIDE_PATIENCE")]
    pub patience: Duration,
    /// Print the result as one JSON object on the last line.
    #[arg(long, env = "EBBTIDE_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub(super) struct RunArgs {
    /// The job file.
    #[arg(value_name = "JOB", env = "EBBTIDE_JOB")]
    pub job: PathBuf,
    /// Worker processes.
    #[arg(long, value_name = "N", default_value_t = 2, env = "EBBTIDE_WORKERS")]
    pub workers: usize,
    /// Replicas of each worker.
    #[arg(
        long,
        value_name = "auto|cpu|cpu:N|cuda|cuda:0,2",
        default_value = "auto",
        env = "EBBTIDE_DEVICES"
    )]
    pub devices: Asked,
    /// Trouble to make meanwhile: kill, freeze, join, drain, coordinator, each
    /// with a rate, as in "kill 1/5s, freeze 1/20s, join 1/5s".
    #[arg(long, value_name = "RATES", env = "EBBTIDE_CHAOS")]
    pub chaos: Option<Expression>,
    /// What says when which trouble comes. Default: drawn, and shown.
    #[arg(long, value_name = "N", requires = "chaos", env = "EBBTIDE_CHAOS_SEED")]
    pub chaos_seed: Option<u64>,
    /// Seconds without progress, while somebody could train, after which the
    /// chaos has found something.
    #[arg(long, value_name = "S", default_value = "120", value_parser = seconds, env = "EBBTIDE_CHAOS_BOUND")]
    pub chaos_bound: Duration,
    #[command(flatten)]
    pub common: JobArgs,
}

#[derive(Clone, Debug, Args)]
pub(super) struct CoordinatorArgs {
    /// The job file.
    #[arg(long, value_name = "JOB", env = "EBBTIDE_JOB")]
    pub job: PathBuf,
    /// Members that the first step waits for; auto: starts with the first and
    /// grows.
    #[arg(
        long,
        value_name = "auto|N",
        default_value = "auto",
        env = "EBBTIDE_WORLD_SIZE"
    )]
    pub world_size: WorldSize,
    /// A process on this node that follows: it writes the checkpoints, and holds the state when
    /// all workers are gone at once. auto: as long as it keeps up.
    #[arg(
        long,
        value_name = "auto|on|off",
        default_value = "off",
        env = "EBBTIDE_SHADOW"
    )]
    pub shadow: ShadowMode,
    /// Where to listen. Beyond loopback a token is needed; one is made and
    /// shown if none is given.
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:7070",
        env = "EBBTIDE_LISTEN"
    )]
    pub listen: String,
    /// The host that nodes are told to join at, if not this one's name.
    #[arg(long, value_name = "HOST", env = "EBBTIDE_PUBLIC_HOST")]
    pub public_host: Option<String>,
    /// The join token.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "EBBTIDE_TOKEN",
        hide_env_values = true
    )]
    pub token: Option<String>,
    /// End when standard input does: for one that another process starts.
    #[arg(long, hide = true, env = "EBBTIDE_EXIT_WITH_PARENT", value_parser = BoolishValueParser::new())]
    pub exit_with_parent: bool,
    #[command(flatten)]
    pub common: JobArgs,
}

#[derive(Clone, Debug, Args)]
pub(super) struct WorkerArgs {
    /// Where the coordinator is.
    #[arg(long, value_name = "URL", env = "EBBTIDE_COORDINATOR")]
    pub coordinator: String,
    /// The join token.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "EBBTIDE_TOKEN",
        hide_env_values = true
    )]
    pub token: Option<String>,
    /// Which devices to use, one replica each.
    #[arg(
        long,
        value_name = "auto|cpu|cpu:N|cuda|cuda:0,2",
        default_value = "auto",
        env = "EBBTIDE_DEVICES"
    )]
    pub devices: Asked,
    /// Where to listen for other workers. Default: a free port, on loopback if
    /// the coordinator is there.
    #[arg(long, value_name = "ADDR:PORT", env = "EBBTIDE_PEER_LISTEN")]
    pub peer_listen: Option<String>,
    /// How other workers reach this one. Default: the address that the
    /// coordinator sees.
    #[arg(long, value_name = "HOST[:PORT]", env = "EBBTIDE_ADVERTISE")]
    pub advertise: Option<String>,
    /// Seconds without the coordinator before giving up.
    #[arg(long, value_name = "S", default_value = "300", value_parser = seconds, env = "EBBTIDE_RECONNECT_TIMEOUT")]
    pub reconnect_timeout: Duration,
    /// Where the job's data is on this node, if elsewhere.
    #[arg(long, value_name = "URL", env = "EBBTIDE_DATA")]
    pub data: Option<String>,
    /// This node's name, for people. Default: the host's name.
    #[arg(long, value_name = "NAME", env = "EBBTIDE_NODE")]
    pub node: Option<String>,
    /// This node's zone, for people.
    #[arg(long, value_name = "ZONE", env = "EBBTIDE_ZONE")]
    pub zone: Option<String>,
    /// What this node costs an hour, in dollars.
    #[arg(long, value_name = "DOLLARS", env = "EBBTIDE_PRICE")]
    pub price: Option<f64>,
    /// End when standard input does: for workers that another process starts.
    #[arg(long, hide = true, env = "EBBTIDE_EXIT_WITH_PARENT", value_parser = BoolishValueParser::new())]
    pub exit_with_parent: bool,
    /// Claim another build; for tests of refusals.
    #[arg(long, hide = true, env = "EBBTIDE_CLAIM_BUILD")]
    pub claim_build: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub(super) struct CoordinatorAddress {
    /// Where the coordinator is.
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:7070",
        env = "EBBTIDE_COORDINATOR"
    )]
    pub coordinator: String,
    /// The join token.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "EBBTIDE_TOKEN",
        hide_env_values = true
    )]
    pub token: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    pub at: CoordinatorAddress,
    /// Print one JSON object.
    #[arg(long, env = "EBBTIDE_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub(super) struct DrainArgs {
    #[command(flatten)]
    pub at: CoordinatorAddress,
    /// The worker, as `ebbtide status` names it; without one all that train.
    #[arg(value_name = "WORKER", value_parser = worker)]
    pub worker: Option<WorkerId>,
}

#[derive(Clone, Debug, Args)]
pub(super) struct ExportArgs {
    /// A run's folder, or a checkpoint URL.
    #[arg(value_name = "RUN_DIR_OR_CHECKPOINT_URL")]
    pub from: String,
    /// The file to write.
    #[arg(long, value_name = "FILE", env = "EBBTIDE_TO")]
    pub to: PathBuf,
}

#[derive(Clone, Debug, Args)]
pub(super) struct ReportArgs {
    /// A run's folder, or the start of its id.
    #[arg(value_name = "RUN")]
    pub run: String,
    /// Folder below which ids are looked for. Default: runs.
    #[arg(long, value_name = "DIR", env = "EBBTIDE_OUT")]
    pub out: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long, env = "EBBTIDE_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
}

/// Ends with 0 when the runs are identical, with 1 when they differ.
#[derive(Clone, Debug, Args)]
pub(super) struct DiffArgs {
    /// A run's folder, or the start of its id.
    #[arg(value_name = "RUN_A")]
    pub a: String,
    /// The other one.
    #[arg(value_name = "RUN_B")]
    pub b: String,
    /// Folder below which ids are looked for. Default: runs.
    #[arg(long, value_name = "DIR", env = "EBBTIDE_OUT")]
    pub out: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long, env = "EBBTIDE_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub(super) struct ReplayArgs {
    /// A run's folder, or the start of its id.
    #[arg(value_name = "RUN")]
    pub run: String,
    /// The step, counted from 0 as in `step 7 skipped`.
    #[arg(long, value_name = "S", env = "EBBTIDE_STEP")]
    pub step: u64,
    /// Only this micro-batch of it, from 0.
    #[arg(long, value_name = "M", env = "EBBTIDE_MICRO_BATCH")]
    pub micro_batch: Option<u32>,
    /// Show what each operation of the model's forward pass gives: of that
    /// micro-batch, or of the first one.
    #[arg(long, env = "EBBTIDE_TRACE_OPS", value_parser = BoolishValueParser::new())]
    pub trace_ops: bool,
    /// Where the job's data is on this machine, if elsewhere.
    #[arg(long, value_name = "URL", env = "EBBTIDE_DATA")]
    pub data: Option<String>,
    /// Folder below which ids are looked for. Default: runs.
    #[arg(long, value_name = "DIR", env = "EBBTIDE_OUT")]
    pub out: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long, env = "EBBTIDE_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub(super) struct EstimateArgs {
    /// The job file.
    #[arg(value_name = "JOB", env = "EBBTIDE_JOB")]
    pub job: PathBuf,
    /// Overrides a key of the job, as in --set model.hidden=[4096].
    #[arg(
        long = "set",
        value_name = "KEY=VALUE",
        env = "EBBTIDE_SET",
        value_delimiter = ';'
    )]
    pub set: Vec<String>,
    /// Where the job's data is on this machine, if elsewhere.
    #[arg(long, value_name = "URL", env = "EBBTIDE_DATA")]
    pub data: Option<String>,
    /// Print one JSON object.
    #[arg(long, env = "EBBTIDE_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
}

fn worker(text: &str) -> Result<WorkerId, String> {
    WorkerId::from_text(text.to_owned())
        .ok_or_else(|| format!("{text:?} is no worker, such as 3 or 2.3"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let parsed = text
        .parse::<f64>()
        .ok()
        .and_then(|s| Duration::try_from_secs_f64(s).ok());
    parsed.ok_or_else(|| format!("{text:?} is no number of seconds"))
}

fn patience(text: &str) -> Result<Duration, String> {
    let some = seconds(text)?;
    match some.is_zero() {
        true => Err("with none at all whoever pauses is gone; the default is 30".into()),
        false => Ok(some),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_lines_make_sense() {
        super::Ebbtide::command().debug_assert();
        super::Coordinator::command().debug_assert();
        super::Worker::command().debug_assert();
    }

    #[test]
    fn every_flag_has_its_variable() {
        let mut flags = 0;
        for command in [
            super::Ebbtide::command(),
            super::Coordinator::command(),
            super::Worker::command(),
        ] {
            let subcommands: Vec<_> = command.get_subcommands().cloned().collect();
            for arg in subcommands
                .iter()
                .chain([&command])
                .flat_map(|command| command.get_arguments())
            {
                let Some(flag) = arg.get_long() else { continue };
                let variable = format!("EBBTIDE_{}", flag.to_uppercase().replace('-', "_"));
                let given = arg.get_env().and_then(|name| name.to_str());
                assert_eq!(given, Some(variable.as_str()), "--{flag}");
                flags += 1;
            }
        }
        assert!(flags > 30, "{flags}");
    }
}
