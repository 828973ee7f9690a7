//! Real processes under test: started, waited for, killed, and asked what the
//! run came to. Nothing here looks at a clock except to bound a hang.

mod ended;
mod faults;
mod fleet;
mod lines;
mod outcome;
mod process;
mod proxy;
mod reference;

pub use ended::{Ended, records, to_its_end};
pub use faults::{FaultLog, fifo};
pub use fleet::{Fleet, Outcome};
pub use lines::HANG;
pub use process::{Folder, Process, example, files};
pub use proxy::{Proxy, Way};
pub use reference::reference;
