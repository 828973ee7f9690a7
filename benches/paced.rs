//! What membership costs when computing is replaced by waiting
//! (`EBBTIDE_PACE`), so that the protocol is measured and not a few busy cores:
//! the MNIST job, real processes, steps of about 50 ms.
//!
//! ```text
//! cargo bench --bench paced            # all parts
//! cargo bench --bench paced -- join    # uneven, join, checkpoint or jitter
//! MINUTES=10 cargo bench --bench paced -- jitter
//! ```
//!
//! - uneven: two nodes, and one that is 3 or 10 times slower, M = 32;
//!   throughput against the sum of the three nodes' speeds;
//! - join: the others' steps while a worker joins, against their steps before;
//! - checkpoint: steps with a checkpoint every 20 steps against steps without,
//!   written by the members and by a shadow;
//! - jitter: each micro-batch takes a random time, so that one step takes twice
//!   as long as another; nobody may be evicted for it.

#[path = "support/fleet.rs"]
mod fleet;

use std::path::Path;
use std::time::Duration;

use fleet::{Fleet, Worker};

fn main() {
    let parts: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |part: &str| {
        let named = parts.iter().filter(|p| !p.starts_with('-'));
        named.clone().count() == 0 || named.clone().any(|p| p == part)
    };
    let folder = std::env::temp_dir().join(format!("ebbtide-paced-{}", std::process::id()));
    for (part, run) in [
        ("uneven", uneven as fn(&Path)),
        ("join", join),
        ("checkpoint", checkpoint),
        ("jitter", jitter),
    ] {
        if wanted(part) {
            std::fs::create_dir_all(&folder).expect("a temporary folder");
            run(&folder);
            let _ = std::fs::remove_dir_all(&folder);
        }
    }
}

/// M = 32: the global batch of 64 in micro-batches of 2.
const FINE: &str = "train.micro_batch=2";

fn uneven(folder: &Path) {
    println!("uneven: two nodes of 3 ms a micro-batch and one slower, M = 32");
    println!(
        "{:>10} {:>12} {:>12} {:>8}",
        "slower", "step ms", "ideal ms", "speed"
    );
    for times in [3, 10] {
        let mut fleet = Fleet::start(&folder.join(times.to_string()), 3, &[FINE]);
        let pace = format!("{}ms", 3 * times);
        let crew: Vec<Worker> = ["3ms", "3ms", &pace].map(|p| fleet.worker_at(p)).into();
        crew.iter().for_each(Worker::wait_for_contribution);
        std::thread::sleep(Duration::from_secs(6)); // until the shares follow
        let step = median(&gaps(&crew[0], 10.0));
        let ideal = 32.0 / (2.0 / 3.0 + 1.0 / f64::from(3 * times));
        let speed = ideal / step * 100.0;
        println!("{times:>9}x {step:>12.1} {ideal:>12.1} {speed:>7.1}%");
    }
}

fn join(folder: &Path) {
    println!("join: three workers, steps of about 50 ms, while a fourth joins");
    let mut fleet = Fleet::start(folder, 3, &[FINE]);
    let crew: Vec<Worker> = (0..3).map(|_| fleet.worker_at("5ms")).collect();
    crew.iter().for_each(Worker::wait_for_contribution);
    let (mut usual, mut meanwhile, mut rise) = (vec![], vec![], vec![]);
    for _ in 0..5 {
        let before = gaps(&crew[0], 3.0);
        let begun = fleet::now();
        let joiner = fleet.worker_at("5ms");
        joiner.wait_for_contribution();
        let joined = joiner.first_contribution().expect("it contributed").time;
        // Up to its first step as a member; from then on shares are smaller.
        let lines = crew[0].lines();
        let during: Vec<f64> = lines
            .iter()
            .map(|l| l.time)
            .filter(|t| (begun..joined).contains(t))
            .collect();
        let during = differences(&during);
        rise.push(median(&during) / median(&before) * 100.0 - 100.0);
        usual.extend(before);
        meanwhile.extend(during);
        drop(joiner);
        std::thread::sleep(Duration::from_secs(1));
    }
    let longest = meanwhile.iter().copied().fold(0.0, f64::max);
    println!(
        "step before {:.1} ms, while one joins {:.1} ms ({:+.1} %), longest {:.1} ms ({:.2} steps), {} steps in 5 joins",
        median(&usual),
        median(&meanwhile),
        median(&rise),
        longest,
        longest / median(&usual),
        meanwhile.len()
    );
}

