//! A [`Session`] joined to std sockets: one file for blocking and for readiness architectures,
//! since `O_NONBLOCK` on the control socket is all that separates the two. On a blocking socket
//! [`Conn::advance`] waits where otherwise it would say [`Wait::Ready`].
//!
//! **Invariant:** one action is in flight, each is answered once, and the work of one turn is
//! bounded.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::clock::Clock;
use crate::drain::{Live, is_draining};
use crate::job::{Done, Job};
use crate::server::{Accepted, Permit};
use crate::session::{Action, Chan, Event, Session};
use crate::sockets::{Attempt, Sockets};
use crate::stream::Buffer;
use crate::tally::Share;

/// The most that one turn moves, in bytes, and the most actions that it takes: afterwards others
/// have theirs.
const TURN_BYTES: usize = 1024 * 1024;
const TURN_ACTIONS: usize = 256;
/// How long, and for how many bytes, a connection is kept after its end for a peer that is still
/// sending.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1024 * 1024;

/// What a connection waits for before it can go on.
#[derive(Debug)]
pub enum Wait {
    /// For one of its sockets to be ready, or until [`Conn::is_late`].
    Ready,
    /// For this work, wherever it is done; then [`Conn::finish`].
    Job(Job),
    /// For nothing: it has had its turn, and others may want theirs.
    Turn,
    /// It is over, and can be dropped.
    End,
}

/// A socket, and what is waited for there.
pub type AwaitedSocket<'a> = (BorrowedFd<'a>, Direction);

/// The sockets that can end a wait.
#[derive(Debug)]
pub struct Awaited<'a> {
    /// The control socket, if it is waited for.
    pub control: Option<AwaitedSocket<'a>>,
    /// The data socket or its port, if it is waited for.
    pub data: Option<AwaitedSocket<'a>>,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To us: there is something to be received, or accepted.
    Input,
    /// From us: there is room to send, or the connection is made.
    Output,
}

/// A conversation and its sockets.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and they combine")]
pub struct Conn {
    // In the order in which they are dropped: `live` lets go of the control socket before it is
    // closed.
    live: Live,
    session: Box<dyn Session>,
    sockets: Sockets,
    permit: Permit,
    share: Share,
    mode: Mode,
    turn: Turn,
    /// The one way that the present turn is for, if there is one.
    only: Option<Direction>,
    /// Its deadline has passed, and it has not had a turn since.
    timed_out: bool,
    deadline: Clock,
    /// A job has been handed over, and is not done.
    job_is_out: bool,
    /// The session has been told that the server leaves.
    drained: bool,
    /// Control input has come to its end.
    control_ended: bool,
    /// The session has panicked, and is not asked again.
    panicked: bool,
    /// Bytes discarded since the session's last words, while the peer is still sending.
    lingering: Option<usize>,
}

/// Whether the control socket blocks; then for how long at most, which the kernel has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Blocking { timeout: Duration },
    Readiness,
}

/// What the present turn has taken. A job does not end it: a transfer that has one for each piece
/// would never have had its turn.
#[derive(Debug, Default)]
struct Turn {
    bytes: usize,
    actions: usize,
}

/// What is known after an action has been tried.
enum Step {
    Answer(Event<'static>),
    /// The buffer has been filled from there; empty at the end of the stream.
    Input(Chan),
    NotReady,
    /// Nothing has come of it, and others may want their turn.
    Fruitless,
    /// It is not what the turn is for.
    OtherWay,
    Job(Job),
    Linger,
    End,
}

impl Conn {
    /// Of a connection whose socket blocks for `timeout` at most, as the socket's options say, or,
    /// with none, does not block.
    pub(crate) fn new(accepted: Accepted, timeout: Option<Duration>) -> Self {
        let Accepted { live, session, control, permit } = accepted;
        Conn {
            live,
            session,
            sockets: Sockets::new(control),
            permit,
            share: Share::default(),
            mode: timeout.map_or(Mode::Readiness, |timeout| Mode::Blocking { timeout }),
            turn: Turn::default(),
            only: None,
            timed_out: false,
            deadline: Clock::default(),
            job_is_out: false,
            drained: false,
            control_ended: false,
            panicked: false,
            lingering: None,
        }
    }

