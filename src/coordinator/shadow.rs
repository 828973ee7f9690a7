//! Whether a shadow keeps up with the fleet, in numbers.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::world::WorkerId;
use crate::world::membership::World;

/// `--shadow`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShadowMode {
    /// There is one as long as it keeps up.
    Auto,
    /// There is one, whatever happens.
    On,
    /// There is none.
    #[default]
    Off,
}

impl FromStr for ShadowMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(ShadowMode::Auto),
            "on" => Ok(ShadowMode::On),
            "off" => Ok(ShadowMode::Off),
            _ => Err(format!("{text:?} is none of auto, on, off")),
        }
    }
}

impl fmt::Display for ShadowMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ShadowMode::Auto => "auto",
            ShadowMode::On => "on",
            ShadowMode::Off => "off",
        })
    }
}

/// The fleet's speed is measured over so long.
const WINDOW: Duration = Duration::from_secs(2);
/// A shadow that is busy for more of the time than this falls behind at the
/// first hiccup.
const BUSY_MAX: f64 = 0.8;

/// What came of watching it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TooSlow {
    pub shadow: WorkerId,
    /// Rounds a second of the fleet.
    pub fleet: f64,
    /// Sums a second that the shadow can apply.
    pub able: f64,
}

/// Watches the shadow and says once if it is too slow.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The fleet was at this round then.
    since: Option<(Duration, u64)>,
    said: bool,
}

impl Watch {
    /// Time has passed.
    pub fn look(&mut self, now: Duration, world: &World) -> Option<TooSlow> {
        let (shadow, node) = world.pool().iter().find(|(_, n)| n.shadow)?;
        let reached = world.reached().0;
        let (at, round) = *self.since.get_or_insert((now, reached));
        let passed = now.saturating_sub(at);
        if passed < WINDOW {
            return None;
        }
        self.since = Some((now, reached));
        let fleet = reached.saturating_sub(round) as f64 / passed.as_secs_f64();
        let able = node.speed.rate()?;
        let slow = fleet > able * BUSY_MAX && !self.said;
        self.said |= slow;
        slow.then_some(TooSlow {
            shadow: *shadow,
            fleet,
            able,
        })
    }
}
