//! FTP (RFC 959, EPSV of RFC 2428): tasks one after the other, of a script or of what a class does
//! over and over. What a task says and awaits stands in the table of `tasks`.

mod tasks;

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::{Channel, Checksum, Expected, Session, Step};
use crate::class::Class;
use crate::record::{Failure, Kind, Operation};
use crate::script::Player;
use tasks::{Course, Moves, Next, Task, Tasks, Verb};

/// A longer line is refused, so that a server that never ends one costs bounded memory.
const LINE_BYTES: usize = 8 * 1024;
/// Uploads repeat this many bytes; as few as stay in a processor's own cache.
const PATTERN_BYTES: usize = 256 * 1024;

/// What is awaited. A transfer awaits two things, in either order: the reply 226 and the end of the
/// data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Banner,
    User,
    Password,
    /// The reply to TYPE I, which the present task needs.
    Type,
    /// The reply to a task that moves no data.
    Reply,
    /// No reply: the next request may be made.
    Ready,
    /// The end of a pause.
    Pause,
    Epsv,
    Pasv,
    DataConnection,
    Transfer,
    Over,
}

#[derive(Clone, Debug)]
pub(crate) struct Ftp {
    course: Course,
    /// Of the connection: what it stores has this behind its name.
    number: usize,
    user: Arc<str>,
    password: Arc<str>,
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
    /// TYPE I has been said.
    is_binary: bool,
    /// The length of the file, as the server has named it.
    size: Option<u64>,
    /// How much of what is transferred was.
    moved: u64,
    data: Data,
    /// 226 has come.
    completed: bool,
    news: News,
}

/// What is not yet passed on.
#[derive(Clone, Debug, Default)]
struct News {
    /// The one that the server has named.
    port: Option<u16>,
    /// The number of a step's name, which is done.
    did: Option<usize>,
    pause: Option<Duration>,
    has_replied: bool,
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
    pub(crate) fn new(class: &Class) -> Self {
        Self::with(class, Tasks::of(class), class.script.as_ref().map(Player::new))
    }

    /// A session that logs in and then says nothing more.
    pub(crate) fn idle(class: &Class) -> Self {
        Self::with(class, Tasks::idle(), None)
    }

    fn with(class: &Class, tasks: Tasks, player: Option<Player>) -> Self {
        let expected = Expected::of(class);
        let mut session = Self {
            course: Course::new(tasks, player),
            number: 0,
            user: class.user.as_str().into(),
            password: class.password.as_str().into(),
            checksum: Checksum::new(&expected),
            expected,
            state: State::Banner,
            command: Vec::with_capacity(class.path.len() + 32),
            sent: 0,
            line: Vec::with_capacity(128),
            multiline: None,
            knows_no_epsv: false,
            is_binary: false,
            size: None,
            moved: 0,
            data: Data::Awaited,
            completed: false,
            news: News::default(),
        };
        session.course.reset();
        session
    }

    fn moves(&self) -> Moves {
        self.course.task().verb.row().2
    }

    /// Begins the present task.
    fn begin(&mut self) {
        let Task { verb, .. } = self.course.task();
        if *verb != Verb::Type && verb.is_binary() && !self.is_binary {
            self.say("TYPE", "I", State::Type);
        } else if self.moves() == Moves::Nothing {
            self.say_task(State::Reply);
        } else {
            self.begin_transfer();
        }
    }

    fn begin_transfer(&mut self) {
        self.moved = 0;
        self.data = Data::Awaited;
        self.completed = false;
        if self.knows_no_epsv {
            self.say("PASV", "", State::Pasv);
        } else {
            self.say("EPSV", "", State::Epsv);
        }
    }

    /// The present task is done, and what follows begins.
    fn done(&mut self) {
        self.news.did = self.course.label();
        if self.course.task().verb == Verb::Type {
            self.is_binary = true;
        }
        self.go_on();
    }