    /// For blocking architectures: holds the whole conversation on this thread, and does its jobs
    /// there as well.
    pub fn run(mut self) {
        loop {
            match self.advance() {
                Wait::Ready => self.wait(),
                Wait::Job(job) => self.finish(job.run()),
                // A client that never lets us wait would have no deadline otherwise.
                Wait::Turn => {
                    if self.is_late(Instant::now()) {
                        self.time_out();
                    }
                }
                Wait::End => return,
            }
        }
    }

    /// For readiness architectures: makes all the progress that is possible now, within a turn;
    /// none while a job is being done elsewhere.
    pub fn advance(&mut self) -> Wait {
        if self.job_is_out {
            return Wait::Ready;
        }
        let turn = |conn: &mut Self| {
            let wait = Buffer::lend(|buffer| conn.take_turn(buffer));
            conn.share.count(conn.session.requests());
            wait
        };
        self.guard(turn).unwrap_or(Wait::End)
    }

    /// A session that panics is a mistake of ours, which ends its own conversation and no other.
    fn guard<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.panicked {
            return None;
        }
        let done = catch_unwind(AssertUnwindSafe(|| work(self))).ok();
        if done.is_none() {
            tracing::error!("a session panicked, and is closed");
            self.panicked = true;
        }
        done
    }

    /// The same for a stage of a pipeline, with what goes this way only. [`Wait::Turn`] says that
    /// the other way is next, or that it has had its turn.
    pub fn advance_only(&mut self, way: Direction) -> Wait {
        self.only = Some(way);
        let wait = self.advance();
        self.only = None;
        wait
    }

    /// The [`Job`] that [`advance`](Self::advance) handed over has been done. To be followed by
    /// `advance`.
    pub fn finish(&mut self, done: io::Result<Done>) {
        self.job_is_out = false;
        let event = done.map_or_else(Event::Failed, Event::Ran);
        self.guard(|conn| conn.session.handle(event));
    }

    /// A reactor has seen an event on this connection; `closing` if it says that the peer closed
    /// its sending side. To be followed by [`advance`](Self::advance).
    pub fn ready(&mut self, chan: Chan, closing: bool) {
        if chan == Chan::Control {
            self.sockets.control_readable = true;
            self.sockets.control_closing |= closing;
        }
    }

    /// Whether the present wait has lasted too long; then [`time_out`](Self::time_out).
    pub fn is_late(&self, now: Instant) -> bool {
        !self.timed_out && self.deadline.end().is_some_and(|end| end <= now)
    }

    /// The deadline has passed. To be followed by [`advance`](Self::advance).
    pub fn time_out(&mut self) {
        self.timed_out = true;
        if self.lingering.is_some() {
            self.lingering = Some(LINGER_BYTES);
            return;
        }
        self.guard(|conn| {
            if matches!(conn.session.poll(), Action::Close(Chan::Data)) {
                // The peer does not take what would tell it the end: closing closes all the same.
                conn.sockets.close_data();
            }
            conn.sockets.drop_timer();
            conn.session.handle(Event::TimedOut);
        });
    }

    /// The control socket, which stays the same for as long as the connection lives.
    pub fn control_descriptor(&self) -> RawFd {
        self.sockets.control().as_raw_fd()
    }

