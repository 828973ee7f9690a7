//! What to train: the TOML job file, validated once into plain values.
