//! `worker`.

use std::io::Read;
use std::net::ToSocketAddrs;
use std::time::Duration;

#[cfg(target_os = "linux")]
use rustix::process::{Signal, set_parent_process_death_signal};

use super::args::{Instead, Worker, WorkerArgs};
use super::exit::{Exit, complain};
use super::serve::rust_log;
use crate::collective::{Token, requires_token};
use crate::devices::{self, Asked, Devices};
use crate::model::Registry;
use crate::numerics::Kind;
use crate::observe::LogTail;
use crate::observe::joinline::host_name;
use crate::observe::telemetry::{self, Sink};
use crate::worker::{self, Config, Ended};
use crate::world::message::ReleaseReason;

/// A shadow ends with its coordinator; until that is seen, it waits.
const SHADOW_WAITS: Duration = Duration::from_secs(60);

/// Runs the worker's command.
pub(super) fn worker(command: Worker, registry: &Registry) -> Exit {
    match (command.instead, command.args) {
        (Some(Instead::Devices), _) => list_devices(),
        (None, Some(args)) => train(args, registry),
        (None, None) => complain(Exit::Usage, "--coordinator URL is missing"),
    }
}

/// As `nvidia-smi -L` does, and what would be used.
fn list_devices() -> Exit {
    settings_of_libraries();
    let (found, meter) = (devices::found(), devices::Meter::open());
    for gpu in &found.gpus {
        let kind = match gpu.problem() {
            Some(problem) => format!("not used: {problem}"),
            None => match gpu.numerics_kind() {
                Ok(kind) => format!("numerics kind {}", kind.fingerprint),
                Err(error) => format!("not used: {error}"),
            },
        };
        match meter.as_ref().and_then(|meter| meter.reading(gpu)) {
            Some(reading) => say!("{gpu}, {kind}; {reading}"),
            None => say!("{gpu}, {kind}"),
        }
    }
    let cpu = Kind::cpu();
    say!("CPU: {}, numerics kind {}", cpu.device, cpu.fingerprint);
    match Asked::Auto.choose(&found) {
        Ok(chosen) => say!("--devices auto: {} ({})", chosen.devices, chosen.why),
        Err(error) => return complain(Exit::Failed, error),
    }
    Exit::Done
}

fn train(args: WorkerArgs, registry: &Registry) -> Exit {
    settings_of_libraries();
    if args.exit_with_parent {
        exit_with_parent();
    }
    let tail = LogTail::new();
    let sink = Sink::Stderr { colour: false };
    if let Err(error) = telemetry::init(rust_log().as_deref(), sink, Some(tail.clone())) {
        return complain(Exit::Usage, error);
    }
    let config = match config(args, registry) {
        Ok(config) => config,
        Err(error) => return complain(Exit::Usage, error),
    };
    conclude(worker::run(&config, &tail))
}

/// Runs as the shadow of the coordinator at this address.
pub(super) fn shadow(of: &str, advertise: Option<String>, registry: &Registry) -> Exit {
    settings_of_libraries();
    exit_with_parent();
    let tail = LogTail::new();
    let sink = Sink::Stderr { colour: false };
    if let Err(error) = telemetry::init(rust_log().as_deref(), sink, Some(tail.clone())) {
        return complain(Exit::Usage, error);
    }
    let token = match std::env::var("EBBTIDE_TOKEN").unwrap_or_default().parse() {
        Ok(token) => token,
        Err(error) => return complain(Exit::Usage, format!("EBBTIDE_TOKEN: {error}")),
    };
    let listen = match advertise {
        Some(_) => "0.0.0.0:0",
        None => "127.0.0.1:0",
    };
    let config = Config {
        coordinator: of.to_owned(),
        token,
        devices: Devices::cpu(1),
        peer_listen: listen.to_owned(),
        advertise: advertise.map(|host| (host, None)),
        reconnect_timeout: SHADOW_WAITS,
        data: None,
        node: "shadow".to_owned(),
        zone: None,
        price: None,
        registry: registry.clone(),
        build: None,
        shadow: true,
    };
    conclude(worker::run(&config, &tail))
}

fn config(args: WorkerArgs, registry: &Registry) -> Result<Config, String> {
    let coordinator = address(&args.coordinator)?;
    let token = match &args.token {
        Some(text) => text.parse::<Token>().map_err(|e| e.to_string())?,
        None => Token::none(),
    };
    let peer_listen = match args.peer_listen {
        Some(listen) => guarded(listen, &token)?,
        None => anywhere(&coordinator, &token).to_owned(),
    };
    let chosen = args.devices.choose(&devices::found());
    let chosen = chosen.map_err(|error| error.to_string())?;
    tracing::info!(devices = %chosen.devices, why = chosen.why, "computing on");
    Ok(Config {
        coordinator,
        token,
        devices: chosen.devices,
        peer_listen,
        advertise: args.advertise.as_deref().map(advertised).transpose()?,
        reconnect_timeout: args.reconnect_timeout,
        data: args.data,
        node: args.node.unwrap_or_else(host_name),
        zone: args.zone,
        price: args.price,
        registry: registry.clone(),
        build: args.claim_build,
        shadow: false,
    })
}

/// Where peers are listened for when nobody said. Without a token only
/// processes of this machine may get in.
fn anywhere(coordinator: &str, token: &Token) -> &'static str {
    let here = |hosts: &[&str]| hosts.iter().any(|host| coordinator.starts_with(host));
    if here(&["[::1]:"]) {
        "[::1]:0"
    } else if token.is_none() || here(&["127.", "localhost:"]) {
        "127.0.0.1:0"
    } else {
        "0.0.0.0:0"
    }
}

