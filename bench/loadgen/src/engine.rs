//! One thread of the generator: a loop over its connections, above whichever driver does the I/O.
//!
//! ```text
//! wait for events ─► session takes input ─► record replies ─► next requests, sent at once
//!       ▲                                                                              │
//!       └────────── reopen what failed, after a pause · give up what is overdue ◄──────┘
//! ```
//!
//! An upload's data are written in the same turns, from a pattern that the session lends.
//!
//! Invariants: a turn is bounded, so that phases and deadlines are seen whatever the server sends;
//! a connection that fails is reopened after a pause that doubles; in the steady state a request
//! costs what the driver costs, one look at the clock and no allocation.

mod driver;
mod epoll;
mod measuring;
mod pacing;
mod ring;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

pub(crate) use driver::Driver;
use driver::{Event, Slot};
pub(crate) use epoll::Epoll;
pub(crate) use ring::Ring;

use crate::Error;
use crate::client::{Channel, Session, Step};
use crate::connection::{Connection, Request, Socket};
use crate::pace::{self, Pace, Thought};
use crate::plan::Plan;
use crate::record::{Failure, Kind, Operation, Recorder};
use crate::report::{Pulse, Report};
use crate::steady::Flow;
use crate::system;

/// The phases of a run, as threads see them.
pub(crate) const WARMING: u8 = 0;
pub(crate) const MEASURING: u8 = 1;
pub(crate) const DONE: u8 = 2;

const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

pub(crate) struct Worker<S, D> {
    driver: D,
    plan: Arc<Plan>,
    connections: Vec<Connection<S>>,
    recorder: Recorder,
    /// Connections to reopen, the next one first.
    pauses: BinaryHeap<Reverse<(Instant, usize)>>,
    next_sweep: Instant,
    /// When what was recorded is to be shown next.
    batch_ends: Option<Instant>,
    /// The start, from which the schedule counts.
    epoch: Instant,
    pace: Pace,
    /// How long before something is due the thread must be awake.
    awake_before: Duration,
    flow: Flow,
    /// Requests sent, in the warm-up too.
    requested: u64,
    /// The target's port is one that a connection can get as its own.
    may_reach_itself: bool,
}

