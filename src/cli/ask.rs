//! `status`, `drain`, `export`: short questions with short answers.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::args::{CoordinatorAddress, DrainArgs, ExportArgs, StatusArgs};
use super::exit::{Exit, complain};
use super::serve::runtime;
use super::work::address;
use crate::checkpoint;
use crate::collective::{ConnectionKind, Connector, Hello, RunTag, Token, control_channel};
use crate::devices::GpuReading;
use crate::observe::{listed, printable};
use crate::wire::control as pb;
use crate::wire::control::control_client::ControlClient;
use crate::world::Generation;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);

type Client = ControlClient<tonic::transport::Channel>;

async fn client(at: &CoordinatorAddress) -> Result<Client, (Exit, String)> {
    let usage = |e: String| (Exit::Usage, e);
    let address = address(&at.coordinator).map_err(usage)?;
    let token = match &at.token {
        Some(text) => text
            .parse()
            .map_err(|e: crate::collective::TokenError| usage(e.to_string()))?,
        None => Token::none(),
    };
    let hello = Hello {
        kind: ConnectionKind::Control,
        worker: None,
        generation: Generation::NONE,
        run: RunTag::default(),
    };
    match control_channel(&Connector::new(token), &address, &hello).await {
        Ok((channel, _)) => Ok(ControlClient::new(channel)),
        Err(error) if error.is_worth_retrying() => Err((Exit::Unreachable, error.to_string())),
        Err(error) => Err((Exit::Refused, error.to_string())),
    }
}

/// What the coordinator says of itself, as JSON.
pub(super) async fn status_of(at: &CoordinatorAddress) -> Result<String, String> {
    let mut client = client(at).await.map_err(|(_, error)| error)?;
    let answer = tokio::time::timeout(ANSWER, client.status(pb::StatusRequest {})).await;
    let reply = answer.map_err(|_| "it does not answer".to_owned())?;
    let reply = reply.map_err(|status| status.message().to_owned())?;
    Ok(reply.into_inner().json)
}

fn ask<T>(
    at: &CoordinatorAddress,
    question: impl AsyncFnOnce(Client) -> Result<T, tonic::Status>,
) -> Result<T, Exit> {
    let runtime = runtime().map_err(|error| complain(Exit::Failed, error))?;
    runtime.block_on(async {
        let client = client(at)
            .await
            .map_err(|(exit, error)| complain(exit, error))?;
        let answer = tokio::time::timeout(ANSWER, question(client)).await;
        answer
            .map_err(|_| complain(Exit::Unreachable, "the coordinator does not answer"))?
            .map_err(|status| complain(Exit::Failed, status.message()))
    })
}

/// `ebbtide status`.
pub(super) fn status(args: &StatusArgs) -> Exit {
    let reply = ask(&args.at, async |mut client: Client| {
        client.status(pb::StatusRequest {}).await
    });
    let json = match reply {
        Ok(reply) => reply.into_inner().json,
        Err(exit) => return exit,
    };
    if args.json {
        say!("{json}");
        return Exit::Done;
    }
    match serde_json::from_str::<Value>(&json) {
        Ok(status) => print!("{}", table(&status)),
        Err(error) => return complain(Exit::Failed, error),
    }
    Exit::Done
}

