//! All integration tests, one binary: one link, one list.
//!
//! | chapter | what it shows |
//! |---|---|
//! | [`chaos`] | `ebbtide run --chaos`: random trouble for real processes, from a seed |
//! | [`elastic`] | workers come, go and die, and the weights do not notice |
//! | [`gpus`] | what a worker's GPUs say, in the coordinator's status |
//! | [`hostile`] | strangers, signals, bad samples: the run is unharmed, or ends with a clear word |
//! | [`look`] | looking into a run afterwards: report, diff, replay |
//! | [`memory`] | what a worker needs at most |
//! | [`network`] | silence, cuts, resets and flipped bits between living processes |
//! | [`refusals`] | what is started wrong is refused by name, with nothing begun |
//! | [`resume`] | checkpoints, resuming, exports, early ends; a model of one's own |
//! | [`tidy`] | the rules of the source tree that no compiler knows |

mod chaos;
mod elastic;
mod gpus;
mod hostile;
mod look;
#[cfg(target_os = "linux")]
mod memory;
mod network;
mod refusals;
mod resume;
mod support;
mod tidy;
