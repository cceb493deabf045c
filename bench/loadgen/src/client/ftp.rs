//! FTP (RFC 959, EPSV of RFC 2428): an anonymous login, then one download after another; or,
//! without a file, a login and QUIT that count as one request.

use std::io::Write;

use super::{Channel, Checksum, Expected, Session, Step};
use crate::plan::Plan;
use crate::record::{Failure, Kind, Operation};

/// A longer line is refused, so that a server that never ends one costs bounded memory.
const LINE_BYTES: usize = 8 * 1024;

/// The reply that is awaited. A transfer awaits two things, in either order: the reply 226 and
/// the end of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Banner,
    User,
    Password,
    Type,
    Size,
    /// No reply: the next download may be asked for.
    Ready,
    Epsv,
    DataConnection,
    Transfer,
    Quit,
    Over,
}

#[derive(Clone, Debug)]
pub(crate) struct Ftp {
    path: String,
    expected: Expected,
    checksum: Checksum,
    state: State,
    command: Vec<u8>,
    sent: usize,
    line: Vec<u8>,
    /// The code of the reply of several lines that has begun.
    multiline: Option<u16>,
    /// The port that EPSV has named and that is not yet passed on.
    port: Option<u16>,
    file_bytes: u64,
    received: u64,
    data: Data,
    /// 226 has come.
    completed: bool,
}

/// How far the data of a transfer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Data {
    Awaited,
    Arriving,
    Ended,
    /// Ended, and the engine knows.
    Passed,
}

