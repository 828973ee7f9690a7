//! Keeping the memory that a step frees for the next step.
//!
//! candle allocates and frees a tensor for each intermediate result, many of the
//! size of a parameter. glibc gives freed memory of that size back to the system
//! at once, and the next micro-batch takes it again, page fault by page fault:
//! for the MNIST job that was 0.4 of 0.58 ms of a backward pass.

use std::hint::black_box;
use std::sync::Once;

/// The largest block that glibc's thresholds learn from is just below 32 MiB.
const LARGEST_LEARNT_BYTES: usize = (32 << 20) - (64 << 10);

/// Teaches the allocator, once a process, to keep freed memory.
///
/// When a block that was mapped on its own is freed, glibc raises the size from
/// which it maps blocks on their own to the size of that block, and gives memory
/// at the heap's end back only beyond twice of it (`mallopt(3)`, "dynamic mmap
/// threshold"). One large block, never touched, is enough. Other allocators
/// don't mind.
pub(super) fn keep_freed_memory() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| drop(black_box(Vec::<u8>::with_capacity(LARGEST_LEARNT_BYTES))));
}
