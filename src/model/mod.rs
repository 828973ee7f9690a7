//! What is trained: the `Model` trait, variables by name, seeded initial values, counter-based dropout.