/// Beyond loopback strangers can knock: they have to be told from friends.
fn guarded(listen: String, token: &Token) -> Result<String, String> {
    let Ok(mut addresses) = listen.to_socket_addrs() else {
        return Ok(listen); // listening says what is wrong with it
    };
    if token.is_none() && addresses.any(requires_token) {
        return Err(format!(
            "--peer-listen {listen}: beyond loopback a token is needed; \
             set EBBTIDE_TOKEN to the one that the coordinator shows"
        ));
    }
    Ok(listen)
}

/// `http://host:7070` or `host:7070` as `host:7070`.
pub(super) fn address(url: &str) -> Result<String, String> {
    let text = url
        .strip_prefix("http://")
        .unwrap_or(url)
        .trim_end_matches('/');
    if text.contains("://") {
        return Err(format!("--coordinator {url}: expected http://HOST:PORT"));
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(text.to_owned())
        }
        _ => Err(format!(
            "--coordinator {url}: expected http://HOST:PORT, such as http://stable:7070"
        )),
    }
}

fn advertised(text: &str) -> Result<(String, Option<u16>), String> {
    match text.rsplit_once(':') {
        None => Ok((text.to_owned(), None)),
        Some((host, port)) => {
            let port = port
                .parse()
                .map_err(|_| format!("--advertise {text}: expected HOST or HOST:PORT"))?;
            Ok((host.trim_matches(['[', ']']).to_owned(), Some(port)))
        }
    }
}

fn conclude(ended: Ended) -> Exit {
    let fine = |exit, why| {
        tracing::info!("{why}");
        exit
    };
    match ended {
        Ended::Released(ReleaseReason::Finished) => fine(Exit::Done, "the run is complete"),
        Ended::Interrupted => fine(Exit::Done, "left, with nothing lost"),
        Ended::Usage(error) => complain(Exit::Usage, error),
        Ended::Released(ReleaseReason::Drained) => fine(Exit::Drained, "drained: nothing is lost"),
        // A run that was stopped goes on some day, and wants its workers back.
        Ended::Released(ReleaseReason::Stopped) => fine(
            Exit::Drained,
            "the coordinator has stopped the run, which is saved; start again when it goes on",
        ),
        Ended::Released(ReleaseReason::Failed(error)) | Ended::Failed(error) => {
            complain(Exit::Failed, error)
        }
        Ended::Released(ReleaseReason::Evicted(why)) => {
            complain(Exit::Drained, format!("evicted: {why}"))
        }
        Ended::Broken(error) => complain(Exit::Failed, error),
        Ended::CrashLoop(why) => complain(Exit::CrashLoop, why),
        Ended::Refused(why) => complain(Exit::Refused, why),
        Ended::Unreachable(why) => complain(Exit::Unreachable, why),
    }
}

/// What libraries take from the environment only. Tensor work of a CPU replica
/// uses one thread: one process a core is much faster than two threads in one.
/// cuBLAS gets a workspace of one size, so that a product is always computed alike.
fn settings_of_libraries() {
    for (name, value) in [
        ("RAYON_NUM_THREADS", "1"),
        ("CUBLAS_WORKSPACE_CONFIG", ":4096:8"),
    ] {
        if std::env::var_os(name).is_none() {
            #[allow(
                unsafe_code,
                reason = "candle and cuBLAS take these from the environment only"
            )]
            // SAFETY: the process has no other thread yet; this is the first thing
            // that `worker` does.
            unsafe {
                std::env::set_var(name, value);
            }
        }
    }
}

/// A process that another one started must not outlive it, however that one
/// ends: its end of our standard input closes with it.
pub(super) fn exit_with_parent() {
    // One that is stopped reads nothing. This ends with the parent's thread.
    #[cfg(target_os = "linux")]
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    std::thread::spawn(|| {
        let mut rest = [0; 64];
        while let Ok(1..) = std::io::stdin().read(&mut rest) {}
        std::process::exit(Exit::Interrupted.number().into());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coordinator_is_a_host_and_a_port() {
        assert_eq!(address("http://stable:7070/").unwrap(), "stable:7070");
        assert_eq!(address("stable:7070").unwrap(), "stable:7070");
        assert!(address("https://stable:7070").is_err());
        assert!(address("stable").is_err());
    }

    #[test]
    fn without_a_token_peers_are_listened_for_on_this_machine_only() {
        let token: Token = "k3v9".parse().unwrap();
        assert_eq!(anywhere("stable:7070", &token), "0.0.0.0:0");
        assert_eq!(anywhere("stable:7070", &Token::none()), "127.0.0.1:0");
        assert_eq!(anywhere("[::1]:7070", &token), "[::1]:0");
        assert!(guarded("0.0.0.0:0".into(), &token).is_ok());
        assert!(guarded("127.0.0.1:0".into(), &Token::none()).is_ok());
        let error = guarded("0.0.0.0:0".into(), &Token::none()).unwrap_err();
        assert!(error.contains("EBBTIDE_TOKEN"), "{error}");
    }

    #[test]
    fn only_a_complete_run_needs_its_workers_no_more() {
        let exit = |reason| conclude(Ended::Released(reason));
        assert_eq!(exit(ReleaseReason::Finished), Exit::Done);
        assert_eq!(exit(ReleaseReason::Stopped), Exit::Drained);
        assert_eq!(exit(ReleaseReason::Drained), Exit::Drained);
    }

    #[test]
    fn an_advertised_port_may_be_left_out() {
        assert_eq!(advertised("10.0.0.7").unwrap(), ("10.0.0.7".into(), None));
        assert_eq!(advertised("node:81").unwrap(), ("node".into(), Some(81)));
        assert!(advertised("node:x").is_err());
    }
}
