//! One of a thread's connections: its session, how far its sockets are, and what it has in flight.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::client::{Channel, Session};
use crate::plan::Plan;
use crate::record::{Operation, Recorder};

/// One place in the plan's number of connections; sockets come and go in it.
pub(crate) struct Connection<S> {
    pub(crate) session: S,
    pub(crate) control: Socket,
    pub(crate) data: Socket,
    /// Tells a pause for thought of this connection from those of earlier ones.
    pub(crate) generation: u32,
    /// The requests in flight, the oldest first.
    pub(crate) in_flight: VecDeque<Request>,
    /// How many of its places in flight are taken by a pause for thought.
    pub(crate) thinking: usize,
    /// It is in the list of those that arrivals may have.
    pub(crate) is_listed: bool,
    /// Since when it has a free place, in nanoseconds since the start.
    pub(crate) free_since_ns: u64,
    /// Requests since the connection opened.
    pub(crate) requested: u64,
    /// When the present phase of the conversation began.
    pub(crate) phase_began: Instant,
    /// Failures in a row.
    pub(crate) failures: u32,
    /// Replies within the measurement.
    pub(crate) served: u64,
}

/// A request in flight: when it was to be sent, and when it was. In a closed loop both are one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) due: Instant,
    pub(crate) sent: Instant,
}

impl Request {
    pub(crate) fn at(now: Instant) -> Self {
        Self { due: now, sent: now }
    }
}

/// How far a socket is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Socket {
    #[default]
    Closed,
    Opening,
    Open,
}

impl<S: Session> Connection<S> {
    pub(crate) fn new(session: S, plan: &Plan) -> Self {
        Self {
            session,
            control: Socket::Closed,
            data: Socket::Closed,
            generation: 0,
            in_flight: VecDeque::with_capacity(plan.pipeline),
            thinking: 0,
            is_listed: false,
            free_since_ns: 0,
            requested: 0,
            phase_began: Instant::now(),
            failures: 0,
            served: 0,
        }
    }

    /// How many requests may be sent now, so that no more are in flight than the plan has.
    pub(crate) fn allowance(&self, plan: &Plan) -> usize {
        if !self.session.is_ready() {
            return 0;
        }
        let free = plan.pipeline - self.in_flight.len() - self.thinking;
        match plan.requests_per_connection {
            Some(limit) => (limit - self.requested).min(free as u64) as usize,
            None => free,
        }
    }

    /// A phase of the conversation has ended, and the next one begins.
    pub(crate) fn pass(&mut self, operation: Operation, now: Instant, recorder: &mut Recorder) {
        recorder.phase(operation, now - self.phase_began);
        self.phase_began = now;
    }

    /// Whether what is awaited, a reply or a phase, is older than `timeout`.
    pub(crate) fn is_overdue(&self, now: Instant, timeout: Duration) -> bool {
        let since = match self.in_flight.front() {
            Some(request) => request.sent,
            // Open, and nothing is asked for.
            None if self.control == Socket::Open && self.session.is_ready() => return false,
            None => self.phase_began,
        };
        self.control != Socket::Closed && now.saturating_duration_since(since) > timeout
    }

    /// Forgets what was in flight, when the sockets are closed.
    pub(crate) fn start_over(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        self.in_flight.clear();
        self.thinking = 0;
        self.requested = 0;
    }

    pub(crate) fn socket(&mut self, channel: Channel) -> &mut Socket {
        match channel {
            Channel::Control => &mut self.control,
            Channel::Data => &mut self.data,
        }
    }
}
