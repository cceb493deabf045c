//! What each command does.
//!
//! **Invariant:** a command either says its one final reply, or leaves the session in a state that
//! will. An error of a file is found before the 150 that begins a transfer.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use std::net::{IpAddr, SocketAddr};

use crate::job::{Create, Done, Job, Kind, Status};
use crate::session::Event;

use super::command::{self, Argument, ExtendedAddress, Needs, Row, Verb};
use super::listing::{self, Facts, Format, Printer};
use super::path::VirtualPath;
use super::reply;
use super::session::{Login, Representation, Session, State};
use super::transfer::{Payload, Route, Transfer};

/// After so many wrong passwords the connection is closed.
const FAILED_LOGINS: u8 = 3;
/// How many names are tried for an upload before it is given up.
const NAME_ATTEMPTS: u8 = 16;
/// Ports below belong to services that no client may point us at (RFC 2577 §3).
const LOWEST_PORT: u16 = 1024;

/// Makes the names of uploads differ within a process; its id tells processes apart.
static UPLOADS: AtomicU64 = AtomicU64::new(0);

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
    List(Format),
    Retrieve {
        offset: u64,
    },
    /// STOR, APPE: to see what is there.
    Look(VirtualPath, Placement),
    Store(Upload),
}

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
    /// Obeys one line.
    pub(super) fn command(&mut self, line: &[u8]) {
        let rename_from = self.rename_from.take();
        match command::parse(line) {
            Err(error) => self.say(reply::malformed(error)),
            Ok((row, argument)) => match self.objection(row, argument) {
                Some(reply) => self.say(reply),
                None if row.verb == Verb::RenameTo => self.rename(rename_from, argument),
                None => self.obey(row.verb, argument),
            },
        }
    }

    fn objection(&self, row: &Row, argument: &[u8]) -> Option<&'static str> {
        if row.needs != Needs::Nothing && self.login != Login::Complete {
            Some(reply::LOGIN_FIRST)
        } else if row.argument == Argument::Required && argument.is_empty() {
            Some("501 An argument is missing.")
        } else if row.argument == Argument::None && !argument.is_empty() {
            Some("501 This command takes no argument.")
        } else if row.needs == Needs::Writing && !self.settings.writable {
            Some(reply::READ_ONLY)
        } else {
            None
        }
    }

    fn obey(&mut self, verb: Verb, argument: &[u8]) {
        match verb {
            Verb::Abort => self.say("226 Nothing to abort."),
            Verb::Account | Verb::StructureMount => self.say("502 Not implemented."),
            Verb::Allocate => self.say("202 No need to."),
            Verb::Append => self.store(argument, Placement::End),
            Verb::Authenticate => self.say("502 No security here."),
            Verb::ChangeDirectory => self.look(argument, Work::ChangeDirectory),
            Verb::ChangeToParent => self.look(b"..", Work::ChangeDirectory),
            Verb::Delete => self.change(argument, "250 Deleted.", Job::RemoveFile),
            Verb::ExtendedPassive => self.extended_passive(argument),
            Verb::ExtendedPort => self.extended_port(argument),
            Verb::Facts => self.look(argument, Work::Facts),
            Verb::FactsList => self.list(argument, Format::Facts),
            Verb::Features => reply::features(&mut self.output, self.facts),
            Verb::Help => reply::help(&mut self.output),
            Verb::List => self.list(argument, Format::Long),
            Verb::MakeDirectory => self.make_directory(argument),
            Verb::Mode => self.only(argument, b"S"),
            Verb::Modified => self.look(argument, |_| Work::Modified),
            Verb::NameList => self.list(argument, Format::Name),
            Verb::Nothing => self.say("200 Here."),
            Verb::Options => self.options(argument),
            Verb::Passive => self.passive(),
            Verb::Password => self.password(),
            Verb::Port => self.port(argument),
            Verb::PrintDirectory => {
                let folder = self.folder.absolute();
                reply::quoted(&mut self.output, &folder, "is the current directory.");
            }
            Verb::Protection | Verb::ProtectionBuffer => self.say("503 Say AUTH first."),
            Verb::Quit => {
                self.say("221 Goodbye.");
                self.state = State::Over;
            }
            Verb::Reinitialize => self.reinitialize("220 Ready for a new user.", Login::None),
            Verb::RemoveDirectory => self.change(argument, "250 Removed.", Job::RemoveDirectory),
            Verb::RenameFrom => self.look(argument, Work::RenameFrom),
            Verb::RenameTo => self.say("503 Say RNFR first."),
            Verb::Restart => self.restart(argument),
            Verb::Retrieve => self.retrieve(argument),
            Verb::SetModified => self.set_modified(argument),
            Verb::Site => self.site(argument),
            Verb::Size => self.size(argument),
            Verb::Status => self.status(argument),
            Verb::Store => {
                let placement = match self.restart {
                    0 => Placement::Whole,
                    offset => Placement::From(offset),
                };
                self.store(argument, placement);
            }
            Verb::StoreUnique => self.store_unique(),
            Verb::Structure => self.only(argument, b"F"),
            Verb::System => self.say("215 UNIX Type: L8"),
            Verb::Type => self.representation(argument),
            Verb::User => self.user(argument),
        }
    }

    /// What came of a job.
    pub(super) fn worked(&mut self, purpose: Work, result: io::Result<Done>) {
        match (purpose, result) {
            (Work::Look(path, placement), result) => self.looked(path, placement, result),
            (Work::Store(upload), Err(error)) => self.not_stored(upload, &error),
            (Work::Status { begun: true }, Err(_)) => self.say("213 End, too early."),
            (_, Err(error)) => self.say(reply::refusal(&error)),
            (Work::Say(text), Ok(_)) => self.say(text),
            (Work::MakeDirectory(path), Ok(_)) => {
                reply::quoted(&mut self.output, &path.absolute(), "was made.");
            }
            (Work::SetModified(time), Ok(_)) => self.say(&format!("213 Modify={time};")),
            (purpose, Ok(Done::Status(status))) => self.has_status(purpose, &status),
            (Work::List(format), Ok(Done::Listing(entries, more))) => {
                let printer = self.printer(format);
                let mut text = Vec::new();
                printer.print(&mut text, &entries);
                let payload = Payload::List { printer, text, sent: 0, more };
                self.transfer("150 Here comes the listing.", payload);
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
                self.transfer("150 Here comes the file.", payload);
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
                let job = Job::List(self.settings.root.clone(), path.beneath_root());
                self.work(job, Work::List(Format::Facts));
            }
            Work::FactsList(_) => self.say("501 Not a directory; MLST tells of a file."),
            _ => self.say(reply::LOCAL_ERROR),
        }
    }
}

