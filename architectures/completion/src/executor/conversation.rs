//! A session joined to sockets by completions: what it waits for is submitted, and it is told what
//! has come of it.
//!
//! ```text
//! poll ──▶ submit ··· complete ──▶ handle ──▶ poll ──▶ …
//! ```
//!
//! **Invariant:** the kernel has nothing of a session while that is asked or told anything, so that
//! nothing is lent of one that panics. For control input that arrives beside an operation, the
//! operation is cancelled first: what was done of it by then is told, and the rest is asked for
//! again.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use common::clock::Clock;
use common::job::{Done, Job};
use common::server::Permit;
use common::session::{Action, Chan, Event, Session};
use common::{Accepted, Live, is_draining};
use io_uring::opcode;
use io_uring::types::Fd;
use nix::libc;
use nix::sys::socket::{MsgFlags, recv, send};

use super::buffers::Filled;
use super::files::FileJob;
use super::ring::{Kind, Ring};
use super::work::{Channels, Outcome, Step, Work};

/// How much may have arrived that its session has no use for yet; then TCP makes the peer wait.
const INBOX_BYTES: usize = 64 * 1024;
/// How long, and for how many bytes, a connection is kept after its end for a peer that is still
/// sending.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1024 * 1024;

/// What a splice that is cancelled while it waits says: the kernel's own word for `EINTR`.
const ERESTARTSYS: i32 = 512;

/// A conversation and its sockets.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact about another thing")]
pub(crate) struct Conversation {
    // In the order in which they are dropped: `live` lets go of the control socket before it is
    // closed.
    live: Live,
    session: Box<dyn Session>,
    channels: Channels,
    _permit: Permit,
    /// In the user data of what is submitted.
    key: usize,
    /// What is under way for the session.
    work: Option<Work>,
    /// It may be taken back for control input, which the session would have.
    admits_control: bool,
    /// It has been asked back.
    work_is_cancelled: bool,
    /// The receive of the control connection, which goes on by itself, is under way.
    is_receiving: bool,
    /// It has been asked back.
    receive_is_cancelled: bool,
    /// A signal to leave may end the wait.
    is_idle: bool,
    /// The session waits for a request, in plain text, and for nothing else.
    wants_request: bool,
    clock: Clock,
    /// The clock has run out while something was under way.
    is_late: bool,
    /// The session has been told that the server leaves.
    is_drained: bool,
    /// The session has been told that control input has come to its end.
    control_ended: bool,
    /// Bytes discarded since the session's last words, while the peer is still sending.
    lingering: Option<usize>,
    is_over: bool,
}

/// What a conversation waits for now.
pub(crate) enum Fate {
    Completion,
    /// A provided buffer.
    Buffer,
    /// This work, wherever it is done.
    Job(Job),
    /// Nothing: it is over, and the kernel has nothing of it.
    Nothing,
}

impl Conversation {
    pub(crate) fn new(accepted: Accepted, key: usize) -> Self {
        let Accepted { live, session, control, permit } = accepted;
        Conversation {
            live,
            session,
            channels: Channels::new(control, key),
            _permit: permit,
            key,
            work: None,
            admits_control: false,
            work_is_cancelled: false,
            is_receiving: false,
            receive_is_cancelled: false,
            is_idle: false,
            wants_request: false,
            clock: Clock::default(),
            is_late: false,
            is_drained: false,
            control_ended: false,
            lingering: None,
            is_over: false,
        }
    }

    /// Control input has arrived, or come to its end. To be followed by [`drive`](Self::drive).
    pub(crate) fn take_input(
        &mut self,
        result: io::Result<usize>,
        input: Option<Filled>,
        more: bool,
    ) {
        self.is_receiving = more;
        self.receive_is_cancelled &= more;
        let inbox = &mut self.channels.control.inbox;
        match (result, input) {
            // It was taken back, or there was no buffer: it is asked for again.
            (Err(error), _) if is_passing(&error) => {}
            (Err(error), _) => (inbox.ended, inbox.error) = (true, Some(error)),
            (Ok(_), Some(input)) => self.take_bytes(&input),
            (Ok(_), None) => inbox.ended = true,
        }
    }

