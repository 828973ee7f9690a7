//! How long a loss, a join and a start take, on the MNIST job with real
//! processes: three workers, one of which is killed (SIGKILL) and replaced,
//! fifty times.
//!
//! ```text
//! cargo bench --bench recovery                 # 50 losses
//! cargo bench --bench recovery -- 10
//! ```
//!
//! - loss: from SIGKILL to the first step that the survivors finish in the
//!   world without the dead one;
//! - join: from the start of the replacement's process to the first step that
//!   it has contributed to;
//! - longest step meanwhile: what the others noticed of a join;
//! - start: from the start of a worker's process to its first step, with the
//!   coordinator up.

#[path = "support/fleet.rs"]
mod fleet;

use fleet::{Fleet, Worker, now};

fn main() {
    let losses = std::env::args()
        .skip(1)
        .find_map(|a| a.parse().ok())
        .unwrap_or(50);
    let folder = std::env::temp_dir().join(format!("ebbtide-recovery-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    let mut fleet = Fleet::start(&folder, 3, &[]);
    let begun = now();
    let mut crew: Vec<Worker> = (0..3).map(|_| fleet.worker()).collect();
    crew.iter().for_each(|w| w.wait_for_contribution());
    let start = crew[0].lines()[0].time - begun;

    let (mut loss, mut join, mut longest, mut usual) = (vec![], vec![], vec![], vec![]);
    for _ in 0..losses {
        let mut victim = crew.remove(0);
        let killed = now();
        victim.child.kill().expect("a process to kill");
        let replacement = fleet.worker();
        let spawned = now();
        replacement.wait_for_contribution();
        let survivor = crew[0].lines();
        let old = survivor
            .iter()
            .rev()
            .find(|l| l.time < killed)
            .map(|l| l.generation.clone());
        let next = survivor
            .iter()
            .find(|l| l.time >= killed && Some(&l.generation) != old.as_ref());
        loss.push(next.expect("the others went on").time - killed);
        let joined = replacement
            .first_contribution()
            .expect("it contributed")
            .time;
        join.push(joined - spawned);
        let after_loss = loss[loss.len() - 1] + killed;
        let steps: Vec<f64> = survivor
            .iter()
            .filter(|l| l.time >= after_loss && l.time <= joined)
            .map(|l| l.time)
            .collect();
        let mut gaps: Vec<f64> = steps.windows(2).map(|w| w[1] - w[0]).collect();
        gaps.sort_by(f64::total_cmp);
        if let Some(last) = gaps.last() {
            longest.push(*last);
            usual.push(gaps[gaps.len() / 2]);
        }
        let _ = victim.child.wait();
        crew.push(replacement);
    }
    println!(
        "{:<44} {:>8} {:>8} {:>8} {:>8}",
        "ms", "median", "p90", "max", "n"
    );
    row("SIGKILL to the next step without it", loss);
    row("process start to first contribution (join)", join);
    row("others' step while one joins, median", usual);
    row("others' step while one joins, longest", longest);
    println!(
        "{:<44} {:>8.0}",
        "worker start to first step (first world)",
        start * 1e3
    );
    drop(crew);
    drop(fleet);
    let _ = std::fs::remove_dir_all(&folder);
}

fn row(name: &str, mut seconds: Vec<f64>) {
    if seconds.is_empty() {
        return;
    }
    seconds.sort_by(f64::total_cmp);
    let at = |q: f64| seconds[((seconds.len() - 1) as f64 * q) as usize] * 1e3;
    println!(
        "{name:<44} {:>8.1} {:>8.1} {:>8.1} {:>8}",
        at(0.5),
        at(0.9),
        at(1.0),
        seconds.len()
    );
}