/// Login and parameters.
impl Session {
    /// The answer does not tell whether there is such a user.
    fn user(&mut self, name: &[u8]) {
        let known =
            [b"anonymous".as_slice(), b"ftp"].iter().any(|known| known.eq_ignore_ascii_case(name));
        self.reinitialize("331 Now the password.", Login::Named { known });
    }

    fn password(&mut self) {
        match self.login {
            Login::Named { known: true } => {
                self.login = Login::Complete;
                self.failed_logins = 0;
                self.say("230 Logged in.");
            }
            Login::Named { known: false } => {
                self.login = Login::None;
                self.failed_logins += 1;
                self.say("530 Login incorrect.");
                if self.failed_logins == FAILED_LOGINS {
                    self.state = State::Over;
                }
            }
            Login::None | Login::Complete => self.say("503 Say USER first."),
        }
    }

    /// Another user begins anew.
    fn reinitialize(&mut self, text: &str, login: Login) {
        self.say(text);
        self.login = login;
        self.folder = VirtualPath::default();
        self.restart = 0;
        self.representation = Representation::Ascii;
        self.extended_only = false;
        self.facts = Facts::default();
        self.release(Route::Unknown);
    }

    /// `MODE S` and `STRU F` are the only ones.
    fn only(&mut self, argument: &[u8], letter: &[u8]) {
        if argument.eq_ignore_ascii_case(letter) {
            self.say("200 So it is.");
        } else if argument.len() == 1 {
            self.say("504 Not implemented.");
        } else {
            self.say("501 One letter is expected.");
        }
    }

