//! One of a thread's connections: its session, how far its sockets are, and what it has in flight.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::class::{Class, Manner};
use crate::client::{Channel, Client, Session as _};
use crate::engine::Intake;
use crate::pace::Errand;
use crate::record::{Operation, Recorder};
use crate::trickle::Trickle;

/// One place in a class's number of connections; sockets come and go in it.
pub(crate) struct Connection {
    pub(crate) session: Client,
    /// The number of its class's share among those of the thread.
    pub(crate) share: usize,
    pub(crate) control: Socket,
    pub(crate) data: Socket,
    /// Tells an appointment of this connection from those of earlier ones.
    pub(crate) generation: u32,
    /// The requests in flight, the oldest first.
    pub(crate) in_flight: VecDeque<Request>,
    /// How many of its places in flight are taken by a pause for thought.
    pub(crate) thinking: usize,
    /// Its script pauses.
    pub(crate) is_pausing: bool,
    /// It is in the list of those that arrivals may have.
    pub(crate) is_listed: bool,
    /// Since when it has a free place, in nanoseconds since the start.
    pub(crate) free_since_ns: u64,
    /// Requests since the connection opened.
    pub(crate) requested: u64,
    /// When the present phase of the conversation began.
    pub(crate) phase_began: Instant,
    /// When the present step of its script began.
    pub(crate) step_began: Instant,
    /// Failures in a row.
    pub(crate) failures: u32,
    /// Replies within the measurement.
    pub(crate) served: u64,
    /// What makes it a burden to the server, if anything does.
    pub(crate) burden: Option<Box<Burden>>,
}

/// How a client is slow, or leaves before its time.
#[derive(Clone, Debug)]
pub(crate) struct Burden {
    pub(crate) manner: Manner,
    pub(crate) opened: Instant,
    /// It got a reply.
    pub(crate) is_served: bool,
    pub(crate) receive: Option<Trickle>,
    pub(crate) replies_on: Channel,
    send: Option<Trickle>,
    requests_on: Channel,
    /// How much of a request that is not sent whole may still go.
    left: Option<usize>,
    waits_to_receive: bool,
    waits_to_send: bool,
}

impl Burden {
    fn of(class: &Class) -> Self {
        Self {
            manner: class.manner,
            opened: Instant::now(),
            is_served: false,
            receive: class.receive_bytes_per_s.map(Trickle::new),
            replies_on: class.channel_of_replies(),
            send: class.send_bytes_per_s.map(Trickle::new),
            requests_on: class.channel_of_requests(),
            left: None,
            waits_to_receive: false,
            waits_to_send: false,
        }
    }

    /// It is connected anew.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.opened = now;
        (self.is_served, self.left) = (false, None);
        (self.waits_to_receive, self.waits_to_send) = (false, false);
    }

    /// Whether it is not put off yet.
    pub(crate) fn puts_off(&mut self, errand: Errand) -> bool {
        let waits = match errand {
            Errand::Receive(_) => &mut self.waits_to_receive,
            _ => &mut self.waits_to_send,
        };
        !std::mem::replace(waits, true)
    }

    /// What was put off is done now.
    pub(crate) fn resume(&mut self, errand: Errand) {
        match errand {
            Errand::Receive(_) => self.waits_to_receive = false,
            _ => self.waits_to_send = false,
        }
    }

    /// How many of `length` bytes may go now. Where a request is cut, its half.
    pub(crate) fn may_send(
        &mut self,
        channel: Channel,
        length: usize,
        is_request: bool,
        now_ns: u64,
    ) -> usize {
        if channel != self.requests_on {
            return length;
        }
        let mut most = length;
        if self.manner.cuts_requests() && is_request {
            most = most.min(*self.left.get_or_insert((length / 2).max(1)));
        }
        self.send.map_or(most, |trickle| most.min(trickle.allowance(now_ns)))
    }

    pub(crate) fn sent(&mut self, channel: Channel, count: usize, now_ns: u64) {
        if channel != self.requests_on {
            return;
        }
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(count);
        }
        if let Some(trickle) = &mut self.send {
            trickle.passed(count, now_ns);
        }
    }

    /// Whether all has gone of a request that is not sent whole.
    pub(crate) fn has_cut(&self) -> bool {
        self.left == Some(0)
    }

    /// When something may be sent again, in nanoseconds since the start.
    pub(crate) fn sends_again_ns(&self) -> Option<u64> {
        self.send.map(|trickle| trickle.next_ns())
    }
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

