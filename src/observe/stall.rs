//! No wait over ten seconds is silent.
//!
//! Whoever waits (the coordinator for reports, a member for a contribution, a
//! run for its first workers) tells the watch again and again whom it waits for
//! and what happens if they don't come. The watch stays quiet for ten seconds,
//! then speaks after 10, 30 and 60 seconds and each minute after that; at once
//! again when somebody not yet named has been missing for ten seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::progress::seconds;
use super::{listed, printable};

/// A shorter wait isn't worth a word.
const QUIET: Duration = Duration::from_secs(10);
/// From one message to the next; the last one repeats.
const PAUSES: [Duration; 3] = [
    Duration::from_secs(20),
    Duration::from_secs(30),
    Duration::from_secs(60),
];

/// Whom somebody has waited for, for how long, and what comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    /// Who is missing and for how long, the longest first.
    pub missing: Vec<(String, Duration)>,
    /// What happens next, as a phrase: `evicted after 15s without a word`.
    pub next: String,
}

impl Stall {
    /// How long the longest of these waits has lasted.
    pub fn since(&self) -> Duration {
        self.missing
            .first()
            .map_or(Duration::ZERO, |(_, since)| *since)
    }
}

impl fmt::Display for Stall {
    /// `waiting for worker 2 (12.0s), worker 3 (10.0s); next: …`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self
            .missing
            .iter()
            .map(|(name, since)| format!("{name} ({})", seconds(since.as_secs_f64())))
            .collect();
        write!(
            f,
            "waiting for {}; next: {}",
            listed(&names),
            printable(&self.next)
        )
    }
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    since: Duration,
    /// Whether a message has named it.
    named: bool,
}

/// Remembers since when each of the missing has been missing.
#[derive(Clone, Debug, Default)]
pub struct StallWatch {
    missing: BTreeMap<String, Missing>,
    /// When the last message was given and how many were, in this wait.
    spoken: Option<(Duration, usize)>,
}

impl StallWatch {
    /// A watch on nothing.
    pub fn new() -> StallWatch {
        StallWatch::default()
    }

    /// At `now` (a monotonic clock), these are missing. An empty set ends the
    /// wait; a name that is gone has arrived. Gives a message when one is due.
    pub fn watch(
        &mut self,
        now: Duration,
        waiting_for: &BTreeSet<String>,
        next: &str,
    ) -> Option<Stall> {
        self.missing.retain(|name, _| waiting_for.contains(name));
        if self.missing.is_empty() {
            self.spoken = None;
        }
        for name in waiting_for {
            let fresh = Missing {
                since: now,
                named: false,
            };
            self.missing.entry(name.clone()).or_insert(fresh);
        }
        self.due(now).then(|| self.speak(now, next))
    }

