//! Gradient sums in integers: convert, accumulate, pack, unpack. Pure.
