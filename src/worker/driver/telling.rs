//! What the coordinator hears: how far we are, what was decided, and goodbye.

use std::time::Instant;

use super::super::Ended;
use super::super::fault::Fault;
use super::Driver;
use crate::world::message::{FromWorker, ReleaseReason};

impl Driver {
    pub(super) fn exit(&mut self, reason: ReleaseReason) {
        self.tell_progress(); // our counters, to the end
        let bye = FromWorker::Bye {
            reason: format!("{reason:?}"),
        };
        self.session.tell(bye);
        self.ended = Some(Ended::Released(reason));
    }

    /// Ends because something is wrong. What people need to know comes first:
    /// after a goodbye nobody listens.
    pub(super) fn give_up(&mut self, fault: Fault, error: String) {
        let damaged = match &fault {
            Fault::Checkpoint(manifest) => manifest.clone(),
            _ => String::new(),
        };
        self.tell_progress(); // where it happened
        self.session.trouble(error.clone(), damaged);
        let (reason, told) = (error.clone(), error);
        let (last, ended) = match fault {
            Fault::Jobs => (FromWorker::JobFailed { error: told }, Ended::Failed(reason)),
            Fault::Nodes => (FromWorker::Bye { reason: told }, Ended::Refused(reason)),
            Fault::Ours | Fault::Checkpoint(_) => {
                (FromWorker::Bye { reason: told }, Ended::Broken(reason))
            }
        };
        self.session.tell(last);
        self.ended = Some(ended);
    }

    pub(super) fn tell_progress(&mut self) {
        self.told = Instant::now();
        if let Some(round) = self.member.round() {
            let generation = self.member.installed();
            let mut counters = self.counters;
            if self.computing.is_some() {
                counters.micro_batches += self.stop.finished();
            }
            let exchange = self.member.exchange();
            let done = self.computing.is_none();
            let awaits = exchange.filter(|_| done).map(|x| x.awaits());
            self.session.tell(FromWorker::Progress {
                generation,
                round,
                counters,
                awaits: awaits.unwrap_or_default(),
            });
        }
        if self.member.writes()
            && let Some(running) = self.running.take()
        {
            self.session.records(std::iter::once(&running));
        }
        self.send_steps();
        self.send_records();
    }

    /// The first member tells the names of the sums; all keep them.
    fn send_steps(&mut self) {
        // Whoever has just stopped tells the rest: its successor may have begun
        // to follow later.
        if self.member.writes() || self.was_first {
            self.send_all_steps();
        } else {
            // Whoever is first now may take what it has not told along.
            self.steps.tell_again();
        }
    }

    /// Before a checkpoint, by whoever writes it: what came before it won't be
    /// trained again. The last one to leave is no member any more.
    pub(super) fn send_all_steps(&mut self) {
        while let Some(steps) = self.steps.take_untold() {
            self.session.records(std::iter::once(&steps));
        }
    }

    /// The first member tells what was decided; a new one tells again what the
    /// one before it may have taken along.
    pub(super) fn send_records(&mut self) {
        let first = self.member.writes();
        let was_first = std::mem::replace(&mut self.was_first, first);
        if first && !was_first {
            self.unsent = self.records.len();
        }
        if (first || was_first) && self.unsent > 0 {
            let from = self.records.len() - self.unsent;
            self.session.records(self.records.iter().skip(from));
            self.unsent = 0;
        }
    }
}
