//! Whether a coordinator is still the one that leads the run.
//!
//! One that was frozen, or cut off, may have been taken for dead: another one
//! has taken the next incarnation, and its workers listen to nothing older. The
//! first one finds that out by looking into the store: at once when it notices
//! that it slept or when a worker has heard of a newer one, and else now and
//! then. While it has reason to doubt, it does nothing else.

use std::time::Duration;

use super::{Generation, WorkerId};

/// A coordinator that answers nothing for so long may be replaced.
pub const ANSWER: Duration = Duration::from_secs(5);
/// Who slept nearly so long may have been.
const MISSED: Duration = Duration::from_secs(4);
/// Between two turns there is much less than this: if there isn't, we slept.
const WE_SLEPT: Duration = Duration::from_secs(1);
/// Who was cut off, and not asleep, looks so often.
pub const EVERY: Duration = Duration::from_secs(30);
/// Who doubts asks a store that doesn't answer again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// And who doesn't doubt after this.
const UNANSWERED: Duration = Duration::from_secs(5);

/// What a coordinator knows about its being the newest one.
#[derive(Debug)]
pub struct Lead {
    ours: u32,
    awake: Duration,
    looked: Duration,
    answered: bool,
    doubts: bool,
}

impl Lead {
    /// Of the coordinator that has just taken incarnation `ours`.
    pub fn new(ours: u32, now: Duration) -> Lead {
        Lead {
            ours,
            awake: now,
            looked: now,
            answered: true,
            doubts: false,
        }
    }

    /// Something happens here, if only that time passes; whether it is time to
    /// look into the store.
    pub fn awake(&mut self, now: Duration) -> bool {
        let slept = now.saturating_sub(self.awake);
        self.awake = now;
        self.doubts |= slept >= MISSED;
        let pause = match (self.doubts, self.answered) {
            (true, _) => AGAIN,
            (false, false) => UNANSWERED,
            (false, true) => EVERY,
        };
        let due = slept >= WE_SLEPT || now.saturating_sub(self.looked) >= pause;
        if due {
            (self.looked, self.answered) = (now, false);
        }
        due
    }

    /// Whether it may act as the one that leads.
    pub fn is_sure(&self) -> bool {
        !self.doubts
    }

    /// A worker comes that holds this number; whether a newer coordinator has
    /// given it that, or its name. Then it is not ours to lead.
    pub fn is_led_by_another(&mut self, worker: WorkerId, fence: Generation) -> bool {
        let newer = worker.incarnation().max(fence.incarnation) > self.ours;
        self.doubts |= newer;
        newer
    }

    /// The store says which incarnation is the newest; whether it is us.
    pub fn is_newest(&mut self, newest: u32) -> bool {
        let ours = newest <= self.ours;
        self.answered = true;
        self.doubts &= !ours;
        ours
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_is_looked_at_once_after_a_sleep_and_else_now_and_then() {
        let mut lead = Lead::new(1, Duration::ZERO);
        let looked: Vec<u64> = (1..=700)
            .filter(|tick| lead.awake(Duration::from_millis(tick * 100)) && lead.is_newest(1))
            .collect();
        assert_eq!(looked, [300, 600]);
        assert!(lead.awake(seconds(72)));
        assert!(!lead.awake(Duration::from_millis(72_100)));
        assert!(lead.is_sure(), "nobody could take over meanwhile");
    }

    #[test]
    fn store_that_did_not_answer_is_asked_again_soon() {
        let mut lead = Lead::new(1, Duration::ZERO);
        let answers = [350, 400, 700]; // it is down at 300
        let looked: Vec<u64> = (1..=700)
            .filter(|tick| {
                let looks = lead.awake(Duration::from_millis(tick * 100));
                looks && (!answers.contains(tick) || lead.is_newest(1))
            })
            .collect();
        assert_eq!(looked, [300, 350, 650, 700]);
        assert!(lead.is_sure());
    }

    #[test]
    fn who_slept_long_does_nothing_before_the_store_has_answered() {
        let mut lead = Lead::new(2, Duration::ZERO);
        assert!(lead.awake(seconds(6)) && !lead.is_sure());
        assert!(!lead.awake(Duration::from_millis(6_500)));
        assert!(lead.awake(seconds(7)), "it is asked again");
        assert!(lead.is_newest(2) && lead.is_sure());
        assert!(lead.awake(seconds(20)) && !lead.is_newest(3));
        assert!(!lead.is_sure());
    }

    #[test]
    fn worker_of_a_newer_coordinator_is_not_led_and_raises_a_doubt() {
        let told = |incarnation| Generation {
            incarnation,
            counter: 4,
        };
        let mut lead = Lead::new(2, Duration::ZERO);
        let (old, new) = (WorkerId::new(1, 7), WorkerId::new(3, 1));
        assert!(!lead.is_led_by_another(old, told(2)) && lead.is_sure());
        assert!(lead.is_led_by_another(old, told(3)) && !lead.is_sure());
        assert!(lead.is_newest(2) && lead.is_sure());
        assert!(lead.is_led_by_another(new, Generation::NONE) && !lead.is_sure());
    }
}