    fn take_bytes(&mut self, bytes: &[u8]) {
        if let Some(discarded) = &mut self.lingering {
            *discarded += bytes.len();
        } else if self.wants_request && !is_draining() {
            // Most requests are told where they lie.
            self.be_busy();
            self.session.handle(Event::Read(Chan::Control, bytes));
        } else {
            self.channels.control.inbox.push(bytes);
        }
    }

    /// Makes all the progress that is possible now.
    pub(crate) fn drive(&mut self, ring: &mut Ring, now: Instant) -> Fate {
        let fate = self.advance(ring, now);
        self.keep_receiving(ring);
        match fate {
            Fate::Nothing if self.is_receiving => Fate::Completion,
            fate => fate,
        }
    }

    /// Each of its steps but the last uses something up: what has arrived, or what the session has
    /// planned. Whatever is on its way to a peer ends it.
    fn advance(&mut self, ring: &mut Ring, now: Instant) -> Fate {
        while !self.is_over {
            if self.work.is_some() {
                self.take_back_for_input(ring);
                return Fate::Completion;
            }
            if let Some(discarded) = self.lingering {
                if discarded < LINGER_BYTES && !self.channels.control.inbox.ended {
                    return Fate::Completion;
                }
                (self.lingering, self.control_ended) = (None, true);
            }
            match self.step(ring, now) {
                Next::Step(Step::Input) => {
                    self.clock.start(self.session.deadline(), || now);
                    return Fate::Completion;
                }
                Next::Step(Step::Job(job)) => match FileJob::start(job, self.key, ring) {
                    Ok(job) => self.take(Step::Work(Work::File(job)), ring, now),
                    Err(job) => return self.hand_over(job),
                },
                Next::Step(step) => self.take(step, ring, now),
                Next::Linger => self.start_lingering(now),
                Next::Over => self.is_over = true,
            }
        }
        assert!(self.work.is_none(), "what is lent to the kernel is not given up");
        self.channels.close_data();
        Fate::Nothing
    }

    fn take(&mut self, step: Step, ring: &mut Ring, now: Instant) {
        match step {
            Step::Event(event) => self.session.handle(event),
            Step::Text(chan) => self.session.handle(Event::Read(chan, &ring.text)),
            Step::Work(work) => {
                // Nobody is late while it is us whom the client waits for.
                let is_ours = matches!(work, Work::File(_));
                self.work = Some(work);
                if is_ours {
                    self.clock = Clock::default();
                } else {
                    self.clock.start(self.session.deadline(), || now);
                }
            }
            Step::Again | Step::Input | Step::Job(_) => {}
        }
    }

    /// Has a job done elsewhere.
    fn hand_over(&mut self, job: Job) -> Fate {
        self.clock = Clock::default();
        self.work = Some(Work::Job);
        Fate::Job(job)
    }

    /// Begins what the session waits for.
    fn step(&mut self, ring: &mut Ring, now: Instant) -> Next {
        self.be_busy();
        if let Some(flush) = self.channels.flush(ring) {
            self.admits_control = false;
            return Next::Step(Step::Work(flush));
        }
        let accepts_control = self.session.accepts_control();
        if accepts_control && self.has_news() {
            let admits_control = match self.session.poll() {
                // A job is handed over once, so that what is asked here is answered here.
                Action::Run(job) => return Next::Step(Step::Job(job)),
                action => action.admits_control(),
            };
            let step = if admits_control { self.read_beside(ring) } else { Step::Input };
            if !matches!(step, Step::Input) {
                return Next::Step(step);
            }
        }
        let more = self.session.has_last_words() || self.session.more_follows();
        let action = self.session.poll();
        self.admits_control = accepts_control && action.admits_control();
        Next::Step(match action {
            Action::Run(job) => Step::Job(job),
            Action::Read(Chan::Control) => self.read_request(ring),
            Action::Pause => {
                let end = self.clock.start(self.session.deadline(), || now);
                match end.saturating_duration_since(now) {
                    Duration::ZERO => Step::Event(Event::TimedOut),
                    left => Step::Work(self.channels.pause(left, ring)),
                }
            }
            Action::Close(Chan::Control) if self.control_ended => Step::Event(Event::Closed),
            Action::Close(Chan::Control) => return Next::Linger,
            Action::End => return self.end(),
            Action::StartTls(Chan::Control, _) => self.shake_hands(ring),
            action => self.channels.start(&action, more, ring),
        })
    }

