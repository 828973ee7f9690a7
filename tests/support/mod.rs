//! Real processes under test.
mod lines;
mod process;

pub use process::{Folder, Process, fifo};
