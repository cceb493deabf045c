//! The way back into a reactor for jobs that are done elsewhere.
//!
//! **Invariant:** each ticket is answered once. A connection has one job at a time, so that no more
//! outcomes wait here than there are connections.

use std::io;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use common::job::Done;
use mio::{Poll, Token, Waker};

/// What came of a job.
pub type Outcome = io::Result<Done>;

/// Where a reactor finds outcomes, each with the key of its connection.
pub(crate) struct Returns {
    waiting: Mutex<Vec<(usize, Outcome)>>,
    waker: Waker,
}

/// Takes the outcome of one job back to the reactor that has handed it out.
pub struct Ticket {
    key: usize,
    returns: Arc<Returns>,
}

impl Returns {
    pub(crate) fn new(poll: &Poll, token: Token) -> io::Result<Arc<Self>> {
        let waker = Waker::new(poll.registry(), token)?;
        Ok(Arc::new(Returns { waiting: Mutex::default(), waker }))
    }

    pub(crate) fn ticket(self: &Arc<Self>, key: usize) -> Ticket {
        Ticket { key, returns: self.clone() }
    }

    pub(crate) fn take(&self) -> Vec<(usize, Outcome)> {
        mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Ticket {
    /// Answers, and wakes the reactor if nobody has yet.
    pub fn answer(self, outcome: Outcome) {
        let mut waiting = self.returns.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push((self.key, outcome));
        if waiting.len() == 1 {
            // Its counter has room: it is emptied with each waking. If it had none, the reactor
            // would be awake.
            let _ = self.returns.waker.wake();
        }
    }
}
