//! The command lines of the three binaries.
