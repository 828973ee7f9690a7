//! `coordinator`, and the part of it that `ebbtide run` shares.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::args::{CoordinatorArgs, JobArgs};
use super::exit::{Exit, complain};
use super::shadow;
use super::work::exit_with_parent;
use crate::collective::Token;
use crate::coordinator::{self, Config, CoordinatorError, Listening, ShadowMode, WorldSize};
use crate::job::{Job, JobError};
use crate::model::Registry;
use crate::observe::joinline::{self, JoinLine, Start};
use crate::observe::summary::Outcome;
use crate::observe::telemetry::{self, SharedScreen, Sink};
use crate::observe::{Screen, Summary, Terminal};

/// How long tasks may take to end. Until then they may have something to say,
/// and the result is the last line.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs the coordinator's command.
pub(super) fn coordinator(args: CoordinatorArgs, registry: &Registry) -> Exit {
    if args.exit_with_parent {
        exit_with_parent();
    }
    let screen = screen();
    if let Err(error) = telemetry::init(rust_log().as_deref(), Sink::Screen(screen.clone()), None) {
        return complain(Exit::Usage, error);
    }
    let config = match config(&args, registry) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return complain(Exit::Failed, error),
    };
    // An empty one is none: a variable that was set to nothing opens no door.
    let given = config.token.as_ref().is_some_and(|t| !t.is_none());
    let said = screen.clone();
    let announced = config.clone();
    let listening = move |listening: &Listening| {
        announce(&said, &announced, listening, given);
        if announced.shadow != ShadowMode::Off {
            let host = announced.join_host(listening.address);
            let folder = announced.out.join(&listening.run);
            tokio::spawn(shadow::keep(listening.clone(), host, folder, said.clone()));
        }
    };
    let stop = Stop::default();
    let told = stop.clone();
    let outcome = runtime.block_on(async move {
        coordinator::run(config, screen, told.requested(), listening).await
    });
    runtime.shutdown_timeout(LAST_WORDS);
    conclude(outcome, args.common.json, &stop)
}

fn config(args: &CoordinatorArgs, registry: &Registry) -> Result<Config, Exit> {
    let job = load(&args.job, &args.common)?;
    let token = match &args.token {
        Some(text) => Some(
            text.parse::<Token>()
                .map_err(|e| complain(Exit::Usage, e))?,
        ),
        None => None,
    };
    let world_size = args.world_size;
    let listen = args.listen.clone();
    let assembled = assemble(job, registry, &args.common, world_size, listen, token);
    Ok(Config {
        public_host: args.public_host.clone(),
        shadow: args.shadow,
        ..assembled
    })
}

pub(super) fn load(path: &Path, common: &JobArgs) -> Result<Job, Exit> {
    let load = || -> Result<Job, JobError> {
        let mut job = Job::load(path, &common.set)?;
        job.check_files()?;
        job.pin_init()?;
        Ok(job)
    };
    load().map_err(|error| complain(Exit::Usage, error))
}

/// The folder of the job's runs.
pub(super) fn folder(job: &Job, common: &JobArgs) -> PathBuf {
    let out = common.out.clone();
    out.unwrap_or_else(|| PathBuf::from("runs").join(&job.name))
}

pub(super) fn assemble(
    job: Job,
    registry: &Registry,
    common: &JobArgs,
    world_size: WorldSize,
    listen: String,
    token: Option<Token>,
) -> Config {
    let out = folder(&job, common);
    Config {
        job,
        registry: registry.clone(),
        world_size,
        world_size_min: common.min_world_size,
        world_size_max: common.max_world_size,
        spares: common.spares,
        listen,
        public_host: None,
        checkpoint: common.checkpoint.clone(),
        out,
        token,
        new: common.new,
        from: common.from.clone(),
        patience: common.patience,
        owner: std::env::var("USER").ok(),
        crew: None,
        shadow: ShadowMode::Off,
    }
}

