//! Strangers, signals and bad samples.
