//! Which micro-batches were in each sum, for tests of our own: one line for
//! each training round that is applied, in the file that `EBBTIDE_LEDGER` names.
//! Without the variable nothing is written.
//!
//! ```text
//! {"round":41,"step":40,"contributed":[0,1,2,3,4,5,6,7]}
//! ```

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use crate::exact::Totals;
use crate::job::Kind;

/// Where it is written, if anywhere.
pub(super) struct Ledger(Option<PathBuf>);

impl Ledger {
    pub fn from_env() -> Ledger {
        Ledger(std::env::var_os("EBBTIDE_LEDGER").map(PathBuf::from))
    }

    /// This sum is about to be applied.
    pub fn applied(&self, round: u64, kind: &Kind, totals: &Totals) {
        let (Some(path), Kind::Train { step, .. }) = (&self.0, kind) else {
            return;
        };
        let contributed: Vec<u32> = totals.contributed.iter().collect();
        let line = serde_json::json!({"round": round, "step": step, "contributed": contributed});
        let file = OpenOptions::new().create(true).append(true).open(path);
        let written = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
        if let Err(error) = written {
            tracing::error!(path = %path.display(), %error, "the ledger can't be written");
        }
    }
}