    /// Waits for a request, which is the one wait that a leaving server ends, or for more of one.
    fn read_request(&mut self, ring: &mut Ring) -> Step {
        let idle = !self.session.is_receiving();
        if idle && is_draining() && !std::mem::replace(&mut self.is_drained, true) {
            return Step::Event(Event::Drain);
        }
        // A session that goes on reading after it was told to leave has come to the end of its
        // input.
        if self.control_ended || self.is_drained {
            self.control_ended = true;
            return Step::Event(Event::Read(Chan::Control, &[]));
        }
        match self.channels.read_control(ring) {
            Step::Input => {
                self.wants_request = self.channels.control.secured.is_none();
                if idle { self.go_idle() } else { Step::Input }
            }
            step => self.noting_the_end(step, ring),
        }
    }

    /// Leaves the control socket to the kernel, and to a signal, whichever comes first.
    fn go_idle(&mut self) -> Step {
        self.is_idle = true;
        self.live.idle();
        // A signal that came before has left it alone.
        if is_draining() { Step::Again } else { Step::Input }
    }

    fn be_busy(&mut self) {
        self.wants_request = false;
        if std::mem::take(&mut self.is_idle) {
            self.live.busy();
        }
    }

    /// A client that has not shaken hands has asked for nothing yet: a leaving server does not wait
    /// for it.
    fn shake_hands(&mut self, ring: &mut Ring) -> Step {
        let action = self.session.poll();
        match self.channels.start(&action, false, ring) {
            Step::Input if is_draining() => {
                Step::Event(Event::Failed(io::ErrorKind::ConnectionAborted.into()))
            }
            Step::Input => self.go_idle(),
            step => step,
        }
    }

    /// Whether there is control input that the session has not been told.
    fn has_news(&self) -> bool {
        !self.control_ended && self.channels.control.inbox.has_news()
    }

    /// Takes control input while something on `Data`, or a pause, is pending. There an error counts
    /// as the end of the stream.
    fn read_beside(&mut self, ring: &mut Ring) -> Step {
        match self.channels.read_control(ring) {
            Step::Event(Event::Failed(_)) => {
                ring.text.clear();
                self.noting_the_end(Step::Text(Chan::Control), ring)
            }
            step => self.noting_the_end(step, ring),
        }
    }

    fn noting_the_end(&mut self, step: Step, ring: &Ring) -> Step {
        self.control_ended |= matches!(step, Step::Text(Chan::Control)) && ring.text.is_empty();
        step
    }

    fn take_back_for_input(&mut self, ring: &mut Ring) {
        if self.admits_control && self.has_news() {
            self.take_back(ring);
        }
    }

    /// Has the kernel give back what is under way for the session, if it can.
    fn take_back(&mut self, ring: &mut Ring) {
        let may = self.work.as_ref().is_some_and(Work::may_be_cancelled);
        if may && !std::mem::replace(&mut self.work_is_cancelled, true) {
            ring.cancel(Kind::Work, self.key);
        }
    }

    /// Has the kernel receive control input, as much as there is room for.
    fn keep_receiving(&mut self, ring: &mut Ring) {
        let inbox = &self.channels.control.inbox;
        let wanted = !self.is_over && !inbox.ended && inbox.len() < INBOX_BYTES;
        if wanted && !self.is_receiving {
            self.is_receiving = true;
            let descriptor = Fd(self.channels.control.socket.as_raw_fd());
            let entry = opcode::RecvMulti::new(descriptor, ring.input.group()).build();
            // SAFETY: its buffers are the ring's.
            unsafe { ring.push(entry, Kind::Receive, self.key) };
        }
        if !wanted && self.is_receiving && !std::mem::replace(&mut self.receive_is_cancelled, true)
        {
            ring.cancel(Kind::Receive, self.key);
        }
    }

