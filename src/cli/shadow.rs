//! The shadow as a process: our own executable, started with a variable that
//! says whom to follow, so that a person's own models are in it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use super::exit::Exit;
use super::work;
use crate::coordinator::Listening;
use crate::model::Registry;
use crate::observe::telemetry::SharedScreen;

/// The coordinator's address, in the environment of a shadow.
const OF: &str = "EBBTIDE_SHADOW_OF";
/// How members reach it.
const ADVERTISE: &str = "EBBTIDE_SHADOW_ADVERTISE";
/// Between two starts of a shadow that dies.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Runs as a shadow if the environment says so.
pub(super) fn if_asked(registry: &Registry) -> Option<Exit> {
    let of = std::env::var(OF).ok()?;
    let advertise = std::env::var(ADVERTISE).ok();
    Some(work::shadow(&of, advertise, registry))
}

/// Keeps a shadow running beside the coordinator until it is let go. Nothing
/// waits for it; should it die, another one catches up.
pub(super) async fn keep(
    listening: Listening,
    host: String,
    folder: PathBuf,
    screen: SharedScreen,
) {
    let log = folder.join("logs").join("shadow.log");
    let mut pause = PAUSE;
    loop {
        let ended = match start(&listening, &host, &log) {
            Ok(child) => wait(child).await,
            Err(error) => Err(error),
        };
        let let_go = [Exit::Done, Exit::Drained].map(|exit| Some(i32::from(exit.number())));
        let why = match ended {
            Ok(status) if let_go.contains(&status.code()) => return,
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        screen.lock().line(&format!(
            "the shadow ended: {why} ({}); training goes on, it starts again in {} s",
            log.display(),
            pause.as_secs()
        ));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn wait(mut child: Child) -> std::io::Result<std::process::ExitStatus> {
    // `wait` would close it, and the shadow takes that for our end.
    let _alive = child.stdin.take();
    child.wait().await
}

fn start(listening: &Listening, host: &str, log: &Path) -> std::io::Result<Child> {
    if let Some(parent) = log.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)?;
    let address = listening.address;
    let near = match address.ip().is_unspecified() {
        true => format!("127.0.0.1:{}", address.port()),
        false => address.to_string(),
    };
    let mut command = Command::new(std::env::current_exe()?);
    command
        .env(OF, near)
        .env("EBBTIDE_TOKEN", listening.token.expose())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(file)
        .process_group(0)
        .kill_on_drop(true);
    if !address.ip().is_loopback() {
        command.env(ADVERTISE, host);
    }
    command.spawn()
}
