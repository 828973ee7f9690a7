//! Shares of the work that follow the measured speeds.
//!
//! A record's weights are speeds where they are known, else replicas. When other
//! shares would make the steps noticeably shorter, for long enough to be no
//! chance, that is a planned change like a join: no pause, no vote of ours.

use super::*;
use crate::world::assign;

/// The fastest member's weight; the others' are relative to it.
const FASTEST: f64 = 1000.0;
/// The longest share has to become shorter by so much to be worth a change.
const GAIN: f64 = 0.1;
/// And it has to stay so for so long.
const LASTS: Duration = Duration::from_secs(1);
/// From one change of shares to the next.
const PAUSE: Duration = Duration::from_secs(10);

impl World {
    /// How every worker is reached, and what it can do relative to the others.
    pub(super) fn directory(&self) -> BTreeMap<WorkerId, Member> {
        let weights = Weights::of(self.pool.values());
        let kept = self.weights_in_dispute();
        let weigh = |id: &WorkerId, node: &Node| {
            let kept = kept.and_then(|kept| kept.get(id));
            kept.copied().unwrap_or_else(|| weights.weigh(node))
        };
        let weighed = |(id, node): (&WorkerId, &Node)| {
            let member = Member {
                weight: weigh(id, node),
                ..node.member.clone()
            };
            (*id, member)
        };
        self.pool.iter().map(weighed).collect()
    }

    /// Whether the members' shares are to follow their speeds with the next
    /// change, which they are worth by themselves.
    pub(super) fn is_uneven(&self, now: Duration) -> bool {
        let (since, changed) = self.uneven;
        let lasts = since.is_some_and(|since| now.saturating_sub(since) >= LASTS);
        let rested = changed.is_none_or(|at| now.saturating_sub(at) >= PAUSE);
        lasts && rested
    }

    /// Looks whether other shares would be better, and plans them if they would.
    pub(super) fn even_out(&mut self, now: Duration) {
        let better = self.gain().is_some_and(|gain| gain >= GAIN);
        self.uneven.0 = match (better, self.uneven.0) {
            (false, _) => None,
            (true, since) => since.or(Some(now)),
        };
        if self.is_uneven(now) {
            self.plan(now);
        }
    }

    /// By which part of itself the longest share of a step would become shorter.
    fn gain(&self) -> Option<f64> {
        if self.weights_in_dispute().is_some() {
            return None; // the rounds are being done again, in the same shares
        }
        let current = self.current.as_ref().filter(|r| r.members.len() > 1)?;
        let nodes = current.members.iter().map(|m| self.pool.get(&m.id));
        let nodes: Vec<&Node> = nodes.collect::<Option<_>>()?;
        let rates = nodes.iter().map(|n| n.speed.rate());
        let rates: Vec<f64> = rates.collect::<Option<_>>()?;
        let weights = Weights::of(self.pool.values());
        let weights: Vec<u32> = nodes.iter().map(|n| weights.weigh(n)).collect();
        let today: Vec<u32> = current.members.iter().map(|m| m.weight).collect();
        let longest = |weights: &[u32]| {
            let shares = assign(self.settings.micro_batches, weights);
            let seconds = shares.iter().zip(&rates).map(|(s, r)| s.len() as f64 / r);
            seconds.fold(0.0, f64::max)
        };
        let (now, then) = (longest(&today), longest(&weights));
        (now > 0.0).then(|| 1.0 - then / now)
    }
}

/// What speeds mean as weights.
struct Weights {
    /// Micro-batches a second of the fastest, and of a replica on average.
    measured: Option<(f64, f64)>,
}

impl Weights {
    fn of<'a>(nodes: impl Iterator<Item = &'a Node>) -> Weights {
        let (mut fastest, mut sum, mut replicas) = (0.0_f64, 0.0, 0.0);
        for node in nodes {
            if let Some(rate) = node.speed.rate().filter(|_| !node.shadow) {
                fastest = fastest.max(rate);
                sum += rate;
                replicas += f64::from(node.member.weight);
            }
        }
        Weights {
            measured: (fastest > 0.0).then(|| (fastest, sum / replicas.max(1.0))),
        }
    }

    fn weigh(&self, node: &Node) -> u32 {
        let replicas = node.member.weight;
        let Some((fastest, of_a_replica)) = self.measured else {
            return replicas;
        };
        let expected = of_a_replica * f64::from(replicas);
        let rate = node.speed.rate().unwrap_or(expected);
        // A newcomer of many replicas may be expected to be faster than all.
        (rate / fastest * FASTEST)
            .round()
            .clamp(1.0, FASTEST * FASTEST) as u32
    }
}