fn announce(screen: &SharedScreen, config: &Config, listening: &Listening, given: bool) {
    let host = config.join_host(listening.address);
    let line = JoinLine {
        host: &host,
        port: listening.address.port(),
        token: match (listening.token.is_none(), given) {
            (true, _) => joinline::Token::NotNeeded,
            (false, true) => joinline::Token::Given,
            (false, false) => joinline::Token::Made(listening.token.expose()),
        },
        run: &listening.run,
        checkpoint: config.checkpoint.as_deref(),
        start: match (listening.recorded, config.world_size) {
            (0, WorldSize::Auto) => Start::Auto,
            (0, WorldSize::Workers(n)) => Start::Workers(n as u64),
            (members, _) => Start::Recorded(members as u64),
        },
    };
    for line in line.to_string().lines() {
        screen.lock().line(line);
    }
}

pub(super) fn screen() -> SharedScreen {
    let out: Box<dyn Write + Send> = Box::new(std::io::stdout());
    SharedScreen::new(Screen::new(out, Terminal::stdout()))
}

pub(super) fn rust_log() -> Option<String> {
    std::env::var("RUST_LOG").ok()
}

pub(super) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
}

/// Ctrl-C and SIGTERM: the first asks to stop, the second stops at once.
#[derive(Clone, Default)]
pub(super) struct Stop {
    by_term: std::sync::Arc<std::sync::atomic::AtomicBool>,
    deserted: std::sync::Arc<std::sync::atomic::AtomicBool>,
    asked: std::sync::Arc<tokio::sync::Notify>,
}

impl Stop {
    /// Resolves, with the reason, when there is one to stop; watches from its
    /// first poll on.
    pub async fn requested(self) -> String {
        let (Ok(mut term), Ok(mut interrupt)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
        ) else {
            return std::future::pending().await;
        };
        let reason = tokio::select! {
            _ = term.recv() => {
                self.by_term.store(true, std::sync::atomic::Ordering::Relaxed);
                "SIGTERM"
            }
            _ = interrupt.recv() => "Ctrl-C",
            () = self.asked.notified() => {
                self.deserted.store(true, std::sync::atomic::Ordering::Relaxed);
                "all workers have ended"
            }
        };
        if !self.was_deserted() {
            echo(&mut term, &mut interrupt).await;
        }
        tokio::spawn(async move {
            tokio::select! { _ = term.recv() => {}, _ = interrupt.recv() => {} }
            std::process::exit(Exit::Interrupted.number().into());
        });
        reason.to_owned()
    }

    /// Nobody is left who could train, and nobody will come.
    pub fn desert(&self) {
        self.asked.notify_one();
    }

    pub fn was_deserted(&self) -> bool {
        self.deserted.load(std::sync::atomic::Ordering::Relaxed)
    }

    pub fn was_sigterm(&self) -> bool {
        self.by_term.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// A shell or `timeout` may tell the process and then its whole group: that is
/// one signal still.
async fn echo(term: &mut Signal, interrupt: &mut Signal) {
    let over = tokio::time::sleep(crate::worker::SIGNAL_ECHO);
    tokio::pin!(over);
    loop {
        tokio::select! {
            () = &mut over => return,
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

/// Prints what came of it.
pub(super) fn conclude(
    outcome: Result<Summary, CoordinatorError>,
    json: bool,
    stop: &Stop,
) -> Exit {
    let summary = match outcome {
        Ok(summary) => summary,
        Err(error) => {
            let exit = if error.is_usage() {
                Exit::Usage
            } else {
                Exit::Failed
            };
            return complain(exit, error);
        }
    };
    for line in summary.lines() {
        say!("{line}");
    }
    if json {
        say!("{}", summary.json_line());
    }
    match summary.status {
        Outcome::Finished | Outcome::AlreadyComplete => Exit::Done,
        Outcome::Stopped if stop.was_deserted() => complain(
            Exit::Failed,
            "all workers have ended: run the same command again to resume from the last checkpoint",
        ),
        Outcome::Stopped if stop.was_sigterm() => Exit::Drained,
        Outcome::Stopped => Exit::Done,
        Outcome::Failed => Exit::Failed,
    }
}
