//! The buffers that a ring's receives take, shared by all sockets of a thread.
//!
//! Invariant: a buffer is either provided to the kernel, or whoever was told of it has it. Only as
//! many are provided as have been needed at a time for short input, so that they stay in the
//! processor's cache.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use memmap2::{MmapMut, MmapRaw};

use super::Limits;
use super::queue::Queue;

/// The group that receives take their buffers from.
pub(super) const GROUP: u16 = 0;
/// What is only counted is taken in pieces of so many bytes at most.
pub(super) const SCRATCH_BYTES: usize = 1024 * 1024;

const BUFFER_BYTES: usize = 64 * 1024;

pub(super) struct Buffers {
    /// The ring by which buffers are provided, the buffers, and then what is never written to,
    /// because what is only counted is not copied. Pages that nobody has written to take no memory.
    memory: MmapRaw,
    tail: Cell<u16>,
    /// How many there are so far, and at most; this is a power of two.
    count: Cell<u16>,
    count_max: u16,
}

impl Buffers {
    pub(super) fn new(queue: &mut Queue, limits: &Limits) -> io::Result<Self> {
        let count_max = limits.buffers_max;
        let ring_bytes = usize::from(count_max) * size_of::<BufRingEntry>();
        let bytes = ring_bytes + usize::from(count_max) * BUFFER_BYTES + SCRATCH_BYTES;
        let memory = MmapMut::map_anon(bytes)?.into();
        let buffers = Self { memory, tail: Cell::new(0), count: Cell::new(0), count_max };
        let address = buffers.memory.as_ptr() as u64;
        let submitter = queue.ring().submitter();
        // SAFETY: the kernel keeps the pages of the ring, and uses buffers only for operations.
        unsafe { submitter.register_buf_ring_with_flags(address, count_max, GROUP, 0)? };
        buffers.provide_up_to(limits.buffers);
        Ok(buffers)
    }

    /// Provides more than ever before, up to the limit.
    pub(super) fn provide_more(&self) {
        self.provide_up_to(self.count_max.min(2 * self.count.get()));
    }

    fn provide_up_to(&self, count: u16) {
        for buffer in self.count.get()..count {
            self.provide(buffer);
        }
        self.count.set(count);
    }

    /// Gives a buffer back to the kernel.
    pub(super) fn provide(&self, buffer: u16) {
        let ring = self.ring();
        let tail = self.tail.get();
        // SAFETY: the entry lies in the ring, and the kernel does not read it before it is below
        // the tail. As there are no more buffers than entries, it is free.
        let entry = unsafe { &mut *ring.add(usize::from(tail % self.count_max)) };
        entry.set_addr(self.address(buffer) as u64);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(buffer);
        self.tail.set(tail.wrapping_add(1));
        // SAFETY: the tail lies in the first entry, in what is not its own.
        let shared = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(ring).cast_mut()) };
        shared.store(self.tail.get(), Ordering::Release);
    }

    #[allow(clippy::cast_ptr_alignment, reason = "it is the beginning of a page")]
    fn ring(&self) -> *mut BufRingEntry {
        self.memory.as_mut_ptr().cast()
    }

    /// What has been received into a buffer.
    ///
    /// # Safety
    ///
    /// So much of it must be filled, and it must not be provided while the slice is used.
    pub(super) unsafe fn filled(&self, buffer: u16, count: usize) -> &[u8] {
        // SAFETY: the caller promises it.
        unsafe { std::slice::from_raw_parts(self.address(buffer), count.min(BUFFER_BYTES)) }
    }

    fn address(&self, buffer: u16) -> *const u8 {
        let ring_bytes = usize::from(self.count_max) * size_of::<BufRingEntry>();
        let offset = ring_bytes + usize::from(buffer % self.count_max) * BUFFER_BYTES;
        // SAFETY: it lies within the memory.
        unsafe { self.memory.as_ptr().add(offset) }
    }

    /// Where to receive what is only counted.
    pub(super) fn scratch(&self) -> *mut u8 {
        let offset = self.memory.len() - SCRATCH_BYTES;
        // SAFETY: it lies within the memory.
        unsafe { self.memory.as_mut_ptr().add(offset) }
    }

    /// As many bytes as were counted.
    pub(super) fn counted(&self, count: usize) -> &[u8] {
        // SAFETY: nobody ever writes to it.
        unsafe { std::slice::from_raw_parts(self.scratch(), count.min(SCRATCH_BYTES)) }
    }
}
