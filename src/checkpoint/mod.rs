//! Whole or absent: snapshots in an object store.
