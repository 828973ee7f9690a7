//! Receive buffers that are used again: in a steady state the exchange
//! allocates, and page-faults, nothing.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Buffers are made in multiples of this, in bytes, so that payloads whose
/// packed sizes differ a little from step to step fit the same ones.
const GRAIN: usize = 64 << 10;

/// Payloads up to this size, in bytes, aren't worth keeping a buffer for.
const SMALL: usize = 4 << 10;

/// A bounded store of buffers; cheap to clone, shared by all connections.
#[derive(Clone)]
pub struct BufferPool {
    shared: Arc<Shared>,
}

struct Shared {
    idle: Mutex<Idle>,
    idle_bytes_max: usize,
    taken: AtomicU64,
}

#[derive(Default)]
struct Idle {
    /// Most recently used last, and so warmest in the cache.
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl BufferPool {
    /// Keeps at most `idle_bytes_max` bytes that nobody uses.
    pub fn new(idle_bytes_max: usize) -> BufferPool {
        let shared = Shared {
            idle: Mutex::default(),
            idle_bytes_max,
            taken: AtomicU64::new(0),
        };
        BufferPool {
            shared: Arc::new(shared),
        }
    }

    /// A buffer of `len` bytes of unspecified content. Holds at most 64 KiB
    /// more than that, or, used again, twice as much.
    pub(super) fn take(&self, len: usize) -> Buffer {
        self.shared.taken.fetch_add(1, Ordering::Relaxed);
        let capacity = if len <= SMALL {
            len
        } else {
            len.next_multiple_of(GRAIN)
        };
        let memory = self
            .shared
            .reuse(capacity)
            .unwrap_or_else(|| vec![0; capacity]);
        Buffer {
            memory,
            len,
            shared: self.shared.clone(),
        }
    }

    /// How many buffers have been handed out, new or used.
    #[cfg(test)]
    pub(super) fn taken_total(&self) -> u64 {
        self.shared.taken.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    fn idle_bytes(&self) -> usize {
        self.shared.idle().bytes
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool").finish_non_exhaustive()
    }
}

impl Shared {
    fn idle(&self) -> std::sync::MutexGuard<'_, Idle> {
        // A panic elsewhere can't leave it half-changed in a way that matters.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reuse(&self, capacity: usize) -> Option<Vec<u8>> {
        if capacity <= SMALL {
            return None;
        }
        let mut idle = self.idle();
        let fits = |memory: &Vec<u8>| (capacity..=2 * capacity).contains(&memory.len());
        let at = idle.buffers.iter().rposition(fits)?;
        let memory = idle.buffers.remove(at);
        idle.bytes -= memory.len();
        Some(memory)
    }

    fn give_back(&self, memory: Vec<u8>) {
        if memory.len() <= SMALL {
            return;
        }
        let mut idle = self.idle();
        if idle.bytes + memory.len() <= self.idle_bytes_max {
            idle.bytes += memory.len();
            idle.buffers.push(memory);
        }
    }
}

/// A buffer on loan; returns to its pool when it, or the last [`Bytes`] made of
/// it, is dropped.
pub(super) struct Buffer {
    memory: Vec<u8>,
    len: usize,
    shared: Arc<Shared>,
}

impl Buffer {
    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.memory[..self.len]
    }

    pub(super) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.shared.give_back(std::mem::take(&mut self.memory));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_holder_of_a_payload_returns_its_buffer() {
        let pool = BufferPool::new(1 << 20);
        let mut buffer = pool.take(100_000);
        buffer.as_mut_slice()[99_999] = 7;
        let at = buffer.as_mut_slice().as_ptr();
        let bytes = buffer.freeze();
        let (half, copy) = (bytes.slice(50_000..), bytes.clone());
        assert_eq!((bytes.len(), half[49_999], copy[99_999]), (100_000, 7, 7));
        drop(bytes);
        drop(copy);
        assert_eq!(pool.idle_bytes(), 0);
        drop(half);
        assert_eq!(pool.idle_bytes(), 2 * GRAIN);
        assert_eq!(pool.take(110_000).as_mut_slice().as_ptr(), at);
    }

    #[test]
    fn the_pool_keeps_no_more_than_it_may() {
        let pool = BufferPool::new(3 * GRAIN);
        let buffers: Vec<Buffer> = (0..8).map(|_| pool.take(GRAIN)).collect();
        drop(buffers);
        assert_eq!(pool.idle_bytes(), 3 * GRAIN);
    }

    #[test]
    fn a_small_payload_takes_no_large_buffer() {
        let pool = BufferPool::new(1 << 20);
        drop(pool.take(8 * GRAIN));
        let (tiny, small) = (pool.take(10), pool.take(GRAIN));
        assert_eq!((tiny.memory.len(), small.memory.len()), (10, GRAIN));
        assert_eq!(pool.idle_bytes(), 8 * GRAIN);
    }
}
