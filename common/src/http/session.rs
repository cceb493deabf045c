//! One HTTP conversation.
//!
//! ```text
//!            ┌───────────────────────────────────────────────────────────────┐
//!            ▼                                                               │
//!   input ─► parse a head ─► reply into `output` ────────────────────────────┤
//!                  │      ├► Run(job) ───────────► reply ────────────────────┤
//!                  │      ├► Run(open) ─► head ─► SendFile ──────────────────┤
//!                  │      ├► head ─► Write(static block) ────────────────────┤
//!                  │      ├► head ─► events, with a Pause between them ──────┤
//!                  │      └► Connect, Write, Read, Close(Data) ► reply ──────┤
//!                  └────► read a body: discard it, keep it, or store it ─────┘
//! ```
//!
//! **Invariant:** replies leave in the order of their requests, each once its request is whole, and
//! `output` before any other action. What of the input cannot be used yet waits in `tail`: at most
//! an incomplete head and one input, because nothing is read while a reply is pending.

use super::backend::Call;
use super::index::Index;
use super::receiving::Receiving;
use super::replies::{BLOCK, Events, Sending};
use super::request::{self, Method, Parsed, Request};
use super::response::{Date, Persistence, Status, date};
use super::route::{PATTERN, route};
use super::work::{Purpose, Work};
use crate::session::{Action, Chan, Deadline, Event, SharedSettings};

/// Replies to pipelined requests gather up to about this many bytes before they are sent.
const OUTPUT_BYTES: usize = 32 * 1024;

/// The largest buffer that an idle connection keeps, in bytes.
pub(super) const KEPT_BYTES: usize = 4096;

/// One client's conversation.
#[derive(Debug)]
pub struct Session {
    pub(super) settings: SharedSettings,
    /// Replies, and how much of them has been sent.
    pub(super) output: Vec<u8>,
    sent: usize,
    /// Input that is not used yet: from `used` on.
    tail: Vec<u8>,
    used: usize,
    pub(super) doing: Doing,
    /// Of the request that is being answered: whether its reply shall do without a body, whether
    /// its client speaks HTTP/1.0, and what becomes of the connection.
    pub(super) head_only: bool,
    pub(super) old: bool,
    pub(super) persistence: Persistence,
    pub(super) ending: Ending,
    phase: u32,
    requests: u32,
}

/// What is done once `output` has been sent.
#[derive(Debug)]
pub(super) enum Doing {
    /// Look for the next request.
    Parse,
    /// Read the body of a request.
    Receive(Box<Receiving>),
    /// Wait for a job.
    Work(Box<Work>),
    /// Send this stretch of the endless pattern.
    Pattern { offset: u64, end: u64 },
    /// Send a stretch of a file, or several.
    Send(Box<Sending>),
    /// Send the page of a folder.
    Index(Box<Index>),
    /// Wait before the next event.
    Events(Events),
    /// Wait for the backend.
    Backend(Box<Call>),
}

/// How far a conversation is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It goes on.
    No,
    /// It ends when the reply has been sent.
    AfterReply,
    /// So too, and there may be input that nobody has read, or more to come: closing at once would
    /// reset the connection and could take the reply with it (RFC 9112 §9.6).
    Orderly,
    /// It is over.
    Now,
}

impl Session {
    /// A conversation that has just begun.
    pub fn new(settings: &SharedSettings) -> Self {
        Session {
            settings: settings.clone(),
            output: Vec::new(),
            sent: 0,
            tail: Vec::new(),
            used: 0,
            doing: Doing::Parse,
            head_only: false,
            old: false,
            persistence: Persistence::Implied,
            ending: Ending::No,
            phase: 0,
            requests: 0,
        }
    }

    pub(super) fn date(&self) -> Date {
        date((self.settings.now)())
    }

    fn received(&mut self, input: &[u8]) {
        let phase = self.phase;
        let was_idle = self.is_idle();
        if self.tail.is_empty() {
            let used = self.parse(input);
            if used < input.len() {
                if self.may_use_more() {
                    self.tail.extend_from_slice(&input[used..]);
                } else {
                    self.end_orderly();
                }
            }
        } else {
            self.tail.drain(..self.used);
            self.used = 0;
            self.tail.extend_from_slice(input);
            self.parse_tail();
        }
        // A request begins: from now on it is the request that may take so long, and no longer the
        // silence before it.
        if was_idle && self.phase == phase && !self.is_idle() {
            self.next_phase();
        }
    }

