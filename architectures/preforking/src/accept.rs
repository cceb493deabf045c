//! How a connection comes to its worker: Stevens's designs 2 to 5 and what came after.

use std::io;

use common::{Outbox, Server};
use nix::sys::select::FD_SETSIZE;

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
pub(crate) enum Accept {
    /// All wait in accept(2)
    Shared,
    /// All wait in select(2), which wakes all for a connection, and then in accept
    Select,
    /// One waits in accept, the others for a lock on a file (flock(2))
    Flock,
    /// One waits in accept, the others for a mutex in memory that all share
    Mutex,
    /// The supervisor accepts, and passes the connection on to whoever waits for it
    Passing,
    /// Each has a listening socket, chosen by a hash of the addresses (`SO_REUSEPORT`)
    Reuseport,
}

impl Accept {
    pub(crate) fn descriptors_max(self) -> u64 {
        if self == Accept::Select { FD_SETSIZE as u64 } else { u64::MAX }
    }

    /// What each worker takes connections from, and where the supervisor passes them on, if it
    /// does.
    pub(crate) fn sources(
        self,
        server: &'static Server,
    ) -> io::Result<(Vec<&'static Server>, Option<Outbox>)> {
        let count = server.workers();
        Ok(match self {
            Accept::Passing => {
                let (outbox, inbox) = server.inbox(0)?;
                (vec![inbox; count], Some(outbox))
            }
            Accept::Reuseport => (server.siblings(count)?, None),
            _ => (vec![server; count], None),
        })
    }
}
