//! What commands do with files and directories, by way of jobs.
//!
//! **Invariant:** an error of a file is found before the 150 that begins a transfer.

use std::io;

use crate::job::{Done, Job, Kind, Status};

use super::command;
use super::glob;
use super::listing::{self, Format, Printer, Selection};
use super::login::Account;
use super::path::VirtualPath;
use super::reply;
use super::session::{Representation, Session, State};
use super::transfer::{Payload, Route, Transfer};
use super::uploads::{Placement, Upload};

/// What a job is run for.
#[derive(Debug)]
pub(super) enum Work {
    /// To say this when it is done.
    Say(&'static str),
    MakeDirectory(VirtualPath),
    ChangeDirectory(VirtualPath),
    RenameFrom(VirtualPath),
    Size,
    Modified,
    /// MFMT, with the time as it was given.
    SetModified(String),
    /// MLST.
    Facts(VirtualPath),
    /// STAT of a path; whether the beginning was said.
    Status {
        begun: bool,
    },
    /// MLSD: to see that it is a directory.
    FactsList(VirtualPath),
    List(Format, Option<Selection>),
    Retrieve {
        offset: u64,
    },
    /// STOR, APPE: to see what is there.
    Look(VirtualPath, Placement),
    Store(Upload),
    /// PASS: to check it for this account, or for nobody.
    Login(Option<Account>),
}

impl Session {
    /// What came of a job.
    pub(super) fn worked(&mut self, purpose: Work, result: io::Result<Done>) {
        match (purpose, result) {
            (Work::Look(path, placement), result) => self.looked(path, placement, result),
            (Work::Store(upload), Err(error)) => self.not_stored(upload, &error),
            (Work::Login(account), result) => {
                self.verified(account, matches!(result, Ok(Done::Verified(true))));
            }
            (Work::Status { begun: true }, Err(_)) => self.say("213 End, too early."),
            (_, Err(error)) => self.say(reply::refusal(&error)),
            (Work::Say(text), Ok(_)) => self.say(text),
            (Work::MakeDirectory(path), Ok(_)) => {
                reply::quoted(&mut self.output, &path.absolute(), "was made.");
            }
            (Work::SetModified(time), Ok(_)) => self.say(&format!("213 Modify={time};")),
            (purpose, Ok(Done::Status(status))) => self.has_status(purpose, &status),
            (Work::List(format, selection), Ok(Done::Listing(entries, more))) => {
                let printer = Printer { selection, ..self.printer(format) };
                let mut text = Vec::new();
                printer.print(&mut text, &entries);
                let payload = Payload::List { printer, text, sent: 0, more };
                self.say("150 Here comes the listing.");
                self.begin(payload);
            }
            (Work::Status { begun }, Ok(Done::Listing(entries, more))) => {
                if !begun {
                    self.say("213-Status:");
                }
                self.printer(Format::Long).print(&mut self.output, &entries);
                match more {
                    Some(more) => self.work(Job::ListMore(more), Work::Status { begun: true }),
                    None => self.say("213 End"),
                }
            }
            (Work::Retrieve { offset }, Ok(Done::File(_, status))) if offset > status.length => {
                self.say(reply::BEYOND_END);
            }
            (Work::Retrieve { offset }, Ok(Done::File(file, status))) => {
                let end = status.length;
                let payload = Payload::Send { file, offset, end };
                self.say("150 Here comes the file.");
                self.begin(payload);
            }
            (Work::Store(upload), Ok(Done::File(file, status))) => {
                self.begin_upload(upload, file, &status);
            }
            (_, Ok(_)) => self.say(reply::LOCAL_ERROR),
        }
    }

    fn has_status(&mut self, purpose: Work, status: &Status) {
        let directory = status.kind == Kind::Directory;
        match purpose {
            Work::ChangeDirectory(path) if directory => {
                self.folder = path;
                self.say("250 Changed.");
            }
            Work::ChangeDirectory(_) => self.say("550 Not a directory."),
            Work::RenameFrom(path) => {
                self.rename_from = Some(path);
                self.say("350 Now say RNTO.");
            }
            Work::Size | Work::Modified if status.kind != Kind::File => {
                self.say(reply::NOT_A_FILE);
            }
            Work::Size => self.say(&format!("213 {}", status.length)),
            Work::Modified => self.say(&format!("213 {}", listing::timestamp(status.modified))),
            Work::Facts(path) => {
                self.say("250-Facts:");
                self.output.push(b' ');
                self.printer(Format::Facts).facts(&mut self.output, status);
                reply::foreign(&mut self.output, &path.absolute());
                self.say("");
                self.say("250 End");
            }
            Work::FactsList(path) if directory => {
                let job = Job::List(self.root().clone(), path.beneath_root());
                self.work(job, Work::List(Format::Facts, None));
            }
            Work::FactsList(_) => self.say("501 Not a directory; MLST tells of a file."),
            _ => self.say(reply::LOCAL_ERROR),
        }
    }
}

/// Files and directories.
impl Session {
    pub(super) fn look(&mut self, argument: &[u8], purpose: impl FnOnce(VirtualPath) -> Work) {
        let path = self.folder.resolve(argument);
        let job = Job::Status(self.root().clone(), path.beneath_root());
        self.work(job, purpose(path));
    }