    fn parse_tail(&mut self) {
        let tail = std::mem::take(&mut self.tail);
        self.used += self.parse(&tail[self.used..]);
        self.tail = tail;
        if self.used == self.tail.len() {
            self.used = 0;
            self.tail.clear();
            self.tail.shrink_to(KEPT_BYTES);
        } else if !self.may_use_more() {
            self.end_orderly();
        }
    }

    /// Goes on with input that had to wait, if now it need not.
    pub(super) fn go_on(&mut self) {
        if self.output.is_empty() && self.may_parse() && !self.tail.is_empty() {
            self.parse_tail();
        }
    }

    /// Whether input is of use now.
    fn may_parse(&self) -> bool {
        match self.doing {
            Doing::Parse => self.ending == Ending::No,
            Doing::Receive(_) => true,
            _ => false,
        }
    }

    /// Whether input can be of use at any time.
    fn may_use_more(&self) -> bool {
        let of_body = match &self.doing {
            Doing::Receive(_) => true,
            Doing::Work(work) => matches!(work.purpose, Purpose::Store(_)),
            _ => false,
        };
        of_body || self.ending == Ending::No
    }

    fn end_orderly(&mut self) {
        if self.ending == Ending::AfterReply {
            self.ending = Ending::Orderly;
        }
    }

    /// Uses as much of the input as possible and says how much that was.
    fn parse(&mut self, input: &[u8]) -> usize {
        let date = self.date();
        let mut used = 0;
        while self.may_parse() && self.output.len() < OUTPUT_BYTES {
            let rest = &input[used..];
            // Empty lines before a request are to be ignored (RFC 9112 §2.2).
            match (rest, &self.doing) {
                ([], _) => break,
                (_, Doing::Receive(_)) => used += self.receive(rest, &date),
                ([b'\n', ..], _) => used += 1,
                ([b'\r', b'\n', ..], _) => used += 2,
                _ => match request::parse(rest) {
                    Parsed::Partial => break,
                    Parsed::Request(request) => {
                        self.requests = self.requests.wrapping_add(1);
                        used += request.head_length;
                        self.answer(request, &date);
                    }
                    Parsed::Refused(status, head_only) => {
                        self.head_only = head_only;
                        self.refuse(status, &date);
                    }
                },
            }
        }
        used
    }

    fn answer(&mut self, request: Request<'_>, date: &Date) {
        self.next_phase();
        self.head_only = request.method == Method::Head;
        self.old = request.old;
        self.persistence = match (request.keep_alive, request.old) {
            (true, false) => Persistence::Implied,
            (true, true) => Persistence::KeepAlive,
            (false, _) => Persistence::Close,
        };
        if !request.keep_alive {
            self.ending = Ending::AfterReply;
        }
        let route = route(request.method, request.target);
        if request.body.is_none() && !route.takes_body() {
            self.carry_out(route, request.conditions, date);
        } else {
            self.begin_to_receive(route, request, date);
        }
    }

    /// Gives up what is being done, without a word to the client.
    fn abandon(&mut self) {
        self.output.clear();
        self.sent = 0;
        self.give_up_receiving(None);
    }

    fn wrote(&mut self, count: usize) {
        self.next_phase();
        if self.output.is_empty() {
            self.moved(count as u64);
        } else {
            self.sent += count;
            if self.sent < self.output.len() {
                return;
            }
            self.sent = 0;
            self.output.clear();
            self.output.shrink_to(KEPT_BYTES);
            if matches!(self.doing, Doing::Index(_)) {
                self.write_index();
            }
        }
        self.go_on();
    }

    /// Nothing was asked that is not answered.
    fn is_idle(&self) -> bool {
        self.tail.is_empty() && matches!(self.doing, Doing::Parse)
    }

    /// The client is silent, or the server leaves. Who has sent half a request is told why there is
    /// no answer.
    fn stop_reading(&mut self, status: Status) {
        if self.tail.is_empty() {
            self.ending = Ending::Now;
        } else {
            self.head_only = false;
            self.tail = Vec::new();
            self.used = 0;
            self.refuse(status, &self.date());
        }
    }

