//! What it is trained on: the `Dataset` trait, the order of samples, file formats.

pub mod order;
