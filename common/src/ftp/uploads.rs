//! Uploads, from the command to the open file.
//!
//! **Invariant:** one that replaces a file, or makes one, is written under a name of its own until
//! it is whole; one that goes on with a file is written in place. A file that is replaced this way
//! is a new one: it has the permissions of a new file.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::job::{Create, Done, Job, Kind, Status};

use super::files::Work;
use super::path::VirtualPath;
use super::reply;
use super::session::Session;
use super::transfer::Payload;

/// How many names are tried for an upload before it is given up.
const NAME_ATTEMPTS: u8 = 16;

/// Makes the names of uploads differ within a process; its id tells processes apart.
static UPLOADS: AtomicU64 = AtomicU64::new(0);

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

/// An upload whose file is being opened.
#[derive(Debug)]
pub(super) struct Upload {
    /// The name under which it is written.
    written: VirtualPath,
    /// The name it gets at last, if that is another.
    target: Option<VirtualPath>,
    create: Create,
    placement: Placement,
    attempts: u8,
}

impl Session {
    pub(super) fn store(&mut self, argument: &[u8], placement: Placement) {
        if self.prepare().is_some() {
            self.look(argument, |path| Work::Look(path, placement));
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
        let length = match result {
            Ok(Done::Status(status)) => match status.kind {
                Kind::File => Some(status.length),
                _ => return self.say(reply::NOT_A_FILE),
            },
            Ok(_) => return self.say(reply::LOCAL_ERROR),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return self.say(reply::refusal(&error)),
        };
        match (placement, length) {
            (Placement::From(offset), length) if offset > length.unwrap_or(0) => {
                self.say(reply::BEYOND_END);
            }
            (Placement::Whole, _) | (_, None) => self.open_upload(Upload {
                written: path.beside(&partial_name()),
                target: Some(path),
                create: Create::New,
                placement: Placement::Whole,
                attempts: 1,
            }),
            (_, Some(_)) => self.open_upload(Upload {
                written: path,
                target: None,
                create: Create::Keep,
                placement,
                attempts: NAME_ATTEMPTS,
            }),
        }
    }

    pub(super) fn store_unique(&mut self) {
        if self.prepare().is_some() {
            self.open_upload(Upload {
                written: self.folder.resolve(&unique_name()),
                target: None,
                create: Create::New,
                placement: Placement::Whole,
                attempts: 1,
            });
        }
    }

    pub(super) fn open_upload(&mut self, upload: Upload) {
        let path = upload.written.beneath_root();
        let job = Job::Create(self.root().clone(), path, upload.create);
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
        };
        self.begin(payload);
    }
}

/// A name for STOU that no other upload has.
fn unique_name() -> Vec<u8> {
    let (process, number) = (std::process::id(), UPLOADS.fetch_add(1, Ordering::Relaxed));
    format!("upload-{process}-{number}").into_bytes()
}

/// A hidden name for what is not whole yet.
fn partial_name() -> Vec<u8> {
    [b".", unique_name().as_slice(), b".part"].concat()
}
