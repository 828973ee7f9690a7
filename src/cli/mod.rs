//! The command lines of the three binaries, and of a person's own.
//!
//! A binary with models of its own is `ebbtide` with another registry:
//!
//! ```no_run
//! use ebbtide::cli;
//! use ebbtide::model::Registry;
//!
//! fn main() -> std::process::ExitCode {
//!     cli::main(Registry::builtin().artifact("my-app 0.1"))
//! }
//! ```
//!
//! | file | what |
//! |---|---|
//! | `args` | every flag, each also as `EBBTIDE_...` |
//! | `run` | `ebbtide run`: a coordinator and its workers on this machine |
//! | `chaos` | the same under random trouble |
//! | `serve` | `coordinator` |
//! | `shadow` | the process beside it that follows |
//! | `work` | `worker` |
//! | `ask` | `status`, `drain`, `export` |
//! | `estimate` | what a job takes of memory |
//! | `inspect` | `report`, `diff`, `replay` |

/// A line on standard output. Who reads no further, as `head` does, wants no more of
/// them, and ends nothing by that.
macro_rules! say {
    ($($line:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($line)*);
    }};
}

mod args;
mod ask;
mod chaos;
mod estimate;
mod exit;
mod inspect;
mod run;
mod serve;
mod shadow;
mod work;

pub use exit::Exit;

use std::process::ExitCode;

use clap::builder::Resettable;
use clap::{Command, Parser};

use crate::model::Registry;

/// `ebbtide`, with all its subcommands.
pub fn main(registry: Registry) -> ExitCode {
    if let Some(exit) = shadow::if_asked(&registry) {
        return exit.code();
    }
    let exit = match parse::<args::Ebbtide>().command {
        args::Command::Run(args) => run::run(args, &registry),
        args::Command::Coordinator(args) => serve::coordinator(args, &registry),
        args::Command::Worker(args) => work::worker(args, &registry),
        args::Command::Status(args) => ask::status(&args),
        args::Command::Drain(args) => ask::drain(&args),
        args::Command::Export(args) => ask::export(&args),
        args::Command::Report(args) => inspect::report(&args),
        args::Command::Diff(args) => inspect::diff(&args),
        args::Command::Replay(args) => inspect::replay(args, &registry),
        args::Command::Estimate(args) => estimate::estimate(&args, &registry),
    };
    exit.code()
}

/// `coordinator`: the same as `ebbtide coordinator`.
pub fn coordinator_main(registry: Registry) -> ExitCode {
    if let Some(exit) = shadow::if_asked(&registry) {
        return exit.code();
    }
    serve::coordinator(parse::<args::Coordinator>().args, &registry).code()
}

/// `worker`: the same as `ebbtide worker`.
pub fn worker_main(registry: Registry) -> ExitCode {
    work::worker(parse::<args::Worker>(), &registry).code()
}

/// The command line; what is wrong with it ends the process.
fn parse<P: Parser>() -> P {
    let mut command = without_empty_variables(P::command());
    let mut matches = command.clone().get_matches();
    P::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.format(&mut command).exit())
}

/// A variable that was set to nothing is one that wasn't set: so it is in unit files and compose
/// files, which can't leave one out.
fn without_empty_variables(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let value = arg.get_env().and_then(std::env::var_os);
        match value {
            Some(value) if value.is_empty() => arg.env(Resettable::Reset),
            _ => arg,
        }
    });
    command.mut_subcommands(without_empty_variables)
}
