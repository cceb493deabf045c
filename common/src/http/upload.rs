//! A body on its way into a file.
//!
//! **Invariant:** it is written under a name of its own, and gets its real name when all of it is
//! there; however else it ends, what was written is removed. The file that it replaces must have
//! been possible to write, and its permission bits stay.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::SystemTime;

use super::conditional::{Conditions, Validators, Verdict};
use super::resource::etag;
use super::response::{Status, status_of};
use super::wanted::{UPLOADS, Wanted};
use crate::job::{Create, Done, Job, Root};
use crate::partial::{KEPT_MODE, NAME_ATTEMPTS, NEW_MODE, partial_name};

/// How much is gathered before it is written, in bytes: each piece is a job.
const PIECE_BYTES: usize = 64 * 1024;

/// An upload in progress.
#[derive(Debug)]
pub(super) struct Upload {
    root: Root,
    target: PathBuf,
    conditions: Conditions<'static>,
    step: Step,
    /// The name under which it is written.
    written: PathBuf,
    attempts: u8,
    made_folder: bool,
    /// The permission bits of the file that it replaces, if there is one.
    mode: Option<u32>,
    /// Given away with a job.
    file: Option<File>,
    offset: u64,
    buffer: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Look,
    Create,
    MakeFolder,
    Receive,
    Write,
    Commit,
}

/// What follows.
#[derive(Debug)]
pub(super) enum Next {
    Run(Job),
    /// Its content is to be given to [`Upload::take`].
    Receive,
    /// It has its name, and this status tells whether that is new.
    Stored(Status),
    Refused(Status),
}

impl Upload {
    /// Begins one, and says what is to be done first.
    pub(super) fn begin(root: &Root, wanted: Wanted, conditions: Conditions<'_>) -> (Self, Job) {
        let upload = Upload {
            root: root.clone(),
            target: wanted.path,
            conditions: conditions.into_owned(),
            step: Step::Look,
            written: PathBuf::new(),
            attempts: 0,
            made_folder: false,
            mode: None,
            file: None,
            offset: 0,
            buffer: Vec::new(),
        };
        let job = Job::StatusToWrite(root.clone(), upload.target.clone());
        (upload, job)
    }

    /// The job that was asked for last has ended like this.
    pub(super) fn done(&mut self, result: io::Result<Done>, now: SystemTime) -> Next {
        match (self.step, result) {
            (Step::Look, result) => self.looked(result, now),
            (Step::Create, Ok(Done::File(file, _))) => {
                self.file = Some(file);
                self.step = Step::Receive;
                Next::Receive
            }
            (Step::Create, Err(error))
                if error.kind() == io::ErrorKind::AlreadyExists
                    && self.attempts < NAME_ATTEMPTS =>
            {
                self.create()
            }
            (Step::Create, Err(error))
                if error.kind() == io::ErrorKind::NotFound && !self.made_folder =>
            {
                self.made_folder = true;
                self.step = Step::MakeFolder;
                Next::Run(Job::MakeDirectory(self.root.clone(), PathBuf::from(UPLOADS)))
            }
            // Another upload may have made it meanwhile.
            (Step::MakeFolder, Ok(_)) => self.create(),
            (Step::MakeFolder, Err(error)) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.create()
            }
            (Step::Write, Ok(Done::Piece(file, bytes))) => {
                self.offset += bytes.len() as u64;
                self.file = Some(file);
                self.buffer = bytes;
                self.buffer.clear();
                self.step = Step::Receive;
                Next::Receive
            }
            (Step::Commit, Ok(_)) => {
                self.written = PathBuf::new();
                let replaced = self.mode.is_some();
                Next::Stored(if replaced { Status::NO_CONTENT } else { Status::CREATED })
            }
            (step, Err(error)) => {
                // What has that name is somebody else's.
                if step == Step::Create {
                    self.written = PathBuf::new();
                }
                Next::Refused(status_of(&error))
            }
            (_, Ok(_)) => Next::Refused(Status::INTERNAL_ERROR),
        }
    }

    fn looked(&mut self, result: io::Result<Done>, now: SystemTime) -> Next {
        let status = match result {
            Ok(Done::Status(status)) => Some(status),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                return Next::Refused(Status::CONFLICT);
            }
            Err(error) => return Next::Refused(status_of(&error)),
            Ok(_) => return Next::Refused(Status::INTERNAL_ERROR),
        };
        let tag = status.as_ref().map(|status| etag(status, now));
        let validators = status
            .zip(tag.as_deref())
            .map(|(status, etag)| Validators { etag, modified: status.modified });
        if self.conditions.verdict(validators, false) != Verdict::Proceed {
            return Next::Refused(Status::PRECONDITION_FAILED);
        }
        self.mode = status.map(|status| status.mode & KEPT_MODE);
        self.create()
    }

    fn create(&mut self) -> Next {
        self.attempts += 1;
        self.step = Step::Create;
        self.written = self.target.with_file_name(std::ffi::OsString::from_vec(partial_name()));
        // Who may not read the old file may not read the new one either, half or whole.
        let mode = self.mode.unwrap_or(NEW_MODE);
        Next::Run(Job::Create(self.root.clone(), self.written.clone(), Create::New, mode))
    }

    /// Takes a piece of the content; then perhaps there is something to be done before more.
    pub(super) fn take(&mut self, content: &[u8]) -> Option<Job> {
        self.buffer.extend_from_slice(content);
        (self.buffer.len() >= PIECE_BYTES).then(|| self.write())
    }

    /// All of the content has been taken.
    pub(super) fn finish(&mut self) -> Job {
        if !self.buffer.is_empty() {
            return self.write();
        }
        self.step = Step::Commit;
        let file = self.file.take().expect("a file is committed once");
        let rename = Some((self.written.clone(), self.target.clone()));
        Job::Commit(self.root.clone(), file, self.mode, rename)
    }

    fn write(&mut self) -> Job {
        self.step = Step::Write;
        Job::Write {
            file: self.file.take().expect("a file comes back from each job but the last"),
            offset: self.offset,
            bytes: std::mem::take(&mut self.buffer),
        }
    }

    /// What is to be done about what was written, if something was.
    pub(super) fn give_up(&mut self) -> Option<Job> {
        self.file = None;
        let written = std::mem::take(&mut self.written);
        let any = !written.as_os_str().is_empty();
        any.then(|| Job::RemoveFile(self.root.clone(), written))
    }
}
