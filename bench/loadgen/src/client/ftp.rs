//! FTP (RFC 959, EPSV of RFC 2428): a login, then one download or upload after another, or nothing
//! more; or a login and QUIT that count as one request.

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use super::{Channel, Checksum, Expected, Session, Step, pattern};
use crate::plan::{FtpOperation, Plan};
use crate::record::{Failure, Kind, Operation};

/// A longer line is refused, so that a server that never ends one costs bounded memory.
const LINE_BYTES: usize = 8 * 1024;
/// Uploads repeat this many bytes; as few as stay in a processor's own cache.
const PATTERN_BYTES: usize = 256 * 1024;

/// The reply that is awaited. A transfer awaits two things, in either order: the reply 226 and
/// the end of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Banner,
    User,
    Password,
    Type,
    Size,
    /// No reply: the next transfer may be asked for.
    Ready,
    Epsv,
    Pasv,
    DataConnection,
    Transfer,
    Quit,
    Over,
}

/// What follows a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Quit,
    Retrieve,
    Store,
    /// Nothing: the session is held, idle.
    Stay,
}

#[derive(Clone, Debug)]
pub(crate) struct Ftp {
    task: Task,
    user: Arc<str>,
    password: Arc<str>,
    path: String,
    expected: Expected,
    checksum: Checksum,
    state: State,
    command: Vec<u8>,
    sent: usize,
    line: Vec<u8>,
    /// The code of the reply of several lines that has begun.
    multiline: Option<u16>,
    /// The server has refused EPSV, so PASV is what it is asked for.
    knows_no_epsv: bool,
    /// The port that the server has named and that is not yet passed on.
    port: Option<u16>,
    /// The length of what is transferred, and how much of it was.
    file_bytes: u64,
    moved: u64,
    pattern: Arc<[u8]>,
    data: Data,
    /// 226 has come.
    completed: bool,
}

/// How far the data of a transfer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Data {
    Awaited,
    /// On their way, to us or from us.
    Moving,
    Ended,
    /// Ended, and the engine knows.
    Passed,
}

impl Ftp {
    pub(crate) fn new(plan: &Plan) -> Self {
        let task = match plan.operation {
            FtpOperation::Login => Task::Quit,
            FtpOperation::Retrieve => Task::Retrieve,
            FtpOperation::Store => Task::Store,
        };
        Self::with_task(plan, task)
    }

    /// A session that logs in and then says nothing more.
    pub(crate) fn idle(plan: &Plan) -> Self {
        Self::with_task(plan, Task::Stay)
    }

    fn with_task(plan: &Plan, task: Task) -> Self {
        let expected = Expected::of(plan);
        let stored = if task == Task::Store { plan.payload_bytes } else { 0 };
        Self {
            task,
            user: plan.user.as_str().into(),
            password: plan.password.as_str().into(),
            path: plan.path.clone(),
            checksum: Checksum::new(&expected),
            expected,
            state: State::Banner,
            command: Vec::with_capacity(plan.path.len() + 32),
            sent: 0,
            line: Vec::with_capacity(128),
            multiline: None,
            knows_no_epsv: false,
            port: None,
            file_bytes: stored as u64,
            moved: 0,
            pattern: pattern::bytes(stored.min(PATTERN_BYTES)).into(),
            data: Data::Awaited,
            completed: false,
        }
    }

    /// What follows the login.
    fn logged_in(&mut self) {
        match self.task {
            Task::Quit => self.say("QUIT", "", State::Quit),
            Task::Retrieve | Task::Store => self.say("TYPE", "I", State::Type),
            Task::Stay => self.state = State::Over,
        }
    }

    /// Says a verb with the path behind it.
    fn say_of_path(&mut self, verb: &str, next: State) {
        let path = std::mem::take(&mut self.path);
        self.say(verb, &path, next);
        self.path = path;
    }

    fn say(&mut self, verb: &str, argument: &str, next: State) {
        self.command.clear();
        self.sent = 0;
        let space = if argument.is_empty() { "" } else { " " };
        write!(self.command, "{verb}{space}{argument}\r\n").expect("a vector takes all");
        self.state = next;
    }

