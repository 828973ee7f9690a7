//! The rim on a training node: sockets, the train loop, signals.
