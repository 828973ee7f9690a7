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
//! | `serve` | `coordinator` |
//! | `work` | `worker` |
//! | `ask` | `status`, `drain`, `export` |

mod args;
mod ask;
mod exit;
mod run;
mod serve;
mod work;

pub use exit::Exit;

use std::process::ExitCode;

use clap::Parser;

use crate::model::Registry;

/// `ebbtide`, with all its subcommands.
pub fn main(registry: Registry) -> ExitCode {
    let exit = match args::Ebbtide::parse().command {
        args::Command::Run(args) => run::run(args, &registry),
        args::Command::Coordinator(args) => serve::coordinator(args, &registry),
        args::Command::Worker(args) => work::worker(args, &registry),
        args::Command::Status(args) => ask::status(&args),
        args::Command::Drain(args) => ask::drain(&args),
        args::Command::Export(args) => ask::export(&args),
    };
    exit.code()
}

/// `coordinator`: the same as `ebbtide coordinator`.
pub fn coordinator_main(registry: Registry) -> ExitCode {
    serve::coordinator(args::Coordinator::parse().args, &registry).code()
}

/// `worker`: the same as `ebbtide worker`.
pub fn worker_main(registry: Registry) -> ExitCode {
    work::worker(args::Worker::parse().args, &registry).code()
}
