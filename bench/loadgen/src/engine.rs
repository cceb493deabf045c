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

mod burdens;
mod driver;
mod epoll;
mod measuring;
mod pacing;
mod ring;
mod timer;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

pub(crate) use driver::{Driver, Intake};
use driver::{Event, Slot};
pub(crate) use epoll::Epoll;
pub(crate) use ring::Ring;

use crate::Error;
use crate::class::Class;
use crate::client::{Channel, Client, Session as _, Step};
use crate::connection::{Connection, Request, Socket};
use crate::pace::{self, Calendar, Errand, Pace};
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

/// What one thread does of a class.
pub(crate) struct Share {
    class: Class,
    pace: Pace,
    recorder: Recorder,
    flow: Flow,
}

impl Share {
    pub(crate) fn new(class: &Class, pace: Pace) -> Self {
        let (class, recorder) = (class.clone(), Recorder::of(class));
        Self { class, pace, recorder, flow: Flow::default() }
    }
}

pub(crate) struct Worker<D> {
    driver: D,
    plan: Arc<Plan>,
    connections: Vec<Connection>,
    shares: Vec<Share>,
    /// What is to be done later with connections.
    calendar: Calendar,
    next_sweep: Instant,
    /// When what was recorded is to be shown next.
    batch_ends: Option<Instant>,
    /// The start, from which schedules count.
    epoch: Instant,
    /// How long before something is due the thread must be awake.
    awake_before: Duration,
    /// Requests sent, in the warm-up too.
    requested: u64,
    /// The target's port is one that a connection can get as its own.
    may_reach_itself: bool,
}

impl<D: Driver> Worker<D> {
    /// Each share comes with its sessions, and when each of them is to be opened first.
    pub(crate) fn new(
        driver: D,
        plan: Arc<Plan>,
        shares: Vec<(Share, Vec<(Client, Duration)>)>,
        epoch: Instant,
    ) -> Self {
        let mut worker = Self {
            driver,
            may_reach_itself: system::ephemeral_ports().contains(&plan.target.port()),
            plan,
            connections: Vec::new(),
            shares: Vec::new(),
            calendar: Calendar::default(),
            next_sweep: epoch,
            batch_ends: None,
            epoch,
            awake_before: pace::awake_before(),
            requested: 0,
        };
        for (number, (share, sessions)) in shares.into_iter().enumerate() {
            for (session, after) in sessions {
                let connection = Connection::new(session, number, &share.class);
                let index = worker.connections.len();
                worker.calendar.add(epoch + after, index, connection.generation, Errand::Open);
                worker.connections.push(connection);
            }
            worker.shares.push(share);
        }
        worker
    }

    /// Runs until the phase is done.
    pub(crate) fn run(
        mut self,
        mut inbox: D::Inbox,
        phase: &AtomicU8,
        pulse: &Pulse,
    ) -> Result<Report, Error> {
        let mut began = None;
        self.keep_pace(Instant::now());
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
        self.report(inbox, began.as_ref(), spun).map_err(system)
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
        self.give_up_what_is_overdue(now);
        self.keep_pace(now);
        (has_happened, now)
    }

    /// How long to wait for events at most, and when to be awake without one.
    fn wait(&self, now: Instant) -> (Duration, Option<Instant>) {
        if self.plan.busy_poll {
            return (Duration::ZERO, None);
        }
        let wait = self.next_sweep.saturating_duration_since(now);
        let arrivals = self.shares.iter().filter_map(|share| share.pace.due(self.epoch)).min();
        let arrivals = arrivals.and_then(|due| due.checked_sub(self.awake_before));
        let errands = self.calendar.awake_at(self.awake_before);
        pace::rest(arrivals.into_iter().chain(errands).min(), now, wait)
    }