/// The status in lines, for people.
fn table(status: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let mut lines = vec![format!(
        "{}  run {}  {}  generation {}  {} members  step {}",
        text(&status["job"]),
        text(&status["run"]),
        text(&status["phase"]),
        text(&status["generation"]),
        text(&status["members"]),
        text(&status["step"]),
    )];
    if let Value::Object(waiting) = &status["waiting"] {
        let missing = waiting["missing"].as_array().into_iter().flatten();
        let missing: Vec<String> = missing.map(text).collect();
        let next = text(&waiting["next"]);
        lines.push(format!("waiting for {}; next: {next}", listed(&missing)));
    }
    lines.push(format!(
        "{:<8} {:<20} {:<10} {:<22} {:<10} {:>12}",
        "worker", "node", "devices", "address", "role", "micro-batches"
    ));
    for worker in status["workers"].as_array().into_iter().flatten() {
        lines.push(format!(
            "{:<8} {:<20} {:<10} {:<22} {:<10} {:>12}",
            text(&worker["worker"]),
            text(&worker["name"]),
            text(&worker["devices"]),
            text(&worker["address"]),
            text(&worker["role"]),
            text(&worker["micro_batches"]),
        ));
        for gpu in worker["gpus"].as_array().into_iter().flatten() {
            if let Ok(gpu) = GpuReading::deserialize(gpu) {
                lines.push(format!("{:<8} {gpu}", ""));
            }
        }
    }
    let lines = lines.iter().map(|line| printable(line) + "\n");
    lines.collect()
}

/// `ebbtide drain`.
pub(super) fn drain(args: &DrainArgs) -> Exit {
    let request = pb::DrainRequest {
        worker: args.worker.map_or(0, |worker| worker.0),
    };
    match ask(&args.at, async |mut client: Client| {
        client.drain(request).await
    }) {
        Ok(reply) => match (reply.into_inner().draining, args.worker) {
            (0, Some(worker)) => complain(
                Exit::Usage,
                format!("no worker {worker} is here; `ebbtide status` lists them"),
            ),
            (draining, _) => {
                say!("{draining} draining");
                Exit::Done
            }
        },
        Err(exit) => exit,
    }
}

/// `ebbtide export`.
pub(super) fn export(args: &ExportArgs) -> Exit {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return complain(Exit::Failed, error),
    };
    match runtime.block_on(checkpoint::export(&args.from, &args.to)) {
        Ok(report) => {
            for damage in &report.damaged {
                eprintln!("passed over: {damage}");
            }
            say!(
                "step {}  {} parameters  {}",
                report.step,
                report.parameters,
                report.to.display()
            );
            say!("weights  sha256:{}", report.weights_sha256);
            Exit::Done
        }
        Err(error) => complain(Exit::Usage, error),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::table;

    #[test]
    fn the_status_says_in_words_who_is_waited_for() {
        let status = json!({
            "job": "mnist", "run": "b597107996a9", "phase": "reconciling", "generation": "1.2",
            "members": 2, "step": 40, "workers": [{ "worker": "3", "name": "spot-7" }],
            "waiting": { "missing": ["worker 2 (a)", "worker 3 (b)"], "next": "the others go on" },
        });
        let table = table(&status);
        let lines: Vec<&str> = table.lines().collect();
        let waiting = "waiting for worker 2 (a), worker 3 (b); next: the others go on";
        assert_eq!(lines[1], waiting);
        assert!(lines[3].starts_with("3        spot-7 "), "{table}");
    }

    #[test]
    fn a_worker_s_gpus_are_shown_below_it_with_what_they_say() {
        let status = json!({ "job": "mnist", "workers": [
            { "worker": "1", "name": "spot-1", "gpus": [
                { "index": 0, "name": "NVIDIA L4", "memory_used_bytes": 3u64 << 30,
                  "memory_total_bytes": 24u64 << 30, "utilisation_percent": 97,
                  "power_watts": 71.6, "temperature_celsius": 64 },
                { "index": 1, "name": "NVIDIA L4\u{1b}[2J", "temperature_celsius": 30 },
            ] },
            { "worker": "2", "name": "spot-2" },
        ] });
        let table = table(&status);
        let lines: Vec<&str> = table.lines().collect();
        let said = "         cuda:0 NVIDIA L4: 3.0 of 24.0 GiB used, 97 % busy, 72 W, 64 C";
        assert_eq!(lines[3], said);
        assert_eq!(lines[4], "         cuda:1 NVIDIA L4?[2J: 30 C");
        assert!(lines[5].starts_with("2        spot-2 "), "{table}");
        assert_eq!(lines.len(), 6);
    }
}
