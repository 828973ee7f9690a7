//! What is durable on our disk, copied into the store: nobody waits for that.

use std::time::Duration;

use tokio::sync::watch;

use crate::checkpoint::RunStore;
use crate::world::membership::Durable;

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// Writes the newest record; one that a newer one has overtaken is left out.
pub(super) struct Copies {
    newest: watch::Sender<Option<Durable>>,
}

impl Copies {
    pub fn new(run: RunStore, incarnation: u32) -> Copies {
        let (newest, told) = watch::channel(None);
        tokio::spawn(write(run, incarnation, told));
        Copies { newest }
    }

    pub fn put(&self, durable: &Durable) {
        self.newest.send_replace(Some(durable.clone()));
    }
}

/// Until the coordinator ends.
async fn write(run: RunStore, incarnation: u32, mut told: watch::Receiver<Option<Durable>>) {
    let mut warned = false;
    while told.changed().await.is_ok() {
        loop {
            let newest = told.borrow_and_update().clone();
            let Some(Ok(bytes)) = newest.map(|durable| serde_json::to_vec(&durable)) else {
                break;
            };
            let Err(error) = run.write_world(incarnation, bytes).await else {
                warned = false;
                break;
            };
            if !std::mem::replace(&mut warned, true) {
                tracing::warn!(%error, "the store has no copy of the newest world; trying again");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
