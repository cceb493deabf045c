//! HTTP/1.1 (RFC 9112): GET of one target, or of those of a script, or POST of a text to one;
//! replies with a content length.
//! The head of a reply is parsed in place unless it came in pieces.

use std::net::SocketAddr;
use std::sync::Arc;

use super::requests::Requests;
use super::{Channel, Checksum, Expected, Session, Step};
use crate::class::{Class, Method};
use crate::record::{Failure, Kind};
use crate::script::{Player, Script, Turn};

/// A longer head is refused, so that a server that never ends one costs bounded memory.
const HEAD_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;

#[derive(Clone, Debug)]
pub(crate) struct Http {
    requests: Requests,
    method: Method,
    expected: Expected,
    checksum: Checksum,
    /// The head so far, if it came in pieces.
    partial: Vec<u8>,
    /// What is missing of the body; `None` while a head is awaited.
    missing: Option<u64>,
    /// The server has said that it closes.
    closes: bool,
    script: Option<Box<Scripted>>,
}

/// How far a session with a script is.
#[derive(Clone, Debug)]
struct Scripted {
    player: Player,
    /// For each step its request, the length that the reply must have, and the number of its name.
    steps: Arc<[(Requests, Option<u64>, usize)]>,
    turn: Turn,
    /// The pause is not yet passed on.
    is_pause_new: bool,
    /// The end is not yet passed on.
    is_end_new: bool,
}

/// What a reply's head announces.
struct Head {
    bytes: usize,
    body_bytes: u64,
    closes: bool,
}

impl Http {
    pub(crate) fn new(class: &Class, target: SocketAddr) -> Self {
        let expected = Expected::of(class);
        // A connection of a single request says so: the server need not wait for another.
        let last =
            if class.requests_per_connection == Some(1) { "Connection: close\r\n" } else { "" };
        let (word, content) = match class.method {
            Method::Get => ("GET", String::new()),
            Method::Post => ("POST", content(class.payload_bytes)),
        };
        let requests = |path: &str| {
            let head = format!("{word} {path} HTTP/1.1\r\nHost: {target}\r\n{last}");
            let end = if content.is_empty() { "\r\n" } else { &content };
            Requests::new((head + end).as_bytes(), class.pipeline)
        };
        Self {
            requests: requests(&class.path),
            method: class.method,
            checksum: Checksum::new(&expected),
            expected,
            partial: Vec::new(),
            missing: None,
            closes: false,
            script: class.script.as_ref().map(|script| Box::new(Scripted::new(script, requests))),
        }
    }

    /// Does what comes next in the script.
    fn play(&mut self) {
        let Some(script) = &mut self.script else {
            return;
        };
        script.turn = script.player.next();
        match script.turn {
            Turn::Do(index) => {
                let (requests, expected_bytes, _) = &script.steps[index];
                self.requests = requests.clone();
                self.requests.add();
                self.expected.bytes = *expected_bytes;
            }
            Turn::Pause(_) => script.is_pause_new = true,
            Turn::End => script.is_end_new = true,
        }
    }

    /// What follows from a reply that is whole.
    fn replied(&mut self) -> Result<Step, Failure> {
        let Some(script) = &self.script else {
            return Ok(Step::Replied);
        };
        let Turn::Do(index) = script.turn else {
            return Err(Failure::new(Kind::WrongLength, "more replies than requests"));
        };
        let label = script.steps[index].2;
        self.play();
        let goes_on = self.script.as_ref().is_some_and(|script| script.turn != Turn::End);
        if self.closes && goes_on {
            let detail = "the server closes the connection before the end of the script";
            return Err(Failure::new(Kind::ClosedEarly, detail));
        }
        Ok(Step::Did(label))
    }

    /// Consumes a head, or keeps the part of it that has come.
    fn head(&mut self, bytes: &mut &[u8]) -> Result<Option<Head>, Failure> {
        let held = self.partial.len();
        if held == 0
            && let Some(head) = parse(bytes, self.method)?
        {
            *bytes = &bytes[head.bytes..];
            return Ok(Some(head));
        }
        let room = HEAD_BYTES - held;
        self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if held > 0
            && let Some(head) = parse(&self.partial, self.method)?
        {
            *bytes = &bytes[head.bytes - held..];
            self.partial.clear();
            return Ok(Some(head));
        }
        if self.partial.len() == HEAD_BYTES {
            return Err(Failure::new(Kind::BadReply, "the head of the reply never ends"));
        }
        *bytes = &[];
        Ok(None)
    }
}

impl Scripted {
    fn new(script: &Script, requests: impl Fn(&str) -> Requests) -> Self {
        let steps = script.steps.iter().zip(script.labels().1);
        let steps = steps.map(|(step, label)| (requests(&step.path), step.expected_bytes, label));
        Self {
            player: Player::new(script),
            steps: steps.collect(),
            turn: Turn::End,
            is_pause_new: false,
            is_end_new: false,
        }
    }

