//! Deterministic faults, for tests of our own: `EBBTIDE_FAULT` names an action,
//! a point of the protocol and a step.
//!
//! ```text
//! kill@reduced,step=120,peers=1     die in step 120 after our finished bucket went to one peer
//! drain@applied,step=40             ask to leave after step 40
//! hold@applied,step=60,until=FIFO   say so, then wait until somebody writes a byte to FIFO
//! tell@proposed                     only say so, each time
//! ```
//!
//! Several are separated by `;`. When one strikes, a line is appended to the
//! file (or FIFO) that `EBBTIDE_FAULT_LOG` names, so that a test can prove that
//! it did. Without the variable nothing of this does anything.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::job::Kind;

/// Where a fault can strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    /// After the first micro-batch of our share.
    Compute,
    /// After the last one. A hold here keeps only the news of it back: the
    /// worker still listens, saves and streams, but takes the round no further.
    Computed,
    /// After our contribution went to `peers` of the others.
    Contributed,
    /// After our finished buckets went to `peers` of the others.
    Reduced,
    /// With the complete sum at hand, before it is applied.
    Apply,
    /// After it was applied.
    Applied,
    /// After a checkpoint's shards were uploaded, before its manifest.
    Uploaded,
    /// After a checkpoint's manifest was committed.
    Committed,
    /// When somebody asks us for a sum, before we answer.
    Fetch,
    /// When the coordinator asks what we hold, before we answer.
    Prepare,
    /// When a planned change has reached us.
    Proposed,
    /// Before we read a state; belongs to no step.
    Restore,
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Kill,
    Drain,
    Tell,
    Hold(String),
}

#[derive(Debug)]
struct Fault {
    /// As it was given; the line in the log.
    text: String,
    action: Action,
    point: Point,
    /// Steps finished before it, or `None` for the first occasion.
    step: Option<u64>,
    evaluation: bool,
    peers: Option<usize>,
    struck: AtomicBool,
}

/// The faults of this process; none but in tests.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    faults: Arc<[Fault]>,
    log: Option<Arc<str>>,
    drain: Arc<AtomicBool>,
}

impl Faults {
    /// Those that the environment asks for.
    ///
    /// # Errors
    /// The word that is not understood.
    pub fn from_env() -> Result<Faults, String> {
        let Ok(text) = std::env::var("EBBTIDE_FAULT") else {
            return Ok(Faults::default());
        };
        let faults: Result<Vec<Fault>, String> = text
            .split(';')
            .filter(|part| !part.trim().is_empty())
            .map(|part| parse(part.trim()).ok_or_else(|| format!("EBBTIDE_FAULT: {part:?}")))
            .collect();
        Ok(Faults {
            faults: faults?.into(),
            log: std::env::var("EBBTIDE_FAULT_LOG").ok().map(Into::into),
            drain: Arc::default(),
        })
    }

    /// Whether one is to strike at this point of this round.
    pub fn wants(&self, point: Point, kind: &Kind) -> bool {
        self.faults
            .iter()
            .any(|f| f.point == point && f.matches(kind))
    }

    /// Whether one waits for a checkpoint's shards.
    pub fn strikes_checkpoints(&self) -> bool {
        self.faults.iter().any(|f| f.point == Point::Uploaded)
    }

    /// The point is reached; a hold keeps back only `then`.
    pub fn before(&self, point: Point, kind: &Kind, then: impl FnOnce() + Send + 'static) {
        if !self.wants(point, kind) {
            return then();
        }
        let (faults, kind) = (self.clone(), kind.clone());
        std::thread::spawn(move || {
            faults.reached(point, &kind);
            then();
        });
    }

    /// After how many peers one strikes at this point of this round.
    pub fn peers(&self, point: Point, kind: &Kind) -> Option<usize> {
        let fault = self
            .faults
            .iter()
            .find(|f| f.point == point && f.matches(kind))?;
        Some(fault.peers.unwrap_or(usize::MAX))
    }

