//! One HTTP conversation.
//!
//! ```text
//!            ┌────────────────────────────────────────────────────────────┐
//!            ▼                                                            │
//!   input ─► parse a request ─► reply into `output` ──────────────────────┤
//!                            ├► Run(job) ───────────► reply ──────────────┤
//!                            ├► Run(Open) ─► head ─► SendFile ────────────┤
//!                            ├► head ─► Write(static block) ──────────────┤
//!                            └► Connect, Write, Read, Close(Data) ► reply ┘
//! ```
//!
//! **Invariant:** replies leave in the order of their requests, and `output` before any other
//! action. What of the input cannot be used yet waits in `tail`: at most an incomplete head and one
//! input, because nothing is read while a reply is pending.

use std::fs::File;
use std::io;

use super::backend::Call;
use super::request::{self, Method, Parsed, Request};
use super::response::{Date, Head, Persistence, Status, date};
use super::route::{PATTERN, Route, Wanted, route};
use crate::job::{Done, Job};
use crate::session::{Action, Chan, Deadline, Event, SharedSettings};

/// Replies to pipelined requests gather up to about this many bytes before they are sent.
const OUTPUT_BYTES: usize = 32 * 1024;

/// The largest buffer that an idle connection keeps, in bytes.
const KEPT_BYTES: usize = 4096;

/// A whole number of [`PATTERN`]s, so that any stretch of the body is a slice of it.
static BLOCK: [u8; 64 * 1024] = {
    let mut block = [0; 64 * 1024];
    let mut at = 0;
    while at < block.len() {
        block[at] = PATTERN[at % PATTERN.len()];
        at += 1;
    }
    block
};

/// One client's conversation.
#[derive(Debug)]
pub struct Session {
    settings: SharedSettings,
    /// Replies, and how much of them has been sent.
    output: Vec<u8>,
    sent: usize,
    /// Input that is not used yet: from `used` on.
    tail: Vec<u8>,
    used: usize,
    /// How much of a request's body is still to be read and thrown away.
    discard: u64,
    doing: Doing,
    /// Of the request that is being answered.
    head_only: bool,
    persistence: Persistence,
    ending: Ending,
    phase: u32,
    requests: u32,
}

/// What is done once `output` has been sent.
#[derive(Debug)]
enum Doing {
    /// Look for the next request.
    Parse,
    /// Wait for a job that makes a reply.
    Job(Box<Running>),
    /// Send this stretch of the endless pattern.
    Pattern { offset: u64, end: u64 },
    /// Send this stretch of a file.
    File { file: File, offset: u64, end: u64 },
    /// Wait for the backend.
    Backend(Box<Call>),
}

#[derive(Debug)]
struct Running {
    /// Taken by the executor.
    job: Option<Job>,
    /// The file that the job opens, if it opens one.
    wanted: Option<Wanted>,
}

