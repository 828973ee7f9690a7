//! Whether a model can fit into this machine's memory, asked before anything starts: an allocation
//! that fails later ends a process without a word about the job.

use super::plan::Plan;
use crate::job::JobError;

/// Bytes a value of the flat weights that each worker keeps.
const WORKER_BYTES: u128 = 4;
/// Bytes a value of a replica's variable, its gradient and its fixed-point sum.
const REPLICA_BYTES: u128 = 4 + 4 + 8;

impl Plan {
    /// Refuses a model of which so many workers, each with so many replicas, can't fit into this
    /// machine. Only what is certain counts: moments, activations and samples come on top.
    ///
    /// # Errors
    /// What the model needs at least, and what there is.
    pub fn check_memory(&self, workers: usize, replicas: usize) -> Result<(), JobError> {
        let needed = needed_bytes(self.layout.elements(), workers, replicas);
        match total_memory() {
            Some(total) if needed > u128::from(total) => {
                let gb = |bytes: u128| bytes as f64 / 1e9;
                let problem = format!(
                    "expected a model that fits into this machine's {:.1} GB of memory; found one \
                     of {} values, which needs {:.1} GB at least (workers: {workers}, replicas of \
                     each: {replicas})",
                    gb(total.into()),
                    self.layout.elements(),
                    gb(needed),
                );
                Err(self.job.error("model.kind", problem))
            }
            // Where nobody says how much there is, it has to be tried.
            _ => Ok(()),
        }
    }
}

fn needed_bytes(elements: usize, workers: usize, replicas: usize) -> u128 {
    let a_worker = WORKER_BYTES + REPLICA_BYTES * replicas as u128;
    elements as u128 * workers as u128 * a_worker
}

/// The machine's memory in bytes; `None` where nobody says.
pub fn total_memory() -> Option<u64> {
    total_bytes(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

/// The machine's memory, as the kernel tells it.
fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::super::tests::line;
    use super::*;

    #[test]
    fn what_cannot_fit_is_refused_with_both_numbers() {
        assert_eq!(needed_bytes(1000, 2, 3), 104_000);
        let meminfo = "MemFree: 3 kB\nMemTotal:       24600812 kB\n";
        assert_eq!(total_bytes(meminfo), Some(25_191_231_488));
        assert_eq!(total_bytes("MemTotal: lots"), None);

        let plan = line(&[]);
        plan.check_memory(2, 1).unwrap();
        let error = plan.check_memory(1 << 50, 1).unwrap_err().to_string();
        for words in ["model.kind: ", "found one of 2 values", "GB at least"] {
            assert!(error.contains(words), "{words} in {error}");
        }
    }
}