    fn go_on(&mut self) {
        match self.course.advance() {
            Next::Task => self.begin(),
            Next::Requests => self.state = State::Ready,
            Next::Pause(pause) => {
                self.news.pause = Some(pause);
                self.state = State::Pause;
            }
            Next::End => {
                self.news.has_replied = self.course.is_one_request();
                self.state = State::Over;
            }
        }
    }

    /// Says what the present task is.
    fn say_task(&mut self, next: State) {
        let Task { verb, argument, .. } = self.course.task();
        let number = (*verb == Verb::Store).then_some(self.number);
        write_line(&mut self.command, verb.row().0, argument, number);
        (self.sent, self.state) = (0, next);
    }

    fn say(&mut self, verb: &str, argument: &str, next: State) {
        write_line(&mut self.command, verb, argument, None);
        (self.sent, self.state) = (0, next);
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
        let digits = str::from_utf8(&self.line[..3]).ok();
        let code: u16 = digits.and_then(|digits| digits.parse().ok()).unwrap_or_default();
        let passed = match (self.state, code) {
            (State::Banner, 220) => {
                let user = Arc::clone(&self.user);
                self.say("USER", &user, State::User);
                Some(Operation::Banner)
            }
            (State::User, 331) => {
                let password = Arc::clone(&self.password);
                self.say("PASS", &password, State::Password);
                None
            }
            (State::User | State::Password, 230) => {
                self.done();
                Some(Operation::Login)
            }
            (State::Type, 200) => {
                self.is_binary = true;
                self.begin();
                None
            }
            (State::Reply, code) if code == self.course.task().verb.row().1 => {
                if self.course.task().verb == Verb::Size {
                    let size = self.text().trim().parse().map_err(|_| self.bad())?;
                    self.expected.check_length(size)?;
                    self.size = Some(size);
                }
                self.done();
                None
            }
            (State::Epsv, 500..=509 | 520..=529) => {
                self.knows_no_epsv = true;
                self.say("PASV", "", State::Pasv);
                None
            }
            (State::Epsv, 229) | (State::Pasv, 227) => {
                let port = if self.state == State::Epsv { epsv_port } else { pasv_port };
                self.news.port = Some(port(self.text()).ok_or_else(|| self.bad())?);
                self.state = State::DataConnection;
                Some(Operation::Epsv)
            }
            (State::Transfer, 100..=199) => {
                if self.moves() == Moves::FromUs {
                    self.data = Data::Moving;
                }
                None
            }
            (State::Transfer, 226 | 250) => {
                // Before the end of an upload it cannot mean that the file is whole.
                if self.moves() == Moves::FromUs && self.left_to_store() > 0 {
                    return Err(self.unexpected(Kind::WrongStatus));
                }
                self.completed = true;
                (self.data == Data::Passed).then_some(Operation::Complete)
            }
            _ => return Err(self.unexpected(Kind::WrongStatus)),
        };
        self.line.clear();
        Ok(passed)
    }

    /// How much is yet to be sent of what is stored.
    fn left_to_store(&self) -> u64 {
        self.course.task().bytes.unwrap_or(0).saturating_sub(self.moved)
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
        Failure::new(kind, format!("{}: {}", self.awaited(), line.trim_end()))
    }

    fn awaited(&self) -> String {
        match self.state {
            State::Reply => format!("awaiting the reply to {}", self.course.task().verb.row().0),
            state => format!("awaiting {state:?}"),
        }
    }

    /// The transfer is whole: judges it and goes on.
    fn finish_transfer(&mut self) -> Result<(), Failure> {
        // What the server has named, or what is expected of this one.
        let expected = self.size.or(self.course.task().bytes).unwrap_or(self.moved);
        if self.moved != expected {
            let detail = format!("{} bytes of {expected} came", self.moved);
            return Err(Failure::new(Kind::WrongLength, detail));
        }
        self.checksum.finish()?;
        if self.course.label().is_some() {
            self.done();
        } else {
            self.state = State::Ready;
            self.news.has_replied = true;
        }
        Ok(())
    }

