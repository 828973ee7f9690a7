//! What a training step costs in one process, before anybody exchanges anything.
//!
//! `RAYON_NUM_THREADS=1 cargo bench --bench compute` (as a worker has it) prints the parts of a step of `examples/mnist.toml`
//! (workload A: 784-128-10, global batch 64 as four micro-batches of 16) on one
//! replica, and on two that share its micro-batches. Medians of rounds, with the
//! fastest in brackets: the machine may be shared.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebbtide::job::Job;
use ebbtide::model::Registry;
use ebbtide::strategy::{Devices, Partial, Plan, Replicas, Stop, TrainState};

const ROUNDS: usize = 15;
const STEPS: u32 = 200;
/// Samples of a step.
const GLOBAL_BATCH: f64 = 64.0;

fn main() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/mnist.toml");
    let sets = ["evaluation.every=\"never\"", "verify.every=1000000"].map(str::to_owned);
    let job = Job::load(&path, &sets).expect("the example is a job");
    let plan = Plan::new(&job, &Registry::builtin()).expect("the example can be planned");
    let plan = Arc::new(plan);
    println!("us a step, median (fastest)   clear        compute         finish   samples/s");
    for replicas in [1, 2] {
        measure(&plan, &Devices::cpu(replicas));
    }
}

fn measure(plan: &Arc<Plan>, devices: &Devices) {
    let mut state = TrainState::initial(plan).expect("the model can be built");
    let mut replicas = Replicas::of(plan, devices).expect("the model can be built");
    state.put(plan, &mut replicas).expect("weights fit");
    let mut sum = Partial::default();
    let mut rounds: Vec<[f64; 4]> = Vec::new();
    for _ in 0..ROUNDS {
        let mut spent = [Duration::ZERO; 3];
        let begin = Instant::now();
        for _ in 0..STEPS {
            step(plan, &mut replicas, &mut state, &mut sum, &mut spent);
        }
        let whole = begin.elapsed();
        let us = |spent: Duration| spent.as_secs_f64() * 1e6 / f64::from(STEPS);
        let [clear, compute, finish] = spent.map(us);
        rounds.push([clear, compute, finish, us(whole)]);
    }
    let column = |index: usize| {
        let mut values: Vec<f64> = rounds.iter().map(|round| round[index]).collect();
        values.sort_by(f64::total_cmp);
        (values[values.len() / 2], values[0])
    };
    let shown = [0, 1, 2].map(|index| {
        let (median, fastest) = column(index);
        format!("{median:5.0} ({fastest:4.0})")
    });
    let rate = |us: f64| GLOBAL_BATCH / us * 1e6;
    let (median, fastest) = column(3);
    println!(
        "{:<26} {}    {:6.0} ({:.0})",
        devices.to_string(),
        shown.join("   "),
        rate(median),
        rate(fastest)
    );
}

fn step(
    plan: &Arc<Plan>,
    replicas: &mut Replicas,
    state: &mut TrainState,
    sum: &mut Partial,
    spent: &mut [Duration; 3],
) {
    let kind = plan.course.kind(&state.course);
    let all: Vec<u32> = (0..plan.course.micro_batches(&kind)).collect();
    let mut begin = Instant::now();
    let mut lap = |part: usize| {
        let now = Instant::now();
        spent[part] += now - begin;
        begin = now;
    };
    plan.clear(sum, &kind, false);
    lap(0);
    replicas
        .compute(plan, &kind, &all, sum, &Stop::new())
        .expect("a step of the example");
    lap(1);
    state
        .finish(plan, Some(replicas), sum.complete(), &sum.totals)
        .expect("a step of the example");
    lap(2);
}