    /// Does something to a name, other than to the served folder itself.
    pub(super) fn change(
        &mut self,
        argument: &[u8],
        text: &'static str,
        job: impl FnOnce(crate::job::Root, std::path::PathBuf) -> Job,
    ) {
        let path = self.folder.resolve(argument);
        if path.is_root() {
            return self.say("550 Not the root itself.");
        }
        let job = job(self.root().clone(), path.beneath_root());
        self.work(job, Work::Say(text));
    }

    pub(super) fn make_directory(&mut self, argument: &[u8]) {
        let path = self.folder.resolve(argument);
        let job = Job::MakeDirectory(self.root().clone(), path.beneath_root());
        self.work(job, Work::MakeDirectory(path));
    }

    pub(super) fn rename(&mut self, from: Option<VirtualPath>, argument: &[u8]) {
        let Some(from) = from else {
            return self.say("503 Say RNFR first.");
        };
        let from = from.beneath_root();
        self.change(argument, "250 Renamed.", |root, to| Job::Rename(root, from, to));
    }

    /// Under TYPE A the size would be that of the converted file, which is not known without
    /// converting it (RFC 3659 §4).
    pub(super) fn size(&mut self, argument: &[u8]) {
        if self.representation == Representation::Image {
            self.look(argument, |_| Work::Size);
        } else {
            self.say("550 The size is known under TYPE I only.");
        }
    }

    pub(super) fn set_modified(&mut self, argument: &[u8]) {
        let (time, name) = command::split(argument);
        match command::timestamp(time) {
            Some(modified) if !name.is_empty() => {
                let path = self.folder.resolve(name).beneath_root();
                let job = Job::SetModified(self.root().clone(), path, modified);
                self.work(job, Work::SetModified(listing::timestamp(modified)));
            }
            _ => self.say("501 MFMT takes YYYYMMDDHHMMSS and a name."),
        }
    }

    pub(super) fn status(&mut self, argument: &[u8]) {
        if argument.is_empty() {
            self.say("211-Logged in, nothing is running.");
            return self.say("211 End");
        }
        let path = self.folder.resolve(command::without_options(argument));
        let job = Job::List(self.root().clone(), path.beneath_root());
        self.work(job, Work::Status { begun: false });
    }
}

/// Transfers to the client.
impl Session {
    pub(super) fn printer(&self, format: Format) -> Printer {
        Printer {
            format,
            facts: self.facts,
            writable: self.may_write(),
            now: (self.settings().now)(),
            selection: None,
        }
    }

    /// Begins a transfer that has been announced with 150.
    pub(super) fn begin(&mut self, payload: Payload) {
        let transfer = Transfer::new(self.route, payload);
        self.state = State::Transferring(Box::new(transfer));
    }

    /// Takes what REST has said, and sees that the client has named a way to the data connection.
    pub(super) fn prepare(&mut self) -> Option<u64> {
        let offset = std::mem::take(&mut self.restart);
        if self.route == Route::Unknown {
            self.say(reply::NO_DATA_ADDRESS);
            return None;
        }
        Some(offset)
    }

    /// A last component with an asterisk or a question mark is a pattern.
    pub(super) fn list(&mut self, argument: &[u8], format: Format) {
        if self.prepare().is_none() {
            return;
        }
        if format == Format::Facts {
            return self.look(argument, Work::FactsList);
        }
        let argument = command::without_options(argument);
        let name = argument.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        let (folder, name) = argument.split_at(name);
        let (path, selection) = if glob::is_pattern(name) {
            let selection = Selection { folder: folder.to_vec(), pattern: name.to_vec() };
            (self.folder.resolve(folder), Some(selection))
        } else {
            (self.folder.resolve(argument), None)
        };
        let job = Job::List(self.root().clone(), path.beneath_root());
        self.work(job, Work::List(format, selection));
    }

    pub(super) fn retrieve(&mut self, argument: &[u8]) {
        if let Some(offset) = self.prepare() {
            let path = self.folder.resolve(argument).beneath_root();
            let job = Job::Open(self.root().clone(), path);
            self.work(job, Work::Retrieve { offset });
        }
    }
}
