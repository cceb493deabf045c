//! Buffers that the kernel takes when something has arrived, so that who waits owns none.
//!
//! **Invariant:** a buffer is either provided to the kernel, or [`Filled`], and provided again when
//! that is dropped, whatever becomes of its conversation. Only as many are provided as have been
//! needed at a time, so that they stay in the cache.

use std::cell::Cell;
use std::io;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use memmap2::{MmapMut, MmapRaw};

/// A group of buffers of one size.
pub(crate) struct Buffers {
    /// The entries by which they are provided, and then they themselves. Pages that nobody has
    /// written to take no memory.
    memory: MmapRaw,
    group: u16,
    count_max: u16,
    size: usize,
    tail: Cell<u16>,
    count: Cell<u16>,
}

/// What was received into a buffer.
pub(crate) struct Filled {
    buffers: Rc<Buffers>,
    buffer: u16,
    length: usize,
}

impl Buffers {
    /// At most `count_max`, a power of two, of `size` bytes each.
    pub(crate) fn new(
        ring: &IoUring,
        group: u16,
        count_max: u16,
        size: usize,
    ) -> io::Result<Rc<Self>> {
        let bytes = usize::from(count_max) * (size_of::<BufRingEntry>() + size);
        let memory = MmapRaw::from(MmapMut::map_anon(bytes)?);
        let address = memory.as_ptr() as u64;
        // SAFETY: the memory lives as long as these buffers, which the ring's owner drops after it.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, count_max, group, 0)? };
        let (tail, count) = (Cell::new(0), Cell::new(0));
        let buffers = Buffers { memory, group, count_max, size, tail, count };
        buffers.provide_up_to(1);
        Ok(Rc::new(buffers))
    }

    /// What receives name to take from here.
    pub(crate) fn group(&self) -> u16 {
        self.group
    }

    /// Changes when a buffer is provided.
    pub(crate) fn provided(&self) -> u16 {
        self.tail.get()
    }

    /// There were too few: provides as many again, up to the limit.
    pub(crate) fn provide_more(&self) {
        self.provide_up_to(self.count_max.min(2 * self.count.get()));
    }

    fn provide_up_to(&self, count: u16) {
        (self.count.get()..count).for_each(|buffer| self.provide(buffer));
        self.count.set(count);
    }

    fn provide(&self, buffer: u16) {
        let tail = self.tail.get();
        #[allow(clippy::cast_ptr_alignment, reason = "a page is aligned for an entry")]
        let entries = self.memory.as_mut_ptr().cast::<BufRingEntry>();
        // SAFETY: there are as many entries as buffers at most, so that this one is free, and the
        // kernel does not look at it before the tail has passed it.
        let entry = unsafe { &mut *entries.add(usize::from(tail % self.count_max)) };
        entry.set_addr(self.address(buffer) as u64);
        entry.set_len(self.size as u32);
        entry.set_bid(buffer);
        self.tail.set(tail.wrapping_add(1));
        // SAFETY: the tail, which the kernel reads, lies in the first entry, which does not use it.
        let shared = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(entries).cast_mut()) };
        shared.store(self.tail.get(), Ordering::Release);
    }

    /// What was received into a buffer.
    ///
    /// # Safety
    ///
    /// The kernel must have told of this buffer, with this length, and this only once.
    pub(crate) unsafe fn filled(self: &Rc<Self>, buffer: u16, length: usize) -> Filled {
        Filled { buffers: Rc::clone(self), buffer, length: length.min(self.size) }
    }

    fn address(&self, buffer: u16) -> *const u8 {
        let entries = usize::from(self.count_max) * size_of::<BufRingEntry>();
        let offset = entries + usize::from(buffer % self.count_max) * self.size;
        // SAFETY: it lies within the memory.
        unsafe { self.memory.as_ptr().add(offset) }
    }
}

impl Deref for Filled {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let address = self.buffers.address(self.buffer);
        // SAFETY: the kernel has written that much there, and has it again only when this is gone.
        unsafe { std::slice::from_raw_parts(address, self.length) }
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        self.buffers.provide(self.buffer);
    }
}