    /// What is to be passed on.
    fn outcome(&mut self) -> Option<Step> {
        match self.turn {
            Turn::Pause(pause) if std::mem::take(&mut self.is_pause_new) => {
                Some(Step::Think(pause))
            }
            Turn::End if std::mem::take(&mut self.is_end_new) => Some(Step::Replied),
            Turn::Do(_) | Turn::Pause(_) | Turn::End => None,
        }
    }
}

/// A text of so many bytes, with the fields that announce it.
fn content(bytes: usize) -> String {
    let mut content = format!("Content-Type: text/plain\r\nContent-Length: {bytes}\r\n\r\n");
    content.extend(('a'..='z').cycle().take(bytes));
    content
}

/// Parses and judges the head of a reply to `method`; `None` if it is incomplete.
fn parse(bytes: &[u8], method: Method) -> Result<Option<Head>, Failure> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let bad = |why: String| Failure::new(Kind::BadReply, why);
    let mut headers = [const { std::mem::MaybeUninit::uninit() }; HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = config
        .parse_response_with_uninit_headers(&mut response, bytes, &mut headers)
        .map_err(|error| bad(format!("not an HTTP reply: {error}")))?;
    let httparse::Status::Complete(bytes) = length else {
        return Ok(None);
    };

    let status = response.code.unwrap_or_default();
    let is_good = status == 200 || status == 201 && method == Method::Post;
    if !is_good {
        let detail = format!("status {status} {}", response.reason.unwrap_or_default());
        return Err(Failure::new(Kind::WrongStatus, detail));
    }
    let mut body_bytes = None;
    let mut closes = response.version == Some(0);
    for header in response.headers {
        if header.name.eq_ignore_ascii_case("content-length") {
            let digits = std::str::from_utf8(header.value).ok();
            body_bytes = digits.and_then(|digits| digits.trim().parse().ok());
        } else if header.name.eq_ignore_ascii_case("connection") {
            closes = !header.value.eq_ignore_ascii_case(b"keep-alive");
        }
    }
    let body_bytes = body_bytes
        .ok_or_else(|| bad("no content length (chunked replies are not understood)".to_owned()))?;
    Ok(Some(Head { bytes, body_bytes, closes }))
}

impl Session for Http {
    fn number(&mut self, number: usize) {
        if let Some(script) = &mut self.script {
            script.player.number(number);
        }
    }

    fn reset(&mut self) {
        self.requests.reset();
        self.checksum.reset();
        self.partial.clear();
        self.missing = None;
        self.closes = false;
        if let Some(script) = &mut self.script {
            script.player.reset();
            (script.is_pause_new, script.is_end_new) = (false, false);
            self.play();
        }
    }

    fn is_one_request(&self) -> bool {
        self.script.is_some()
    }

    fn is_ready(&self) -> bool {
        !self.closes && self.script.is_none()
    }

    fn resume(&mut self) {
        self.play();
    }

    fn request(&mut self) {
        self.requests.add();
    }

    fn output(&self) -> &[u8] {
        self.requests.output()
    }

    fn wrote(&mut self, count: usize) {
        self.requests.wrote(count);
    }

    fn input(&mut self, _: Channel, bytes: &mut &[u8]) -> Result<Step, Failure> {
        if let Some(script) = &mut self.script
            && let Some(step) = script.outcome()
        {
            return Ok(step);
        }
        let missing = if let Some(missing) = self.missing {
            missing
        } else {
            let Some(head) = self.head(bytes)? else {
                return Ok(Step::More);
            };
            self.expected.check_length(head.body_bytes)?;
            self.closes = head.closes;
            head.body_bytes
        };
        let take = bytes.len().min(usize::try_from(missing).unwrap_or(usize::MAX));
        let (piece, left) = bytes.split_at(take);
        self.checksum.update(piece);
        *bytes = left;
        let missing = missing - take as u64;
        if missing > 0 {
            self.missing = Some(missing);
            return Ok(Step::More);
        }
        self.missing = None;
        self.checksum.finish()?;
        self.replied()
    }

    fn ended(&mut self, _: Channel) -> Result<(), Failure> {
        if let Some(missing) = self.missing {
            let detail = format!("the connection closed {missing} bytes before the reply's end");
            return Err(Failure::new(Kind::ClosedEarly, detail));
        }
        Err(Failure::closed_early())
    }

