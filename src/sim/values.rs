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

    pub fn add(&mut self, other: Sum) {
        self.counts += other.counts;
        self.mixed = self.mixed.wrapping_add(other.mixed);
    }
}

/// What is to be trained, and what has to come of it.
pub struct Course {
    micro_batches: Vec<u32>,
    states: Vec<u64>,
    save_every: u64,
}

impl Course {
    /// Training steps of one number of micro-batches, now and then an
    /// evaluation pass of another.
    pub fn draw(random: &mut Random) -> Course {
        let (steps, passes) = (random.range(1, 8) as u32, random.range(1, 8) as u32);
        let evaluate_every = random.range(2, 5);
        let rounds = match random.chance(25) {
            true => random.range(20, 120),
            false => random.range(4, 12),
        };
        let of = |round| {
            if round % evaluate_every == 1 {
                passes
            } else {
                steps
            }
        };
        let mut course = Course {
            micro_batches: (0..rounds).map(of).collect(),
            states: vec![mix(random.next(), 3)],
            save_every: random.pick(&[1, 2, 3, 5, 10, 30]),
        };
        for round in 0..rounds {
            let sum = course.expected(Round(round as u64));
            let state = mix(course.states[round], sum.mixed);
            course.states.push(state);
        }
        course
    }

    pub fn total_micro_batches(&self) -> u32 {
        self.micro_batches.iter().sum()
    }

    pub fn end(&self) -> Round {
        Round(self.micro_batches.len() as u64)
    }

    pub fn state(&self, round: Round) -> u64 {
        self.states[round.0 as usize]
    }

    pub fn micro_batches(&self, round: Round) -> u32 {
        self.micro_batches
            .get(round.0 as usize)
            .copied()
            .unwrap_or(0)
    }

    pub fn next(&self, round: Round) -> Next {
        match self.micro_batches(round) {
            0 => Next::End,
            micro_batches => Next::Round {
                micro_batches,
                values: 1,
            },
        }
    }

    /// Whether a checkpoint is due at this round's beginning.
    pub fn wants_checkpoint(&self, round: Round) -> bool {
        round.0.is_multiple_of(self.save_every)
    }

    /// The only right sum of a round.
    pub fn expected(&self, round: Round) -> Sum {
        let mut sum = Sum::default();
        for m in 0..self.micro_batches(round) {
            sum.add(Sum::gradient(round, m, self.state(round)));
        }
        sum
    }

    /// The state after the sum of `round`.
    pub fn apply(&self, round: Round, state: u64, sum: Sum) -> Result<u64, String> {
        let expected = self.expected(round);
        if state != self.state(round) {
            return Err(format!(
                "a sum of round {round} is applied to another state"
            ));
        }
        if sum.counts != expected.counts {
            let (is, should) = (sum.counts, expected.counts);
            return Err(format!(
                "round {round}: micro-batches {is:016x}, not {should:016x}"
            ));
        }
        if sum != expected {
            return Err(format!("round {round}: a gradient from a stale state"));
        }
        Ok(mix(state, sum.mixed))
    }
}
