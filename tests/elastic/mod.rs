//! Workers come, go and die; the result does not notice. Each scenario is a run
//! of real processes whose weights have to be those of the undisturbed run, bit
//! by bit; [`crate::support::Fleet::finish`] checks that and all else that has to hold
//! every time.
//!
//! | chapter | what happens |
//! |---|---|
//! | `worlds` | how many workers there are, at the start and at most |
//! | `losses` | one is killed, in each phase; two; the last holder of a sum |
//! | `changes` | drained, joining, both, and losses in the middle of it |
//! | `fleets` | all of them vanish |
//! | `shadow` | a shadow writes the checkpoints and outlives the fleet |
//! | `shares` | members write a large state's checkpoint together |
//! | `coordinators` | the coordinator dies or freezes at the worst moments |
//! | `crashes` | the same crash again and again |
//! | `drifts` | a bit flips in the memory of one of them |
//! | `flapping` | a node is lost again and again |
//! | `spares` | hot spares take the places of the lost |
//! | `random` | anything, from a printed seed |

mod changes;
mod coordinators;
mod crashes;
mod drifts;
mod flapping;
mod fleets;
mod losses;
mod random;
mod shadow;
mod shares;
mod spares;
mod worlds;

/// Two epochs of 41 steps, the last with 40 samples; 8 micro-batches a step.
pub const JOB: &str = concat!(
    r#"
name = "small"
seed = 7
[model]
kind = "mlp"
inputs = 784
hidden = [16]
dropout = 0.2
classes = 10
[data]
kind = "mnist"
url = ""#,
    env!("CARGO_MANIFEST_DIR"),
    r#"/examples/data/mnist"
[data.options]
train_limit = 2600
validation_limit = 500
[train]
epochs = 2
global_batch = 64
micro_batch = 8
[optimizer]
kind = "adam"
lr = 1e-3
[evaluation]
micro_batch = 100
[checkpoint]
every = "20 steps"
"#
);

/// The last step, and how many are finished after it.
const LAST_STEP: u64 = 81;
const STEPS: u64 = 82;
