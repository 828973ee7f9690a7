//! `ebbtide run`: a coordinator in this process, and workers as processes of
//! this very executable.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::process::{Child, Command};

use super::args::RunArgs;
use super::chaos;
use super::exit::{Exit, complain};
use super::serve::{self, LAST_WORDS, Stop, assemble, conclude, load};
use crate::checkpoint::is_in_memory;
use crate::collective::Token;
use crate::coordinator::{self, Config, Listening, WorldSize};
use crate::devices;
use crate::model::Registry;
use crate::observe::telemetry::{self, SharedScreen, Sink};

/// Processes that one machine is asked for, whatever the job.
const WORKERS_MAX: usize = 64;
/// How long workers may take to end after the coordinator let them go.
const FAREWELL: Duration = Duration::from_secs(3);

/// Runs a job on this machine.
pub(super) fn run(args: RunArgs, registry: &Registry) -> Exit {
    if args.workers == 0 {
        return complain(Exit::Usage, "--workers 0: somebody has to train");
    }
    let screen = serve::screen();
    let sink = Sink::Screen(screen.clone());
    if let Err(error) = telemetry::init(serve::rust_log().as_deref(), sink, None) {
        return complain(Exit::Usage, error);
    }
    let checkpoint = args.common.checkpoint.as_deref();
    if let Some(url) = checkpoint.filter(|url| is_in_memory(url)) {
        let error = format!(
            "--checkpoint {url}: the workers are processes of their own and can't see this one's \
             memory; give a folder, or leave it out for one in the folder of the runs"
        );
        return complain(Exit::Usage, error);
    }
    let job = match load(&args.job, &args.common) {
        Ok(job) => job,
        Err(exit) => return exit,
    };
    let micro_batches = job.train.micro_batches() as usize;
    let sensible = micro_batches.max(WORKERS_MAX);
    if args.workers > sensible {
        let error = format!(
            "--workers {}: expected at most {sensible}; a step of this job has only {micro_batches} micro-batches to share",
            args.workers
        );
        return complain(Exit::Usage, error);
    }
    let least = args.common.min_world_size;
    if least > args.workers {
        let (more, workers) = ("it would wait for ever", args.workers);
        let error = format!("--min-world-size {least} is more than --workers {workers}: {more}");
        return complain(Exit::Usage, error);
    }
    let replicas = match args.devices.choose(&devices::found()) {
        Ok(chosen) => chosen.devices.replicas(),
        Err(error) => return complain(Exit::Usage, error),
    };
    if let Some(expression) = &args.chaos {
        return chaos::run(&args, expression, &serve::folder(&job, &args.common));
    }
    let most = micro_batches;
    let most = most.min(args.common.max_world_size.unwrap_or(most));
    let size = WorldSize::Workers(args.workers.min(most));
    let config = Config {
        crew: Some((args.workers, replicas)),
        ..assemble(
            job,
            registry,
            &args.common,
            size,
            "127.0.0.1:0".into(),
            None,
        )
    };
    let runtime = match serve::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return complain(Exit::Failed, error),
    };
    let stop = Stop::default();
    let told = stop.clone();
    let json = args.common.json;
    let out = config.out.clone();
    let crew = Crew::default();
    let hired = crew.clone();
    let outcome = runtime.block_on(async {
        let listening = |listening: &Listening| {
            hired.hire(&args, listening, &out.join(&listening.run), &screen, &told);
        };
        let outcome =
            coordinator::run(config, screen.clone(), told.clone().requested(), listening).await;
        crew.dismiss().await;
        outcome
    });
    runtime.shutdown_timeout(LAST_WORDS);
    conclude(outcome, json, &stop)
}

/// The worker processes.
#[derive(Clone, Default)]
struct Crew(Arc<Mutex<Vec<tokio::task::JoinHandle<()>>>>);

impl Crew {
    fn hire(
        &self,
        args: &RunArgs,
        listening: &Listening,
        folder: &Path,
        screen: &SharedScreen,
        stop: &Stop,
    ) {
        let left = Arc::new(AtomicUsize::new(args.workers));
        let gone = move |stop: &Stop| {
            if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                stop.desert();
            }
        };
        let mut crew = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for number in 1..=args.workers {
            let log = folder.join("logs").join(format!("worker-{number}.log"));
            let child = match start(args, listening, number, &log) {
                Ok(child) => child,
                Err(error) => {
                    screen
                        .lock()
                        .line(&format!("worker {number} could not be started: {error}"));
                    gone(stop);
                    continue;
                }
            };
            let (screen, stop, gone) = (screen.clone(), stop.clone(), gone.clone());
            crew.push(tokio::spawn(async move {
                watch(child, number, &log, &screen).await;
                gone(&stop);
            }));
        }
    }

    /// Waits for the workers to end; those that don't are ended.
    async fn dismiss(&self) {
        let crew = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let deadline = tokio::time::Instant::now() + FAREWELL;
        for watching in crew {
            // A dropped child is killed.
            let _ = tokio::time::timeout_at(deadline, watching).await;
        }
    }
}

fn start(
    args: &RunArgs,
    listening: &Listening,
    number: usize,
    log: &Path,
) -> std::io::Result<Child> {
    let url = format!("http://{}", listening.address);
    worker_command(args, &url, &listening.token, number, log)?.spawn()
}

/// A worker that ends with this process, in a process group of its own: a
/// Ctrl-C in the terminal is for us alone.
pub(super) fn worker_command(
    args: &RunArgs,
    url: &str,
    token: &Token,
    number: usize,
    log: &Path,
) -> std::io::Result<Command> {
    let parent: PathBuf = log.parent().unwrap_or(Path::new(".")).to_owned();
    std::fs::create_dir_all(parent)?;
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("worker")
        .args(["--coordinator", url])
        .args(["--node", &format!("local-{number}")])
        .args(["--devices", &args.devices.to_string()])
        .arg("--exit-with-parent")
        .env("EBBTIDE_TOKEN", token.expose())
        // One address can't be that of several workers; each finds its own.
        .env_remove("EBBTIDE_PEER_LISTEN")
        .env_remove("EBBTIDE_ADVERTISE")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(file)
        .process_group(0)
        .kill_on_drop(true);
    Ok(command)
}

async fn watch(mut child: Child, number: usize, log: &Path, screen: &SharedScreen) {
    // `wait` would close it, and the worker takes that for our end.
    let _alive = child.stdin.take();
    let Ok(status) = child.wait().await else {
        return;
    };
    let refused = [
        Exit::Refused,
        Exit::CrashLoop,
        Exit::Usage,
        Exit::Failed,
        Exit::Unreachable,
    ];
    if refused
        .iter()
        .any(|exit| status.code() == Some(i32::from(exit.number())))
    {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let why = text
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("error: "));
        let why = why.map_or_else(|| status.to_string(), str::to_owned);
        screen
            .lock()
            .line(&format!("worker {number} ended: {why} ({})", log.display()));
    }
}