    /// The point is reached: strikes if one is to.
    pub fn reached(&self, point: Point, kind: &Kind) {
        for fault in self
            .faults
            .iter()
            .filter(|f| f.point == point && f.matches(kind))
        {
            self.strike(fault);
        }
    }

    /// A checkpoint's point is reached.
    pub fn reached_checkpoint(&self, point: Point, step: u64) {
        let here = |f: &&Fault| f.point == point && f.step.is_none_or(|s| s == step);
        for fault in self.faults.iter().filter(here) {
            self.strike(fault);
        }
    }

    /// A point that belongs to no step is reached.
    pub fn reached_anywhere(&self, point: Point) {
        for fault in self.faults.iter().filter(|f| f.point == point) {
            self.strike(fault);
        }
    }

    /// Whether a fault has asked to leave, once.
    pub fn take_drain(&self) -> bool {
        self.drain.swap(false, Ordering::Relaxed)
    }

    fn strike(&self, fault: &Fault) {
        let again = fault.struck.swap(true, Ordering::Relaxed);
        if again && fault.action != Action::Tell {
            return;
        }
        self.tell(&format!("{}\n", fault.text));
        match &fault.action {
            Action::Tell => {}
            Action::Drain => self.drain.store(true, Ordering::Relaxed),
            Action::Kill => {
                let pid = std::process::id().to_string();
                let _ = std::process::Command::new("kill")
                    .args(["-9", &pid])
                    .status();
                std::process::abort(); // not reached where `kill` exists
            }
            Action::Hold(path) => {
                let mut word = [0; 1];
                let _ = std::fs::File::open(path).and_then(|mut f| f.read(&mut word));
            }
        }
    }

    fn tell(&self, line: &str) {
        let Some(path) = &self.log else { return };
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&**path);
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }
}

impl Fault {
    fn matches(&self, kind: &Kind) -> bool {
        let (at, evaluation) = match kind {
            Kind::Train { step, .. } => (*step, false),
            Kind::Evaluate { after_step, .. } => (*after_step, true),
            Kind::End(_) => return false,
        };
        evaluation == self.evaluation && self.step.is_none_or(|step| step == at)
    }
}

fn parse(text: &str) -> Option<Fault> {
    let mut words = text.split(',');
    let (action, point) = words.next()?.split_once('@')?;
    let point = match point {
        "compute" => Point::Compute,
        "computed" => Point::Computed,
        "contributed" => Point::Contributed,
        "reduced" => Point::Reduced,
        "apply" => Point::Apply,
        "applied" => Point::Applied,
        "uploaded" => Point::Uploaded,
        "committed" => Point::Committed,
        "fetch" => Point::Fetch,
        "prepare" => Point::Prepare,
        "proposed" => Point::Proposed,
        "restore" => Point::Restore,
        _ => return None,
    };
    let (mut step, mut evaluation, mut peers, mut until) = (None, false, None, None);
    for word in words {
        match word.split_once('=') {
            Some(("step", value)) => step = Some(value.parse().ok()?),
            Some(("peers", value)) => peers = Some(value.parse().ok()?),
            Some(("until", value)) => until = Some(value.to_owned()),
            None if word == "evaluation" => evaluation = true,
            _ => return None,
        }
    }
    let action = match action {
        "kill" => Action::Kill,
        "drain" => Action::Drain,
        "tell" => Action::Tell,
        "hold" => Action::Hold(until?),
        _ => return None,
    };
    Some(Fault {
        text: text.to_owned(),
        action,
        point,
        step,
        evaluation,
        peers,
        struck: AtomicBool::new(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_an_action_at_a_point_of_a_step() {
        let fault = parse("kill@reduced,step=120,peers=1").unwrap();
        assert_eq!((fault.action, fault.point), (Action::Kill, Point::Reduced));
        assert_eq!((fault.step, fault.peers), (Some(120), Some(1)));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "kill",
            "kill@nowhere",
            "hold@applied",
            "kill@apply,step=x",
            "kill@apply,y",
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
