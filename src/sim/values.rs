//! Stand-ins for gradients, sums and states, by which every mistake shows: an
//! omission, a double count, a stale contribution, an order.

use crate::world::Round;
use crate::world::member::Next;

/// Scrambles two numbers into one.
pub fn mix(a: u64, b: u64) -> u64 {
    let mut x = a ^ b.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Random numbers from a seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(mix(seed, 1))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0, 2)
    }

    /// A number below `end`, which must not be 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn range(&mut self, from: usize, to_inclusive: usize) -> usize {
        from + self.below(to_inclusive - from + 1)
    }

    /// True `percent` times in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// A multiset of gradients: how often each micro-batch is in it (a byte each),
/// and what they were computed from.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sum {
    counts: u64,
    mixed: u64,
}

impl Sum {
    /// The gradient of one micro-batch, a pure function of all it depends on.
    pub fn gradient(round: Round, micro_batch: u32, state: u64) -> Sum {
        Sum {
            counts: 1 << (8 * micro_batch),
            mixed: mix(state, mix(round.0, u64::from(micro_batch))),
        }
    }

    /// How often each micro-batch is in it, a byte each.
    pub fn counts(&self) -> u64 {
        self.counts
    }

    pub fn add(&mut self, other: Sum) {
        self.counts += other.counts;
        self.mixed = self.mixed.wrapping_add(other.mixed);
    }
}

/// Whether a round is an evaluation pass.
fn is_pass(round: u64, evaluate_every: u64) -> bool {
    round % evaluate_every == 1
}

/// What a worker has decided so far, each for itself by its own states.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The best that an evaluation pass has come to.
    best: Option<u64>,
    /// Passes since then.
    worse: u64,
}

impl Standing {
    /// Whether the last pass was the best.
    fn is_best(&self) -> bool {
        self.best.is_some() && self.worse == 0
    }
}

/// What is to be trained, and what has to come of it.
pub struct Course {
    /// Of each round that the job asks for; fewer are trained if it stops early.
    micro_batches: Vec<u32>,
    evaluate_every: u64,
    /// So many passes without a better one, and training stops.
    passes_max: u64,
    save_every: u64,
    /// What the undisturbed run comes to, from the beginning to its end.
    states: Vec<(u64, Standing)>,
}

impl Course {
    /// Training steps of one number of micro-batches, now and then an
    /// evaluation pass of another.
    pub fn draw(random: &mut Random) -> Course {
        let (steps, passes) = (random.range(1, 8) as u32, random.range(1, 8) as u32);
        let evaluate_every = random.range(2, 5) as u64;
        let rounds = match random.chance(25) {
            true => random.range(20, 120),
            false => random.range(4, 12),
        };
        let of = |round| match is_pass(round, evaluate_every) {
            true => passes,
            false => steps,
        };
        let mut course = Course {
            micro_batches: (0..rounds as u64).map(of).collect(),
            evaluate_every,
            passes_max: random.pick(&[1, 3, 6, u64::MAX]),
            save_every: random.pick(&[1, 2, 3, 5, 10, 30]),
            states: vec![(mix(random.next(), 3), Standing::default())],
        };
        course.train();
        course
    }

    /// The undisturbed run.
    fn train(&mut self) {
        while let Some((state, standing)) = self.states.last().copied() {
            let round = Round(self.states.len() as u64 - 1);
            let Next::Round { micro_batches, .. } = self.next(round, standing) else {
                return;
            };
            let mut sum = Sum::default();
            for m in 0..micro_batches {
                sum.add(Sum::gradient(round, m, state));
            }
            let state = self.apply(state, sum);
            let standing = self.judged(round, state, standing);
            self.states.push((state, standing));
        }
    }

    pub fn total_micro_batches(&self) -> u32 {
        let trained = self.states.len() - 1;
        self.micro_batches[..trained].iter().sum()
    }

    pub fn end(&self) -> Round {
        Round(self.states.len() as u64 - 1)
    }

    /// Whether the run ends before what the job asks for.
    pub fn stops_early(&self) -> bool {
        self.states.len() <= self.micro_batches.len()
    }

    pub fn state(&self, round: Round) -> u64 {
        let known = self.states.get(round.0 as usize);
        known.map_or(0, |(state, _)| *state)
    }

    /// What everybody has to have decided when it comes to this round.
    pub fn standing(&self, round: Round) -> Option<Standing> {
        let known = self.states.get(round.0 as usize);
        known.map(|(_, standing)| *standing)
    }

    /// Of a round that has to be trained; 0 at the end.
    pub fn micro_batches(&self, round: Round) -> u32 {
        let trained = round < self.end();
        let asked = self.micro_batches.get(round.0 as usize).copied();
        asked.filter(|_| trained).unwrap_or(0)
    }

    /// What a worker decides after `round`, which has led it to `state`.
    pub fn judged(&self, round: Round, state: u64, before: Standing) -> Standing {
        let loss = mix(state, 7);
        match (is_pass(round.0, self.evaluate_every), before.best) {
            (false, _) => before,
            (true, Some(best)) if best <= loss => Standing {
                worse: before.worse + 1,
                ..before
            },
            (true, _) => Standing {
                best: Some(loss),
                worse: 0,
            },
        }
    }

    /// What comes next for who has decided that.
    pub fn next(&self, round: Round, standing: Standing) -> Next {
        let asked = self.micro_batches.get(round.0 as usize);
        match asked.filter(|_| standing.worse < self.passes_max) {
            None => Next::End,
            Some(micro_batches) => Next::Round {
                micro_batches: *micro_batches,
                values: 1,
            },
        }
    }

    /// Whether a checkpoint is due at this round's beginning: now and then, and when
    /// a pass was the best.
    pub fn wants_checkpoint(&self, round: Round, standing: Standing) -> bool {
        let after_pass = round.previous();
        let after_pass = after_pass.is_some_and(|r| is_pass(r.0, self.evaluate_every));
        round.0.is_multiple_of(self.save_every) || after_pass && standing.is_best()
    }

    /// The only right sum of a round.
    pub fn expected(&self, round: Round) -> Sum {
        let mut sum = Sum::default();
        for m in 0..self.micro_batches(round) {
            sum.add(Sum::gradient(round, m, self.state(round)));
        }
        sum
    }

    /// The state after the only right sum of `round`, or after another one.
    pub fn apply(&self, state: u64, sum: Sum) -> u64 {
        mix(state, sum.mixed)
    }
}
