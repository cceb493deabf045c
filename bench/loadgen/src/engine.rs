//! One thread of the generator: an edge-triggered loop over its connections.
//!
//! ```text
//! wait for events ─► read once ─► session takes it ─► record replies ─► next requests, write once
//!       ▲                                                                              │
//!       └────────── reopen what failed, after a pause · give up what is overdue ◄──────┘
//! ```
//!
//! An upload's data are written in the same turns, from a pattern that the session lends.
//!
//! Invariants: a turn is bounded, so that phases and deadlines are seen whatever the server sends;
//! a connection that fails is reopened after a pause that doubles; in the steady state a request
//! costs one read, one write, one look at the clock and no allocation.

mod measuring;
mod pacing;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Read, Write as _};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Poll, Token};
use nix::sys::socket::{MsgFlags, recv};

use crate::Error;
use crate::client::{Channel, Session, Step};
use crate::connection::{Connection, Request, Socket, connect, pack, unpack};
use crate::pace::{Pace, TIMER, Thought};
use crate::plan::Plan;
use crate::record::{Failure, Kind, Operation, Recorder};
use crate::report::{Pulse, Report};
use crate::steady::Flow;

/// The token of the waker by which the run announces a phase.
pub(crate) const WAKE: Token = Token(usize::MAX);

/// The phases of a run, as threads see them.
pub(crate) const WARMING: u8 = 0;
pub(crate) const MEASURING: u8 = 1;
pub(crate) const DONE: u8 = 2;

const BUFFER_BYTES: usize = 256 * 1024;
const EVENTS: usize = 1024;
/// A connection that has more to read than so many buffers lets the others go first.
const READS_PER_TURN: usize = 8;
/// So does one that has more to write than so many pieces of it.
const WRITES_PER_TURN: usize = 8;
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

pub(crate) struct Worker<S> {
    poll: Poll,
    plan: Arc<Plan>,
    connections: Vec<Connection<S>>,
    recorder: Recorder,
    /// Connections to reopen, the next one first.
    pauses: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Connections that may have more to read, or to write of an upload.
    unfinished: Vec<Token>,
    next_sweep: Instant,
    /// The start, from which the schedule counts.
    epoch: Instant,
    pace: Pace,
    flow: Flow,
    /// Requests sent, in the warm-up too.
    requested: u64,
}

impl<S: Session> Worker<S> {
    pub(crate) fn new(
        poll: Poll,
        plan: Arc<Plan>,
        sessions: Vec<S>,
        pace: Pace,
        epoch: Instant,
    ) -> Self {
        let connections = sessions.into_iter().map(|session| Connection::new(session, &plan));
        let mut recorder = Recorder::new();
        if matches!(pace, Pace::Open { .. }) {
            recorder.is_open_loop();
        }
        Self {
            connections: connections.collect(),
            poll,
            plan,
            recorder,
            pauses: BinaryHeap::new(),
            unfinished: Vec::new(),
            next_sweep: epoch,
            epoch,
            pace,
            flow: Flow::default(),
            requested: 0,
        }
    }

