//! The undisturbed run of a job, and what every other run of it has to match.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use ebbtide::exact::SumDigest;
use ebbtide::job::Job;
use ebbtide::model::Registry;
use ebbtide::strategy::{Devices, Finished, Plan, TrainState, train_alone};
use serde_json::Value;

/// What one process comes to without anybody else.
pub struct Reference {
    pub plan: Arc<Plan>,
    pub weights_sha256: String,
    /// Of its steps.
    pub sums: Vec<SumDigest>,
    /// Steps trained; fewer than planned after an early stop.
    pub steps: u64,
}

/// Computed once a job in this test process.
pub fn reference(job: &str) -> Arc<Reference> {
    type Slot = Arc<OnceLock<Arc<Reference>>>;
    static KNOWN: OnceLock<Mutex<HashMap<String, Slot>>> = OnceLock::new();
    let slot = {
        let mut known = KNOWN.get_or_init(Mutex::default).lock().unwrap();
        Arc::clone(known.entry(job.to_owned()).or_default())
    };
    Arc::clone(slot.get_or_init(|| Arc::new(train(job))))
}

fn train(job: &str) -> Reference {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/test.toml");
    let job = Job::parse(job, &path, &[]).unwrap();
    let plan = Arc::new(Plan::new(&job, &Registry::builtin()).unwrap());
    let state = TrainState::initial(&plan).unwrap();
    let mut sums = Vec::new();
    let observe = |_: &TrainState, finished: &Finished| sums.extend(finished.sum);
    let state = train_alone(&plan, &Devices::cpu(1), state, observe).unwrap();
    Reference {
        weights_sha256: state.weights_sha256(&plan),
        steps: state.course.step,
        sums,
        plan,
    }
}

impl Reference {
    /// All workers wrote the same about each round, and the sums of each epoch
    /// held each of its samples exactly once.
    pub fn check_ledgers<'a>(&self, ledgers: impl Iterator<Item = (&'a str, &'a [Value])>) {
        let mut rounds: BTreeMap<u64, (&str, &Value)> = BTreeMap::new();
        for (name, ledger) in ledgers {
            for entry in ledger {
                let round = entry["round"].as_u64().unwrap();
                let (other, same) = *rounds.entry(round).or_insert((name, entry));
                for key in ["step", "evaluation", "micro_batches"] {
                    assert_eq!(same[key], entry[key], "{other} and {name} in round {round}");
                }
            }
        }
        let entries = rounds.values().map(|(_, entry)| *entry);
        let steps: Vec<&Value> = entries.filter(|e| e["evaluation"] == false).collect();
        assert_eq!(steps.len() as u64, self.steps, "one sum a step");
        let order = &self.plan.order;
        let mut counts: HashMap<(u64, u64), u32> = HashMap::new();
        for (step, entry) in (0..).zip(steps) {
            assert_eq!(entry["step"], step + 1);
            for micro_batch in entry["micro_batches"].as_array().unwrap() {
                let micro_batch = micro_batch.as_u64().unwrap() as u32;
                for sample in order.samples(step, micro_batch) {
                    *counts.entry((order.epoch_of(step), sample)).or_default() += 1;
                }
            }
        }
        let expected: u64 = (0..self.steps)
            .map(|step| order.samples_in_step(step))
            .sum();
        assert_eq!(counts.len() as u64, expected, "a sample is missing");
        assert!(
            counts.values().all(|n| *n == 1),
            "a sample was summed twice"
        );
    }
}