    /// For executors that watch what is waited for and nothing else: the sockets that can end the
    /// present wait, beside its deadline.
    pub fn awaited(&mut self) -> Awaited<'_> {
        if self.job_is_out {
            return Awaited { control: None, data: None };
        }
        let accepts = !self.control_ended && self.session.accepts_control();
        let action = self.session.poll();
        let control = |direction| Some((self.sockets.control().as_fd(), direction));
        let input_beside =
            if accepts && action.admits_control() { control(Direction::Input) } else { None };
        match (self.lingering, action) {
            (Some(_), _) => Awaited { control: control(Direction::Input), data: None },
            (None, Action::Pause) => Awaited { control: input_beside, data: None },
            (None, action) => match self.sockets.awaited(&action) {
                (Chan::Control, socket) => Awaited { control: Some(socket), data: None },
                (Chan::Data, socket) => Awaited { control: input_beside, data: Some(socket) },
            },
        }
    }

    /// What becomes readable when the present pause is over; where it cannot be made, the pause
    /// ends with its deadline.
    pub fn timer(&mut self) -> Option<BorrowedFd<'_>> {
        self.sockets.timer()
    }

    /// When the present wait has lasted too long.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline.end()
    }

    /// The data sockets and the timer that have appeared since this was last asked. A reactor
    /// watches them until they are closed.
    pub fn new_data_descriptors(&mut self) -> [Option<RawFd>; 3] {
        self.sockets.new_data_descriptors()
    }

    /// Gives the conversation up here because another process holds it, and keeps its place among
    /// those that count.
    pub fn into_permit(self) -> Permit {
        self.permit
    }

    fn take_turn(&mut self, buffer: &mut Buffer) -> Wait {
        self.timed_out = false;
        if self.lingering.is_some() && !self.linger(buffer) {
            return Wait::Ready;
        }
        while self.turn.actions < TURN_ACTIONS && self.turn.bytes < TURN_BYTES {
            self.turn.actions += 1;
            let step = match self.step(buffer) {
                step @ Step::Answer(Event::Received(0)) => self.end_of_upload(step, buffer),
                step @ Step::Input(Chan::Data) if buffer.input().is_empty() => {
                    self.end_of_upload(step, buffer)
                }
                step => step,
            };
            match step {
                Step::Answer(event) => {
                    if let Event::Wrote(count) | Event::Received(count) = event {
                        self.turn.bytes += count;
                    }
                    self.session.handle(event);
                }
                Step::Input(chan) => {
                    self.turn.bytes += buffer.input().len();
                    self.session.handle(Event::Read(chan, buffer.input()));
                }
                Step::NotReady => {
                    self.turn = Turn::default();
                    self.deadline.start(self.session.deadline(), Instant::now);
                    return Wait::Ready;
                }
                Step::Fruitless => break,
                Step::OtherWay => {
                    self.deadline.start(self.session.deadline(), Instant::now);
                    return Wait::Turn;
                }
                Step::Job(job) => {
                    // Nobody is late while it is us whom the client waits for.
                    self.deadline = Clock::default();
                    self.job_is_out = true;
                    return Wait::Job(job);
                }
                Step::Linger => {
                    if !self.start_lingering(buffer) {
                        return Wait::Ready;
                    }
                }
                Step::End => return Wait::End,
            }
        }
        self.turn = Turn::default();
        // A transfer that never has to wait would not see control input otherwise.
        self.sockets.control_readable = true;
        // Whoever has had a turn is not late with what it waited for before that.
        self.deadline.start(self.session.deadline(), Instant::now);
        Wait::Turn
    }

    /// Tries what the session waits for, once.
    fn step(&mut self, buffer: &mut Buffer) -> Step {
        if self.sockets.control_readable && !self.control_ended && self.session.accepts_control() {
            // A job is handed over once, so that what is asked here is answered here.
            let beside = match self.session.poll() {
                Action::Run(job) => return Step::Job(job),
                action => action.admits_control(),
            };
            if beside && let Some(step) = self.read_beside(buffer) {
                return step;
            }
        }
        self.sockets.holds_back = self.session.has_last_words() || self.session.more_follows();
        let (only, readable) = (self.only, self.sockets.control_readable);
        match self.session.poll() {
            Action::Run(job) => Step::Job(job),
            // A wait for a request is a wait, whichever way is asked for.
            Action::Read(Chan::Control) if !readable => self.read_request(buffer),
            action if only.is_some_and(|way| way != direction(&action)) => Step::OtherWay,
            Action::Read(Chan::Control) => self.read_request(buffer),
            Action::StartTls(Chan::Control, _) => self.shake_hands(buffer),
            Action::Pause => self.pause(),
            Action::End => self.end(buffer),
            Action::Close(Chan::Control) if self.control_ended => Step::Answer(Event::Closed),
            Action::Close(Chan::Control) => Step::Linger,
            action => self.sockets.attempt(&action, buffer).into(),
        }
    }

    /// A reactor looks at deadlines now and then only, so that a pause has a timer for it.
    fn pause(&mut self) -> Step {
        let end = self.deadline.start(self.session.deadline(), Instant::now);
        self.sockets.pause = Some(end.saturating_duration_since(Instant::now()));
        if self.sockets.pause == Some(Duration::ZERO) {
            self.sockets.drop_timer();
            return Step::Answer(Event::TimedOut);
        }
        Step::NotReady
    }

    /// A client that has not shaken hands has asked for nothing yet: a leaving server does not wait
    /// for it.
    fn shake_hands(&mut self, buffer: &mut Buffer) -> Step {
        self.live.busy();
        let step = self.sockets.attempt(&self.session.poll(), buffer).into();
        if matches!(step, Step::NotReady) {
            self.live.idle();
            if is_draining() {
                self.live.busy();
                return Step::Answer(Event::Failed(io::ErrorKind::ConnectionAborted.into()));
            }
        }
        step
    }

    /// Takes control input while something on `Data`, or a pause, is pending, if there is some.
    fn read_beside(&mut self, buffer: &mut Buffer) -> Option<Step> {
        match self.sockets.read_control(libc::MSG_DONTWAIT, buffer) {
            Ok(1..) => Some(Step::Input(Chan::Control)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Some(Step::Fruitless),
            Ok(0) | Err(_) => Some(self.end_of_control()),
        }
    }

    /// A client that is killed closes both its connections. The end of the control connection is
    /// told first, so that half an upload is not mistaken for a whole one; the data connection's
    /// will be found again.
    fn end_of_upload(&mut self, end: Step, buffer: &mut Buffer) -> Step {
        let beside = !self.control_ended && self.session.accepts_control();
        let step = if beside { self.read_beside(buffer) } else { None };
        step.unwrap_or(end)
    }

    /// Waits for a request, which is the one wait that a leaving server ends, or for more of one.
    fn read_request(&mut self, buffer: &mut Buffer) -> Step {
        if self.control_ended {
            return self.end_of_control();
        }
        let idle = !self.session.is_receiving();
        // What is secured is read without waiting: a piece of a record is not a request yet.
        let waits = self.mode != Mode::Readiness && !self.sockets.control_is_secured();
        if !waits && !self.sockets.control_readable {
            return if idle { self.go_idle() } else { Step::NotReady };
        }
        if waits {
            self.limit_blocking();
            if idle {
                self.live.idle();
            }
        }
        if idle && is_draining() {
            return self.drain();
        }
        let result = self.sockets.read_control(0, buffer);
        self.live.busy();
        match result {
            Ok(1..) => Step::Input(Chan::Control),
            Ok(0) if idle && is_draining() => self.drain(),
            Ok(0) => self.end_of_control(),
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => Step::Fruitless,
                io::ErrorKind::WouldBlock if !waits && idle => self.go_idle(),
                io::ErrorKind::WouldBlock if !waits => Step::NotReady,
                io::ErrorKind::WouldBlock => Step::Answer(Event::TimedOut),
                _ => Step::Answer(Event::Failed(error)),
            },
        }
    }

    /// Leaves the control socket to the reactor, and to a signal, whichever comes first.
    fn go_idle(&mut self) -> Step {
        self.live.idle();
        if is_draining() { self.drain() } else { Step::NotReady }
    }

    /// A session that goes on reading after it was told to leave has come to the end of its input.
    fn drain(&mut self) -> Step {
        self.live.busy();
        if self.drained {
            return self.end_of_control();
        }
        self.drained = true;
        Step::Answer(Event::Drain)
    }

    fn end_of_control(&mut self) -> Step {
        self.control_ended = true;
        Step::Answer(Event::Read(Chan::Control, &[]))
    }

    /// Has the kernel end a blocking read when the present phase is over. That is a system call
    /// only where the time differs from the last: in the midst of a request that arrives in
    /// pieces.
    fn limit_blocking(&mut self) {
        let remaining = self.deadline.remaining_unread(self.session.deadline());
        let timeout = remaining.max(Duration::from_millis(1));
        if self.mode != (Mode::Blocking { timeout }) {
            // A socket that is already dead says so when it is read.
            let _ = self.sockets.control().set_read_timeout(Some(timeout));
            self.mode = Mode::Blocking { timeout };
        }
    }

    /// On a blocking architecture: waits for what was not ready until the deadline.
    fn wait(&mut self) {
        // It counts in whole milliseconds, and would find what is left of the last one too short.
        let timeout = self.deadline.remaining() + Duration::from_millis(1);
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        let Awaited { control, data } = self.awaited();
        let waits_for_control = control.is_some();
        let sockets: &mut [PollFd<'_>] = match (control.map(poll_fd), data.map(poll_fd)) {
            (Some(control), Some(data)) => &mut [control, data],
            (Some(one), None) | (None, Some(one)) => &mut [one],
            (None, None) => &mut [],
        };
        let found = poll(sockets, timeout);
        let readable = waits_for_control && sockets[0].any() == Some(true);
        self.sockets.control_readable |= readable;
        if found == Ok(0) && self.deadline.remaining().is_zero() {
            self.time_out();
        }
    }

    /// The session is over. If there is input that nobody has read, closing the socket would reset
    /// the connection, and take our last words with it (RFC 1122 §4.2.2.13).
    fn end(&mut self, buffer: &mut Buffer) -> Step {
        self.sockets.end_control();
        if self.control_ended {
            return Step::End;
        }
        match self.sockets.read_control(libc::MSG_DONTWAIT, buffer) {
            Ok(1..) => Step::Linger,
            Ok(0) | Err(_) => Step::End,
        }
    }

    fn start_lingering(&mut self, buffer: &mut Buffer) -> bool {
        self.sockets.end_control();
        let _ = self.sockets.control().shutdown(Shutdown::Write);
        self.lingering = Some(0);
        self.deadline = Clock::ending_at(Instant::now() + LINGER);
        self.linger(buffer)
    }

    /// Discards what the peer is still sending; true when that has come to an end.
    fn linger(&mut self, buffer: &mut Buffer) -> bool {
        let mut discarded = self.lingering.unwrap_or(LINGER_BYTES);
        while discarded < LINGER_BYTES {
            match self.sockets.read_control(libc::MSG_DONTWAIT, buffer) {
                Ok(count @ 1..) => discarded += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.lingering = Some(discarded);
                    return false;
                }
                Ok(0) | Err(_) => break,
            }
        }
        self.lingering = None;
        self.control_ended = true;
        true
    }
}

impl From<Attempt> for Step {
    fn from(attempt: Attempt) -> Self {
        match attempt {
            Attempt::Event(event) => Step::Answer(event),
            Attempt::Input(chan) => Step::Input(chan),
            Attempt::NotReady => Step::NotReady,
            Attempt::Fruitless => Step::Fruitless,
        }
    }
}

/// Which way an action moves bytes; what moves none belongs to the input that asked for it.
fn direction(action: &Action<'_>) -> Direction {
    match action {
        Action::Write(..) | Action::SendFile { .. } => Direction::Output,
        _ => Direction::Input,
    }
}

fn poll_fd((socket, direction): AwaitedSocket<'_>) -> PollFd<'_> {
    let flags = match direction {
        Direction::Input => PollFlags::POLLIN,
        Direction::Output => PollFlags::POLLOUT,
    };
    PollFd::new(socket, flags)
}

#[cfg(test)]
mod tests;
