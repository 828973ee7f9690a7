//! `ebbtide estimate`: what a job takes of memory, and the largest micro-batch for each kind of
//! device.

use serde::Serialize;

use super::args::EstimateArgs;
use super::exit::{Exit, complain};
use super::inspect::print;
use crate::devices::found;
use crate::job::Job;
use crate::model::Registry;
use crate::strategy::{Estimate, EstimateError, Plan, total_memory};

/// Bytes of a worker's process without a model.
const PROCESS: u64 = 100 << 20;
/// Bytes on a GPU that are not to be had: CUDA's context, the libraries' kernels and workspace.
const CONTEXT: u64 = 1 << 30;
/// GPUs that spot fleets are made of, by their memory in GB as NVIDIA sells them.
const KNOWN: [(&str, u64); 7] = [
    ("T4", 16),
    ("A10, L4", 24),
    ("A100 40 GB", 40),
    ("L40S", 48),
    ("A100 80 GB, H100", 80),
    ("H200", 141),
    ("B200", 180),
];

#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    estimate: Estimate,
    /// The job's own.
    micro_batch: u64,
    devices: Vec<Device>,
}

/// A kind of device, and what fits on it.
#[derive(Serialize)]
struct Device {
    kind: String,
    memory: u64,
    largest_micro_batch: u64,
}

/// `ebbtide estimate`.
pub(super) fn estimate(args: &EstimateArgs, registry: &Registry) -> Exit {
    let mut job = match Job::load(&args.job, &args.set) {
        Ok(job) => job,
        Err(error) => return complain(Exit::Usage, error),
    };
    if let Some(data) = &args.data {
        job.relocate_data("--data", data);
    }
    let plan = match Plan::new(&job, registry) {
        Ok(plan) => plan,
        Err(error) => return complain(Exit::Usage, error),
    };
    if let Err(error) = plan.check_memory(1, 1) {
        return complain(Exit::Usage, error);
    }
    let estimate = match plan.estimate() {
        Ok(estimate) => estimate,
        Err(error @ EstimateError::Strategy(_)) => return complain(Exit::Failed, error),
        Err(error) => return complain(Exit::Usage, error),
    };
    let told = Told {
        devices: devices(&estimate),
        micro_batch: job.train.micro_batch as u64,
        estimate,
    };
    match print(args.json, &told, &told.lines()) {
        Ok(()) => Exit::Done,
        Err(exit) => exit,
    }
}

/// This machine's processor and GPUs, then those that are known by name.
fn devices(estimate: &Estimate) -> Vec<Device> {
    let of = |kind: String, memory: u64, taken: u64, bytes: u64| Device {
        kind,
        memory,
        largest_micro_batch: estimate.largest_micro_batch(memory.saturating_sub(taken), bytes),
    };
    let (here, gpu) = (
        estimate.worker_bytes_per_parameter,
        estimate.gpu_bytes_per_parameter,
    );
    let processor =
        total_memory().map(|memory| of("this machine's processor".into(), memory, PROCESS, here));
    let gpus = found().gpus.into_iter();
    let gpus = gpus.map(|g| {
        of(
            format!("GPU {}: {}", g.index, g.name),
            g.memory,
            CONTEXT,
            gpu,
        )
    });
    let known = KNOWN.iter();
    let known = known.map(|(name, gb)| of((*name).into(), gb * 1_000_000_000, CONTEXT, gpu));
    processor.into_iter().chain(gpus).chain(known).collect()
}

impl Told {
    fn lines(&self) -> Vec<String> {
        let e = &self.estimate;
        let model = |bytes: u64| format!("{bytes} B a parameter, {}", sized(e.parameters * bytes));
        let mut lines = vec![
            format!("parameters  {}", e.parameters),
            format!("a worker    {}", model(e.worker_bytes_per_parameter)),
            format!("a GPU       {}", model(e.gpu_bytes_per_parameter)),
            format!(
                "a sample    {}, tried with up to {} at once",
                sized(e.bytes_per_sample),
                e.tried_micro_batch
            ),
            format!("largest micro-batch (the job's is {}):", self.micro_batch),
        ];
        let width = self.devices.iter().map(|d| d.kind.len()).max().unwrap_or(0);
        lines.extend(self.devices.iter().map(|d| {
            let fits = match d.largest_micro_batch {
                0 => "the model alone is too large".to_owned(),
                largest => largest.to_string(),
            };
            format!("  {:width$}  {:>8}  {fits}", d.kind, sized(d.memory))
        }));
        lines
    }
}

/// In the largest decimal unit below it.
fn sized(bytes: u64) -> String {
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    let fitting = units.iter().find(|(unit, _)| bytes as f64 >= *unit);
    match fitting {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_device_is_told_what_fits() {
        let estimate = Estimate {
            parameters: 1_500_000_000,
            worker_bytes_per_parameter: 56,
            gpu_bytes_per_parameter: 8,
            bytes_per_sample: 1_000_000_000,
            tried_micro_batch: 2,
        };
        let told = Told {
            devices: devices(&estimate),
            micro_batch: 4,
            estimate,
        };
        let lines = told.lines().join("\n");
        for part in [
            "parameters  1500000000",
            "8 B a parameter, 12.0 GB",
            "(the job's is 4)",
            "16.0 GB  2\n",
            "141.0 GB  127\n",
        ] {
            assert!(lines.contains(part), "{part} in\n{lines}");
        }
        assert_eq!(
            (sized(999), sized(1_500).as_str()),
            ("999 B".into(), "1.5 kB")
        );
    }
}
