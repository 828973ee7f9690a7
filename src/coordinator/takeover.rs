//! Nobody takes a run over from a coordinator that is at work: it is asked at
//! the address that it left in the store.

use super::opening::OpeningError;
use crate::checkpoint::RunStore;
use crate::collective::{ConnectError, ConnectionKind, Connector, Hello, RunTag, control_channel};
use crate::wire::control as pb;
use crate::wire::control::control_client::ControlClient;
use crate::world::Generation;
use crate::world::lead::ANSWER;

/// # Errors
/// [`OpeningError::Coordinated`] if a coordinator of this run answers, or one
/// that may be; `ours` is where we listen, so that nobody else does.
pub(super) async fn refuse_if_coordinated(
    run: &RunStore,
    connector: &Connector,
    ours: &str,
) -> Result<(), OpeningError> {
    let Some(newest) = run.newest_incarnation().await? else {
        return Ok(());
    };
    if newest.address.is_empty() || newest.address == ours {
        return Ok(());
    }
    let asked = tokio::time::timeout(ANSWER, who_coordinates(connector, &newest.address)).await;
    let who = match asked.unwrap_or(Who::Nobody) {
        Who::Nobody => return Ok(()),
        Who::Run(other) if other != run.run() => return Ok(()),
        Who::Run(_) => "it coordinates this run".to_owned(),
        Who::Unknown(why) => why,
    };
    Err(OpeningError::Coordinated {
        run: run.run().to_owned(),
        address: newest.address,
        who,
        record: newest.key,
    })
}

enum Who {
    /// No coordinator is there.
    Nobody,
    /// One of this run.
    Run(String),
    /// One that doesn't talk to us.
    Unknown(String),
}

async fn who_coordinates(connector: &Connector, address: &str) -> Who {
    let hello = Hello {
        kind: ConnectionKind::Control,
        worker: None,
        generation: Generation::NONE,
        run: RunTag::default(),
    };
    let channel = match control_channel(connector, address, &hello).await {
        Ok((channel, _)) => channel,
        Err(error @ (ConnectError::WrongToken { .. } | ConnectError::WrongVersion { .. })) => {
            return Who::Unknown(error.to_string());
        }
        Err(_) => return Who::Nobody,
    };
    let mut client = ControlClient::new(channel);
    match client.status(pb::StatusRequest {}).await {
        Ok(reply) => Who::Run(run_of(&reply.into_inner().json)),
        Err(status) => Who::Unknown(status.message().to_owned()),
    }
}

fn run_of(status: &str) -> String {
    let status: serde_json::Value = serde_json::from_str(status).unwrap_or_default();
    status["run"].as_str().unwrap_or_default().to_owned()
}