    fn representation(&mut self, argument: &[u8]) {
        let (letter, form) = command::split(argument);
        let representation = match (letter.to_ascii_uppercase().as_slice(), form) {
            (b"A", b"" | b"N" | b"n") => Representation::Ascii,
            (b"I", b"") | (b"L", b"8") => Representation::Image,
            (b"A" | b"E" | b"L" | b"I", _) => return self.say("504 Not implemented."),
            ([_], _) => return self.say("504 Unknown type."),
            _ => return self.say("501 The type is one letter."),
        };
        self.representation = representation;
        self.say("200 So it is.");
    }

    fn options(&mut self, argument: &[u8]) {
        let (name, value) = command::split(argument);
        match name.to_ascii_uppercase().as_slice() {
            b"UTF8" => self.say("200 Names are bytes, UTF-8 or not."),
            b"MLST" => {
                self.facts = Facts::parse(value);
                self.say(&format!("200 MLST OPTS {}", self.facts.chosen()));
            }
            _ => self.say("501 There is no such option."),
        }
    }

    fn restart(&mut self, argument: &[u8]) {
        // Offsets of files are signed in the kernel.
        let offset = command::number(argument).filter(|&offset| i64::try_from(offset).is_ok());
        match offset {
            Some(offset) => {
                self.restart = offset;
                self.say(&format!("350 The next transfer begins at {offset}."));
            }
            None => self.say("501 Not an offset in bytes."),
        }
    }

    fn site(&mut self, argument: &[u8]) {
        let (name, rest) = command::split(argument);
        match name.to_ascii_uppercase().as_slice() {
            b"HELP" => self.say("214 CHMOD HELP"),
            b"CHMOD" if !self.settings.writable => self.say(reply::READ_ONLY),
            b"CHMOD" => {
                let (mode, name) = command::split(rest);
                match command::permissions(mode) {
                    Some(mode) if !name.is_empty() => {
                        let job = |root, path| Job::SetMode(root, path, mode);
                        self.change(name, "200 Changed.", job);
                    }
                    _ => self.say("501 SITE CHMOD takes an octal mode and a name."),
                }
            }
            _ => self.say("504 There is no such SITE command."),
        }
    }
}

/// The data connection.
impl Session {
    fn passive(&mut self) {
        if self.extended_only {
            self.say("501 EPSV ALL was said.");
        } else if self.peer.is_ipv6() {
            self.say("425 This is IPv6: say EPSV.");
        } else {
            self.state = State::Listening { extended: false };
        }
    }

    fn extended_passive(&mut self, argument: &[u8]) {
        let family = if self.peer.is_ipv4() { b"1" } else { b"2" };
        if argument.is_empty() || argument == family {
            self.state = State::Listening { extended: true };
        } else if argument.eq_ignore_ascii_case(b"ALL") {
            self.extended_only = true;
            self.say("200 EPSV it is from now on.");
        } else if command::number(argument).is_some() {
            self.wrong_family();
        } else {
            self.say("501 1, 2 or ALL is expected.");
        }
    }

    fn wrong_family(&mut self) {
        let family = if self.peer.is_ipv4() { 1 } else { 2 };
        self.say(&format!("522 Use the protocol of this connection ({family})."));
    }

