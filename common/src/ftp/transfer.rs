//! A transfer, from its data connection to its final reply.
//!
//! ```text
//!  Connect ──> Secure (PROT P) ──> Move <──> Work (where bytes pass through the session)
//!     │          │                  │         │
//!     └──────────┴──────────────────┴─────────┴──> Close ──────────────────> finished
//!                                                    │
//!                                 uploads: Settle <──┴──> Remove ──────────> finished
//!                                            └──> Commit ──┴───────────────> finished
//! ```
//!
//! **Invariant:** it succeeds when its data connection was closed in order and, for an upload, the
//! file has its real name. On every other way out, what was written under a name of its own is
//! removed first. What is lent to the executor stays as it is until the step is left.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::job::Root;
use crate::session::{Action, Chan, Event, TlsConfig};

use super::payload::Payload;
use super::reply;

/// How long an upload waits, when its last byte is there, for a sign that its client is not: one
/// that is killed closes its data connection first and its control connection a little later, and
/// stream mode has no other mark of the end (RFC 959 §3.4.1). TLS has one, and nothing to wait for.
pub(super) const SETTLE: Duration = Duration::from_millis(5);

/// How the data connection comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// The client has not said.
    Unknown,
    /// It connects to the port that we have opened.
    Passive,
    /// We connect to its port.
    Active(SocketAddr),
}

/// One transfer.
#[derive(Debug)]
pub(super) struct Transfer {
    route: Route,
    /// With what its data connection is to be secured, if it is.
    security: Option<Arc<TlsConfig>>,
    step: Step,
    payload: Payload,
    /// In bytes.
    moved: u64,
    /// The reply, if it has failed.
    failure: Option<&'static str>,
}

/// What a transfer is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Connect,
    Secure,
    Move,
    Work,
    Close,
    /// Whether the client is still there is waited for.
    Settle,
    Commit,
    Remove,
}

/// How far an event has brought a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    None,
    Some,
    /// It is over; [`Transfer::outcome`] is the reply.
    Finished,
}

impl Transfer {
    pub(super) fn new(route: Route, security: Option<Arc<TlsConfig>>, payload: Payload) -> Self {
        Transfer { route, security, step: Step::Connect, payload, moved: 0, failure: None }
    }