    /// Consumes one line of a reply; true when `self.line` is the last line of a reply.
    fn reply_is_complete(&mut self, bytes: &mut &[u8]) -> Result<bool, Failure> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let take = end.map_or(bytes.len(), |end| end + 1);
        if self.line.len() + take > LINE_BYTES {
            return Err(Failure::new(Kind::BadReply, "a line of the reply never ends"));
        }
        self.line.extend_from_slice(&bytes[..take]);
        *bytes = &bytes[take..];
        if end.is_none() {
            return Ok(false);
        }
        let code = self.line.get(..3).and_then(|digits| str::from_utf8(digits).ok());
        let code = code.and_then(|digits| digits.parse::<u16>().ok());
        let last = self.line.get(3) != Some(&b'-');
        match (self.multiline, code) {
            (Some(begun), Some(code)) if begun == code && last => self.multiline = None,
            (None, Some(code)) if !last => self.multiline = Some(code),
            (None, None) => return Err(self.unexpected(Kind::BadReply)),
            _ => {}
        }
        if self.multiline.is_some() || !last {
            self.line.clear();
            return Ok(false);
        }
        Ok(true)
    }

    /// Goes on from a whole reply, whose last line is in `self.line`.
    fn reply(&mut self) -> Result<Option<Operation>, Failure> {
        let code = (self.line[0], self.line[1], self.line[2]);
        let passed = match (self.state, code) {
            (State::Banner, (b'2', b'2', b'0')) => {
                let user = Arc::clone(&self.user);
                self.say("USER", &user, State::User);
                Some(Operation::Banner)
            }
            (State::User, (b'3', b'3', b'1')) => {
                let password = Arc::clone(&self.password);
                self.say("PASS", &password, State::Password);
                None
            }
            (State::User | State::Password, (b'2', b'3', b'0')) => {
                self.logged_in();
                Some(Operation::Login)
            }
            (State::Type, (b'2', b'0', b'0')) if self.task == Task::Store => {
                self.state = State::Ready;
                None
            }
            (State::Type, (b'2', b'0', b'0')) => {
                self.say_of_path("SIZE", State::Size);
                None
            }
            (State::Size, (b'2', b'1', b'3')) => {
                self.file_bytes = self.text().trim().parse().map_err(|_| self.bad())?;
                self.expected.check_length(self.file_bytes)?;
                self.state = State::Ready;
                None
            }
            (State::Epsv, (b'5', b'0' | b'2', _)) => {
                self.knows_no_epsv = true;
                self.say("PASV", "", State::Pasv);
                None
            }
            (State::Epsv, (b'2', b'2', b'9')) | (State::Pasv, (b'2', b'2', b'7')) => {
                let port = if self.state == State::Epsv { epsv_port } else { pasv_port };
                self.port = Some(port(self.text()).ok_or_else(|| self.bad())?);
                self.state = State::DataConnection;
                Some(Operation::Epsv)
            }
            (State::Transfer, (b'1', _, _)) => {
                if self.task == Task::Store {
                    self.data = Data::Moving;
                }
                None
            }
            (State::Transfer, (b'2', b'2', b'6') | (b'2', b'5', b'0')) => {
                // Before the end of an upload it cannot mean that the file is whole.
                if self.task == Task::Store && self.moved < self.file_bytes {
                    return Err(self.unexpected(Kind::WrongStatus));
                }
                self.completed = true;
                (self.data == Data::Passed).then_some(Operation::Complete)
            }
            (State::Quit, (b'2', b'2', b'1')) => {
                self.completed = true;
                None
            }
            _ => return Err(self.unexpected(Kind::WrongStatus)),
        };
        self.line.clear();
        Ok(passed)
    }

    /// What follows the code.
    fn text(&self) -> &str {
        str::from_utf8(self.line.get(4..).unwrap_or_default()).unwrap_or_default()
    }

    fn bad(&self) -> Failure {
        self.unexpected(Kind::BadReply)
    }

    fn unexpected(&self, kind: Kind) -> Failure {
        let line = String::from_utf8_lossy(&self.line);
        Failure::new(kind, format!("awaiting {:?}: {}", self.state, line.trim_end()))
    }

    /// The transfer is whole: judges it and makes ready for the next.
    fn finish_transfer(&mut self) -> Result<Step, Failure> {
        if self.moved != self.file_bytes {
            let detail = format!("{} bytes of {} came", self.moved, self.file_bytes);
            return Err(Failure::new(Kind::WrongLength, detail));
        }
        self.checksum.finish()?;
        self.state = State::Ready;
        Ok(Step::Replied)
    }
}

/// The port in `Entering Extended Passive Mode (|||6446|)`; any character may delimit it.
fn epsv_port(text: &str) -> Option<u16> {
    let inner = text.split_once('(')?.1.split_once(')')?.0;
    let delimiter = inner.chars().next()?;
    inner.split(delimiter).nth(3)?.parse().ok()
}

