//! Connections that many threads work for, each by one at a time: the handle set of the
//! leader/followers pattern (Schmidt et al. 2000), on one epoll set.
//!
//! ```text
//!   epoll set: who is ready? ──▶ disarms it, and gives it to one of the threads that wait
//!       ▲                                    │
//!       └── arm: what does it wait for? ◀────┘ advances it
//! ```
//!
//! `EPOLLONESHOT` disarms a socket with its event, so that no two threads have a connection for the
//! same one; should its other socket be ready meanwhile, whoever finds that waits for the lock.
//!
//! **Invariant:** a connection is armed, or in the hands of somebody who arms it, or in the queue
//! of those that can go on.

mod handle;
mod queue;
mod set;

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use common::conn::{Awaited, Direction};
use common::session::Chan;
use common::{Conn, Server};
use slab::Slab;

pub use crate::handle::Handle;
use crate::queue::Queue;
use crate::set::Set;

/// What the set calls the sockets that are no connection's.
const LISTENER: u64 = u64::MAX;
const QUEUE: u64 = u64::MAX - 1;

/// All connections of a server.
pub struct HandleSet {
    server: &'static Server,
    set: Set,
    handles: RwLock<Slab<Arc<Handle>>>,
    queue: Queue,
}

impl HandleSet {
    /// An empty one. To be made after forking: an epoll set serves the process that made it.
    pub fn new(server: &'static Server) -> io::Result<Self> {
        let (set, queue) = (Set::new()?, Queue::new()?);
        set.add(&queue, QUEUE)?;
        Ok(HandleSet { server, set, handles: RwLock::default(), queue })
    }

    /// Accepts connections too: those that wait, and until the machine has run out of something.
    pub fn arm_listener(&self) -> io::Result<()> {
        self.set.arm(self.server.as_fd(), Direction::Input, LISTENER)
    }

    /// Waits for a connection that can go on. It is in the caller's hands then.
    pub fn next(&self) -> io::Result<Arc<Handle>> {
        loop {
            let found = match self.set.wait()? {
                LISTENER => self.accept(),
                QUEUE => self.queue.pop(),
                name => self.ready(name),
            };
            if let Some(handle) = found {
                return Ok(handle);
            }
        }
    }

    /// Takes one, and lets another thread take the next.
    fn accept(&self) -> Option<Arc<Handle>> {
        let accepted = self.server.accept_ready();
        let may_go_on = accepted.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock);
        if (accepted.is_ok() || may_go_on) && !common::is_draining() {
            let _ = self.arm_listener();
        }
        accepted.ok().flatten().map(|conn| self.add(conn))
    }

    /// Makes a connection one of these. It is in the caller's hands.
    pub fn add(&self, conn: Conn) -> Arc<Handle> {
        let mut handles = self.handles.write().unwrap_or_else(PoisonError::into_inner);
        let place = handles.vacant_entry();
        let handle = Arc::new(Handle { key: place.key(), conn: Mutex::new(Some(conn)) });
        place.insert(handle).clone()
    }

    fn ready(&self, name: u64) -> Option<Arc<Handle>> {
        let handles = self.handles.read().unwrap_or_else(PoisonError::into_inner);
        let handle = handles.get(name as usize / 2)?.clone();
        drop(handles);
        if name.is_multiple_of(2) {
            handle.lock().as_mut()?.ready(Chan::Control, false);
        }
        Some(handle)
    }

    /// It waits: the set has it now.
    pub fn arm(&self, handle: &Handle, conn: &mut Conn) {
        let Awaited { control, data } = conn.awaited();
        let name = handle.key as u64 * 2;
        for (awaited, name) in [(control, name), (data, name + 1)] {
            if let Some((socket, direction)) = awaited {
                // What cannot be watched ends with its deadline.
                let _ = self.set.arm(socket, direction, name);
            }
        }
        let _ = conn.timer().map(|timer| self.set.arm(timer, Direction::Input, name + 1));
    }

    /// It can go on, when others have had their turn.
    pub fn go_on(&self, handle: Arc<Handle>) {
        self.queue.push(handle);
    }

    /// It has ended.
    pub fn remove(&self, handle: &Handle, conn: &mut Option<Conn>) {
        // Whoever has found it meanwhile finds that it is gone, before another has its key.
        *conn = None;
        self.handles.write().unwrap_or_else(PoisonError::into_inner).remove(handle.key);
    }

    /// Ends the waiting of those that are late. To be done about once a second.
    pub fn sweep(&self) {
        let now = Instant::now();
        let handles = self.handles.read().unwrap_or_else(PoisonError::into_inner);
        for (_, handle) in &*handles {
            // Whoever is worked for is not late.
            let Ok(mut place) = handle.conn.try_lock() else { continue };
            if let Some(conn) = place.as_mut().filter(|conn| conn.is_late(now)) {
                conn.time_out();
                self.queue.push(handle.clone());
            }
        }
    }
}
