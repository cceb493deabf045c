//! What requests have done by way of jobs, and what comes of it.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::conditional::Conditions;
use super::guests;
use super::index::Index;
use super::receiving::Receiving;
use super::resource::{Content, MEMORY_BYTES_MAX, Resource};
use super::response::{Date, Status, status_of};
use super::session::{Doing, Ending, Session};
use super::upload;
use super::wanted::Wanted;
use crate::guestbook::GuestEntry;
use crate::job::{Done, Job};

/// A job, and what it is run for.
#[derive(Debug)]
pub(super) struct Work {
    /// Taken by the executor.
    pub(super) job: Option<Job>,
    pub(super) purpose: Purpose,
}

/// What a job is run for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// To say `OK` when it is done.
    SayOk,
    /// To send the page of the guestbook.
    ReadGuestbook,
    /// To say that an entry is in the guestbook, or, to a form, where it is to be seen.
    Sign(bool),
    /// To send a file.
    Read(Box<Read>),
    /// To list the folder that a file of this name would stand for.
    List(Wanted),
    /// To go on with such a page.
    ListMore(Box<Index>),
    /// For an upload.
    Store(Box<Receiving>),
    /// To remove what an upload has left, and to tell the client, if there is somebody to tell.
    Remove(Option<Status>),
}

/// A file that is being opened.
#[derive(Debug)]
pub(super) struct Read {
    /// As it was asked for.
    path: String,
    wanted: Wanted,
    conditions: Conditions<'static>,
}

impl Session {
    pub(super) fn work(&mut self, job: Job, purpose: Purpose) {
        self.doing = Doing::Work(Box::new(Work { job: Some(job), purpose }));
    }

    pub(super) fn read_file(&mut self, path: &str, conditions: Conditions<'_>, date: &Date) {
        if let Some(resource) = self.settings.files.find(path, (self.settings.now)()) {
            return self.reply_file(&resource, &conditions, date);
        }
        match Wanted::of(path) {
            Ok(wanted) => {
                let root = self.settings.root.clone();
                let job = Job::OpenOrRead(root, wanted.path.clone(), MEMORY_BYTES_MAX);
                let read =
                    Read { path: path.to_owned(), wanted, conditions: conditions.into_owned() };
                self.work(job, Purpose::Read(Box::new(read)));
            }
            Err(status) => self.reply_status(status, &[], date),
        }
    }

    pub(super) fn read_guestbook(&mut self, date: &Date) {
        match self.settings.guestbook.clone() {
            Some(book) => self.work(Job::ReadGuestbook(book), Purpose::ReadGuestbook),
            None => self.reply_status(Status::UNAVAILABLE, &[], date),
        }
    }

    pub(super) fn sign(&mut self, body: &[u8], is_form: bool, date: &Date) {
        let at = (self.settings.now)();
        match (self.settings.guestbook.clone(), guests::entry(body, is_form)) {
            (Some(book), Some(text)) => {
                self.work(Job::Sign(book, GuestEntry { at, text }), Purpose::Sign(is_form));
            }
            (Some(_), None) => self.reply_status(Status::BAD_REQUEST, &[], date),
            (None, _) => self.reply_status(Status::UNAVAILABLE, &[], date),
        }
    }

    /// What came of the job.
    pub(super) fn worked(&mut self, result: io::Result<Done>) {
        let Doing::Work(work) = std::mem::replace(&mut self.doing, Doing::Parse) else {
            return;
        };
        self.next_phase();
        let date = self.date();
        match (work.purpose, result) {
            (Purpose::SayOk, Ok(_)) => self.reply(Status::OK, "text/plain", b"OK", &date),
            (Purpose::ReadGuestbook, Ok(Done::Entries(entries))) => {
                let page = guests::page(&entries, self.settings.writable);
                self.reply(Status::OK, "text/html; charset=utf-8", page.as_bytes(), &date);
            }
            (Purpose::Sign(is_form), Ok(_)) => {
                let status = if is_form { Status::SEE_OTHER } else { Status::CREATED };
                self.reply_status(status, &[("Location", "/guestbook")], &date);
            }
            (Purpose::ReadGuestbook, Ok(_)) => {
                self.reply_status(Status::INTERNAL_ERROR, &[], &date);
            }
            (Purpose::Read(read), result) => self.has_read(*read, result, &date),
            (Purpose::List(wanted), Ok(Done::Listing(entries, more))) => {
                let mut index = Index::new(wanted.folder().as_os_str().as_bytes());
                index.add(entries, more);
                self.begin_index(index, &date);
            }
            // A file is no folder.
            (Purpose::List(_), Ok(_)) => self.reply_status(Status::NOT_FOUND, &[], &date),
            (Purpose::ListMore(mut index), Ok(Done::Listing(entries, more))) => {
                index.add(entries, more);
                self.doing = Doing::Index(index);
                self.write_index();
            }
            (Purpose::Store(receiving), result) => self.stored(receiving, result, &date),
            (Purpose::Remove(Some(status)), _) => self.refuse(status, &date),
            // Nobody is there to be told; or the head of a page has gone: its missing end tells.
            (Purpose::ListMore(_) | Purpose::Remove(None), _) => self.ending = Ending::Now,
            (_, Err(error)) => self.reply_status(status_of(&error), &[], &date),
        }
        self.go_on();
    }

    fn has_read(&mut self, read: Read, result: io::Result<Done>, date: &Date) {
        let Read { path, wanted, conditions } = read;
        let (content, status) = match result {
            Ok(Done::Contents(bytes, status)) => (Content::Memory(bytes), status),
            Ok(Done::File(file, status)) => (Content::File(file), status),
            Ok(_) => return self.reply_status(Status::INTERNAL_ERROR, &[], date),
            Err(error) => return self.has_not_read(wanted, &error, date),
        };
        let now = (self.settings.now)();
        let resource = Arc::new(Resource::new(content, &status, wanted.content_type, now));
        self.settings.files.keep(&path, &resource, now);
        self.reply_file(&resource, &conditions, date);
    }

    fn has_not_read(&mut self, wanted: Wanted, error: &io::Error, date: &Date) {
        match error.kind() {
            // Without the slash, relative links in its index would lead elsewhere.
            io::ErrorKind::IsADirectory if !wanted.directory => {
                let location = wanted.location();
                self.reply_status(Status::MOVED, &[("Location", &location)], date);
            }
            io::ErrorKind::NotFound if wanted.directory => {
                let folder = wanted.folder().to_owned();
                self.work(Job::List(self.settings.root.clone(), folder), Purpose::List(wanted));
            }
            _ => self.reply_status(status_of(error), &[], date),
        }
    }

    /// An upload has come a step further.
    fn stored(&mut self, mut receiving: Box<Receiving>, result: io::Result<Done>, date: &Date) {
        let now = (self.settings.now)();
        let Some(upload) = receiving.upload() else {
            return;
        };
        match upload.done(result, now) {
            upload::Next::Run(job) => self.work(job, Purpose::Store(receiving)),
            upload::Next::Receive => self.receive_into(receiving, date),
            upload::Next::Stored(status) => {
                self.settings.files.forget();
                self.reply_status(status, &[], date);
            }
            upload::Next::Refused(status) => {
                self.doing = Doing::Receive(receiving);
                self.give_up_receiving(Some(status));
            }
        }
    }
}