    /// What is to be passed on.
    fn outcome(&mut self) -> Option<Step> {
        if let Some(port) = self.news.port.take() {
            return Some(Step::Connect(port));
        }
        if self.state == State::Transfer && self.data == Data::Ended {
            self.data = Data::Passed;
            return Some(Step::Passed(Operation::Transfer));
        }
        if let Some(label) = self.news.did.take() {
            return Some(Step::Did(label));
        }
        if let Some(pause) = self.news.pause.take() {
            return Some(Step::Think(pause));
        }
        std::mem::take(&mut self.news.has_replied).then_some(Step::Replied)
    }
}

/// Puts a command in the place of the one before. The number goes behind the argument.
fn write_line(command: &mut Vec<u8>, verb: &str, argument: &str, number: Option<usize>) {
    command.clear();
    command.extend_from_slice(verb.as_bytes());
    if !argument.is_empty() {
        command.push(b' ');
        command.extend_from_slice(argument.as_bytes());
    }
    if let Some(number) = number {
        write!(command, ".{number}").expect("a vector takes all");
    }
    command.extend_from_slice(b"\r\n");
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
        self.number = number;
        self.course.number(number);
    }

    fn reset(&mut self) {
        self.course.reset();
        self.state = State::Banner;
        self.command.clear();
        self.sent = 0;
        self.line.clear();
        self.multiline = None;
        self.is_binary = false;
        self.completed = false;
        self.checksum.reset();
        self.news = News::default();
    }

    fn is_one_request(&self) -> bool {
        self.course.is_one_request()
    }

    fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    fn request(&mut self) {
        self.begin();
    }

    fn resume(&mut self) {
        self.go_on();
    }

    fn output(&self) -> &[u8] {
        &self.command[self.sent..]
    }

    fn wrote(&mut self, count: usize) {
        self.sent += count;
    }

    fn data_opened(&mut self) {
        self.say_task(State::Transfer);
    }

    fn only_counts_data(&self) -> bool {
        self.expected.crc32.is_none()
    }

    fn data_output(&self) -> Option<(&Arc<[u8]>, Range<usize>)> {
        let left = self.left_to_store();
        if self.moves() != Moves::FromUs || self.data != Data::Moving || left == 0 {
            return None;
        }
        let pattern = &self.course.tasks.pattern;
        let start = (self.moved % pattern.len() as u64) as usize;
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        Some((pattern, start..pattern.len().min(start.saturating_add(left))))
    }

    fn data_wrote(&mut self, count: usize) -> bool {
        self.moved += count as u64;
        self.left_to_store() == 0
    }

    fn input(&mut self, channel: Channel, bytes: &mut &[u8]) -> Result<Step, Failure> {
        if channel == Channel::Data && !bytes.is_empty() {
            if self.moves() == Moves::FromUs {
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
            if let Some(step) = self.outcome() {
                return Ok(step);
            }
            if self.state == State::Transfer && self.data == Data::Passed && self.completed {
                self.finish_transfer()?;
            } else if bytes.is_empty() {
                return Ok(Step::More);
            } else if self.reply_is_complete(bytes)?
                && let Some(operation) = self.reply()?
            {
                return Ok(Step::Passed(operation));
            }
        }
    }

    fn ended(&mut self, channel: Channel) -> Result<(), Failure> {
        if channel == Channel::Data {
            if self.moves() == Moves::FromUs && self.left_to_store() > 0 {
                let detail = format!("the server took {} bytes only", self.moved);
                return Err(Failure::new(Kind::ClosedEarly, detail));
            }
            self.data = Data::Ended;
            return Ok(());
        }
        let detail = format!("the server closed the control connection, {}", self.awaited());
        Err(Failure::new(Kind::ClosedEarly, detail))
    }

    fn is_over(&self) -> bool {
        self.state == State::Over
    }
}

#[cfg(test)]
mod tests;
