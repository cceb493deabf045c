//! A mutex in memory that forked processes share, and that survives the death of whoever holds it.

#![allow(unsafe_code, reason = "std's mutex is for the threads of one process")]

use std::io;
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;

use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};

/// Mapped for as long as the process lives.
#[derive(Clone, Copy)]
pub(crate) struct Mutex(*mut libc::pthread_mutex_t);

impl Mutex {
    /// To be made before forking.
    pub(crate) fn new() -> io::Result<Self> {
        let size = NonZeroUsize::new(size_of::<libc::pthread_mutex_t>()).expect("it has a size");
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: the pages are new, large enough, and aligned to a page; the attributes are
        // initialised before they are used.
        unsafe {
            let page = mmap_anonymous(None, size, protection, MapFlags::MAP_SHARED)?;
            let mutex = page.cast::<libc::pthread_mutex_t>().as_ptr();
            check(libc::pthread_mutexattr_init(attributes))?;
            check(libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED))?;
            check(libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST))?;
            check(libc::pthread_mutex_init(mutex, attributes))?;
            Ok(Mutex(mutex))
        }
    }

    /// Does something that others do not do meanwhile.
    pub(crate) fn hold<T>(self, work: impl FnOnce() -> T) -> T {
        // SAFETY: it was initialised, and stays where it is. What it guards is in the kernel, and
        // in order whoever has died.
        unsafe {
            if libc::pthread_mutex_lock(self.0) == libc::EOWNERDEAD {
                libc::pthread_mutex_consistent(self.0);
            }
        }
        let done = work();
        // SAFETY: it is held.
        unsafe { libc::pthread_mutex_unlock(self.0) };
        done
    }
}

fn check(error: i32) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}
