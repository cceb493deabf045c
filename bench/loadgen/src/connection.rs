//! One of a thread's connections: its session, its sockets, and what it has in flight.
//!
//! Invariant: events carry the generation of the sockets that they are of, so that an event of a
//! closed socket never reaches the one that took its place.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::client::{Channel, Session};
use crate::plan::Plan;
use crate::record::{Failure, Operation, Recorder};

/// One place in the plan's number of connections; sockets come and go in it.
pub(crate) struct Connection<S> {
    pub(crate) session: S,
    pub(crate) control: Socket,
    pub(crate) data: Socket,
    /// Tells the events of the present sockets from those of earlier ones.
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

#[derive(Default)]
pub(crate) struct Socket {
    pub(crate) stream: Option<TcpStream>,
    pub(crate) is_open: bool,
}

impl<S: Session> Connection<S> {
    pub(crate) fn new(session: S, plan: &Plan) -> Self {
        Self {
            session,
            control: Socket::default(),
            data: Socket::default(),
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

    /// Writes what the session has to say, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        let socket = &mut self.control;
        let Some(stream) = socket.stream.as_mut().filter(|_| socket.is_open) else {
            return Ok(());
        };
        loop {
            let output = self.session.output();
            if output.is_empty() {
                return Ok(());
            }
            match stream.write(output) {
                Ok(count) => {
                    let is_short = count < output.len();
                    self.session.wrote(count);
                    if is_short {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
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
            None if self.control.is_open && self.session.is_ready() => return false,
            None => self.phase_began,
        };
        self.control.stream.is_some() && now.saturating_duration_since(since) > timeout
    }

    /// Closes both sockets and forgets what was in flight.
    pub(crate) fn close(&mut self) {
        self.control = Socket::default();
        self.data = Socket::default();
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

pub(crate) fn connect(
    address: SocketAddr,
    token: Token,
    registry: &Registry,
) -> io::Result<Socket> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
    Ok(Socket { stream: Some(stream), is_open: false })
}

/// The generation in the upper half, then the index, then the channel.
pub(crate) fn pack(index: usize, channel: Channel, generation: u32) -> Token {
    Token((generation as usize) << 32 | index << 1 | usize::from(channel == Channel::Data))
}

pub(crate) fn unpack(token: Token) -> (usize, Channel, u32) {
    let channel = if token.0 & 1 == 1 { Channel::Data } else { Channel::Control };
    ((token.0 & 0xffff_ffff) >> 1, channel, (token.0 >> 32) as u32)
}
