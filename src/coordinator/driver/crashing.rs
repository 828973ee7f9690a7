//! What a worker's last error means for the others, and for its node.

use std::collections::BTreeSet;

use super::super::CoordinatorError;
use super::super::crashes::{NodeKey, Verdict};
use super::Driver;
use crate::world::membership::Event;
use crate::world::message::FromWorker;
use crate::world::pool::Node;
use crate::world::{Round, WorkerId};

/// By what a node is recognised.
pub(super) fn key(name: &str, address: &str) -> NodeKey {
    let host = address.rsplit_once(':').map_or("", |(host, _)| host);
    (name.to_owned(), host.to_owned())
}

fn key_of(node: &Node) -> NodeKey {
    key(&node.name, &node.member.address)
}

impl Driver {
    /// A worker ends because of this error.
    pub(super) fn crashed(
        &mut self,
        worker: WorkerId,
        error: &str,
        log_tail: Vec<String>,
    ) -> Result<(), CoordinatorError> {
        let Some(node) = self.world.pool().get(&worker) else {
            return Ok(());
        };
        let (name, round) = (node.name.clone(), node.progress.1);
        let others = self.world.pool().iter().filter(|(w, _)| **w != worker);
        let others: BTreeSet<NodeKey> = others.map(|(_, n)| key_of(n)).collect();
        let passed = self.world.reached() > round;
        let Round(at) = round;
        let verdict = (self.crashes).crashed(key_of(node), (at, error), &others, passed);
        let (times, everybodys) = match verdict {
            Verdict::Again => return Ok(()),
            Verdict::Enough(times) => (times, false),
            Verdict::Everybodys(times) => (times, true),
        };
        let step = (self.report).crash_loop((worker, name), round, times, (error, log_tail));
        if !everybodys {
            return Ok(());
        }
        let error = format!(
            "every worker that came to step {step} crashed there in the same way, {times} times: {error}"
        );
        self.handle(Event::From(worker, FromWorker::JobFailed { error }))
    }
}
