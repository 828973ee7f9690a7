//! Computing that takes as long as a test or bench wants it to, so that the
//! protocol is measured and not a few busy cores.
//!
//! `EBBTIDE_PACE=12ms` makes each micro-batch of this worker take that long,
//! `EBBTIDE_PACE=10ms..20ms` a time between the two: the gradient is computed as
//! always, what is left of the time is waited. A shadow, which computes none,
//! takes that long to apply a sum.

use std::time::{Duration, Instant};

use crate::strategy::Stop;

/// How often it is looked whether computing is to stop.
const LOOKS: Duration = Duration::from_millis(5);

/// How long a micro-batch takes, or a shadow's sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::worker) struct Pace {
    least: Duration,
    most: Duration,
}

impl Pace {
    /// What the environment asks for.
    ///
    /// # Errors
    /// When it isn't understood.
    pub fn from_env() -> Result<Option<Pace>, String> {
        match std::env::var("EBBTIDE_PACE") {
            Ok(text) => Pace::parse(&text)
                .map(Some)
                .ok_or_else(|| format!("EBBTIDE_PACE: {text:?} is not like 12ms or 10ms..20ms")),
            Err(_) => Ok(None),
        }
    }

    fn parse(text: &str) -> Option<Pace> {
        let time = |text: &str| {
            Some(Duration::from_millis(
                text.strip_suffix("ms")?.parse().ok()?,
            ))
        };
        let (least, most) = match text.split_once("..") {
            Some((least, most)) => (time(least)?, time(most)?),
            None => (time(text)?, time(text)?),
        };
        (least <= most).then_some(Pace { least, most })
    }

    /// Waits for the rest of the time that what `began` takes, unless computing is
    /// to stop.
    pub fn wait(&self, began: Instant, stop: &Stop) {
        let takes = self.least + (self.most - self.least).mul_f64(chance());
        while let Some(left) = takes.checked_sub(began.elapsed())
            && !stop.is_asked()
        {
            std::thread::sleep(left.min(LOOKS));
        }
    }
}

/// A number below 1; which one is nothing that anything depends on.
fn chance() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    (RandomState::new().hash_one(0u8) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_a_time_or_two() {
        let ms = Duration::from_millis;
        let pace = |least, most| Some(Pace { least, most });
        assert_eq!(Pace::parse("12ms"), pace(ms(12), ms(12)));
        assert_eq!(Pace::parse("10ms..20ms"), pace(ms(10), ms(20)));
        for text in ["", "12", "20ms..10ms", "..ms"] {
            assert_eq!(Pace::parse(text), None, "{text}");
        }
    }
}
