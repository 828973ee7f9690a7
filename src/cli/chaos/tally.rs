//! What really happened, for people and for scripts.

use std::time::Duration;

use serde_json::{Value, json};

use super::crew::Action;
use crate::observe::count;

/// Counts of what was done.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub kills: u64,
    pub freezes: u64,
    pub joins: u64,
    pub drains: u64,
    /// The coordinator was killed and came back.
    pub coordinators: u64,
    /// What the schedule wanted and the fleet didn't allow.
    pub left_out: u64,
    /// Workers that ended although nobody had told them to.
    pub unasked: u64,
}

impl Tally {
    pub fn note(&mut self, action: Action) {
        *match action {
            Action::Kill(_) => &mut self.kills,
            Action::Freeze(_) => &mut self.freezes,
            Action::Drain(_) => &mut self.drains,
            Action::Join => &mut self.joins,
            Action::KillCoordinator => return, // counted when it is back
        } += 1;
    }

    pub fn line(&self, seed: u64, lasted: Duration, longest: Duration, run: &Value) -> String {
        let number = |key: &str| run[key].as_u64().map_or("?".into(), |n| n.to_string());
        format!(
            "chaos of {:.1}s, seed {seed}: {}, {}, {}, {}, {} ({} left out, {} ended unasked); \
             {} steps, {} micro-batches recomputed, {} after resumes; longest standstill {:.3}s",
            lasted.as_secs_f64(),
            count(self.kills, "kill"),
            count(self.freezes, "freeze"),
            count(self.joins, "join"),
            count(self.drains, "drain"),
            count(self.coordinators, "coordinator restart"),
            self.left_out,
            count(self.unasked, "worker"),
            number("steps"),
            number("recomputed_micro_batches"),
            number("recomputed_after_resume"),
            longest.as_secs_f64(),
        )
    }

    pub fn json(&self, seed: u64, lasted: Duration, longest: Duration) -> Value {
        let rounded = |time: Duration| (time.as_secs_f64() * 1e3).round() / 1e3;
        json!({
            "seed": seed,
            "seconds": rounded(lasted),
            "kills": self.kills,
            "freezes": self.freezes,
            "joins": self.joins,
            "drains": self.drains,
            "coordinator_restarts": self.coordinators,
            "left_out": self.left_out,
            "ended_unasked": self.unasked,
            "longest_standstill_seconds": rounded(longest),
        })
    }
}