    /// What was under way has completed. To be followed by [`drive`](Self::drive), if it waits for
    /// nothing else.
    pub(crate) fn complete(
        &mut self,
        result: io::Result<usize>,
        input: Option<Filled>,
        ring: &mut Ring,
        now: Instant,
    ) -> Fate {
        let mut work = self.work.take().expect("what completes was under way");
        let is_cancelled = std::mem::take(&mut self.work_is_cancelled);
        let is_late = std::mem::take(&mut self.is_late);
        let mut outcome = Outcome { result, input, is_cancelled };
        if let Err(error) = &outcome.result
            && work.can_be_repeated()
            && is_passing(error)
        {
            let starves = error.raw_os_error() == Some(libc::ENOBUFS);
            match work.interrupted(ring) {
                Some(moved) => (work, outcome.result) = (moved, Ok(0)),
                None if is_late => {
                    self.time_out();
                    return Fate::Completion;
                }
                None if starves => return Fate::Buffer,
                None => return Fate::Completion,
            }
        }
        let step = self.channels.completed(work, outcome, &mut *self.session, ring);
        match step.unwrap_or_else(|error| Step::Event(Event::Failed(error))) {
            Step::Job(job) => return self.hand_over(job),
            step => self.take(step, ring, now),
        }
        Fate::Completion
    }

    /// The job that was handed over has been done. To be followed by [`drive`](Self::drive).
    pub(crate) fn finish(&mut self, done: io::Result<Done>) {
        self.work = None;
        self.session.handle(match done {
            Ok(done) => Event::Ran(done),
            Err(error) => Event::Failed(error),
        });
    }

    /// The session has panicked, which ends its own conversation.
    pub(crate) fn give_up(&mut self) {
        self.is_over = true;
    }

    /// Ends the present wait if it has lasted too long.
    pub(crate) fn look_at_the_clock(&mut self, ring: &mut Ring, now: Instant) -> Fate {
        if self.is_over || self.clock.end().is_none_or(|end| end > now) {
            return Fate::Completion;
        }
        if let Some(discarded) = &mut self.lingering {
            *discarded = LINGER_BYTES;
        } else if self.work.is_some() {
            self.is_late = true;
            self.take_back(ring);
            return Fate::Completion;
        } else {
            self.time_out();
        }
        self.drive(ring, now)
    }

    fn time_out(&mut self) {
        self.be_busy();
        if matches!(self.session.poll(), Action::Close(Chan::Data)) {
            // The peer does not take what would tell it the end: closing closes all the same.
            self.channels.close_data();
        }
        self.session.handle(Event::TimedOut);
    }

    /// The session is over. If there is input that nobody has read, closing the socket would reset
    /// the connection, and take our last words with it (RFC 1122 §4.2.2.13).
    fn end(&mut self) -> Next {
        self.end_control();
        let control = &self.channels.control;
        if self.control_ended || control.inbox.ended {
            return Next::Over;
        }
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK;
        let unread = recv(control.socket.as_raw_fd(), &mut [0], flags);
        if control.inbox.len() > 0 || unread.is_ok_and(|count| count > 0) {
            return Next::Linger;
        }
        Next::Over
    }

    fn start_lingering(&mut self, now: Instant) {
        self.end_control();
        let control = &mut self.channels.control;
        let _ = control.socket.shutdown(Shutdown::Write);
        self.lingering = Some(control.inbox.len());
        control.inbox.clear();
        self.clock = Clock::ending_at(now + LINGER);
    }

    /// Tells the client of a secured connection that nothing more comes, if that goes at once.
    fn end_control(&mut self) {
        let control = &mut self.channels.control;
        let _ = control.close();
        if let Some((records, _)) = control.unsent() {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            let _ = send(control.socket.as_raw_fd(), records, flags);
            control.discard_unsent();
        }
    }
}

/// What is to be done with a session.
enum Next {
    Step(Step),
    Linger,
    Over,
}

/// The operation was cancelled, interrupted, or had no buffer: what it was for may be asked again.
fn is_passing(error: &io::Error) -> bool {
    let passing = [libc::ECANCELED, libc::EINTR, ERESTARTSYS, libc::ENOBUFS];
    error.raw_os_error().is_some_and(|errno| passing.contains(&errno))
}
