//! Those that can go on, of which each wakes one thread.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::Handle;

/// No longer than there are connections: each is in it once for every reason to go on, of which
/// there are two, its turn and its deadline.
pub(crate) struct Queue {
    waiting: Mutex<VecDeque<Arc<Handle>>>,
    /// Readable for as long as there are some.
    count: EventFd,
}

impl Queue {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_SEMAPHORE;
        Ok(Queue { waiting: Mutex::default(), count: EventFd::from_flags(flags)? })
    }

    pub(crate) fn push(&self, handle: Arc<Handle>) {
        self.waiting().push_back(handle);
        // Its counter has room for more than there can be.
        let _ = self.count.write(1);
    }

    pub(crate) fn pop(&self) -> Option<Arc<Handle>> {
        self.count.read().ok()?;
        self.waiting().pop_front()
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Arc<Handle>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The counter.
impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.count.as_fd()
    }
}