/// Who writes the checkpoints, and a job for that.
struct Writing {
    who: &'static str,
    shadow: &'static str,
    settings: &'static [&'static str],
    /// Steps of about 50 ms with two workers.
    pace: &'static str,
}

const WRITING: [Writing; 3] = [
    Writing {
        who: "the first member alone, 4.9 MB",
        shadow: "off",
        settings: &[FINE],
        pace: "3ms",
    },
    Writing {
        who: "both members together, 17.6 MB",
        shadow: "off",
        settings: &["model.hidden=[1024,640]"],
        pace: "24ms",
    },
    Writing {
        who: "a shadow, 4.9 MB",
        shadow: "on",
        settings: &[FINE],
        pace: "3ms",
    },
];

fn checkpoint(folder: &Path) {
    println!("checkpoint: two workers, steps of about 50 ms, Adam");
    let mut round = 0;
    let mut step = |writing: &Writing, every: &str| {
        round += 1;
        let every = format!("checkpoint.every={every} steps");
        let settings: Vec<&str> = writing.settings.iter().copied().chain([&*every]).collect();
        let folder = folder.join(round.to_string());
        let flags = ["--shadow", writing.shadow];
        let mut fleet = Fleet::start_with(&folder, 2, &settings, &flags);
        let crew: Vec<Worker> = (0..2).map(|_| fleet.worker_at(writing.pace)).collect();
        crew.iter().for_each(Worker::wait_for_contribution);
        std::thread::sleep(Duration::from_secs(3)); // a shadow catches up
        mean(&gaps(&crew[0], 12.0))
    };
    for writing in &WRITING {
        // Each in turn, so that both meet the same neighbours.
        let pairs: Vec<(f64, f64)> = (0..3)
            .map(|_| (step(writing, "1000000"), step(writing, "20")))
            .collect();
        let stalls: Vec<f64> = pairs.iter().map(|(a, b)| b / a * 100.0 - 100.0).collect();
        let without = mean(&pairs.iter().map(|p| p.0).collect::<Vec<_>>());
        let with = mean(&pairs.iter().map(|p| p.1).collect::<Vec<_>>());
        println!(
            "a checkpoint every 20 steps, written by {}: {without:.2} -> {with:.2} ms, {:+.2} % median of {stalls:.2?}",
            writing.who,
            median(&stalls)
        );
    }
}

fn jitter(folder: &Path) {
    let minutes = std::env::var("MINUTES").ok().and_then(|m| m.parse().ok());
    let minutes: f64 = minutes.unwrap_or(1.0);
    // Few micro-batches a step (M = 4): with many, what one takes longer another takes less.
    let mut fleet = Fleet::start(folder, 3, &[]);
    let crew: Vec<Worker> = (0..3).map(|_| fleet.worker_at("15ms..45ms")).collect();
    crew.iter().for_each(Worker::wait_for_contribution);
    let mut steps = gaps(&crew[0], minutes * 60.0);
    steps.sort_by(f64::total_cmp);
    let at = |q: f64| steps[((steps.len() - 1) as f64 * q) as usize];
    println!(
        "jitter: {minutes} minutes, {} steps of {:.0} ms (1 in 20 is shorter) to {:.0} ms (1 in 20 is longer): {} workers left",
        steps.len(),
        at(0.05),
        at(0.95),
        fleet.departures()
    );
}

/// Times between the steps that a worker applies in the next `seconds`, in ms.
fn gaps(worker: &Worker, seconds: f64) -> Vec<f64> {
    let begun = fleet::now();
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let times: Vec<f64> = worker.lines().iter().map(|l| l.time).collect();
    differences(
        &times
            .into_iter()
            .filter(|t| *t >= begun)
            .collect::<Vec<_>>(),
    )
}

fn differences(times: &[f64]) -> Vec<f64> {
    times.windows(2).map(|w| (w[1] - w[0]) * 1e3).collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
