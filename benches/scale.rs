//! What a large fleet costs its coordinator: the very `World` that runs, with
//! thousands of simulated workers that answer as the real ones do.
//!
//! ```text
//! cargo bench --bench scale                       # 1,000 and 10,000 workers
//! TRACES_DIR=traces cargo bench --bench scale     # and the churn of a real night
//! ```
//!
//! - start: from the first Hello to the first world;
//! - loss: from the members' complaints to the new world, that is Prepare, all
//!   Reports, all Installs, and everybody's first word from inside;
//! - join: from Hello to the planned change that takes the newcomer in;
//! - churn: 32 groups come and go as the nodes of `aws-p3-32nodes-11h.csv` did;
//!   without it, as a seed draws.
//!
//! Times are those of one core within `World::handle`. What is sent is counted
//! as protobuf, a record once for all whom it goes to and with its bytes for each.

#[path = "scale/churn.rs"]
mod churn;
#[path = "scale/fleet.rs"]
mod fleet;

use std::time::Duration;

use churn::{Change, changes};
use fleet::{Fleet, Size};

/// Groups of workers that come and go together.
const GROUPS: usize = 32;
/// Copies of the world, to see how large one is.
const COPIES: usize = 4;
const AN_HOUR: u64 = 3600;
/// Words a second from every worker.
const WORDS: u64 = 10;

fn main() {
    for size in [
        Size::of(1_000, 2_048),
        Size::of(10_000, 2_048),
        Size::of(10_000, 20_000),
    ] {
        measure(size);
    }
}

fn measure(size: Size) {
    let mut fleet = Fleet::new(size, size.workers.min(size.micro_batches as usize));
    let start = fleet.costs(|fleet| fleet.hire(size.workers));
    println!(
        "\n{} workers, M = {}: {} members",
        size.workers,
        size.micro_batches,
        fleet.members().len()
    );
    let line = |what: &str, costs: fleet::Costs| {
        let worst = costs.worst.as_secs_f64() * 1e3;
        println!(
            "{what:34} {:>9.1} ms  {:>8} messages out {:>10.1} MB  (worst event {worst:.1} ms)",
            costs.deciding.as_secs_f64() * 1e3,
            costs.messages_out,
            costs.bytes_out as f64 / 1e6,
        );
    };
    line("start", start);
    train(&mut fleet, size);

    let one = vec![fleet.members()[GROUPS]];
    line("loss of one", fleet.costs(|fleet| fleet.lose(&one)));
    let many: Vec<_> = fleet.members().into_iter().step_by(GROUPS).collect();
    let what = format!("loss of {} at once", many.len());
    line(&what, fleet.costs(|fleet| fleet.lose(&many)));
    line("join of one", fleet.costs(|fleet| fleet.hire(1)));
    let rest = size.workers - fleet.workers();
    let what = format!("join of {rest} at once");
    line(&what, fleet.costs(|fleet| fleet.hire(rest)));

    let before = resident_kb();
    let copies: Vec<_> = (0..COPIES).map(|_| fleet.world().clone()).collect();
    let each = resident_kb().saturating_sub(before) / copies.len();
    println!("{:34} {:>9.1} MB", "memory of the world", each as f64 / 1e3);
    drop(copies);
    let durable = serde_json::to_vec(fleet.durable()).map_or(0, |bytes| bytes.len());
    println!("{:34} {:>9.1} KB", "durable record", durable as f64 / 1e3);
    churned(size);
}

/// A second of it, with a word of everybody each tenth.
fn train(fleet: &mut Fleet, size: Size) {
    let words = size.workers as u64 * WORDS;
    let told = fleet.costs(|fleet| (0..WORDS).for_each(|_| fleet.everybody_speaks()));
    let ticks = fleet.costs(|fleet| (0..WORDS).for_each(|_| fleet.tick()));
    println!(
        "{:34} {:>9.2} µs",
        "one worker's word",
        told.deciding.as_secs_f64() * 1e6 / words as f64
    );
    println!(
        "{:34} {:>9.1} ms, {} times a second",
        "a tick",
        ticks.deciding.as_secs_f64() * 1e3 / WORDS as f64,
        WORDS
    );
    let core = (told.deciding + ticks.deciding).as_secs_f64() * 100.0;
    println!("{:34} {core:>9.1} %", "of a core, all words and ticks");
    let bytes = told.bytes_in / words * WORDS * AN_HOUR;
    println!(
        "{:34} {:>9} words, {:.1} MB",
        "a worker's words in an hour",
        WORDS * AN_HOUR,
        bytes as f64 / 1e6
    );
}

fn churned(size: Size) {
    let (changes, from) = changes(GROUPS);
    let mut fleet = Fleet::new(size, 1);
    let mut groups = vec![Vec::new(); GROUPS];
    let (mut worlds, mut worst) = (0_u32, Duration::ZERO);
    let each = size.workers / GROUPS;
    let mut hours = 0.0;
    let costs = fleet.costs(|fleet| {
        for Change { at, come, gone } in &changes {
            hours = at.as_secs_f64() / 3600.0;
            let costs = fleet.costs(|fleet| {
                let lost: Vec<_> = gone
                    .iter()
                    .flat_map(|g| std::mem::take(&mut groups[*g]))
                    .collect();
                fleet.lose(&lost);
                for group in come {
                    groups[*group] = fleet.newest(each);
                }
            });
            fleet.tick();
            worlds += 1;
            worst = worst.max(costs.deciding);
        }
    });
    let per_worker_hour = |total: u64| total as f64 / size.workers as f64 / hours;
    println!(
        "churn of {from}: {worlds} changes in {hours:.1} h, {each} workers a group\n\
         {:34} {:>9.1} s in all, {:.0} ms the worst change\n\
         {:34} {:>9.1} messages, {:.2} MB",
        "  deciding",
        costs.deciding.as_secs_f64(),
        worst.as_secs_f64() * 1e3,
        "  told each worker an hour",
        per_worker_hour(costs.messages_out),
        per_worker_hour(costs.bytes_out) / 1e6,
    );
}

fn resident_kb() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0)
}
