//! A transfer, from its data connection to its final reply.
//!
//! ```text
//!  Connect ──> Move <──> Work (a job, where bytes pass through here)
//!     │         │         │
//!     └─────────┴─────────┴───> Close ──> Commit (uploads) ──> finished
//!                                 └──────────┴──> Remove ────> finished
//! ```
//!
//! **Invariant:** it succeeds when its data connection was closed in order and, for an upload, the
//! file has its real name. On every other way out, what was written under a name of its own is
//! removed first. What is lent to the executor stays as it is until the step is left.
//!
//! Files as they are (TYPE I) never pass through here: the executor moves them. Listings, and files
//! as text (TYPE A), are made and taken apart here, a piece at a time in buffers that are used
//! again; each piece costs a job.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};

use crate::job::{Done, Entry, Job, Listing, Root};
use crate::session::{Action, Chan, Event};

use super::listing::Printer;
use super::path::VirtualPath;
use super::reply;
use super::text::{FromWire, ToWire};

/// How much of a file becomes text at a time, in bytes.
const TEXT_BYTES: usize = 32 * 1024;

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
    step: Step,
    payload: Payload,
    /// In bytes.
    moved: u64,
    /// The reply, if it has failed.
    failure: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Connect,
    Move,
    Work,
    Close,
    Commit,
    Remove,
}

/// What is moved.
#[derive(Debug)]
pub(super) enum Payload {
    /// A download of a file as it is.
    Send { file: File, offset: u64, end: u64 },
    /// An upload.
    Receive {
        /// Given away with a job, and for good when it is committed.
        file: Option<File>,
        offset: u64,
        /// The name it is written under, and whether that is nobody's file until it is whole.
        written: VirtualPath,
        temporary: bool,
        /// The name it gets at last, if that is another, and the permission bits, if they are those
        /// of the file that it replaces.
        target: Option<VirtualPath>,
        mode: Option<u32>,
        /// What has arrived of a file that is sent as text.
        text: Option<Incoming>,
    },
    /// A download that is made here: the present piece, how much of it was sent, and where the next
    /// comes from.
    Made { text: Vec<u8>, sent: usize, source: Source },
}

/// Where the text of a download comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// A directory: how it is printed, and what is still to be read of it.
    Listing { printer: Printer, more: Option<Listing> },
    /// A file that is sent as text. The file is given away with each job, and the buffer is for its
    /// bytes as they are.
    File { file: Option<File>, offset: u64, end: u64, buffer: Vec<u8>, ending: ToWire },
}

