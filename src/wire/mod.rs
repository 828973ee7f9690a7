//! Protobuf types, and where they end: everything else speaks in [`crate::world`]
//! values, and a message that can't be one is refused here.

mod convert;

pub use convert::WireError;

/// Generated from `proto/control.proto`.
pub mod control {
    #![allow(missing_docs, clippy::all, clippy::pedantic)] // generated code
    tonic::include_proto!("ebbtide.control.v1");
}
