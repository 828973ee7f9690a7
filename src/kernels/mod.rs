//! What runs on a GPU besides the model: gradients into exact integers, the sum's
//! packing, the update, random numbers.
//!
//! | file | what is in it |
//! |---|---|
//! | `kernels.cu` | the kernels: element functions spread over threads |
//! | `arithmetic.cuh` | IEEE operations that round once each, on a GPU and on a processor |
//! | `exact.cuh` | the twin of [`exact`](crate::exact): fixed point and packing |
//! | `update.cuh` | the twin of [`optim`](crate::optim): an element's update |
//! | `philox.cuh` | the twin of [`numerics`](crate::numerics): random numbers |
//! | `sum.rs`, `packing.rs` | a GPU's exact sum, and how it gets to the host |
//! | `update.rs` | from a complete sum to new weights; the sum's name, the gradient's norm |
//! | `random.rs` | random numbers |
//! | `device.rs`, `pinned.rs` | launching; memory that a GPU reads and writes on its own |
//! | `tests/` | each kernel beside its twin, bit by bit: on a processor always, on a GPU where there is one |
//!
//! The kernels are compiled with the crate when the feature `cuda` is on
//! (`build.rs`, `docs/decisions/0006-gpu-kernels.md`).

#[cfg(feature = "cuda")]
mod device;
#[cfg(feature = "cuda")]
mod packing;
#[cfg(feature = "cuda")]
mod pinned;
#[cfg(feature = "cuda")]
mod random;
#[cfg(feature = "cuda")]
mod sum;
#[cfg(test)]
mod tests;
#[cfg(feature = "cuda")]
mod update;

#[cfg(feature = "cuda")]
pub(crate) use random::Random;
#[cfg(feature = "cuda")]
pub(crate) use sum::DeviceSum;
#[cfg(feature = "cuda")]
pub(crate) use update::DeviceUpdate;