impl Connection {
    pub(crate) fn new(session: Client, share: usize, class: &Class) -> Self {
        Self {
            session,
            share,
            control: Socket::Closed,
            data: Socket::Closed,
            generation: 0,
            in_flight: VecDeque::with_capacity(class.pipeline),
            thinking: 0,
            is_pausing: false,
            is_listed: false,
            free_since_ns: 0,
            requested: 0,
            phase_began: Instant::now(),
            step_began: Instant::now(),
            failures: 0,
            served: 0,
            burden: class.is_a_burden().then(|| Box::new(Burden::of(class))),
        }
    }

    /// How many requests may be sent now, so that no more are in flight than the class has.
    pub(crate) fn allowance(&self, class: &Class) -> usize {
        if !self.session.is_ready() {
            return 0;
        }
        let free = class.pipeline - self.in_flight.len() - self.thinking;
        match class.requests_per_connection {
            Some(limit) => (limit - self.requested).min(free as u64) as usize,
            None => free,
        }
    }

    /// How what arrives at one of its sockets is to be taken.
    pub(crate) fn intake(&self, channel: Channel, only_counted: bool) -> Intake {
        let is_slow = |burden: &Burden| burden.receive.is_some() && burden.replies_on == channel;
        Intake { only_counted, in_pieces: self.burden.as_deref().is_some_and(is_slow) }
    }

    /// So many bytes are sent. True if the channel is to be closed.
    pub(crate) fn wrote(&mut self, channel: Channel, count: usize, epoch: Instant) -> bool {
        if let Some(burden) = &mut self.burden {
            burden.sent(channel, count, epoch.elapsed().as_nanos() as u64);
        }
        match channel {
            Channel::Control => {
                self.session.wrote(count);
                false
            }
            Channel::Data => self.session.data_wrote(count),
        }
    }

    /// A request has its reply.
    pub(crate) fn replied(&mut self, recorder: &mut Recorder) {
        self.failures = 0;
        self.served += u64::from(recorder.measuring);
        if let (Some(burden), Some(burdens)) = (&mut self.burden, &mut recorder.burdens) {
            burdens.served += u64::from(!std::mem::replace(&mut burden.is_served, true));
        }
    }

    /// The next step of its script begins.
    pub(crate) fn begin_step(&mut self, now: Instant) {
        (self.step_began, self.phase_began) = (now, now);
    }

    /// A phase of the conversation has ended, and the next one begins.
    pub(crate) fn pass(&mut self, operation: Operation, now: Instant, recorder: &mut Recorder) {
        recorder.phase(operation, now - self.phase_began);
        self.phase_began = now;
    }

    /// Whether what is awaited, a reply or a phase, is older than `timeout`. A burden that is
    /// connected waits for ever.
    pub(crate) fn is_overdue(&self, class: &Class, now: Instant, timeout: Duration) -> bool {
        let is_patient = self.burden.is_some() && self.control == Socket::Open;
        if self.control == Socket::Closed || self.is_pausing || is_patient {
            return false;
        }
        let since = match self.in_flight.front() {
            // Of a whole session, each wait counts for itself.
            Some(request) if class.script.is_none() => request.sent,
            // Open, and nothing is asked for.
            None if self.control == Socket::Open && self.session.is_ready() => return false,
            _ => self.phase_began,
        };
        now.saturating_duration_since(since) > timeout
    }

    /// Forgets what was in flight, when the sockets are closed.
    pub(crate) fn start_over(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        self.in_flight.clear();
        self.thinking = 0;
        self.is_pausing = false;
        self.requested = 0;
    }

    pub(crate) fn socket(&mut self, channel: Channel) -> &mut Socket {
        match channel {
            Channel::Control => &mut self.control,
            Channel::Data => &mut self.data,
        }
    }
}