impl Ftp {
    pub(crate) fn new(plan: &Plan) -> Self {
        let expected = Expected::of(plan);
        Self {
            path: plan.path.clone(),
            checksum: Checksum::new(&expected),
            expected,
            state: State::Banner,
            command: Vec::with_capacity(plan.path.len() + 16),
            sent: 0,
            line: Vec::with_capacity(128),
            multiline: None,
            port: None,
            file_bytes: 0,
            received: 0,
            data: Data::Awaited,
            completed: false,
        }
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
                self.say("USER", "anonymous", State::User);
                Some(Operation::Banner)
            }
            (State::User, (b'3', b'3', b'1')) => {
                self.say("PASS", "loadgen@", State::Password);
                None
            }
            (State::User | State::Password, (b'2', b'3', b'0')) => {
                if self.path.is_empty() {
                    self.say("QUIT", "", State::Quit);
                } else {
                    self.say("TYPE", "I", State::Type);
                }
                Some(Operation::Login)
            }
            (State::Type, (b'2', b'0', b'0')) => {
                let path = std::mem::take(&mut self.path);
                self.say("SIZE", &path, State::Size);
                self.path = path;
                None
            }
            (State::Size, (b'2', b'1', b'3')) => {
                self.file_bytes = self.text().trim().parse().map_err(|_| self.bad())?;
                self.expected.check_length(self.file_bytes)?;
                self.state = State::Ready;
                None
            }
            (State::Epsv, (b'2', b'2', b'9')) => {
                self.port = Some(epsv_port(self.text()).ok_or_else(|| self.bad())?);
                self.state = State::DataConnection;
                Some(Operation::Epsv)
            }
            (State::Transfer, (b'1', _, _)) => None,
            (State::Transfer, (b'2', b'2', b'6') | (b'2', b'5', b'0')) => {
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
        if self.received != self.file_bytes {
            let detail = format!("{} bytes of {} came", self.received, self.file_bytes);
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

impl Session for Ftp {
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
        self.path.is_empty()
    }

    fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    fn request(&mut self) {
        self.received = 0;
        self.data = Data::Awaited;
        self.completed = false;
        self.say("EPSV", "", State::Epsv);
    }

    fn output(&self) -> &[u8] {
        &self.command[self.sent..]
    }

    fn wrote(&mut self, count: usize) {
        self.sent += count;
    }

    fn data_opened(&mut self) {
        let path = std::mem::take(&mut self.path);
        self.say("RETR", &path, State::Transfer);
        self.path = path;
    }

    fn input(&mut self, channel: Channel, bytes: &mut &[u8]) -> Result<Step, Failure> {
        if channel == Channel::Data && !bytes.is_empty() {
            if self.data == Data::Awaited {
                self.data = Data::Arriving;
                return Ok(Step::Passed(Operation::FirstByte));
            }
            self.received += bytes.len() as u64;
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
mod tests {
    use std::fmt::Write;

    use super::*;

    /// Plays the control replies in pieces of `piece` bytes, each when its command is sent.
    /// Answers the transcript of commands and steps, or the failure's kind.
    fn play(path: &str, replies: &[&str], data: &[u8], piece: usize) -> Result<String, Kind> {
        let plan = Plan {
            path: path.to_owned(),
            expected_crc32: (!path.is_empty()).then(|| crc32fast::hash(b"data")),
            ..Plan::default()
        };
        let mut ftp = Ftp::new(&plan);
        let mut transcript = String::new();
        for reply in replies {
            if ftp.is_ready() {
                ftp.request();
            }
            flush(&mut ftp, &mut transcript);
            feed(&mut ftp, Channel::Control, reply.as_bytes(), piece, &mut transcript)?;
            if ftp.state == State::DataConnection {
                ftp.data_opened();
            } else if ftp.state == State::Transfer && !ftp.completed {
                feed(&mut ftp, Channel::Data, data, piece, &mut transcript)?;
                ftp.ended(Channel::Data).map_err(|failure| failure.kind)?;
                feed(&mut ftp, Channel::Control, b"", 1, &mut transcript)?;
            }
        }
        Ok(transcript)
    }

    fn flush(ftp: &mut Ftp, transcript: &mut String) {
        transcript.push_str(&String::from_utf8_lossy(ftp.output()).replace("\r\n", "; "));
        ftp.wrote(ftp.output().len());
    }

    fn feed(
        ftp: &mut Ftp,
        channel: Channel,
        input: &[u8],
        piece: usize,
        transcript: &mut String,
    ) -> Result<(), Kind> {
        let empty = std::iter::once(&[][..]).filter(|_| input.is_empty());
        for mut bytes in input.chunks(piece).chain(empty) {
            loop {
                match ftp.input(channel, &mut bytes).map_err(|failure| failure.kind)? {
                    Step::More => break,
                    step => write!(transcript, "{step:?}; ").unwrap(),
                }
            }
            assert!(bytes.is_empty());
        }
        Ok(())
    }

    const LOGIN: [&str; 5] = [
        "220-Welcome\r\n 220 to\r\n220 here\r\n",
        "331 go on\r\n",
        "230 in\r\n",
        "200 ok\n",
        "213 4\r\n",
    ];

    #[test]
    fn a_download_takes_the_same_steps_in_any_pieces() {
        let replies = [&LOGIN[..], &["229 Passive (|||4711|)\r\n", "150 here\r\n", "226 done\r\n"]];
        for piece in 1..60 {
            let transcript = play("a.bin", &replies.concat(), b"data", piece).unwrap();
            assert_eq!(
                transcript,
                "Passed(Banner); USER anonymous; PASS loadgen@; Passed(Login); TYPE I; \
                 SIZE a.bin; EPSV; Passed(Epsv); Connect(4711); RETR a.bin; \
                 Passed(FirstByte); Passed(Transfer); Passed(Complete); Replied; "
            );
        }
    }

    #[test]
    fn the_final_reply_may_come_before_the_end_of_the_data() {
        let mut ftp = Ftp::new(&Plan { path: "f".into(), ..Plan::default() });
        let mut transcript = String::new();
        for reply in LOGIN {
            feed(&mut ftp, Channel::Control, reply.as_bytes(), 99, &mut transcript).unwrap();
        }
        ftp.request();
        feed(&mut ftp, Channel::Control, b"229 (|||9|)\r\n", 99, &mut transcript).unwrap();
        ftp.data_opened();
        transcript.clear();
        feed(&mut ftp, Channel::Control, b"150 a\r\n226 b\r\n", 99, &mut transcript).unwrap();
        feed(&mut ftp, Channel::Data, b"data", 99, &mut transcript).unwrap();
        ftp.ended(Channel::Data).unwrap();
        feed(&mut ftp, Channel::Control, b"", 99, &mut transcript).unwrap();
        assert_eq!(transcript, "Passed(FirstByte); Passed(Transfer); Replied; ");
    }

    #[test]
    fn a_login_and_quit_are_one_request() {
        let transcript = play("", &["220 a\r\n", "331 b\r\n", "230 c\r\n", "221 d\r\n"], b"", 3);
        let expected =
            "Passed(Banner); USER anonymous; PASS loadgen@; Passed(Login); QUIT; Replied; ";
        assert_eq!(transcript.unwrap(), expected);
    }

    #[test]
    fn each_fault_has_its_kind() {
        let with = |last: &[&'static str]| [&LOGIN[..], last].concat();
        let faults = [
            (vec!["421 too many\r\n"], &b""[..], Kind::WrongStatus),
            (vec!["hello\r\n"], b"", Kind::BadReply),
            (with(&["229 nothing here\r\n"]), b"", Kind::BadReply),
            (with(&["229 (|||9|)\r\n", "550 no such file\r\n"]), b"", Kind::WrongStatus),
            (with(&["229 (|||9|)\r\n", "150 a\r\n", "426 cut\r\n"]), b"da", Kind::WrongStatus),
            (with(&["229 (|||9|)\r\n", "150 a\r\n", "226 b\r\n"]), b"dat", Kind::WrongLength),
            (with(&["229 (|||9|)\r\n", "150 a\r\n", "226 b\r\n"]), b"dada", Kind::WrongBytes),
        ];
        for (replies, data, kind) in faults {
            assert_eq!(play("f", &replies, data, 5), Err(kind), "{replies:?}");
        }
    }

    #[test]
    fn a_line_that_never_ends_is_refused_at_its_limit() {
        let line = "220 ".to_owned() + &"a".repeat(2 * LINE_BYTES);
        assert_eq!(play("", &[&line], b"", 100), Err(Kind::BadReply));
    }
}