/// A piece of text that has arrived and is not written yet.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    ending: FromWire,
    bytes: Vec<u8>,
    /// It is the last one.
    ended: bool,
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
    pub(super) fn new(route: Route, payload: Payload) -> Self {
        Transfer { route, step: Step::Connect, payload, moved: 0, failure: None }
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
        self.step == Step::Connect
    }

    /// Whether the client may still cut it, or ask how it goes.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.step, Step::Connect | Step::Move)
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
            Step::Move => self.payload.moving(),
            Step::Work => Action::Run(self.payload.work()),
            Step::Close => Action::Close(Chan::Data),
            Step::Commit => Action::Run(self.payload.commit(root)),
            Step::Remove => Action::Run(self.payload.remove(root)),
        }
    }

    pub(super) fn handle(&mut self, event: Event<'_>, owner: IpAddr) -> Progress {
        let before = (self.step, self.moved);
        match self.step {
            Step::Connect => self.connected(&event, owner),
            Step::Move => self.shifted(event),
            Step::Work => self.worked(event),
            Step::Close => return self.closed(&event),
            Step::Commit => return self.committed(event),
            Step::Remove => return Progress::Finished,
        }
        if before == (self.step, self.moved) { Progress::None } else { Progress::Some }
    }

    /// Cuts it, with this reply. A second failure does not hide the first. One that is being
    /// closed is still lost; one whose connection is closed is out of the client's hands.
    pub(super) fn fail(&mut self, reply: &'static str) {
        if matches!(self.step, Step::Connect | Step::Move | Step::Work | Step::Close) {
            self.failure.get_or_insert(reply);
            self.step = Step::Close;
        }
    }

    /// A stranger on the port changes nothing: the next `Accept` drops it, and the clock runs on.
    fn connected(&mut self, event: &Event<'_>, owner: IpAddr) {
        match event {
            Event::Opened(peer) if peer.ip().to_canonical() == owner => {
                self.step = self.payload.next_step();
            }
            Event::Opened(_) if self.route == Route::Passive => {}
            _ => self.fail(reply::NO_CONNECTION),
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
        match (done, &mut self.payload) {
            (Done::Listing(entries, rest), Payload::Made { text, sent, source }) => {
                text.clear();
                *sent = 0;
                source.print(text, &entries, rest);
            }
            (Done::Piece(_, piece), Payload::Made { .. }) if piece.is_empty() => {
                return self.fail(reply::SHRUNK);
            }
            (Done::Piece(file, piece), Payload::Made { text, sent, source }) => {
                text.clear();
                *sent = 0;
                source.convert(text, file, piece);
            }
            (Done::Piece(back, bytes), Payload::Receive { file, offset, text: Some(text), .. }) => {
                *offset += bytes.len() as u64;
                *file = Some(back);
                text.bytes = bytes;
                text.bytes.clear();
            }
            _ => return self.fail(reply::LOCAL_ERROR),
        }
        self.step = self.payload.next_step();
    }

    fn closed(&mut self, event: &Event<'_>) -> Progress {
        if !matches!(event, Event::Closed) {
            self.failure.get_or_insert(reply::BROKEN);
        }
        let Payload::Receive { temporary, .. } = self.payload else {
            return Progress::Finished;
        };
        self.step = match (self.failure, temporary) {
            (None, _) => Step::Commit,
            (Some(_), true) => Step::Remove,
            (Some(_), false) => return Progress::Finished,
        };
        Progress::Some
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

impl Payload {
    /// A download of a file, from an offset up to its end as it is now.
    pub(super) fn download(file: File, offset: u64, end: u64, as_text: bool) -> Self {
        if as_text {
            let (buffer, ending) = (Vec::new(), ToWire::default());
            let source = Source::File { file: Some(file), offset, end, buffer, ending };
            Payload::Made { text: Vec::new(), sent: 0, source }
        } else {
            Payload::Send { file, offset, end }
        }
    }

    /// A listing, of which this batch has been read.
    pub(super) fn listing(printer: Printer, entries: &[Entry], more: Option<Listing>) -> Self {
        let mut text = Vec::new();
        let mut source = Source::Listing { printer, more: None };
        source.print(&mut text, entries, more);
        Payload::Made { text, sent: 0, source }
    }

    /// What follows once the connection is there, or something was moved.
    fn next_step(&self) -> Step {
        let (left, more) = match self {
            Payload::Send { offset, end, .. } => (offset < end, false),
            Payload::Receive { text: None, .. } => (true, false),
            Payload::Receive { text: Some(text), .. } => {
                (text.bytes.is_empty() && !text.ended, !text.bytes.is_empty())
            }
            Payload::Made { text, sent, source } => (*sent < text.len(), source.has_more()),
        };
        match (left, more) {
            (true, _) => Step::Move,
            (false, true) => Step::Work,
            (false, false) => Step::Close,
        }
    }

    fn moving(&self) -> Action<'_> {
        match self {
            Payload::Send { file, offset, end } => {
                Action::SendFile { to: Chan::Data, file, offset: *offset, length: end - offset }
            }
            Payload::Receive { text: Some(_), .. } => Action::Read(Chan::Data),
            Payload::Receive { file, offset, .. } => Action::ReceiveFile {
                from: Chan::Data,
                file: file.as_ref().expect("an upload has its file until Commit"),
                offset: *offset,
            },
            Payload::Made { text, sent, .. } => Action::Write(Chan::Data, &text[*sent..]),
        }
    }

    fn work(&mut self) -> Job {
        match self {
            Payload::Made { source, .. } => source.job(),
            Payload::Receive { file, offset, text: Some(text), .. } => Job::Write {
                file: file.take().expect("a file comes back from each job but the last"),
                offset: *offset,
                bytes: std::mem::take(&mut text.bytes),
            },
            _ => unreachable!("files as they are are moved without a job"),
        }
    }

    fn commit(&mut self, root: &Root) -> Job {
        let Payload::Receive { file, written, target, mode, .. } = self else {
            unreachable!("only an upload is committed");
        };
        let file = file.take().expect("a file is committed once");
        let rename = target.take().map(|target| (written.beneath_root(), target.beneath_root()));
        Job::Commit(root.clone(), file, *mode, rename)
    }

    fn remove(&mut self, root: &Root) -> Job {
        match self {
            Payload::Receive { file, written, .. } => {
                *file = None;
                Job::RemoveFile(root.clone(), written.beneath_root())
            }
            _ => unreachable!("only an upload leaves something to remove"),
        }
    }
}

impl Source {
    fn has_more(&self) -> bool {
        match self {
            Source::Listing { more, .. } => more.is_some(),
            Source::File { offset, end, .. } => offset < end,
        }
    }

    fn job(&mut self) -> Job {
        match self {
            Source::Listing { more, .. } => {
                Job::ListMore(more.take().expect("Work follows only where there is more"))
            }
            Source::File { file, offset, end, buffer, .. } => Job::Read {
                file: file.take().expect("a file comes back from each job but the last"),
                offset: *offset,
                length: (*end - *offset).min(TEXT_BYTES as u64) as usize,
                buffer: std::mem::take(buffer),
            },
        }
    }

    /// Adds the next batch of a directory as text.
    fn print(&mut self, text: &mut Vec<u8>, entries: &[Entry], rest: Option<Listing>) {
        if let Source::Listing { printer, more } = self {
            printer.print(text, entries);
            *more = rest;
        }
    }

    /// Adds the next piece of a file as text.
    fn convert(&mut self, text: &mut Vec<u8>, back: File, piece: Vec<u8>) {
        if let Source::File { file, offset, buffer, ending, .. } = self {
            ending.convert(&piece, text);
            *offset += piece.len() as u64;
            *file = Some(back);
            *buffer = piece;
        }
    }
}

impl Incoming {
    /// Takes what has arrived; nothing is the end.
    fn take(&mut self, input: &[u8]) {
        self.ended = input.is_empty();
        if self.ended {
            self.ending.end(&mut self.bytes);
        } else {
            self.ending.convert(input, &mut self.bytes);
        }
    }
}
