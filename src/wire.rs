//! Generated protobuf types. They stop at `coordinator::wire` and `worker::wire`.

/// Control plane: worker or client to coordinator.
pub mod control {
    #![allow(missing_docs, clippy::all)] // generated code
    tonic::include_proto!("ebbtide.control.v1");
}