    fn is_over(&self) -> bool {
        match &self.script {
            None => self.closes && self.missing.is_none(),
            Some(script) => script.turn == Turn::End && !script.is_end_new,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: x\r\n\r\nHello";

    fn session(expected_bytes: Option<u64>, expected_crc32: Option<u32>) -> Http {
        let class = Class { expected_bytes, expected_crc32, ..Class::default() };
        Http::new(&class, SocketAddr::from(([127, 0, 0, 1], 80)))
    }

    fn check(http: &mut Http, input: &[u8], piece: usize) -> Result<usize, Kind> {
        let mut replies = 0;
        for mut bytes in input.chunks(piece) {
            loop {
                match http.input(Channel::Control, &mut bytes) {
                    Ok(Step::Replied) => replies += 1,
                    Ok(step) => {
                        assert_eq!(step, Step::More);
                        assert!(bytes.is_empty());
                        break;
                    }
                    Err(failure) => return Err(failure.kind),
                }
            }
        }
        Ok(replies)
    }

    #[test]
    fn replies_may_arrive_in_any_pieces() {
        let three = REPLY.repeat(3);
        for piece in 1..=three.len() {
            let mut http = session(Some(5), Some(crc32fast::hash(b"Hello")));
            assert_eq!(check(&mut http, &three, piece), Ok(3), "in pieces of {piece}");
        }
    }

    #[test]
    fn each_fault_has_its_kind_however_it_arrives() {
        let faults: [(&[u8], Kind); 5] = [
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", Kind::WrongStatus),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nHell", Kind::WrongLength),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHallo", Kind::WrongBytes),
            (b"HTTP/1.1 200 OK\r\n\r\nHello", Kind::BadReply),
            (b"220 ready\r\n", Kind::BadReply),
        ];
        for (input, kind) in faults {
            for piece in 1..=input.len() {
                let mut http = session(Some(5), Some(crc32fast::hash(b"Hello")));
                assert_eq!(check(&mut http, input, piece), Err(kind), "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_post_brings_a_body_each_time_and_may_have_made_something() {
        let class =
            Class { method: Method::Post, payload_bytes: 28, pipeline: 2, ..Class::default() };
        let mut http = Http::new(&class, SocketAddr::from(([127, 0, 0, 1], 80)));
        let request = "POST /plaintext HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\
                       Content-Type: text/plain\r\nContent-Length: 28\r\n\r\n\
                       abcdefghijklmnopqrstuvwxyzab";
        http.request();
        http.request();
        assert_eq!(http.output(), request.repeat(2).as_bytes());
        let created = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(check(&mut http, &[created, REPLY].concat(), 9), Ok(2));
        assert_eq!(check(&mut session(None, None), created, 9), Err(Kind::WrongStatus));
        let moved = b"HTTP/1.1 303 See Other\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(check(&mut http, moved, 9), Err(Kind::WrongStatus));
    }

    #[test]
    fn a_head_that_never_ends_is_refused_at_its_limit() {
        let mut input = b"HTTP/1.1 200 OK\r\n".to_vec();
        input.extend_from_slice(&b"a: b\r\n".repeat(40));
        input.extend_from_slice(b"c: ");
        input.resize(2 * HEAD_BYTES, b'd');
        for piece in [100, 1000, 2 * HEAD_BYTES] {
            assert_eq!(check(&mut session(None, None), &input, piece), Err(Kind::BadReply));
        }
    }

    #[test]
    fn a_server_that_announces_its_close_is_done_after_the_reply() {
        let mut http = session(None, None);
        let input = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(check(&mut http, &input[..input.len() - 1], 7), Ok(0));
        assert!(!http.is_over());
        assert_eq!(check(&mut http, b"k", 1), Ok(1));
        assert!(http.is_over());
    }

    #[test]
    fn a_close_before_the_end_of_a_reply_is_early() {
        for length in 0..REPLY.len() {
            let mut http = session(None, None);
            assert_eq!(check(&mut http, &REPLY[..length], REPLY.len()), Ok(0));
            assert_eq!(http.ended(Channel::Control).unwrap_err().kind, Kind::ClosedEarly);
        }
    }

    #[test]
    fn a_script_is_played_step_by_step_and_is_one_request() {
        let script = r#"step = [
            { do = "get", path = "/a", expected_bytes = 5 },
            { do = "think", think = { fixed = "1s" } },
            { do = "get", path = "/b" },
        ]"#;
        let script = Some(toml::from_str(script).unwrap());
        let class = Class { script, ..Class::default() };
        let mut http = Http::new(&class, SocketAddr::from(([127, 0, 0, 1], 80)));
        for _ in 0..2 {
            http.reset();
            let mut steps = Vec::new();
            for path in ["GET /a ", "GET /b "] {
                assert!(http.output().starts_with(path.as_bytes()));
                http.wrote(http.output().len());
                let mut reply = REPLY;
                loop {
                    match http.input(Channel::Control, &mut reply).unwrap() {
                        Step::More => break,
                        Step::Think(pause) => {
                            steps.push(Step::Think(pause));
                            http.resume();
                        }
                        step => steps.push(step),
                    }
                }
            }
            let pause = Step::Think(std::time::Duration::from_secs(1));
            assert_eq!(steps, [Step::Did(0), pause, Step::Did(1), Step::Replied]);
            assert!(http.is_over());
        }
    }
}