    fn give_up_what_is_overdue(&mut self, now: Instant) {
        if now < self.next_sweep {
            return;
        }
        let timeout = self.plan.timeout;
        self.next_sweep =
            now + (timeout / 8).clamp(Duration::from_millis(5), Duration::from_millis(250));
        for index in 0..self.connections.len() {
            let connection = &self.connections[index];
            if connection.is_overdue(&self.shares[connection.share].class, now, timeout) {
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
        self.record_failure(index, failure);
        self.close(index);
        let connection = &mut self.connections[index];
        let pause = SHORTEST_PAUSE * 2_u32.pow(connection.failures.min(6));
        connection.failures += 1;
        let at = Instant::now() + pause.min(LONGEST_PAUSE);
        self.calendar.add(at, index, connection.generation, Errand::Open);
    }

    fn share(&mut self, index: usize) -> &mut Share {
        &mut self.shares[self.connections[index].share]
    }

    /// Makes a connection ready for its requests; one that is a request itself waits for its turn.
    fn begin(&mut self, index: usize) -> Result<(), Failure> {
        let now = Instant::now();
        if matches!(self.share(index).pace, Pace::Open { .. })
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
        connection.step_began = request.sent;
        let intake = connection.intake(Channel::Control, false);
        self.driver.open(Slot::new(index, Channel::Control), self.plan.target, intake)?;
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
            let flow = &mut self.share(index).flow;
            (0..lost).for_each(|_| flow.leave(now_ns));
        }
        if std::mem::take(&mut self.connections[index].is_listed)
            && let Pace::Open { free, .. } = &mut self.share(index).pace
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
                self.share(index).recorder.received(bytes.len());
                if self.connections[index].burden.is_some() {
                    return self.take_as_burden(slot, bytes);
                }
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
        let recorder = &mut self.shares[connection.share].recorder;
        connection.pass(operation, now, recorder);
        if connection.burden.is_some() {
            self.opened_as_burden(slot, now);
        }
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
        let share = &mut self.shares[connection.share];
        loop {
            match connection.session.input(channel, &mut bytes)? {
                Step::More => break,
                Step::Passed(operation) => connection.pass(operation, now, &mut share.recorder),
                Step::Connect(port) => {
                    let address = SocketAddr::new(self.plan.target.ip(), port);
                    let only_counted = connection.session.only_counts_data();
                    let intake = connection.intake(Channel::Data, only_counted);
                    self.driver.open(Slot::new(index, Channel::Data), address, intake)?;
                    connection.data = Socket::Opening;
                }
                Step::Did(name) => {
                    share.recorder.step(name, now - connection.step_began);
                    connection.begin_step(now);
                }
                Step::Think(pause) => {
                    connection.is_pausing = true;
                    let generation = connection.generation;
                    self.calendar.add(now + pause, index, generation, Errand::Resume);
                }
                Step::Replied => {
                    let request = connection.in_flight.pop_front().ok_or_else(|| {
                        Failure::new(Kind::WrongLength, "more replies than requests")
                    })?;
                    share.recorder.reply(request.due, request.sent, now);
                    share.flow.leave((now - self.epoch).as_nanos() as u64);
                    connection.replied(&mut share.recorder);
                    if let Pace::Closed { think } = share.pace
                        && !think.is_zero()
                    {
                        connection.thinking += 1;
                        let generation = connection.generation;
                        self.calendar.add(now + think, index, generation, Errand::Request);
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
            let mut length = output.len();
            if let Some(burden) = &mut connection.burden {
                let is_request = !connection.in_flight.is_empty();
                let now_ns = self.epoch.elapsed().as_nanos() as u64;
                length = burden.may_send(Channel::Control, length, is_request, now_ns);
                if length == 0 {
                    return self.hold_back(index);
                }
            }
            let count = self.driver.send(Slot::new(index, Channel::Control), &output[..length])?;
            if count == 0 {
                return Ok(());
            }
            connection.wrote(Channel::Control, count, self.epoch);
        }
    }

    /// Sends what is to be uploaded, as far as the socket takes it; what has gone whole is closed.
    fn upload(&mut self, index: usize) -> Result<(), Failure> {
        let slot = Slot::new(index, Channel::Data);
        let connection = &mut self.connections[index];
        while connection.data == Socket::Open
            && let Some((constant, mut range)) = connection.session.data_output()
        {
            if let Some(burden) = &mut connection.burden {
                let now_ns = self.epoch.elapsed().as_nanos() as u64;
                let length = burden.may_send(Channel::Data, range.len(), true, now_ns);
                if length == 0 {
                    return self.hold_back(index);
                }
                range.end = range.start + length;
            }
            let count = self.driver.send_constant(slot, constant, range)?;
            if count == 0 {
                return Ok(());
            }
            self.shares[connection.share].recorder.wrote(count);
            if connection.wrote(Channel::Data, count, self.epoch) {
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
