//! A connection that many threads may find.

use std::sync::{Mutex, MutexGuard, PoisonError};

use common::Conn;
use common::job::Job;

/// A connection, until it has ended, in the hands of one thread at a time.
pub struct Handle {
    pub(crate) key: usize,
    pub(crate) conn: Mutex<Option<Conn>>,
}

impl Handle {
    /// Has the connection to oneself.
    pub fn lock(&self) -> MutexGuard<'_, Option<Conn>> {
        self.conn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does a job for it. Who finds input meanwhile does not wait for the job.
    pub fn run(&self, job: Job) {
        let done = job.run();
        if let Some(conn) = &mut *self.lock() {
            conn.finish(done);
        }
    }
}
