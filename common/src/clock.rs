//! When the present phase of a conversation ends.

use std::time::{Duration, Instant};

use crate::session::Deadline;

/// The end of the present phase, if there is one. A blocking read that is the first of its phase
/// leaves the clock unread: the kernel counts for it, and most phases have no second.
#[derive(Debug, Default)]
pub struct Clock {
    phase: Option<u32>,
    end: Option<Instant>,
}

impl Clock {
    /// One that belongs to no phase of a session.
    pub fn ending_at(end: Instant) -> Self {
        Clock { phase: None, end: Some(end) }
    }

    /// The phase has begun, or goes on; tells when it ends. `now` is asked if it has begun.
    pub fn start(&mut self, deadline: Deadline, now: impl FnOnce() -> Instant) -> Instant {
        if self.phase != Some(deadline.phase) {
            self.phase = Some(deadline.phase);
            self.end = None;
        }
        *self.end.get_or_insert_with(|| now() + deadline.limit)
    }

    /// When the phase ends, if that has been asked before.
    pub fn end(&self) -> Option<Instant> {
        self.end
    }

    /// What is left of the phase, without looking at the clock if it has just begun.
    pub(crate) fn remaining_unread(&mut self, deadline: Deadline) -> Duration {
        if self.phase == Some(deadline.phase) {
            let end = self.start(deadline, Instant::now);
            return end.saturating_duration_since(Instant::now());
        }
        self.phase = Some(deadline.phase);
        self.end = None;
        deadline.limit
    }

    pub(crate) fn remaining(&self) -> Duration {
        self.end.map_or(Duration::ZERO, |end| end.saturating_duration_since(Instant::now()))
    }
}