    /// A port was opened, or not.
    pub(super) fn listening(&mut self, event: &Event<'_>, extended: bool) {
        self.route = Route::Unknown;
        let Event::Listening(address) = event else {
            return self.say(reply::NO_PORT);
        };
        let (ip, port) = (address.ip().to_canonical(), address.port());
        let text = match ip {
            _ if extended => format!("229 Entering extended passive mode (|||{port}|)"),
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                let [high, low] = port.to_be_bytes();
                format!("227 Entering passive mode ({a},{b},{c},{d},{high},{low})")
            }
            IpAddr::V6(_) => return self.say(reply::NO_PORT),
        };
        self.route = Route::Passive;
        self.say(&text);
    }

    fn port(&mut self, argument: &[u8]) {
        match command::host_port(argument) {
            Some(address) => self.active(address),
            None => self.say("501 Six numbers are expected: h1,h2,h3,h4,p1,p2."),
        }
    }

    fn extended_port(&mut self, argument: &[u8]) {
        match command::extended_port(argument) {
            Some(ExtendedAddress::Known(address)) if address.is_ipv4() != self.peer.is_ipv4() => {
                self.wrong_family();
            }
            Some(ExtendedAddress::Known(address)) => self.active(address),
            Some(ExtendedAddress::UnknownFamily) => self.wrong_family(),
            None => self.say("501 |family|address|port| is expected."),
        }
    }

    /// Only the client itself is connected to, and no service of its machine: a server that
    /// connects to whatever a client names can be made to attack others (RFC 2577 §3).
    fn active(&mut self, address: SocketAddr) {
        if self.extended_only {
            self.say("501 EPSV ALL was said.");
        } else if address.ip() != self.peer {
            self.say("501 That is not your address.");
        } else if address.port() < LOWEST_PORT {
            self.say("501 That port is not allowed.");
        } else {
            self.say("200 So it will be.");
            self.release(Route::Active(address));
        }
    }

    /// Takes another way to the data connection, and closes the port that was open.
    fn release(&mut self, route: Route) {
        if self.route == Route::Passive {
            self.state = State::Releasing;
        }
        self.route = route;
    }
}

/// Files and directories.
impl Session {
    fn look(&mut self, argument: &[u8], purpose: impl FnOnce(VirtualPath) -> Work) {
        let path = self.folder.resolve(argument);
        let job = Job::Status(self.settings.root.clone(), path.beneath_root());
        self.work(job, purpose(path));
    }

    /// Does something to a name, other than to the served folder itself.
    fn change(
        &mut self,
        argument: &[u8],
        text: &'static str,
        job: impl FnOnce(crate::job::Root, std::path::PathBuf) -> Job,
    ) {
        let path = self.folder.resolve(argument);
        if path.is_root() {
            return self.say("550 Not the root itself.");
        }
        let job = job(self.settings.root.clone(), path.beneath_root());
        self.work(job, Work::Say(text));
    }

    fn make_directory(&mut self, argument: &[u8]) {
        let path = self.folder.resolve(argument);
        let job = Job::MakeDirectory(self.settings.root.clone(), path.beneath_root());
        self.work(job, Work::MakeDirectory(path));
    }

    fn rename(&mut self, from: Option<VirtualPath>, argument: &[u8]) {
        let Some(from) = from else {
            return self.say("503 Say RNFR first.");
        };
        let from = from.beneath_root();
        self.change(argument, "250 Renamed.", |root, to| Job::Rename(root, from, to));
    }

    /// Under TYPE A the size would be that of the converted file, which is not known without
    /// converting it (RFC 3659 §4).
    fn size(&mut self, argument: &[u8]) {
        if self.representation == Representation::Image {
            self.look(argument, |_| Work::Size);
        } else {
            self.say("550 The size is known under TYPE I only.");
        }
    }

    fn set_modified(&mut self, argument: &[u8]) {
        let (time, name) = command::split(argument);
        match command::timestamp(time) {
            Some(modified) if !name.is_empty() => {
                let path = self.folder.resolve(name).beneath_root();
                let job = Job::SetModified(self.settings.root.clone(), path, modified);
                self.work(job, Work::SetModified(listing::timestamp(modified)));
            }
            _ => self.say("501 MFMT takes YYYYMMDDHHMMSS and a name."),
        }
    }

