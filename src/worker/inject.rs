//! Deterministic faults, for tests of our own: `EBBTIDE_FAULT` names an action,
//! a point of the protocol and a step.
//!
//! ```text
//! kill@reduced,step=120,peers=1     die in step 120 after our finished bucket went to one peer
//! drain@applied,step=40             ask to leave after step 40
//! hold@applied,step=60,until=FIFO   say so, then wait until somebody writes a byte to FIFO
//! hold@computed,step=61,until=proposed   until a planned change has reached us
//! tell@proposed                     only say so, each time
//! freeze@applied,step=30            SIGSTOP to ourselves
//! flip@applied,step=30              flip a bit of a weight in our state
//! crash@compute,step=30             fail as by an error of our own, and say so
//! ```
//!
//! Several are separated by `;`. When one strikes, a line is appended to the
//! file (or FIFO) that `EBBTIDE_FAULT_LOG` names, so that a test can prove that
//! it did. `EBBTIDE_PACE` makes computing slow (`pace.rs`). Without the variables
//! nothing of this does anything.

mod gate;
mod pace;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use self::gate::Gate;
use self::pace::Pace;
use crate::job::Kind;
use crate::strategy::Stop;

/// Where a fault can strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    /// After the first micro-batch of our share.
    Compute,
    /// After the last one. A hold here is a computation that takes long: the
    /// worker still listens, saves and streams, and may be told to stop
    /// computing; then the hold goes on in the next computation.
    Computed,
    /// After our contribution went to `peers` of the others.
    Contributed,
    /// After our finished buckets went to `peers` of the others.
    Reduced,
    /// With the complete sum at hand, before it is applied.
    Apply,
    /// After it was applied.
    Applied,
    /// After our shards of a checkpoint were uploaded, before anybody hears of
    /// them and before its manifest.
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
    /// Known to the coordinator, and without a session yet; belongs to no step.
    Registered,
}

/// Not a FIFO, but our own word: a planned change has reached us.
const UNTIL_PROPOSED: &str = "proposed";

#[derive(Debug)]
enum Action {
    Kill,
    Freeze,
    Flip,
    Crash,
    Drain,
    Tell,
    Hold(Arc<Gate>),
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
    pace: Option<Pace>,
}

impl Faults {
    /// Those that the environment asks for.
    ///
    /// # Errors
    /// The word that is not understood.
    pub fn from_env() -> Result<Faults, String> {
        let pace = Pace::from_env()?;
        let text = std::env::var("EBBTIDE_FAULT").unwrap_or_default();
        let faults: Result<Vec<Fault>, String> = text
            .split(';')
            .filter(|part| !part.trim().is_empty())
            .map(|part| parse(part.trim()).ok_or_else(|| format!("EBBTIDE_FAULT: {part:?}")))
            .collect();
        Ok(Faults {
            faults: faults?.into(),
            log: std::env::var("EBBTIDE_FAULT_LOG").ok().map(Into::into),
            drain: Arc::default(),
            pace,
        })
    }

    /// Whether one is to strike at this point of this round.
    pub fn wants(&self, point: Point, kind: &Kind) -> bool {
        self.faults
            .iter()
            .any(|f| f.point == point && (f.matches(kind) || f.is_held()))
    }

    /// Whether a bit of our state is to flip after this round.
    pub fn flips(&self, kind: &Kind) -> bool {
        let flips = |f: &&Fault| matches!(f.action, Action::Flip) && f.matches(kind);
        let mut faults = self.faults.iter().filter(flips);
        faults.any(|f| !f.struck.load(Ordering::Relaxed))
    }

    /// How slow computing is to be.
    pub fn pace(&self) -> Option<Pace> {
        self.pace
    }

    /// The share is computed: `then` tells of it, once nothing holds it back
    /// any more.
    pub fn computed(&self, kind: &Kind, stop: &Stop, then: impl FnOnce() + Send + 'static) {
        if !self.wants(Point::Computed, kind) {
            return then();
        }
        let (faults, kind, stop) = (self.clone(), kind.clone(), stop.clone());
        std::thread::spawn(move || {
            faults.reached(Point::Computed, &kind);
            for fault in faults.faults.iter().filter(|f| f.is_held()) {
                if let Action::Hold(gate) = &fault.action {
                    gate.wait_unless(&stop);
                }
            }
            then();
        });
    }

    /// Computing is to stop, whatever holds it up.
    pub fn interrupt(&self) {
        for fault in self.faults.iter() {
            if let Action::Hold(gate) = &fault.action {
                gate.look_up();
            }
        }
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
        if point == Point::Proposed {
            self.open_gates(UNTIL_PROPOSED);
        }
        for fault in self
            .faults
            .iter()
            .filter(|f| f.point == point && f.matches(kind))
        {
            self.strike(fault);
        }
    }

    fn open_gates(&self, name: &str) {
        for fault in self.faults.iter() {
            if let Action::Hold(gate) = &fault.action
                && gate.is_called(name)
            {
                gate.open();
            }
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
        if again && !matches!(fault.action, Action::Tell) {
            return;
        }
        self.tell(&format!("{}\n", fault.text));
        match &fault.action {
            Action::Tell | Action::Flip => {}
            Action::Crash => panic!("a planned fault"),
            Action::Drain => self.drain.store(true, Ordering::Relaxed),
            Action::Kill => {
                signal_ourselves("-KILL");
                std::process::abort(); // not reached where `kill` exists
            }
            Action::Freeze => signal_ourselves("-STOP"),
            Action::Hold(_) if fault.point == Point::Computed => {} // `computed` waits
            Action::Hold(gate) => gate.wait(),
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
    /// Whether it has struck and is a hold that nobody has ended yet.
    fn is_held(&self) -> bool {
        let held = |gate: &Gate| !gate.is_open() && self.struck.load(Ordering::Relaxed);
        self.point == Point::Computed && matches!(&self.action, Action::Hold(gate) if held(gate))
    }

    fn matches(&self, kind: &Kind) -> bool {
        let (at, evaluation) = match kind {
            Kind::Train { step, .. } => (*step, false),
            Kind::Evaluate { after_step, .. } => (*after_step, true),
            Kind::End(_) => return false,
        };
        evaluation == self.evaluation && self.step.is_none_or(|step| step == at)
    }
}

fn signal_ourselves(signal: &str) {
    let pid = std::process::id().to_string();
    let _ = std::process::Command::new("kill")
        .args([signal, &pid])
        .status();
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
        "registered" => Point::Registered,
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
        "freeze" => Action::Freeze,
        "flip" => Action::Flip,
        "crash" => Action::Crash,
        "drain" => Action::Drain,
        "tell" => Action::Tell,
        "hold" => Action::Hold(Gate::at(&until?)),
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
        assert!(matches!(fault.action, Action::Kill));
        assert_eq!(fault.point, Point::Reduced);
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
