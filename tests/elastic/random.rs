//! Random schedules of kill, drain and join. Everything happens at a step, so
//! that a seed says what happens; `SEED=n` replays one.

use super::*;
use crate::support::Fleet;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.within(0..choices.len() as u64) as usize]
    }
}

const AT_A_STEP: &[&str] = &[
    "kill@compute",
    "kill@computed",
    "kill@contributed",
    "kill@reduced",
    "kill@apply",
    "kill@applied",
    "drain@applied",
];
const OF_A_JOINER: &[&str] = &[
    "",
    ";kill@restore",
    ";kill@proposed",
    ";kill@applied",
    ";drain@applied",
];

fn schedule(seed: u64) {
    println!("SEED={seed}");
    let mut random = Random(seed);
    let others = random.within(1..4);
    let size = (2 + others).to_string();
    let mut fleet = Fleet::start(JOB, &["--world-size", &size]);

    // w1 waits for each joiner, and may die afterwards; w2 stays to the end.
    let cues: Vec<u64> = [5..20, 25..40].map(|steps| random.within(steps)).into();
    let mut first: Vec<String> = cues
        .iter()
        .map(|s| format!("hold@computed,step={s},until=HOLD"))
        .collect();
    if random.within(0..2) == 0 {
        first.push(format!(
            "{},step={}",
            random.one_of(AT_A_STEP),
            random.within(45..STEPS)
        ));
    }
    println!("  w1 {}", first.join(";"));
    fleet.hire("w1", &first.join(";"));
    fleet.hire("w2", "");
    for number in 0..others {
        let peers = random.one_of(&["", ",peers=0", ",peers=1"]);
        let fault = random.one_of(AT_A_STEP);
        let fault = format!("{fault},step={}{peers}", random.within(0..LAST_STEP));
        println!("  w{} {fault}", 3 + number);
        fleet.hire(&format!("w{}", 3 + number), &fault);
    }
    for (number, cue) in cues.iter().enumerate() {
        fleet.struck("w1", &format!("hold@computed,step={cue}"));
        let fault = random.one_of(OF_A_JOINER);
        println!("  joiner {number} {fault}");
        let name = format!("joiner-{number}");
        fleet.hire_perhaps(&name, &format!("tell@restore{fault}"));
        fleet.struck(&name, "tell@restore");
        fleet.release("w1");
    }
    let outcome = fleet.finish();
    println!(
        "  generations {}, recomputed {}, fetched {}",
        outcome.summary["generations"],
        outcome.summary["recomputed_micro_batches"],
        outcome.summary["sums_fetched"],
    );
}

fn schedules(seeds: std::ops::Range<u64>) {
    match std::env::var("SEED") {
        Ok(seed) => schedule(seed.parse().unwrap()),
        Err(_) => seeds.for_each(schedule),
    }
}

#[test]
fn ten_random_schedules_come_to_the_same_bits() {
    schedules(0..10);
}

#[test]
fn ten_more_random_schedules_come_to_the_same_bits() {
    schedules(10..20);
}