    /// Runs until the phase is done.
    pub(crate) fn run(mut self, phase: &AtomicU8, pulse: &Pulse) -> Result<Report, Error> {
        let mut events = Events::with_capacity(EVENTS);
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut began = None;
        for index in 0..self.connections.len() {
            self.attempt(index, |worker| worker.begin(index));
        }
        let mut spun = Duration::ZERO;
        loop {
            let asked = Instant::now();
            let wait = self.wait(asked);
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(system(error));
                }
                _ => {}
            }
            match phase.load(Ordering::Relaxed) {
                DONE => break,
                MEASURING if began.is_none() => {
                    began = Some(self.measure().map_err(system)?);
                    spun = Duration::ZERO;
                }
                _ => {}
            }
            let has_nothing = events.is_empty() && self.unfinished.is_empty();
            let requested = self.requested;
            self.turn(&events, &mut buffer);
            // Time in which it asked and there was nothing is not work.
            if wait.is_zero() && has_nothing && self.requested == requested {
                spun += asked.elapsed();
            }
            self.publish(pulse);
        }
        self.report(began, spun).map_err(system)
    }

    fn nanoseconds(&self, now: Instant) -> u64 {
        // Of 30 days at most.
        (now - self.epoch).as_nanos() as u64
    }

    /// Does all that is possible now.
    fn turn(&mut self, events: &Events, buffer: &mut [u8]) {
        for token in std::mem::take(&mut self.unfinished) {
            let (index, channel, _) = unpack(token);
            if self.is_current(token) {
                self.attempt(index, |worker| {
                    if channel == Channel::Data && worker.uploads(index) {
                        return worker.upload(index);
                    }
                    worker.receive(index, channel, true, buffer)
                });
            }
        }
        for event in events {
            if ![WAKE, TIMER].contains(&event.token()) && self.is_current(event.token()) {
                let (index, channel, _) = unpack(event.token());
                self.attempt(index, |worker| worker.progress(index, channel, event, buffer));
            }
        }
        let now = Instant::now();
        self.look_at_the_clock(now);
        self.keep_pace(now);
    }

    /// How long to wait for events at most.
    fn wait(&mut self, now: Instant) -> Duration {
        if self.plan.busy_poll || !self.unfinished.is_empty() {
            return Duration::ZERO;
        }
        let pause = self.pauses.peek().map_or(self.next_sweep, |Reverse((until, _))| *until);
        let wait = pause.min(self.next_sweep).saturating_duration_since(now);
        self.pace.rest(self.epoch, now, wait)
    }

    /// Reopens what has paused long enough, and gives up what is overdue.
    fn look_at_the_clock(&mut self, now: Instant) {
        while let Some(&Reverse((until, index))) = self.pauses.peek()
            && until <= now
        {
            self.pauses.pop();
            self.attempt(index, |worker| worker.begin(index));
        }
        if now < self.next_sweep {
            return;
        }
        let timeout = self.plan.timeout;
        self.next_sweep =
            now + (timeout / 8).clamp(Duration::from_millis(5), Duration::from_millis(250));
        for index in 0..self.connections.len() {
            if self.connections[index].is_overdue(now, timeout) {
                self.fail(index, Failure::new(Kind::TimedOut, format!("no reply in {timeout:?}")));
            }
        }
    }

    /// Does something with a connection that ends the connection if it fails.
    fn attempt(&mut self, index: usize, act: impl FnOnce(&mut Self) -> Result<(), Failure>) {
        if let Err(failure) = act(self) {
            self.fail(index, failure);
        }
    }

    fn fail(&mut self, index: usize, failure: Failure) {
        self.recorder.failure(failure);
        self.close(index);
        let connection = &mut self.connections[index];
        let pause = SHORTEST_PAUSE * 2_u32.pow(connection.failures.min(6));
        connection.failures += 1;
        self.pauses.push(Reverse((Instant::now() + pause.min(LONGEST_PAUSE), index)));
    }

    /// Whether the token is of a socket that is still in use.
    fn is_current(&self, token: Token) -> bool {
        let (index, _, generation) = unpack(token);
        self.connections[index].generation == generation
    }

    /// Makes a connection ready for its requests; one that is a request itself waits for its turn.
    fn begin(&mut self, index: usize) -> Result<(), Failure> {
        let now = Instant::now();
        if matches!(self.pace, Pace::Open { .. })
            && self.connections[index].session.is_one_request()
        {
            self.close(index);
            self.list(index, self.nanoseconds(now));
            return Ok(());
        }
        self.open(index, Request::at(now))
    }

    /// Connects. If all that follows counts as one request, it is this one.
    fn open(&mut self, index: usize, request: Request) -> Result<(), Failure> {
        self.close(index);
        if self.connections[index].session.is_one_request() {
            self.enter(index, request);
        }
        let connection = &mut self.connections[index];
        connection.session.reset();
        connection.phase_began = request.sent;
        let token = pack(index, Channel::Control, connection.generation);
        connection.control = connect(self.plan.target, token, self.poll.registry())?;
        Ok(())
    }

    /// Closes a connection. What it had in flight has left the system.
    fn close(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let lost = connection.in_flight.len();
        connection.close();
        if lost > 0 {
            let now_ns = self.nanoseconds(Instant::now());
            (0..lost).for_each(|_| self.flow.leave(now_ns));
        }
        if std::mem::take(&mut self.connections[index].is_listed)
            && let Pace::Open { free, .. } = &mut self.pace
        {
            free.retain(|listed| *listed != index);
        }
    }

    /// Does what an event makes possible.
    fn progress(
        &mut self,
        index: usize,
        channel: Channel,
        event: &Event,
        buffer: &mut [u8],
    ) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        let socket = connection.socket(channel);
        let Some(stream) = &socket.stream else {
            return Ok(());
        };
        if !socket.is_open {
            if event.is_error() {
                return Err(stream
                    .take_error()?
                    .unwrap_or(io::ErrorKind::NotConnected.into())
                    .into());
            }
            if !event.is_writable() {
                return Ok(());
            }
            socket.is_open = true;
            self.opened(index, channel)?;
        } else if event.is_writable() {
            connection.flush()?;
            if channel == Channel::Data {
                let generation = connection.generation;
                self.upload(index)?;
                if self.connections[index].generation != generation {
                    return Ok(());
                }
            }
        }
        if event.is_readable() || event.is_read_closed() {
            let closed = event.is_read_closed();
            return self.receive(index, channel, closed, buffer);
        }
        Ok(())
    }

    fn opened(&mut self, index: usize, channel: Channel) -> Result<(), Failure> {
        let now = Instant::now();
        let connection = &mut self.connections[index];
        let operation = match channel {
            Channel::Control => {
                // A connect to a port of the ephemeral range where nobody listens can, by TCP's
                // simultaneous open, reach itself: then it would echo to itself, faultlessly.
                let stream = connection.control.stream.as_ref();
                let local = stream.map(TcpStream::local_addr).transpose()?;
                if local == Some(self.plan.target) {
                    let detail = "nobody listens: the connection reached itself";
                    return Err(Failure::new(Kind::Refused, detail));
                }
                Operation::Connect
            }
            Channel::Data => {
                connection.session.data_opened();
                Operation::DataConnect
            }
        };
        connection.pass(operation, now, &mut self.recorder);
        self.send(index, now)
    }

    /// Reads until the socket is drained. A short read says so, unless the stream has an end to
    /// be read as well: of that no further event tells.
    fn receive(
        &mut self,
        index: usize,
        channel: Channel,
        has_end: bool,
        buffer: &mut [u8],
    ) -> Result<(), Failure> {
        let generation = self.connections[index].generation;
        for _ in 0..READS_PER_TURN {
            let connection = &mut self.connections[index];
            let discards = channel == Channel::Data && connection.session.only_counts_data();
            let socket = connection.socket(channel);
            let Some(stream) = &mut socket.stream else {
                return Ok(());
            };
            let read = if discards { discard(stream, buffer) } else { stream.read(buffer) };
            let count = match read {
                Ok(0) => {
                    if channel == Channel::Control && self.may_end(index) {
                        return self.begin(index);
                    }
                    let connection = &mut self.connections[index];
                    let socket = connection.socket(channel);
                    if channel == Channel::Data {
                        *socket = Socket::default();
                    }
                    connection.session.ended(channel)?;
                    return self.take(index, Channel::Control, &[]);
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            self.recorder.received(count);
            self.take(index, channel, &buffer[..count])?;
            let is_drained = count < buffer.len() && !has_end;
            if is_drained || self.connections[index].generation != generation {
                return Ok(());
            }
        }
        self.unfinished.push(pack(index, channel, generation));
        Ok(())
    }

    /// Gives input to the session and does what follows from it.
    fn take(&mut self, index: usize, channel: Channel, mut bytes: &[u8]) -> Result<(), Failure> {
        let now = Instant::now();
        let connection = &mut self.connections[index];
        loop {
            match connection.session.input(channel, &mut bytes)? {
                Step::More => break,
                Step::Passed(operation) => connection.pass(operation, now, &mut self.recorder),
                Step::Connect(port) => {
                    let address = SocketAddr::new(self.plan.target.ip(), port);
                    let token = pack(index, Channel::Data, connection.generation);
                    connection.data = connect(address, token, self.poll.registry())?;
                }
                Step::Replied => {
                    let request = connection.in_flight.pop_front().ok_or_else(|| {
                        Failure::new(Kind::WrongLength, "more replies than requests")
                    })?;
                    self.recorder.reply(request.due, request.sent, now);
                    self.flow.leave((now - self.epoch).as_nanos() as u64);
                    connection.failures = 0;
                    connection.served += u64::from(self.recorder.measuring);
                    if let Pace::Thinking { think, until, .. } = &mut self.pace {
                        connection.thinking += 1;
                        let generation = connection.generation;
                        until.push_back(Thought { until: now + *think, index, generation });
                    }
                }
            }
        }
        self.send(index, now)?;
        self.upload(index)
    }

    fn uploads(&self, index: usize) -> bool {
        !self.connections[index].session.data_output().is_empty()
    }

    /// Writes what is to be uploaded, as far as the socket takes it; what has gone whole is closed.
    fn upload(&mut self, index: usize) -> Result<(), Failure> {
        for _ in 0..WRITES_PER_TURN {
            let connection = &mut self.connections[index];
            let output = connection.session.data_output();
            let Some(stream) = connection.data.stream.as_mut().filter(|_| !output.is_empty())
            else {
                return Ok(());
            };
            let count = match stream.write(output) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            self.recorder.wrote(count);
            if connection.session.data_wrote(count) {
                connection.data = Socket::default();
                connection.session.ended(Channel::Data)?;
                return self.take(index, Channel::Control, &[]);
            }
        }
        self.unfinished.push(pack(index, Channel::Data, self.connections[index].generation));
        Ok(())
    }
}

/// Takes what has arrived without looking at it. Linux then does not even copy it, so that the
/// client of a download is not what is measured.
fn discard(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(recv(stream.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC)?)
}

fn system(cause: io::Error) -> Error {
    Error::System { what: "cannot wait for connections", cause }
}