    fn status(&mut self, argument: &[u8]) {
        if argument.is_empty() {
            self.say("211-Logged in, nothing is running.");
            return self.say("211 End");
        }
        let path = self.folder.resolve(command::without_options(argument));
        let job = Job::List(self.settings.root.clone(), path.beneath_root());
        self.work(job, Work::Status { begun: false });
    }
}

/// Transfers.
impl Session {
    fn printer(&self, format: Format) -> Printer {
        Printer {
            format,
            facts: self.facts,
            writable: self.settings.writable,
            now: (self.settings.now)(),
        }
    }

    /// Begins a transfer, all that can be known to be wrong being ruled out.
    fn transfer(&mut self, text: &str, payload: Payload) {
        self.say(text);
        let transfer = Transfer::new(self.route, payload);
        self.state = State::Transferring(Box::new(transfer));
    }

    /// Takes what REST has said, and sees that the client has named a way to the data connection.
    fn prepare(&mut self) -> Option<u64> {
        let offset = std::mem::take(&mut self.restart);
        if self.route == Route::Unknown {
            self.say(reply::NO_DATA_ADDRESS);
            return None;
        }
        Some(offset)
    }

    fn list(&mut self, argument: &[u8], format: Format) {
        if self.prepare().is_none() {
            return;
        }
        if format == Format::Facts {
            return self.look(argument, Work::FactsList);
        }
        let path = self.folder.resolve(command::without_options(argument));
        let job = Job::List(self.settings.root.clone(), path.beneath_root());
        self.work(job, Work::List(format));
    }

    fn retrieve(&mut self, argument: &[u8]) {
        if let Some(offset) = self.prepare() {
            let path = self.folder.resolve(argument).beneath_root();
            let job = Job::Open(self.settings.root.clone(), path);
            self.work(job, Work::Retrieve { offset });
        }
    }

    fn store(&mut self, argument: &[u8], placement: Placement) {
        if self.prepare().is_some() {
            self.look(argument, |path| Work::Look(path, placement));
        }
    }

    /// An upload that replaces a file, or makes one, is written under another name until it is
    /// whole; one that goes on with a file is written in place.
    fn looked(&mut self, path: VirtualPath, placement: Placement, result: io::Result<Done>) {
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
                written: path.beside(&name_of_its_own(".upload")),
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

    fn store_unique(&mut self) {
        if self.prepare().is_some() {
            self.open_upload(Upload {
                written: self.folder.resolve(&name_of_its_own("upload")),
                target: None,
                create: Create::New,
                placement: Placement::Whole,
                attempts: 1,
            });
        }
    }

    fn open_upload(&mut self, upload: Upload) {
        let path = upload.written.beneath_root();
        let job = Job::Create(self.settings.root.clone(), path, upload.create);
        self.work(job, Work::Store(upload));
    }

    /// A name may be left from a process that had our id: another is tried.
    fn not_stored(&mut self, mut upload: Upload, error: &io::Error) {
        if error.kind() != io::ErrorKind::AlreadyExists || upload.attempts >= NAME_ATTEMPTS {
            return self.say(reply::refusal(error));
        }
        let stem = if upload.target.is_some() { ".upload" } else { "upload" };
        upload.written = upload.written.beside(&name_of_its_own(stem));
        upload.attempts += 1;
        self.open_upload(upload);
    }

    fn begin_upload(&mut self, upload: Upload, file: std::fs::File, status: &Status) {
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
        let transfer = Transfer::new(self.route, payload);
        self.state = State::Transferring(Box::new(transfer));
    }
}

/// A name that no other upload has.
fn name_of_its_own(stem: &str) -> Vec<u8> {
    let (process, number) = (std::process::id(), UPLOADS.fetch_add(1, Ordering::Relaxed));
    format!("{stem}-{process}-{number}.part").into_bytes()
}