    /// The final reply.
    pub(super) fn outcome(&self) -> &'static str {
        self.failure.unwrap_or(reply::COMPLETE)
    }

    /// In bytes, so far.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    /// Whether it waits for its data connection to come about.
    pub(super) fn is_connecting(&self) -> bool {
        matches!(self.step, Step::Connect | Step::Secure)
    }

    /// Whether the client may still cut it, or ask how it goes.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.step, Step::Connect | Step::Secure | Step::Move | Step::Settle)
    }

    /// Whether it waits for nothing but [`SETTLE`].
    pub(super) fn is_settling(&self) -> bool {
        self.step == Step::Settle
    }

    pub(super) fn is_upload(&self) -> bool {
        matches!(self.payload, Payload::Receive { .. })
    }

    pub(super) fn action(&mut self, root: &Root) -> Action<'_> {
        match self.step {
            Step::Connect => match self.route {
                Route::Active(address) => Action::Connect(address),
                Route::Passive | Route::Unknown => Action::Accept,
            },
            Step::Secure => {
                let config = self.security.as_ref();
                Action::StartTls(Chan::Data, config.expect("Secure follows only where it is so"))
            }
            Step::Move => self.payload.moving(),
            Step::Work => Action::Run(self.payload.work()),
            Step::Close => Action::Close(Chan::Data),
            Step::Settle => Action::Pause,
            Step::Commit => Action::Run(self.payload.commit(root)),
            Step::Remove => Action::Run(self.payload.remove(root)),
        }
    }

    pub(super) fn handle(&mut self, event: Event<'_>, owner: IpAddr) -> Progress {
        let before = (self.step, self.moved);
        match self.step {
            Step::Connect => self.connected(&event, owner),
            Step::Secure => self.secured(&event),
            Step::Move => self.shifted(event),
            Step::Work => self.worked(event),
            Step::Close => return self.closed(&event),
            Step::Settle => self.settled(&event),
            Step::Commit => return self.committed(event),
            Step::Remove => return Progress::Finished,
        }
        if before == (self.step, self.moved) { Progress::None } else { Progress::Some }
    }

    /// Cuts it, with this reply. A second failure does not hide the first. One that is being
    /// closed is still lost; one that is given its name is out of the client's hands.
    pub(super) fn fail(&mut self, reply: &'static str) {
        if !matches!(self.step, Step::Commit | Step::Remove) {
            self.failure.get_or_insert(reply);
            self.step = Step::Close;
        }
    }

    /// A stranger on the port changes nothing: the next `Accept` drops it, and the clock runs on.
    fn connected(&mut self, event: &Event<'_>, owner: IpAddr) {
        match event {
            Event::Opened(peer) if peer.ip().to_canonical() == owner => {
                let secure = self.security.is_some();
                self.step = if secure { Step::Secure } else { self.payload.next_step() };
            }
            Event::Opened(_) if self.route == Route::Passive => {}
            _ => self.fail(reply::NO_CONNECTION),
        }
    }

    fn secured(&mut self, event: &Event<'_>) {
        match event {
            Event::Secured => self.step = self.payload.next_step(),
            _ => self.fail(reply::NOT_SECURED),
        }
    }

    fn shifted(&mut self, event: Event<'_>) {
        match (event, &mut self.payload) {
            (Event::Wrote(0), Payload::Send { .. }) => self.fail(reply::SHRUNK),
            (Event::Wrote(count), Payload::Send { offset, end, .. }) => {
                *offset = (*offset + count as u64).min(*end);
                self.advance(count);
            }
            (Event::Wrote(count @ 1..), Payload::Made { text, sent, .. }) => {
                *sent = text.len().min(*sent + count);
                self.advance(count);
            }
            (Event::Received(0), Payload::Receive { text: None, .. }) => self.step = Step::Close,
            (Event::Received(count), Payload::Receive { offset, text: None, .. }) => {
                *offset += count as u64;
                self.moved += count as u64;
            }
            (Event::Read(Chan::Data, input), Payload::Receive { text: Some(text), .. }) => {
                text.take(input);
                self.advance(input.len());
            }
            (Event::Failed(error), _) => self.fail(reply::interruption(&error)),
            (Event::TimedOut, _) => self.fail(reply::STALLED),
            _ => self.fail(reply::BROKEN),
        }
    }

    fn advance(&mut self, count: usize) {
        self.moved += count as u64;
        self.step = self.payload.next_step();
    }

    /// The next piece of a download has been read, or one of an upload has been written.
    fn worked(&mut self, event: Event<'_>) {
        let done = match event {
            Event::Ran(done) => done,
            Event::Failed(error) => return self.fail(reply::interruption(&error)),
            _ => return self.fail(reply::LOCAL_ERROR),
        };
        match self.payload.worked(done) {
            Ok(()) => self.step = self.payload.next_step(),
            Err(reply) => self.fail(reply),
        }
    }

    fn closed(&mut self, event: &Event<'_>) -> Progress {
        if !matches!(event, Event::Closed) {
            self.failure.get_or_insert(reply::BROKEN);
        }
        let Payload::Receive { temporary, .. } = self.payload else {
            return Progress::Finished;
        };
        self.step = match (self.failure, temporary) {
            (None, true) if self.security.is_none() => Step::Settle,
            (None, _) => Step::Commit,
            (Some(_), true) => Step::Remove,
            (Some(_), false) => return Progress::Finished,
        };
        Progress::Some
    }

    fn settled(&mut self, event: &Event<'_>) {
        match event {
            Event::TimedOut => self.step = Step::Commit,
            _ => self.fail(reply::LOCAL_ERROR),
        }
    }

    fn committed(&mut self, event: Event<'_>) -> Progress {
        self.failure = match event {
            Event::Ran(_) => return Progress::Finished,
            Event::Failed(error) => Some(reply::interruption(&error)),
            _ => Some(reply::LOCAL_ERROR),
        };
        let Payload::Receive { temporary: true, .. } = self.payload else {
            return Progress::Finished;
        };
        self.step = Step::Remove;
        Progress::Some
    }
}
