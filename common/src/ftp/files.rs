//! What commands do with files and directories, by way of jobs.
//!
//! **Invariant:** an error of a file is found before the 150 that begins a transfer.

use std::io::{self, ErrorKind};

use crate::job::{Done, Entry, Job, Kind, Listing, Status};
use crate::partial::is_partial_name;

use super::command;
use super::glob;
use super::listing::{self, Format, Printer, Selection};
use super::login::Account;
use super::path::VirtualPath;
use super::payload::Payload;
use super::reply;
use super::session::{Representation, Session, State};
use super::transfer::{Route, Transfer};
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
    /// MFMT, with the time as it is answered.
    SetModified(String, VirtualPath),
    /// MLST.
    Facts(VirtualPath),
    /// STAT of a path; whether the beginning was said.
    Status {
        selection: Selection,
        begun: bool,
    },
    /// MLSD: to see that it is a directory.
    FactsList(VirtualPath),
    List(Format, Selection),
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
            (Work::Modified, Err(error)) if error.kind() == ErrorKind::NotFound => {
                self.say(reply::NOT_RETRIEVABLE);
            }
            (Work::Status { begun: true, .. }, Err(_)) => self.say("213 End, too early."),
            (_, Err(error)) => self.say(reply::refusal(&error)),
            (Work::Say(text), Ok(_)) => self.say(text),
            (Work::MakeDirectory(path), Ok(_)) => {
                reply::quoted(&mut self.output, &path.absolute(), "was made.");
            }
            (Work::SetModified(time, path), Ok(_)) => {
                self.output.extend_from_slice(format!("213 Modify={time}; ").as_bytes());
                reply::foreign(&mut self.output, &path.absolute());
                self.say("");
            }
            (purpose, Ok(Done::Status(status))) => self.has_status(purpose, &status),
            // What is listed as itself was asked for by its name, hidden or not.
            (Work::List(format, _), Ok(Done::Entry(entry))) => {
                self.begin_listing(format, Selection::Everything, &[entry], None);
            }
            (Work::List(format, selection), Ok(Done::Listing(entries, more))) => {
                self.begin_listing(format, selection, &entries, more);
            }
            (Work::Status { .. }, Ok(Done::Entry(entry))) => {
                self.say_listing(Selection::Everything, false, &[entry], None);
            }
            (Work::Status { selection, begun }, Ok(Done::Listing(entries, more))) => {
                self.say_listing(selection, begun, &entries, more);
            }
            (Work::Retrieve { offset }, Ok(Done::File(_, status))) if offset > status.length => {
                self.say(reply::BEYOND_END);
            }
            (Work::Retrieve { .. }, Ok(Done::File(..))) if !self.has_route() => {}
            (Work::Retrieve { offset }, Ok(Done::File(file, status))) => {
                let payload = Payload::download(file, offset, status.length, self.is_text());
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
                self.say(reply::NOT_RETRIEVABLE);
            }
            Work::Size => self.say(&format!("213 {}", status.length)),
            Work::Modified => self.say(&format!("213 {}", listing::timestamp(status.modified))),
            Work::Facts(path) => {
                self.say("250-Facts:");
                self.output.push(b' ');
                let printer = self.printer(Format::Facts, Selection::Everything);
                printer.facts(&mut self.output, status, None);
                reply::foreign(&mut self.output, &path.absolute());
                self.say("");
                self.say("250 End");
            }
            Work::FactsList(path) if directory => {
                let job = Job::List(self.root().clone(), path.beneath_root());
                self.work(job, Work::List(Format::Facts, Selection::Everything));
            }
            Work::FactsList(_) => self.say("501 Not a directory; MLST tells of a file."),
            _ => self.say(reply::LOCAL_ERROR),
        }
    }
}

/// Files and directories.
impl Session {
    /// What a client means. An upload that is not whole is nobody's file: what has such a name is
    /// refused, and `None` returned.
    pub(super) fn resolve(&mut self, argument: &[u8]) -> Option<VirtualPath> {
        let path = self.folder.resolve(argument);
        if path.has(is_partial_name) {
            self.say("550 That name is for an upload that is not whole yet.");
            return None;
        }
        Some(path)
    }

    pub(super) fn look(&mut self, argument: &[u8], purpose: impl FnOnce(VirtualPath) -> Work) {
        let Some(path) = self.resolve(argument) else {
            return;
        };
        let job = Job::Status(self.root().clone(), path.beneath_root());
        self.work(job, purpose(path));
    }

    /// The dot behind the name makes the system see whether the directory may be entered.
    pub(super) fn change_directory(&mut self, argument: &[u8]) {
        if let Some(path) = self.resolve(argument) {
            let job = Job::Status(self.root().clone(), path.beneath_root().join("."));
            self.work(job, Work::ChangeDirectory(path));
        }
    }

    /// A symbolic link is renamed itself, so that it does not matter what it stands for.
    pub(super) fn rename_from(&mut self, argument: &[u8]) {
        match self.resolve(argument) {
            Some(path) if path.is_root() => self.say("550 Can't rename home directory."),
            Some(path) => {
                let job = Job::StatusOfName(self.root().clone(), path.beneath_root());
                self.work(job, Work::RenameFrom(path));
            }
            None => {}
        }
    }

    /// Does something to a name, other than to the served folder itself.
    pub(super) fn change(
        &mut self,
        argument: &[u8],
        text: &'static str,
        job: impl FnOnce(crate::job::Root, std::path::PathBuf) -> Job,
    ) {
        let Some(path) = self.resolve(argument) else {
            return;
        };
        if path.is_root() {
            return self.say(reply::NOT_THE_ROOT);
        }
        let job = job(self.root().clone(), path.beneath_root());
        self.work(job, Work::Say(text));
    }