/// How far a conversation is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
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
            discard: 0,
            doing: Doing::Parse,
            head_only: false,
            persistence: Persistence::Implied,
            ending: Ending::No,
            phase: 0,
            requests: 0,
        }
    }

    fn received(&mut self, input: &[u8]) {
        let phase = self.phase;
        let was_idle = self.is_idle();
        if self.tail.is_empty() {
            let used = self.parse(input);
            if self.ending == Ending::No {
                self.tail.extend_from_slice(&input[used..]);
            } else if used < input.len() {
                self.ending = Ending::Orderly;
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
        } else if self.ending != Ending::No {
            self.ending = Ending::Orderly;
        }
    }

    /// Answers as many requests as possible and says how much of the input they took.
    fn parse(&mut self, input: &[u8]) -> usize {
        let date = date((self.settings.now)());
        let mut used = 0;
        while matches!(self.doing, Doing::Parse)
            && self.ending == Ending::No
            && self.output.len() < OUTPUT_BYTES
        {
            let rest = &input[used..];
            if self.discard > 0 {
                let discarded = self.discard.min(rest.len() as u64);
                self.discard -= discarded;
                used += discarded as usize;
                if self.discard > 0 {
                    break;
                }
                continue;
            }
            // Empty lines before a request are to be ignored (RFC 9112 §2.2).
            match rest {
                [] => break,
                [b'\n', ..] => used += 1,
                [b'\r', b'\n', ..] => used += 2,
                _ => match request::parse(rest) {
                    Parsed::Partial => break,
                    Parsed::Request(request) => {
                        self.requests = self.requests.wrapping_add(1);
                        used += request.head_length;
                        self.answer(&request, &date);
                    }
                    Parsed::Refused(status, head_only) => {
                        self.head_only = head_only;
                        self.refuse(status, &date);
                        break;
                    }
                },
            }
        }
        used
    }

    fn answer(&mut self, request: &Request<'_>, date: &Date) {
        self.next_phase();
        self.discard = request.body_length;
        self.head_only = request.method == Method::Head;
        self.persistence = match (request.keep_alive, request.old) {
            (true, false) => Persistence::Implied,
            (true, true) => Persistence::KeepAlive,
            (false, _) => Persistence::Close,
        };
        if !request.keep_alive {
            self.ending = if self.discard > 0 { Ending::Orderly } else { Ending::AfterReply };
        }
        match request.method {
            Method::Get | Method::Head => self.go(route(request.target), date),
            Method::NotAllowed => {
                let extra = Some(("Allow", "GET, HEAD"));
                self.reply_status(Status::METHOD_NOT_ALLOWED, extra, date);
            }
            Method::Unknown => self.reply_status(Status::NOT_IMPLEMENTED, None, date),
        }
    }

    fn go(&mut self, route: Route, date: &Date) {
        let (job, wanted) = match route {
            Route::Fixed(content_type, body) => {
                return self.reply(Status::OK, content_type, body, None, date);
            }
            Route::Bytes(length) => return self.reply_pattern(length, date),
            Route::Bad => return self.reply_status(Status::BAD_REQUEST, None, date),
            Route::Backend(delay_ms) => {
                match self.settings.backend {
                    Some(address) => {
                        self.doing = Doing::Backend(Box::new(Call::new(address, delay_ms)));
                    }
                    None => self.reply_status(Status::UNAVAILABLE, None, date),
                }
                return;
            }
            Route::Compute(time) => (Job::Compute(time), None),
            Route::Block(time) => (Job::Block(time), None),
            Route::File(wanted) => {
                let job = Job::Open(self.settings.root.clone(), wanted.path.clone());
                (job, Some(wanted))
            }
        };
        let job = Some(job);
        self.doing = Doing::Job(Box::new(Running { job, wanted }));
    }

    fn reply(
        &mut self,
        status: Status,
        content_type: &'static str,
        body: &[u8],
        extra: Option<(&'static str, &str)>,
        date: &Date,
    ) {
        let head = Head { status, content_type, length: body.len() as u64, extra };
        head.append(&mut self.output, date, self.persistence);
        if !self.head_only {
            self.output.extend_from_slice(body);
        }
    }

    /// A reply whose body repeats its status, for people.
    fn reply_status(&mut self, status: Status, extra: Option<(&'static str, &str)>, date: &Date) {
        self.reply(status, "text/plain", status.0.as_bytes(), extra, date);
    }

    /// What fits the buffer that is kept anyway goes along with the head.
    fn reply_pattern(&mut self, length: u64, date: &Date) {
        let head = Head {
            status: Status::OK,
            content_type: "application/octet-stream",
            length,
            extra: None,
        };
        head.append(&mut self.output, date, self.persistence);
        if !self.head_only {
            let room = KEPT_BYTES.saturating_sub(self.output.len()) as u64;
            let first = length.min(room);
            self.output.extend_from_slice(&BLOCK[..first as usize]);
            if first < length {
                self.doing = Doing::Pattern { offset: first, end: length };
            }
        }
    }

    fn refuse(&mut self, status: Status, date: &Date) {
        self.ending = Ending::Orderly;
        self.persistence = Persistence::Close;
        self.next_phase();
        self.reply_status(status, None, date);
    }

    fn wrote(&mut self, count: usize) {
        self.next_phase();
        if !self.output.is_empty() {
            self.sent += count;
            if self.sent < self.output.len() {
                return;
            }
            self.sent = 0;
            self.output.clear();
            self.output.shrink_to(KEPT_BYTES);
        } else if let Doing::Pattern { offset, end } | Doing::File { offset, end, .. } =
            &mut self.doing
        {
            *offset += count as u64;
            if offset >= end {
                self.doing = Doing::Parse;
            }
        }
        if matches!(self.doing, Doing::Parse) && self.ending == Ending::No && !self.tail.is_empty()
        {
            self.parse_tail();
        }
    }

    fn ran(&mut self, result: io::Result<Done>) {
        let Doing::Job(running) = std::mem::replace(&mut self.doing, Doing::Parse) else {
            return;
        };
        self.next_phase();
        let date = date((self.settings.now)());
        match (result, &running.wanted) {
            (Ok(Done::File(file, status)), Some(wanted)) => {
                let head = Head {
                    status: Status::OK,
                    content_type: wanted.content_type,
                    length: status.length,
                    extra: None,
                };
                head.append(&mut self.output, &date, self.persistence);
                if !self.head_only && status.length > 0 {
                    let (offset, end) = (0, status.length);
                    self.doing = Doing::File { file, offset, end };
                }
            }
            (Err(error), Some(wanted))
                if error.kind() == io::ErrorKind::IsADirectory && !wanted.directory =>
            {
                // Without the slash, relative links in its index would lead elsewhere.
                let location = wanted.location();
                self.reply_status(Status::MOVED, Some(("Location", &location)), &date);
            }
            (Err(error), Some(_)) => self.reply_status(status_of(&error), None, &date),
            (Ok(_), None) => self.reply(Status::OK, "text/plain", b"OK", None, &date),
            _ => self.reply_status(Status::INTERNAL_ERROR, None, &date),
        }
    }

    fn called(&mut self, event: &Event<'_>) {
        let Doing::Backend(call) = &mut self.doing else {
            return;
        };
        call.handle(event);
        if call.outcome().is_none() {
            return;
        }
        let Doing::Backend(call) = std::mem::replace(&mut self.doing, Doing::Parse) else {
            return;
        };
        self.next_phase();
        let date = date((self.settings.now)());
        match call.outcome() {
            Some((Status::OK, body)) => self.reply(Status::OK, "text/plain", body, None, &date),
            Some((status, _)) => self.reply_status(status, None, &date),
            None => {}
        }
    }

    /// Nothing was asked that is not answered.
    fn is_idle(&self) -> bool {
        self.tail.is_empty() && self.discard == 0 && matches!(self.doing, Doing::Parse)
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
            self.refuse(status, &date((self.settings.now)()));
        }
    }

    fn next_phase(&mut self) {
        self.phase = self.phase.wrapping_add(1);
    }
}

/// What a failure to open a file means to a client.
fn status_of(error: &io::Error) -> Status {
    use nix::libc::{ELOOP, EMFILE, ENFILE, ENXIO};
    match (error.kind(), error.raw_os_error()) {
        (
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::InvalidFilename
            | io::ErrorKind::InvalidInput,
            _,
        )
        | (_, Some(ELOOP | ENXIO)) => Status::NOT_FOUND,
        (io::ErrorKind::PermissionDenied, _) => Status::FORBIDDEN,
        (_, Some(EMFILE | ENFILE)) => Status::UNAVAILABLE,
        _ => Status::INTERNAL_ERROR,
    }
}

impl crate::session::Session for Session {
    fn requests(&self) -> u32 {
        self.requests
    }

    fn has_last_words(&self) -> bool {
        matches!(self.doing, Doing::Parse) && self.ending != Ending::No
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
            Doing::Job(running) => running.job.take().map_or(Action::End, Action::Run),
            Doing::Pattern { offset, end } => {
                let start = (*offset % PATTERN.len() as u64) as usize;
                let length = (*end - *offset).min((BLOCK.len() - start) as u64) as usize;
                Action::Write(Chan::Control, &BLOCK[start..start + length])
            }
            Doing::File { file, offset, end } => Action::SendFile {
                to: Chan::Control,
                file,
                offset: *offset,
                length: *end - *offset,
            },
            Doing::Backend(call) => call.poll(),
        }
    }

    fn handle(&mut self, event: Event<'_>) {
        // Every pending output goes before what is being done: so a failure is the output's.
        let doing = if self.output.is_empty() { Some(&self.doing) } else { None };
        match (doing, event) {
            (_, Event::Wrote(count)) if count > 0 && !matches!(doing, Some(Doing::Backend(_))) => {
                self.wrote(count);
            }
            (Some(Doing::Backend(_)), event) => self.called(&event),
            (Some(Doing::Job(_)), Event::Ran(done)) => self.ran(Ok(done)),
            (Some(Doing::Job(_)), Event::Failed(error)) => self.ran(Err(error)),
            (Some(Doing::Job(_)), Event::TimedOut) => {
                self.doing = Doing::Parse;
                self.refuse(Status::UNAVAILABLE, &date((self.settings.now)()));
            }
            (Some(Doing::Parse), Event::Read(Chan::Control, input))
                if self.ending == Ending::No && !input.is_empty() =>
            {
                self.received(input);
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
            _ => self.ending = Ending::Now,
        }
    }

    fn deadline(&self) -> Deadline {
        Deadline { phase: self.phase, limit: self.settings.idle_timeout }
    }
}
