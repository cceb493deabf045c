//! Whose turn it is to wait in accept: everybody's, or that of whoever has a lock, until they die.

use std::os::fd::AsFd;
use std::{io, iter};

use common::{Conn, Server};
use nix::sys::select::{FdSet, select};

use crate::accept::Accept;
use crate::lock_file::LockFile;
use crate::mutex::Mutex;

/// As the supervisor has it.
pub(crate) enum Turn {
    Everybodys,
    Select,
    Flock(LockFile),
    Mutex(Mutex),
}

impl Turn {
    pub(crate) fn new(accept: Accept) -> io::Result<Self> {
        Ok(match accept {
            Accept::Select => Turn::Select,
            Accept::Flock => Turn::Flock(LockFile::new()?),
            Accept::Mutex => Turn::Mutex(Mutex::new()?),
            Accept::Shared | Accept::Passing | Accept::Reuseport => Turn::Everybodys,
        })
    }

    /// Serves one connection after another.
    pub(crate) fn work(&self, source: &Server) {
        let next = || source.accept();
        match self {
            Turn::Everybodys => serve(next),
            Turn::Select => serve(|| {
                let mut sockets = FdSet::new();
                sockets.insert(source.as_fd());
                // A signal ends the waiting as well.
                select(None, &mut sockets, None, None, None).ok();
                source.accept()
            }),
            Turn::Flock(file) => {
                // Without it, the supervisor makes another worker.
                let Ok(own) = file.open().inspect_err(common::back_off) else { return };
                serve(|| {
                    // No signal ends this waiting: whoever holds the lock is woken, and lets go.
                    own.lock().ok();
                    next().inspect(|_| drop(own.unlock()))
                });
            }
            Turn::Mutex(mutex) => serve(|| mutex.hold(next)),
        }
    }
}

fn serve(next: impl FnMut() -> Option<Conn>) {
    iter::from_fn(next).for_each(Conn::run);
}