    pub(super) fn make_directory(&mut self, argument: &[u8]) {
        if let Some(path) = self.resolve(argument) {
            let job = Job::MakeDirectory(self.root().clone(), path.beneath_root());
            self.work(job, Work::MakeDirectory(path));
        }
    }

    pub(super) fn rename(&mut self, from: Option<VirtualPath>, argument: &[u8]) {
        let Some(from) = from else {
            return self.say(reply::RENAME_FROM_FIRST);
        };
        let from = from.beneath_root();
        self.change(argument, "250 Renamed.", |root, to| Job::Rename(root, from, to));
    }

    /// Under TYPE A the size would be that of the converted file, which is not known without
    /// converting it (RFC 3659 §4).
    pub(super) fn size(&mut self, argument: &[u8]) {
        if self.is_text() {
            self.say("550 SIZE not allowed in ASCII mode: say TYPE I.");
        } else {
            self.look(argument, |_| Work::Size);
        }
    }

    pub(super) fn set_modified(&mut self, argument: &[u8]) {
        let (time, name) = command::split(argument);
        if name.is_empty() {
            return self.say("501 Syntax error: MFMT takes a time and a name.");
        }
        let Some(modified) = command::timestamp(time) else {
            return self.say("501 Invalid time format: YYYYMMDDHHMMSS is expected.");
        };
        if let Some(path) = self.resolve(name) {
            let root = self.root().clone();
            let job = Job::SetModified(root, path.beneath_root(), modified);
            self.work(job, Work::SetModified(listing::timestamp(modified), path));
        }
    }

    pub(super) fn status(&mut self, argument: &[u8]) {
        if argument.is_empty() {
            self.say("211-Logged in, nothing is running.");
            return self.say("211 End");
        }
        if let Some((path, selection)) = self.select(argument) {
            let job = Job::List(self.root().clone(), path.beneath_root());
            self.work(job, Work::Status { selection, begun: false });
        }
    }

    /// Says a batch of a listing on the control connection, and asks for the next one, which is
    /// read when this one has been sent.
    fn say_listing(
        &mut self,
        selection: Selection,
        begun: bool,
        entries: &[Entry],
        more: Option<Listing>,
    ) {
        if !begun {
            self.say("213-Status:");
        }
        let printer = self.printer(Format::Long, selection);
        printer.print(&mut self.output, entries);
        match more {
            Some(more) => {
                let selection = printer.selection;
                self.work(Job::ListMore(more), Work::Status { selection, begun: true });
            }
            None => self.say("213 End"),
        }
    }

    /// What the argument of LIST, NLST or STAT means: a path, and what is shown of a directory. A
    /// last component with an asterisk or a question mark is a pattern.
    fn select(&mut self, argument: &[u8]) -> Option<(VirtualPath, Selection)> {
        let (options, argument) = command::options(argument);
        let name = argument.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        let (folder, name) = argument.split_at(name);
        if glob::is_pattern(name) {
            let selection = Selection::Pattern { folder: folder.to_vec(), pattern: name.to_vec() };
            return Some((self.resolve(folder)?, selection));
        }
        let selection = if options.all { Selection::Everything } else { Selection::Visible };
        Some((self.resolve(argument)?, selection))
    }
}

/// Transfers to the client.
impl Session {
    fn printer(&self, format: Format, selection: Selection) -> Printer {
        Printer {
            format,
            facts: self.facts,
            writable: self.may_write(),
            now: (self.settings().now)(),
            selection,
        }
    }

    fn begin_listing(
        &mut self,
        format: Format,
        selection: Selection,
        entries: &[Entry],
        more: Option<Listing>,
    ) {
        let printer = self.printer(format, selection);
        self.say("150 Here comes the listing.");
        self.begin(Payload::listing(printer, entries, more));
    }

    /// Begins a transfer that has been announced with 150.
    pub(super) fn begin(&mut self, payload: Payload) {
        let transfer = Transfer::new(self.route, self.data_security(), payload);
        self.state = State::Transferring(Box::new(transfer));
    }

    /// Sees that the client has named a way to the data connection.
    pub(super) fn has_route(&mut self) -> bool {
        let known = self.route != Route::Unknown;
        if !known {
            self.say(reply::NO_DATA_ADDRESS);
        }
        known
    }

    /// Forgets what REST has said, which is for the next transfer only; whether it was something.
    pub(super) fn forget_restart(&mut self) -> bool {
        std::mem::take(&mut self.restart) > 0
    }

    /// Takes what REST has said. A piece of text has no place in the file that is known without
    /// converting all before it, so that text cannot be resumed. REST says so under TYPE A; the
    /// type may have changed since.
    pub(super) fn take_restart(&mut self) -> Option<u64> {
        let offset = std::mem::take(&mut self.restart);
        if offset > 0 && self.is_text() {
            self.say("554 Resuming is not allowed in ASCII mode: say TYPE I.");
            return None;
        }
        Some(offset)
    }

    /// Whether files are sent and stored as text.
    pub(super) fn is_text(&self) -> bool {
        self.representation == Representation::Ascii
    }

    pub(super) fn list(&mut self, argument: &[u8], format: Format) {
        self.forget_restart();
        if !self.has_route() {
            return;
        }
        if format == Format::Facts {
            return self.look(argument, Work::FactsList);
        }
        if let Some((path, selection)) = self.select(argument) {
            let job = Job::List(self.root().clone(), path.beneath_root());
            self.work(job, Work::List(format, selection));
        }
    }

    pub(super) fn retrieve(&mut self, argument: &[u8]) {
        let Some(offset) = self.take_restart() else {
            return;
        };
        if let Some(path) = self.resolve(argument) {
            let job = Job::Open(self.root().clone(), path.beneath_root());
            self.work(job, Work::Retrieve { offset });
        }
    }
}
