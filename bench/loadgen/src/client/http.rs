//! HTTP/1.1 (RFC 9112): GET of one target, replies with a content length. The head of a reply is
//! parsed in place unless it came in pieces.

use super::requests::Requests;
use super::{Channel, Checksum, Expected, Session, Step};
use crate::plan::Plan;
use crate::record::{Failure, Kind};

/// A longer head is refused, so that a server that never ends one costs bounded memory.
const HEAD_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;

#[derive(Clone, Debug)]
pub(crate) struct Http {
    requests: Requests,
    expected: Expected,
    checksum: Checksum,
    /// The head so far, if it came in pieces.
    partial: Vec<u8>,
    /// What is missing of the body; `None` while a head is awaited.
    missing: Option<u64>,
    /// The server has said that it closes.
    closes: bool,
}

/// What a reply's head announces.
struct Head {
    bytes: usize,
    body_bytes: u64,
    closes: bool,
}

impl Http {
    pub(crate) fn new(plan: &Plan) -> Self {
        let expected = Expected::of(plan);
        // A connection of a single request says so: the server need not wait for another.
        let last =
            if plan.requests_per_connection == Some(1) { "Connection: close\r\n" } else { "" };
        let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n{last}\r\n", plan.path, plan.target);
        Self {
            requests: Requests::new(request.as_bytes(), plan.pipeline),
            checksum: Checksum::new(&expected),
            expected,
            partial: Vec::new(),
            missing: None,
            closes: false,
        }
    }

    /// Consumes a head, or keeps the part of it that has come.
    fn head(&mut self, bytes: &mut &[u8]) -> Result<Option<Head>, Failure> {
        let held = self.partial.len();
        if held == 0
            && let Some(head) = parse(bytes)?
        {
            *bytes = &bytes[head.bytes..];
            return Ok(Some(head));
        }
        let room = HEAD_BYTES - held;
        self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if held > 0
            && let Some(head) = parse(&self.partial)?
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

/// Parses and judges a head; `None` if it is incomplete.
fn parse(bytes: &[u8]) -> Result<Option<Head>, Failure> {
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
    if status != 200 {
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
    fn reset(&mut self) {
        self.requests.reset();
        self.checksum.reset();
        self.partial.clear();
        self.missing = None;
        self.closes = false;
    }

    fn is_ready(&self) -> bool {
        !self.closes
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
        Ok(Step::Replied)
    }

    fn ended(&mut self, _: Channel) -> Result<(), Failure> {
        if let Some(missing) = self.missing {
            let detail = format!("the connection closed {missing} bytes before the reply's end");
            return Err(Failure::new(Kind::ClosedEarly, detail));
        }
        Err(Failure::closed_early())
    }

    fn is_over(&self) -> bool {
        self.closes && self.missing.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: x\r\n\r\nHello";

    fn session(expected_bytes: Option<u64>, expected_crc32: Option<u32>) -> Http {
        Http::new(&Plan { expected_bytes, expected_crc32, ..Plan::default() })
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
}
