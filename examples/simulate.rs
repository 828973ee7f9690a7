//! A soak of the membership protocol: the very machines that run, in virtual
//! time, under random faults.
//!
//! ```text
//! cargo run --release --example simulate -- --seeds 100000
//! cargo run --release --example simulate -- --seed 4711      # one, with a trace
//! ```

use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use ebbtide::sim::campaign::{Campaign, campaign, trace};

/// Seeds that one thread runs before it asks for more.
const BATCH: u64 = 500;

#[derive(Parser)]
struct Args {
    /// How many runs
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Only this one, told as it goes, with the fewest faults that make it fail
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(seed) = args.seed {
        let report = trace(seed);
        for broken in &report.broken {
            println!("SEED={seed}: {broken}");
        }
        return code(report.broken.is_empty());
    }
    // What a machine's panic says is part of its failure.
    std::panic::set_hook(Box::new(|_| {}));
    let began = Instant::now();
    let whole = soak(args.first..args.first + args.seeds);
    let seconds = began.elapsed().as_secs_f64();
    for (what, times) in &whole.counts {
        println!("{times:>12}  {what}");
    }
    println!(
        "{} runs, {} events, {:.0} h of virtual time in {seconds:.0} s: {} broke a promise",
        whole.runs,
        whole.steps,
        whole.took.as_secs_f64() / 3600.0,
        whole.failures.len()
    );
    print!("{}", whole.explain());
    code(whole.failures.is_empty())
}

fn code(well: bool) -> ExitCode {
    match well {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// All seeds, on all cores.
fn soak(seeds: Range<u64>) -> Campaign {
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut sum = Campaign::default();
        loop {
            let from = next.fetch_add(BATCH, Ordering::Relaxed);
            if from >= seeds.end {
                return sum;
            }
            sum.add(campaign(from..seeds.end.min(from + BATCH)));
        }
    };
    let mut whole = Campaign::default();
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in running {
            match thread.join() {
                Ok(sum) => whole.add(sum),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    whole
}
