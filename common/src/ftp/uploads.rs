//! Uploads, from the command to the open file.
//!
//! **Invariant:** one that replaces a file, or makes one, is written under a name of its own until
//! it is whole; one that goes on with a file is written in place. Nobody but the upload itself
//! reaches what such a name stands for: it is in no listing, and no command takes it.
//!
//! A file that is replaced this way is a new one with the permission bits of the old one, except
//! those that let a program run as its owner or group: what they were given for is gone. It must
//! have been possible to write the old one. Where the name is a symbolic link, the link is
//! replaced, and what it stood for stays as it was.

use std::fs::File;
use std::io;

use crate::job::{Create, Done, Job, Status};
use crate::partial::{KEPT_MODE, NAME_ATTEMPTS, NEW_MODE, partial_name, unique_name};

use super::files::Work;
use super::path::VirtualPath;
use super::payload::{Incoming, Payload};
use super::reply;
use super::session::Session;

/// Where in its file an upload goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// It replaces the file.
    Whole,
    /// At an offset, in bytes.
    From(u64),
    /// At the end.
    End,
}

impl Placement {
    /// STOR, after REST has named an offset or not.
    pub(super) fn from(offset: u64) -> Self {
        if offset == 0 { Placement::Whole } else { Placement::From(offset) }
    }
}

/// An upload whose file is being opened.
#[derive(Debug)]
pub(super) struct Upload {
    /// The name under which it is written.
    written: VirtualPath,
    /// The name it gets at last, if that is another.
    target: Option<VirtualPath>,
    /// The permission bits of the file that it replaces, if there is one.
    mode: Option<u32>,
    create: Create,
    placement: Placement,
    attempts: u8,
}

impl Session {
    pub(super) fn store(&mut self, argument: &[u8], placement: fn(u64) -> Placement) {
        let Some(offset) = self.take_restart() else {
            return;
        };
        if let Some(path) = self.resolve(argument) {
            let job = Job::StatusToWrite(self.root().clone(), path.beneath_root());
            self.work(job, Work::Look(path, placement(offset)));
        }
    }

    /// An upload that replaces a file, or makes one, is written under another name until it is
    /// whole; one that goes on with a file is written in place.
    pub(super) fn looked(
        &mut self,
        path: VirtualPath,
        placement: Placement,
        result: io::Result<Done>,
    ) {
        let found = match result {
            Ok(Done::Status(status)) => Some(status),
            Ok(_) => return self.say(reply::LOCAL_ERROR),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return self.say(reply::refusal(&error)),
        };
        let length = found.map_or(0, |status| status.length);
        match (placement, found) {
            (Placement::From(_), None) => self.say("554 No such file to go on with."),
            (Placement::From(offset), _) if offset > length => self.say(reply::BEYOND_END),
            (Placement::Whole, _) | (_, None) => self.open_upload(Upload {
                written: path.beside(&partial_name()),
                target: Some(path),
                mode: found.map(|status| status.mode & KEPT_MODE),
                create: Create::New,
                placement: Placement::Whole,
                attempts: 1,
            }),
            (_, Some(_)) => self.open_upload(Upload {
                written: path,
                target: None,
                mode: None,
                create: Create::Keep,
                placement,
                attempts: NAME_ATTEMPTS,
            }),
        }
    }

    pub(super) fn store_unique(&mut self) {
        self.open_upload(Upload {
            written: self.folder.resolve(&unique_name()),
            target: None,
            mode: None,
            create: Create::New,
            placement: Placement::Whole,
            attempts: 1,
        });
    }

    pub(super) fn open_upload(&mut self, upload: Upload) {
        if !self.has_route() {
            return;
        }
        let path = upload.written.beneath_root();
        // Who may not read the old file may not read the new one either, half or whole.
        let mode = upload.mode.unwrap_or(NEW_MODE);
        let job = Job::Create(self.root().clone(), path, upload.create, mode);
        self.work(job, Work::Store(upload));
    }

    /// A name may be left from a process that had our id: another is tried.
    pub(super) fn not_stored(&mut self, mut upload: Upload, error: &io::Error) {
        if error.kind() != io::ErrorKind::AlreadyExists || upload.attempts >= NAME_ATTEMPTS {
            return self.say(reply::refusal(error));
        }
        let name = if upload.target.is_some() { partial_name() } else { unique_name() };
        upload.written = upload.written.beside(&name);
        upload.attempts += 1;
        self.open_upload(upload);
    }

    pub(super) fn begin_upload(&mut self, upload: Upload, file: File, status: &Status) {
        let offset = match upload.placement {
            Placement::Whole => 0,
            Placement::From(offset) => offset,
            Placement::End => status.length,
        };
        let temporary = upload.create == Create::New;
        if temporary && upload.target.is_none() {
            // RFC 1123 §4.1.2.9 has the name here, in just this form.
            self.output.extend_from_slice(b"150 FILE: ");
            reply::foreign(&mut self.output, &upload.written.absolute());
            self.say("");
        } else {
            self.say("150 Ready for the file.");
        }
        let payload = Payload::Receive {
            file: Some(file),
            offset,
            written: upload.written,
            temporary,
            target: upload.target,
            mode: upload.mode,
            text: self.is_text().then(Incoming::default),
        };
        self.begin(payload);
    }
}
