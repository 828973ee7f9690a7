//! How long a loss, a join and a start take, on the MNIST job with real
//! processes: three workers, the oldest of which is lost and replaced, fifty
//! times in each way.
//!
//! ```text
//! cargo bench --bench recovery                 # 50 of each
//! cargo bench --bench recovery -- 10 silence   # 10 of one sort
//! ```
//!
//! - kill: from SIGKILL to the first step that the survivors finish in the
//!   world without the dead one;
//! - silence: the same from the moment in which nothing arrives from its host
//!   or at it any more, and nobody is told;
//! - freeze: the same from SIGSTOP;
//! - drain: the same from SIGTERM, and what had to be computed again;
//! - join: from the start of the replacement's process to the first step that
//!   it has contributed to;
//! - longest step meanwhile: what the others noticed of a join;
//! - start: from the start of a worker's process to its first step, with the
//!   coordinator up.

#[path = "support/fleet.rs"]
mod fleet;

use fleet::{Fleet, Worker, now};

/// In which way one is lost.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Loss {
    Kill,
    Silence,
    Freeze,
    Drain,
}

impl Loss {
    const ALL: [(Loss, &'static str, &'static str); 4] = [
        (Loss::Kill, "kill", "SIGKILL to the next step without it"),
        (
            Loss::Silence,
            "silence",
            "silent host to the next step without it",
        ),
        (
            Loss::Freeze,
            "freeze",
            "SIGSTOP to the next step without it",
        ),
        (Loss::Drain, "drain", "SIGTERM to the next step without it"),
    ];

    fn strike(self, victim: &mut Worker) {
        match self {
            Loss::Kill => victim.child.kill().expect("a process to kill"),
            Loss::Silence => victim.vanish(),
            Loss::Freeze => victim.signal("-STOP"),
            Loss::Drain => victim.signal("-TERM"),
        }
    }
}

/// Times in seconds.
#[derive(Default)]
struct Times {
    loss: Vec<f64>,
    join: Vec<f64>,
    longest: Vec<f64>,
    usual: Vec<f64>,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let losses = words.iter().find_map(|a| a.parse().ok()).unwrap_or(50);
    let is_named = |name: &str| words.iter().any(|word| word == name);
    let all = !Loss::ALL.iter().any(|(_, name, _)| is_named(name));
    let folder = std::env::temp_dir().join(format!("ebbtide-recovery-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    let mut fleet = Fleet::start(&folder, 3, &[]);
    let begun = now();
    let mut crew: Vec<Worker> = (0..3).map(|_| fleet.worker()).collect();
    crew.iter().for_each(Worker::wait_for_contribution);
    let start = crew[0].lines()[0].time - begun;
    println!(
        "{:<44} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "ms", "median", "p90", "p99", "max", "n"
    );
    row("worker start to first step (first world)", vec![start]);
    for (loss, name, title) in Loss::ALL {
        if all || is_named(name) {
            let (times, recomputed) = section(&mut fleet, &mut crew, loss, losses);
            row(title, times.loss);
            println!("{:<44} {recomputed:>8}", "  micro-batches computed again");
            if loss == Loss::Kill {
                row("process start to first contribution (join)", times.join);
                row("others' step while one joins, median", times.usual);
                row("others' step while one joins, longest", times.longest);
            }
        }
    }
    drop(crew);
    drop(fleet);
    let _ = std::fs::remove_dir_all(&folder);
}

/// So many losses of one sort; also what had to be computed again.
fn section(fleet: &mut Fleet, crew: &mut Vec<Worker>, loss: Loss, losses: u64) -> (Times, u64) {
    if loss == Loss::Silence {
        // All of these are behind proxies.
        for _ in 0..crew.len() {
            crew.remove(0);
            let replacement = fleet.worker_behind();
            replacement.wait_for_contribution();
            crew.push(replacement);
        }
    }
    let before = fleet.recomputed();
    let mut times = Times::default();
    for _ in 0..losses {
        event(fleet, crew, loss, &mut times);
    }
    (times, fleet.recomputed() - before)
}

fn event(fleet: &mut Fleet, crew: &mut Vec<Worker>, loss: Loss, times: &mut Times) {
    let mut victim = crew.remove(0);
    let struck = now();
    loss.strike(&mut victim);
    let spawned = now();
    let replacement = match loss {
        Loss::Silence => fleet.worker_behind(),
        Loss::Kill | Loss::Freeze | Loss::Drain => fleet.worker(),
    };
    replacement.wait_for_contribution();
    let survivor = crew[0].lines();
    let old = survivor.iter().rev().find(|l| l.time < struck);
    let old = old.map(|l| l.generation.clone());
    let next = survivor
        .iter()
        .find(|l| l.time >= struck && Some(&l.generation) != old.as_ref());
    let went_on = next.expect("the others went on").time;
    times.loss.push(went_on - struck);
    let joined = replacement
        .first_contribution()
        .expect("it contributed")
        .time;
    times.join.push(joined - spawned);
    let steps: Vec<f64> = survivor
        .iter()
        .filter(|l| l.time >= went_on && l.time <= joined)
        .map(|l| l.time)
        .collect();
    let mut gaps: Vec<f64> = steps.windows(2).map(|w| w[1] - w[0]).collect();
    gaps.sort_by(f64::total_cmp);
    if let Some(last) = gaps.last() {
        times.longest.push(*last);
        times.usual.push(gaps[gaps.len() / 2]);
    }
    crew.push(replacement);
}

fn row(name: &str, mut seconds: Vec<f64>) {
    if seconds.is_empty() {
        return;
    }
    seconds.sort_by(f64::total_cmp);
    let at = |q: f64| seconds[((seconds.len() - 1) as f64 * q) as usize] * 1e3;
    println!(
        "{name:<44} {:>8.1} {:>8.1} {:>8.1} {:>8.1} {:>8}",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0),
        seconds.len()
    );
}
