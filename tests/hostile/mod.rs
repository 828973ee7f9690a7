//! Strangers, signals and bad samples: the run goes on unharmed, or ends with
//! a clear word and its own exit code.
//!
//! | chapter | what happens |
//! |---|---|
//! | `strangers` | garbage, silence, wrong tokens and too much, at both kinds of door |
//! | `impostors` | a worker dials what is no coordinator of ours |
//! | `leavers` | workers that end for a reason that can be named, and with which code |
//! | `signals` | SIGTERM and Ctrl-C, once and twice, to a worker and to the whole command |
//! | `samples` | a sample that is no number, and one whose gradient is out of range |

mod impostors;
mod leavers;
pub mod samples;
mod signals;
mod strangers;
