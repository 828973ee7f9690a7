//! When a worker was last heard, and how long it may be quiet before it is
//! asked whether it lives.

use std::time::Duration;

/// So many words have to be heard before quiet means anything.
const WORDS_ENOUGH: u32 = 8;
/// Quiet for so many times the longest recent gap is unusual.
const TIMES_THE_LONGEST: f64 = 2.5;
/// A gap is remembered for about so many words.
const REMEMBERED: u32 = 64;
/// So much of the patience passes at least before anybody is asked: 0.3 s of 30.
const ASKED_AFTER: u32 = 100;
/// And so much before no answer is an answer: 0.5 s of 30.
const ANSWERED_AFTER: u32 = 60;

/// What is known of the times at which a worker speaks. It does so every tenth
/// of a second or so, whatever it computes: its quiet is its own, its host's or
/// the network's, never the job's.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    last: Duration,
    /// The longest recent pause between two words.
    longest: Duration,
    words: u32,
    /// It was asked, and has not spoken since.
    asked: bool,
}

impl Heard {
    /// Its session has just opened.
    pub fn first(now: Duration) -> Heard {
        Heard {
            last: now,
            longest: Duration::ZERO,
            words: 0,
            asked: false,
        }
    }

    /// It says something.
    pub fn word(&mut self, now: Duration) {
        let gap = now.saturating_sub(self.last);
        self.longest = gap.max(self.longest - self.longest / REMEMBERED);
        self.words = self.words.saturating_add(1);
        self.excuse(now);
    }

    /// Its quiet so far says nothing of it: it has answered when asked, or we
    /// didn't listen.
    pub fn excuse(&mut self, now: Duration) {
        self.last = now;
        self.asked = false;
    }

    /// Whether it is quiet for longer than it ever is.
    pub fn is_quiet(&self, now: Duration, patience: Duration) -> bool {
        let usual = self.longest.mul_f64(TIMES_THE_LONGEST);
        let limit = usual.max(patience / ASKED_AFTER).min(patience);
        self.words >= WORDS_ENOUGH && now.saturating_sub(self.last) >= limit
    }

    /// It is asked now; so long does it have for an answer. `None`: it was asked
    /// already.
    pub fn ask(&mut self, patience: Duration) -> Option<Duration> {
        let usual = self.longest.mul_f64(TIMES_THE_LONGEST);
        let within = usual.max(patience / ANSWERED_AFTER).min(patience);
        (!std::mem::replace(&mut self.asked, true)).then_some(within)
    }

    /// Whether it was asked and has said nothing since.
    pub fn is_asked(&self) -> bool {
        self.asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn heard_every(gap: u64) -> (Heard, u64) {
        let mut heard = Heard::first(ms(0));
        for n in 1..=WORDS_ENOUGH {
            heard.word(ms(gap * u64::from(n)));
        }
        (heard, gap * u64::from(WORDS_ENOUGH))
    }

    #[test]
    fn a_few_words_missed_are_quiet() {
        let (heard, last) = heard_every(100);
        assert!(!heard.is_quiet(ms(last + 299), PATIENCE));
        assert!(heard.is_quiet(ms(last + 300), PATIENCE));
    }

    #[test]
    fn who_speaks_rarely_is_given_longer() {
        let (heard, last) = heard_every(2000);
        assert!(!heard.is_quiet(ms(last + 4999), PATIENCE));
        assert!(heard.is_quiet(ms(last + 5000), PATIENCE));
    }

    #[test]
    fn a_stall_is_forgotten_after_a_while() {
        let (mut heard, mut now) = heard_every(4000);
        for _ in 0..4 * REMEMBERED {
            now += 100;
            heard.word(ms(now));
        }
        assert!(heard.is_quiet(ms(now + 400), PATIENCE));
    }

    #[test]
    fn a_stranger_is_not_quiet() {
        let heard = Heard::first(ms(0));
        assert!(!heard.is_quiet(ms(10_000), PATIENCE));
    }

    #[test]
    fn nobody_is_asked_twice_before_it_speaks() {
        let (mut heard, _) = heard_every(100);
        assert_eq!(heard.ask(PATIENCE), Some(ms(500)));
        assert_eq!(heard.ask(PATIENCE), None);
        heard.excuse(ms(5000));
        assert_eq!(heard.ask(PATIENCE), Some(ms(500)));
    }
}