    /// When the next message is due if nothing changes, so that the caller can
    /// sleep until then.
    pub fn next_due(&self) -> Option<Duration> {
        let unnamed = self
            .missing
            .values()
            .filter(|m| !m.named)
            .map(|m| m.since + QUIET)
            .min();
        // A repetition needs somebody to repeat.
        let named = self.missing.values().any(|m| m.named);
        let again = self
            .spoken
            .filter(|_| named)
            .map(|(last, times)| last + pause(times));
        match (unnamed, again) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn due(&self, now: Duration) -> bool {
        self.next_due().is_some_and(|due| now >= due)
    }

    fn speak(&mut self, now: Duration, next: &str) -> Stall {
        let times = self.spoken.map_or(0, |(_, times)| times);
        self.spoken = Some((now, times + 1));
        let mut missing = Vec::new();
        for (name, state) in &mut self.missing {
            let waited = now.saturating_sub(state.since);
            // One that has only just gone missing is named in its own time.
            if waited >= QUIET {
                state.named = true;
                missing.push((name.clone(), waited));
            }
        }
        missing.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Stall {
            missing,
            next: next.to_owned(),
        }
    }
}

/// The pause after the `times`-th message, counted from 1.
fn pause(times: usize) -> Duration {
    PAUSES[times.saturating_sub(1).min(PAUSES.len() - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(value: u64) -> Duration {
        Duration::from_secs(value)
    }

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|n| (*n).to_owned()).collect()
    }

    /// At which seconds it speaks when asked each second.
    fn speaks(watch: &mut StallWatch, from: u64, to: u64, missing: &[&str]) -> Vec<u64> {
        (from..=to)
            .filter(|t| watch.watch(s(*t), &names(missing), "it goes on").is_some())
            .collect()
    }

    #[test]
    fn a_long_wait_is_reported_with_growing_pauses() {
        let mut watch = StallWatch::new();
        assert_eq!(
            speaks(&mut watch, 100, 400, &["worker 2"]),
            [110, 130, 160, 220, 280, 340, 400]
        );
        assert_eq!(watch.next_due(), Some(s(460)));
    }

    #[test]
    fn the_message_says_who_since_when_and_what_next() {
        let mut watch = StallWatch::new();
        assert_eq!(watch.watch(s(0), &names(&["worker 2 (spot-7f)"]), ""), None);
        let both = names(&["worker 10", "worker 2 (spot-7f)"]);
        assert_eq!(watch.watch(s(1), &both, ""), None);
        let stall = watch
            .watch(s(12), &both, "they are evicted at 15s")
            .expect("due");
        assert_eq!(
            stall.to_string(),
            "waiting for worker 2 (spot-7f) (12.0s), worker 10 (11.0s); next: they are evicted at 15s"
        );
        assert_eq!(stall.since(), s(12));
    }

    #[test]
    fn many_short_waits_are_no_stall() {
        let mut watch = StallWatch::new();
        for step in 0..100 {
            assert_eq!(watch.watch(s(step * 9), &names(&["a"]), ""), None);
            assert_eq!(watch.watch(s(step * 9 + 8), &names(&[]), ""), None);
            assert_eq!(watch.next_due(), None);
        }
        for t in 1000..1100 {
            let one = if t % 2 == 0 { "a" } else { "b" };
            assert_eq!(watch.watch(s(t), &names(&[one]), ""), None);
        }
    }

    #[test]
    fn who_goes_missing_later_is_named_ten_seconds_later() {
        let mut watch = StallWatch::new();
        assert_eq!(speaks(&mut watch, 0, 35, &["a"]), [10, 30]);
        assert_eq!(speaks(&mut watch, 36, 50, &["a", "b"]), [46]);
        assert_eq!(watch.next_due(), Some(s(106)));
    }

    #[test]
    fn when_one_of_two_arrives_the_other_still_counts_from_its_own_start() {
        let mut watch = StallWatch::new();
        assert_eq!(speaks(&mut watch, 0, 12, &["a", "b"]), [10]);
        let stall = (13..=30).find_map(|t| watch.watch(s(t), &names(&["b"]), "x"));
        assert_eq!(
            stall.map(|s| s.to_string()).as_deref(),
            Some("waiting for b (30.0s); next: x")
        );
        assert_eq!(watch.watch(s(31), &names(&["c"]), "x"), None);
        assert_eq!(watch.next_due(), Some(s(41)));
    }

    #[test]
    fn a_message_never_names_nobody() {
        let mut watch = StallWatch::new();
        assert_eq!(speaks(&mut watch, 0, 25, &["a"]), [10]);
        assert_eq!(speaks(&mut watch, 26, 28, &["a", "b"]), [0; 0]);
        assert_eq!(speaks(&mut watch, 29, 40, &["b"]), [36]);
    }

    #[test]
    fn a_clock_that_steps_back_does_no_harm() {
        let mut watch = StallWatch::new();
        assert_eq!(watch.watch(s(50), &names(&["a"]), ""), None);
        assert_eq!(watch.watch(s(10), &names(&["a"]), ""), None);
        assert!(watch.watch(s(60), &names(&["a"]), "").is_some());
    }
}
