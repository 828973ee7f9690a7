//! What takes a while and must not hold the world up: asking whether a process
//! lives, looking for the newest sound checkpoint, clearing older ones away.
//! Each is a task of its own that comes back with what it found.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::checkpoint::{Incarnation, LoadError, Retention, RunStore};
use crate::collective::{ConnectError, ConnectionKind, Connector, Hello, RunTag};
use crate::world::membership::Probe;
use crate::world::{Generation, WorkerId};

/// Between two tries while a process is on its way out.
const BETWEEN_TRIES: Duration = Duration::from_millis(5);
/// Between two questions to a store that doesn't answer.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// What an errand found out.
pub(super) enum Found {
    Probed(WorkerId, Probe),
    /// The newest sound checkpoint, and what is wrong with newer ones.
    Start(Option<StartPoint>, Vec<String>),
    /// The newest coordinator that the store knows.
    Leads(Incarnation),
}

/// A checkpoint that a world can start from.
pub(super) struct StartPoint {
    pub manifest: String,
    pub round: u64,
    pub step: u64,
}

/// Everything that errands need, and where they report to.
#[derive(Clone)]
pub(super) struct Errands {
    pub found: mpsc::Sender<Found>,
    pub run: RunStore,
    pub kept: Retention,
    pub connector: Connector,
}

impl Errands {
    /// Asks at a worker's peer address whether its process lives.
    pub fn probe(&self, worker: WorkerId, address: String, within: Duration) {
        let errands = self.clone();
        tokio::spawn(async move {
            let asked = tokio::time::timeout(within, errands.ask(worker, &address)).await;
            let probe = asked.unwrap_or(Probe::Silent);
            let _ = errands.found.send(Found::Probed(worker, probe)).await;
        });
    }

    /// A process that has just been killed may still accept connections for an
    /// instant: only one that answers lives, and one that hangs up is asked
    /// again.
    async fn ask(&self, worker: WorkerId, address: &str) -> Probe {
        let hello = Hello {
            kind: ConnectionKind::Probe,
            worker: None,
            generation: Generation::NONE,
            run: RunTag::of(self.run.run()),
        };
        loop {
            match self.connector.dial_async(address, &hello).await {
                Ok(answered) if answered.peer.worker == Some(worker) => return Probe::Accepted,
                Err(ConnectError::Busy { .. }) => return Probe::Accepted,
                Err(
                    ConnectError::TimedOut { .. }
                    | ConnectError::Unreachable { .. }
                    | ConnectError::Resolve { .. },
                ) => return Probe::Silent,
                Err(ConnectError::HungUp { .. } | ConnectError::Io { .. }) => {
                    tokio::time::sleep(BETWEEN_TRIES).await;
                }
                // Nobody listens there, or somebody else has its port by now.
                Ok(_) | Err(_) => return Probe::Refused,
            }
        }
    }

    /// Looks for a checkpoint until the store answers; before that throws away
    /// those after the round `go_back`. `known` is one that has been told of.
    pub fn find_start(&self, go_back: Option<u64>, known: Option<String>) {
        let errands = self.clone();
        tokio::spawn(async move {
            loop {
                match errands.search(go_back, known.as_deref()).await {
                    Ok((start, damages)) => {
                        let _ = errands.found.send(Found::Start(start, damages)).await;
                        return;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the checkpoint store does not answer; trying again");
                        tokio::time::sleep(STORE_PAUSE).await;
                    }
                }
            }
        });
    }

    async fn search(
        &self,
        go_back: Option<u64>,
        known: Option<&str>,
    ) -> Result<(Option<StartPoint>, Vec<String>), LoadError> {
        if let Some(round) = go_back {
            self.run.discard_after(round).await?;
        }
        let mut damages = Vec::new();
        let newest = self
            .run
            .newest_verified_of(known, |damage| damages.push(damage.to_string()))
            .await?;
        let round = newest.as_ref().map(|m| m.header.round);
        let unfinished = self.run.unfinished_after(round).await?;
        damages.extend(unfinished.iter().map(ToString::to_string));
        let start = newest.map(|m| StartPoint {
            manifest: m.reference.key.clone(),
            round: m.header.round,
            step: m.header.step,
        });
        Ok((start, damages))
    }

    /// Makes room after a newer checkpoint; never in anybody's way.
    pub fn clear(&self) {
        let errands = self.clone();
        tokio::spawn(async move { errands.clear_now().await });
    }

    /// Makes room now.
    pub async fn clear_now(&self) {
        if let Err(error) = self.run.retain(self.kept).await {
            tracing::warn!(%error, "older checkpoints could not be removed");
        }
    }
}