    /// Whether this input is of use now.
    fn takes(&self, input: &[u8]) -> bool {
        !input.is_empty() && self.output.is_empty() && self.may_parse()
    }

    /// Whether events are those of a call to the backend.
    fn calls(&self) -> bool {
        self.output.is_empty() && matches!(self.doing, Doing::Backend(_))
    }

    /// All but input that is of use, and what was written of a reply.
    fn handle_rare(&mut self, event: Event<'_>) {
        // Every pending output goes before what is being done: so a failure is the output's.
        let doing = if self.output.is_empty() { Some(&self.doing) } else { None };
        match (doing, event) {
            (Some(Doing::Backend(_)), event) => self.called(&event),
            (Some(Doing::Work(_)), Event::Ran(done)) => self.worked(Ok(done)),
            (Some(Doing::Work(_)), Event::Failed(error)) => self.worked(Err(error)),
            (Some(Doing::Work(_)), Event::TimedOut) => {
                self.worked(Err(std::io::ErrorKind::TimedOut.into()));
            }
            (Some(Doing::Events(_)), Event::TimedOut) => self.write_event(),
            (Some(Doing::Receive(_)), Event::TimedOut) => {
                self.give_up_receiving(Some(Status::REQUEST_TIMEOUT));
            }
            (Some(Doing::Parse), Event::TimedOut) if self.ending == Ending::No => {
                self.stop_reading(Status::REQUEST_TIMEOUT);
            }
            (Some(Doing::Parse), Event::Drain) if self.ending == Ending::No => {
                self.stop_reading(Status::UNAVAILABLE);
                // From now on nothing is to be read.
                if self.ending == Ending::Orderly {
                    self.ending = Ending::AfterReply;
                }
            }
            // The end of the stream, an orderly close, a failed or overlong write, or a file that
            // has shrunk.
            _ => self.abandon(),
        }
    }

    pub(super) fn next_phase(&mut self) {
        self.phase = self.phase.wrapping_add(1);
    }
}

impl crate::session::Session for Session {
    fn requests(&self) -> u32 {
        self.requests
    }

    fn has_last_words(&self) -> bool {
        matches!(self.doing, Doing::Parse) && self.ending != Ending::No
    }

    fn more_follows(&self) -> bool {
        matches!(self.doing, Doing::Send(_))
    }

    fn is_receiving(&self) -> bool {
        matches!(self.doing, Doing::Receive(_))
    }

    fn poll(&mut self) -> Action<'_> {
        if self.ending == Ending::Now {
            return Action::End;
        }
        if !self.output.is_empty() {
            return Action::Write(Chan::Control, &self.output[self.sent..]);
        }
        match &mut self.doing {
            Doing::Parse => match self.ending {
                Ending::No => Action::Read(Chan::Control),
                Ending::Orderly => Action::Close(Chan::Control),
                Ending::AfterReply | Ending::Now => Action::End,
            },
            Doing::Receive(_) => Action::Read(Chan::Control),
            Doing::Work(work) => work.job.take().map_or(Action::End, Action::Run),
            Doing::Pattern { offset, end } => {
                let start = (*offset % PATTERN.len() as u64) as usize;
                let length = (*end - *offset).min((BLOCK.len() - start) as u64) as usize;
                Action::Write(Chan::Control, &BLOCK[start..start + length])
            }
            Doing::Send(sending) => sending.action(),
            Doing::Events(_) => Action::Pause,
            Doing::Backend(call) => call.poll(),
            Doing::Index(_) => unreachable!("a page that is not over has output, or is worked on"),
        }
    }

    fn handle(&mut self, event: Event<'_>) {
        // These two are what a small request has. They are looked at where they are, because an
        // event can be large, and to move it is felt there.
        match event {
            Event::Read(Chan::Control, input) if self.takes(input) => self.received(input),
            Event::Wrote(count) if count > 0 && !self.calls() => self.wrote(count),
            event => self.handle_rare(event),
        }
    }

    fn deadline(&self) -> Deadline {
        let limit = match &self.doing {
            Doing::Events(events) if self.output.is_empty() => events.interval,
            _ => self.settings.idle_timeout,
        };
        Deadline { phase: self.phase, limit }
    }
}
