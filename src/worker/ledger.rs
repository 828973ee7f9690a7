//! What a worker applied, round by round, for tests and benchmarks of our own:
//! `EBBTIDE_LEDGER=FILE` appends one JSON line a round. Without the variable
//! nothing of this does anything.

use std::fs::File;
use std::io::Write;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::exact::MicroBatchSet;
use crate::job::Kind;
use crate::world::{Generation, Round, WorkerId};

/// The open file, if there is to be one.
#[derive(Debug)]
pub(super) struct Ledger {
    file: Option<File>,
    began: Instant,
}

impl Ledger {
    /// The one that the environment asks for.
    pub fn from_env() -> Ledger {
        let file = std::env::var_os("EBBTIDE_LEDGER").and_then(|path| {
            std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .ok()
        });
        Ledger {
            file,
            began: Instant::now(),
        }
    }

    /// Whether anybody reads it.
    pub fn is_kept(&self) -> bool {
        self.file.is_some()
    }

    /// A round was applied, made of these micro-batches.
    pub fn applied(
        &mut self,
        (worker, generation, round): (WorkerId, Generation, Round),
        member: bool,
        kind: &Kind,
        contributed: &MicroBatchSet,
    ) {
        let Some(file) = &mut self.file else { return };
        let (step, evaluation) = match kind {
            Kind::Train { step, .. } => (step + 1, false),
            Kind::Evaluate { after_step, .. } => (*after_step, true),
            Kind::End(_) => return,
        };
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let line = json!({
            "time": time.as_secs_f64(),
            "worker": worker.to_string(),
            "generation": generation.to_string(),
            "member": member,
            "round": round.0,
            "step": step,
            "evaluation": evaluation,
            "micro_batches": contributed.iter().collect::<Vec<u32>>(),
            "alive_seconds": self.began.elapsed().as_secs_f64(),
            "memory_mb": peak_memory_mb(),
        });
        // One write a line, so that the lines of several processes don't mix.
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}

/// The most memory that this process has used, by the kernel's account.
fn peak_memory_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes / 1024.0)
}