/// The port in `Entering Passive Mode (127,0,0,1,25,46)`. The address before it may be one that
/// only the server knows, and is the control connection's anyway.
fn pasv_port(text: &str) -> Option<u16> {
    let digits = text.trim_start_matches(|byte: char| !byte.is_ascii_digit() || byte == ' ');
    let numbers = digits.split(|byte: char| !byte.is_ascii_digit() && byte != ',').next()?;
    let mut numbers = numbers.split(',').map(|number| number.parse::<u8>().ok());
    let (high, low) = (numbers.nth(4)??, numbers.next()??);
    numbers.next().is_none().then(|| u16::from_be_bytes([high, low]))
}

impl Session for Ftp {
    fn number(&mut self, number: usize) {
        if self.task == Task::Store {
            self.path = format!("{}.{number}", self.path);
        }
    }

    fn reset(&mut self) {
        self.state = State::Banner;
        self.command.clear();
        self.sent = 0;
        self.line.clear();
        self.multiline = None;
        self.port = None;
        self.completed = false;
        self.checksum.reset();
    }

    fn is_one_request(&self) -> bool {
        self.task == Task::Quit
    }

    fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    fn request(&mut self) {
        self.moved = 0;
        self.data = Data::Awaited;
        self.completed = false;
        if self.knows_no_epsv {
            self.say("PASV", "", State::Pasv);
        } else {
            self.say("EPSV", "", State::Epsv);
        }
    }

    fn output(&self) -> &[u8] {
        &self.command[self.sent..]
    }

    fn wrote(&mut self, count: usize) {
        self.sent += count;
    }

    fn data_opened(&mut self) {
        let verb = if self.task == Task::Store { "STOR" } else { "RETR" };
        self.say_of_path(verb, State::Transfer);
    }

    fn only_counts_data(&self) -> bool {
        self.expected.crc32.is_none()
    }

    fn data_output(&self) -> Option<(&Arc<[u8]>, Range<usize>)> {
        let is_whole = self.moved == self.file_bytes;
        if self.task != Task::Store || self.data != Data::Moving || is_whole {
            return None;
        }
        let start = (self.moved % self.pattern.len() as u64) as usize;
        let left = usize::try_from(self.file_bytes - self.moved).unwrap_or(usize::MAX);
        let end = self.pattern.len().min(start.saturating_add(left));
        Some((&self.pattern, start..end))
    }

    fn data_wrote(&mut self, count: usize) -> bool {
        self.moved += count as u64;
        self.moved == self.file_bytes
    }

    fn input(&mut self, channel: Channel, bytes: &mut &[u8]) -> Result<Step, Failure> {
        if channel == Channel::Data && !bytes.is_empty() {
            if self.task == Task::Store {
                return Err(Failure::new(Kind::WrongBytes, "data came where they were to go"));
            }
            if self.data == Data::Awaited {
                self.data = Data::Moving;
                return Ok(Step::Passed(Operation::FirstByte));
            }
            self.moved += bytes.len() as u64;
            self.checksum.update(bytes);
            *bytes = &[];
            return Ok(Step::More);
        }
        loop {
            if let Some(port) = self.port.take() {
                return Ok(Step::Connect(port));
            }
            if self.state == State::Transfer && self.data == Data::Ended {
                self.data = Data::Passed;
                return Ok(Step::Passed(Operation::Transfer));
            }
            if self.state == State::Transfer && self.data == Data::Passed && self.completed {
                return self.finish_transfer();
            }
            if self.state == State::Quit && self.completed {
                self.state = State::Over;
                return Ok(Step::Replied);
            }
            if bytes.is_empty() {
                return Ok(Step::More);
            }
            if self.reply_is_complete(bytes)?
                && let Some(operation) = self.reply()?
            {
                return Ok(Step::Passed(operation));
            }
        }
    }

    fn ended(&mut self, channel: Channel) -> Result<(), Failure> {
        if channel == Channel::Data {
            if self.task == Task::Store && self.moved < self.file_bytes {
                let detail = format!("the server took {} bytes only", self.moved);
                return Err(Failure::new(Kind::ClosedEarly, detail));
            }
            self.data = Data::Ended;
            return Ok(());
        }
        Err(Failure::new(
            Kind::ClosedEarly,
            format!("the server closed the control connection, awaiting {:?}", self.state),
        ))
    }

    fn is_over(&self) -> bool {
        self.state == State::Over
    }
}

#[cfg(test)]
mod tests;
