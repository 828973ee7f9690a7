//! Protobuf types, and where they end: everything else speaks in [`crate::world`]
//! values, and a message that can't be one is refused here.

mod convert;
mod gpus;
mod record;
mod steps;

pub use convert::{ToMany, WireError};
pub use gpus::{gpu_readings, gpus_message};
pub use record::{Record, Values};
pub use steps::{StepRow, Steps};

/// Generated from `proto/control.proto`.
pub mod control {
    #![allow(
        missing_docs,
        clippy::all,
        clippy::allow_attributes_without_reason,
        reason = "generated code"
    )]
    tonic::include_proto!("ebbtide.control.v1");
}

/// What two processes must have in common to train together.
pub fn build() -> String {
    format!(
        "ebbtide {} numerics {} protocol {}",
        env!("CARGO_PKG_VERSION"),
        crate::numerics::NUMERICS_VERSION,
        crate::collective::handshake::PROTOCOL_VERSION,
    )
}
