//! The rim on the stable node: gRPC service, durable state, run history.
