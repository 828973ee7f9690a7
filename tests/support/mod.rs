//! Real processes under test: started, waited for, killed, and asked what the
//! run came to. Nothing here looks at a clock except to bound a hang.

mod fleet;
mod lines;
mod outcome;
mod process;
mod reference;

pub use fleet::{Fleet, Outcome};
pub use lines::{HANG, Lines};
pub use process::{Folder, Process, example, fifo};
pub use reference::reference;
