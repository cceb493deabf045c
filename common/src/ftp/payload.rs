//! What a transfer moves: a file as it is, a file as text, or a listing.
//!
//! **Invariant:** a file as it is (TYPE I) never passes through here: the executor moves it. What
//! does pass, listings and files as text (TYPE A), is made and taken apart a piece at a time, each
//! with a job, in buffers that are used again: memory stays flat, however much is moved.

use std::fs::File;

use crate::job::{Done, Entry, Job, Listing, Root};
use crate::session::{Action, Chan};

use super::listing::Printer;
use super::path::VirtualPath;
use super::reply;
use super::text::{FromWire, ToWire};
use super::transfer::Step;

/// How much of a file becomes text at a time, in bytes.
const TEXT_BYTES: usize = 32 * 1024;

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
        /// The name it gets at last, if that is another, and the permission bits, if they are
        /// those of the file that it replaces.
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
    pub(super) fn next_step(&self) -> Step {
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

    pub(super) fn moving(&self) -> Action<'_> {
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

    pub(super) fn work(&mut self) -> Job {
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

    /// The next piece of a download has been read, or one of an upload has been written; else the
    /// reply that says why the transfer is over.
    pub(super) fn worked(&mut self, done: Done) -> Result<(), &'static str> {
        match (done, self) {
            (Done::Listing(entries, rest), Payload::Made { text, sent, source }) => {
                text.clear();
                *sent = 0;
                source.print(text, &entries, rest);
            }
            (Done::Piece(_, piece), Payload::Made { .. }) if piece.is_empty() => {
                return Err(reply::SHRUNK);
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
            _ => return Err(reply::LOCAL_ERROR),
        }
        Ok(())
    }

    pub(super) fn commit(&mut self, root: &Root) -> Job {
        let Payload::Receive { file, written, target, mode, .. } = self else {
            unreachable!("only an upload is committed");
        };
        let file = file.take().expect("a file is committed once");
        let rename = target.take().map(|target| (written.beneath_root(), target.beneath_root()));
        Job::Commit(root.clone(), file, *mode, rename)
    }

    pub(super) fn remove(&mut self, root: &Root) -> Job {
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
    pub(super) fn take(&mut self, input: &[u8]) {
        self.ended = input.is_empty();
        if self.ended {
            self.ending.end(&mut self.bytes);
        } else {
            self.ending.convert(input, &mut self.bytes);
        }
    }
}