impl<S: Session, D: Driver> Worker<S, D> {
    pub(crate) fn new(
        driver: D,
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
            driver,
            may_reach_itself: system::ephemeral_ports().contains(&plan.target.port()),
            plan,
            recorder,
            pauses: BinaryHeap::new(),
            next_sweep: epoch,
            batch_ends: None,
            epoch,
            pace,
            awake_before: pace::awake_before(),
            flow: Flow::default(),
            requested: 0,
        }
    }

    /// Runs until the phase is done.
    pub(crate) fn run(
        mut self,
        mut inbox: D::Inbox,
        phase: &AtomicU8,
        pulse: &Pulse,
    ) -> Result<Report, Error> {
        let mut began = None;
        for index in 0..self.connections.len() {
            self.attempt(index, |worker| worker.begin(index));
        }
        // Time in which it asks and there is nothing is not work.
        let mut spun = Duration::ZERO;
        let mut in_vain_since = None;
        loop {
            let asked = Instant::now();
            spun += in_vain_since.take().map_or(Duration::ZERO, |since| asked - since);
            let (wait, alarm) = self.wait(asked);
            self.driver.wait(&mut inbox, wait, alarm).map_err(system)?;
            match phase.load(Ordering::Relaxed) {
                DONE => break,
                MEASURING if began.is_none() => {
                    began = Some(self.measure().map_err(system)?);
                    spun = Duration::ZERO;
                }
                _ => {}
            }
            let requested = self.requested;
            let (has_happened, now) = self.turn(&mut inbox);
            if wait.is_zero() && !has_happened && self.requested == requested {
                in_vain_since = Some(asked);
            }
            self.publish(pulse, now);
        }
        self.report(inbox, began, spun).map_err(system)
    }

    fn nanoseconds(&self, now: Instant) -> u64 {
        // Of 30 days at most.
        (now - self.epoch).as_nanos() as u64
    }

    /// Does all that is possible now. Says whether anything had happened, and when it was done.
    fn turn(&mut self, inbox: &mut D::Inbox) -> (bool, Instant) {
        let mut has_happened = false;
        while let Some((slot, event)) = self.driver.next(inbox) {
            has_happened = true;
            self.attempt(slot.index, |worker| worker.progress(slot, event));
        }
        let now = Instant::now();
        self.look_at_the_clock(now);
        self.keep_pace(now);
        (has_happened, now)
    }

    /// How long to wait for events at most, and when to be awake without one.
    fn wait(&self, now: Instant) -> (Duration, Option<Instant>) {
        if self.plan.busy_poll {
            return (Duration::ZERO, None);
        }
        let pause = self.pauses.peek().map_or(self.next_sweep, |Reverse((until, _))| *until);
        let wait = pause.min(self.next_sweep).saturating_duration_since(now);
        self.pace.rest(self.epoch, now, wait, self.awake_before)
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
        self.driver.open(Slot::new(index, Channel::Control), self.plan.target, false)?;
        connection.control = Socket::Opening;
        Ok(())
    }

    /// Closes a connection. What it had in flight has left the system.
    fn close(&mut self, index: usize) {
        self.close_sockets(index);
        let connection = &mut self.connections[index];
        let lost = connection.in_flight.len();
        connection.start_over();
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

    /// Closes also what was finished, and is perhaps not sent yet.
    fn close_sockets(&mut self, index: usize) {
        for channel in [Channel::Control, Channel::Data] {
            *self.connections[index].socket(channel) = Socket::Closed;
            self.driver.close(Slot::new(index, channel));
        }
    }

    /// Does what an event makes possible.
    fn progress(&mut self, slot: Slot, event: Event<'_>) -> Result<(), Failure> {
        let Slot { index, channel } = slot;
        match event {
            Event::Opened => self.opened(slot),
            Event::Input(bytes) => {
                self.recorder.received(bytes.len());
                self.take(index, channel, bytes)
            }
            Event::Ended => self.ended(slot),
            Event::Writable if channel == Channel::Control => self.flush(index),
            Event::Writable => self.upload(index),
            Event::Failed(error) => Err(error.into()),
        }
    }

    fn opened(&mut self, slot: Slot) -> Result<(), Failure> {
        let now = Instant::now();
        let connection = &mut self.connections[slot.index];
        *connection.socket(slot.channel) = Socket::Open;
        let operation = match slot.channel {
            Channel::Control => {
                // A connect to a port of the ephemeral range where nobody listens can, by TCP's
                // simultaneous open, reach itself: then it would echo to itself, faultlessly.
                if self.may_reach_itself && self.driver.local_address(slot)? == self.plan.target {
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
        self.send(slot.index, now)
    }

    /// The server has ended a stream.
    fn ended(&mut self, slot: Slot) -> Result<(), Failure> {
        let Slot { index, channel } = slot;
        if channel == Channel::Control && self.may_end(index) {
            return self.begin(index);
        }
        if channel == Channel::Data {
            self.driver.close(slot);
            self.connections[index].data = Socket::Closed;
        }
        self.connections[index].session.ended(channel)?;
        self.take(index, Channel::Control, &[])
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
                    let slot = Slot::new(index, Channel::Data);
                    self.driver.open(slot, address, connection.session.only_counts_data())?;
                    connection.data = Socket::Opening;
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

    /// Sends what the session has to say, as far as the socket takes it.
    fn flush(&mut self, index: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        if connection.control != Socket::Open {
            return Ok(());
        }
        loop {
            let output = connection.session.output();
            if output.is_empty() {
                return Ok(());
            }
            let count = self.driver.send(Slot::new(index, Channel::Control), output)?;
            if count == 0 {
                return Ok(());
            }
            connection.session.wrote(count);
        }
    }

    /// Sends what is to be uploaded, as far as the socket takes it; what has gone whole is closed.
    fn upload(&mut self, index: usize) -> Result<(), Failure> {
        let slot = Slot::new(index, Channel::Data);
        let connection = &mut self.connections[index];
        while connection.data == Socket::Open
            && let Some((constant, range)) = connection.session.data_output()
        {
            let count = self.driver.send_constant(slot, constant, range)?;
            if count == 0 {
                return Ok(());
            }
            self.recorder.wrote(count);
            if connection.session.data_wrote(count) {
                self.driver.finish(slot);
                connection.data = Socket::Closed;
                connection.session.ended(Channel::Data)?;
                return self.take(index, Channel::Control, &[]);
            }
        }
        Ok(())
    }
}

fn system(cause: io::Error) -> Error {
    Error::System { what: "cannot wait for connections", cause }
}
