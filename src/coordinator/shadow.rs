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
        let (fleet, able) = self.judge(now, world.reached().0, node.speed.rate())?;
        Some(TooSlow {
            shadow: *shadow,
            fleet,
            able,
        })
    }

    /// Rounds a second of the fleet and of the shadow, if those are too few. A
    /// window lasts until it is known what the shadow can do: in the next one the
    /// fleet may stand still.
    fn judge(&mut self, now: Duration, reached: u64, able: Option<f64>) -> Option<(f64, f64)> {
        let (at, round) = *self.since.get_or_insert((now, reached));
        let passed = now.saturating_sub(at);
        let able = able.filter(|_| passed >= WINDOW)?;
        self.since = Some((now, reached));
        let fleet = reached.saturating_sub(round) as f64 / passed.as_secs_f64();
        let slow = fleet > able * BUSY_MAX && !self.said;
        self.said |= slow;
        slow.then_some((fleet, able))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(value: u64) -> Duration {
        Duration::from_secs(value)
    }

    /// What comes of it, looked at each half second: rounds at that time.
    fn verdicts(rounds: &[u64], able: f64) -> Vec<(f64, f64)> {
        let mut watch = Watch::default();
        let times = (0..).map(|half| Duration::from_millis(500 * half));
        let looks = times.zip(rounds);
        looks
            .filter_map(|(at, reached)| watch.judge(at, *reached, Some(able)))
            .collect()
    }

    #[test]
    fn one_that_can_do_more_than_the_fleet_is_kept() {
        let forty_a_second: Vec<u64> = (0..20).map(|half| half * 20).collect();
        assert_eq!(verdicts(&forty_a_second, 51.0), []);
        assert_eq!(verdicts(&forty_a_second, 49.0), [(40.0, 49.0)], "said once");
    }

    /// A hiccup is no measure: the window is.
    #[test]
    fn a_burst_within_a_window_is_nothing() {
        assert_eq!(verdicts(&[0, 0, 0, 70, 70, 70, 70, 140, 140], 50.0), []);
    }

    #[test]
    fn what_the_fleet_did_before_the_shadow_was_measured_counts() {
        let mut watch = Watch::default();
        assert_eq!(watch.judge(s(0), 0, None), None);
        assert_eq!(watch.judge(s(3), 300, None), None, "it is not known yet");
        assert_eq!(watch.judge(s(4), 300, Some(50.0)), Some((75.0, 50.0)));
    }
}
