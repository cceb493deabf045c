//! The head of a reply, appended to a buffer without formatting machinery.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io;
use std::time::{Duration, SystemTime};

/// A status code and its reason phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status(pub(super) &'static str);

impl Status {
    pub(super) const OK: Status = Status("200 OK");
    pub(super) const CREATED: Status = Status("201 Created");
    pub(super) const NO_CONTENT: Status = Status("204 No Content");
    pub(super) const PARTIAL_CONTENT: Status = Status("206 Partial Content");
    pub(super) const MOVED: Status = Status("301 Moved Permanently");
    pub(super) const SEE_OTHER: Status = Status("303 See Other");
    pub(super) const NOT_MODIFIED: Status = Status("304 Not Modified");
    pub(super) const BAD_REQUEST: Status = Status("400 Bad Request");
    pub(super) const FORBIDDEN: Status = Status("403 Forbidden");
    pub(super) const NOT_FOUND: Status = Status("404 Not Found");
    pub(super) const METHOD_NOT_ALLOWED: Status = Status("405 Method Not Allowed");
    pub(super) const REQUEST_TIMEOUT: Status = Status("408 Request Timeout");
    pub(super) const CONFLICT: Status = Status("409 Conflict");
    pub(super) const PRECONDITION_FAILED: Status = Status("412 Precondition Failed");
    pub(super) const CONTENT_TOO_LARGE: Status = Status("413 Content Too Large");
    pub(super) const URI_TOO_LONG: Status = Status("414 URI Too Long");
    pub(super) const RANGE_NOT_SATISFIABLE: Status = Status("416 Range Not Satisfiable");
    pub(super) const EXPECTATION_FAILED: Status = Status("417 Expectation Failed");
    pub(super) const HEAD_TOO_LARGE: Status = Status("431 Request Header Fields Too Large");
    pub(super) const INTERNAL_ERROR: Status = Status("500 Internal Server Error");
    pub(super) const NOT_IMPLEMENTED: Status = Status("501 Not Implemented");
    pub(super) const BAD_GATEWAY: Status = Status("502 Bad Gateway");
    pub(super) const UNAVAILABLE: Status = Status("503 Service Unavailable");
    pub(super) const GATEWAY_TIMEOUT: Status = Status("504 Gateway Timeout");
    pub(super) const VERSION_NOT_SUPPORTED: Status = Status("505 HTTP Version Not Supported");
    pub(super) const INSUFFICIENT_STORAGE: Status = Status("507 Insufficient Storage");
}

/// What a reply says about the connection it comes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persistence {
    /// Nothing: it persists, as HTTP/1.1 has it.
    Implied,
    /// It persists, as an HTTP/1.0 client has asked.
    KeepAlive,
    /// It ends after this reply.
    Close,
}

/// How a client knows where the body ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection.
    Close,
    /// There is none, and its status says so.
    Nothing,
}

/// The head of a reply.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a> {
    pub(super) status: Status,
    /// Fields beside those that every reply has: names and values.
    pub(super) fields: &'a [(&'static str, &'a str)],
    pub(super) framing: Framing,
}

impl Head<'_> {
    /// The head as bytes, its empty line included.
    pub(super) fn append(&self, output: &mut Vec<u8>, date: &Date, persistence: Persistence) {
        output.reserve(256);
        output.extend_from_slice(b"HTTP/1.1 ");
        output.extend_from_slice(self.status.0.as_bytes());
        output.extend_from_slice(b"\r\nDate: ");
        output.extend_from_slice(date);
        for (name, value) in self.fields {
            output.extend_from_slice(b"\r\n");
            output.extend_from_slice(name.as_bytes());
            output.extend_from_slice(b": ");
            output.extend_from_slice(value.as_bytes());
        }
        match self.framing {
            Framing::Length(length) => {
                output.extend_from_slice(b"\r\nContent-Length: ");
                output.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            }
            Framing::Chunked => output.extend_from_slice(b"\r\nTransfer-Encoding: chunked"),
            Framing::Close | Framing::Nothing => {}
        }
        output.extend_from_slice(match persistence {
            Persistence::Implied => b"\r\n\r\n",
            Persistence::KeepAlive => b"\r\nConnection: keep-alive\r\n\r\n",
            Persistence::Close => b"\r\nConnection: close\r\n\r\n",
        });
    }
}

/// A time as fields have it (RFC 9110 §5.6.7).
pub(super) type Date = [u8; 29];

/// The last second that has such a value.
const LAST_SECOND: u64 = 253_402_300_799;

/// The date of `now`. Each thread remembers the one of the last second that it was asked for, which
/// changes what it costs and nothing else.
pub(super) fn date(now: SystemTime) -> Date {
    // From when until when, for a comparison is cheaper than a difference.
    type Last = (SystemTime, SystemTime, Date);
    thread_local! {
        static LAST: Cell<Last> =
            const { Cell::new((SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH, [0; 29])) };
    }
    let (from, until, last) = LAST.get();
    if from <= now && now < until {
        return last;
    }
    let date = http_date(now);
    let from = SystemTime::UNIX_EPOCH + Duration::from_secs(second(now));
    LAST.set((from, from + Duration::from_secs(1), date));
    date
}

/// Any time as a date: what has none becomes the nearest that has one.
pub(super) fn http_date(time: SystemTime) -> Date {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(second(time));
    let mut text = String::with_capacity(29);
    write!(text, "{}", httpdate::HttpDate::from(time)).expect("a string takes any text");
    text.as_bytes().try_into().expect("a date is of fixed length")
}

/// A date as text.
pub(super) fn text(date: &Date) -> &str {
    str::from_utf8(date).expect("a date is of ASCII")
}

fn second(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs()).min(LAST_SECOND)
}

/// What the failure of a job means to a client.
pub(super) fn status_of(error: &io::Error) -> Status {
    use nix::libc::{EDQUOT, EFBIG, ELOOP, EMFILE, ENFILE, ENOSPC, ENXIO, EROFS};
    match (error.kind(), error.raw_os_error()) {
        (
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::InvalidFilename
            | io::ErrorKind::InvalidInput,
            _,
        )
        | (_, Some(ELOOP | ENXIO)) => Status::NOT_FOUND,
        (io::ErrorKind::PermissionDenied, _) | (_, Some(EROFS)) => Status::FORBIDDEN,
        (_, Some(EFBIG)) => Status::CONTENT_TOO_LARGE,
        (_, Some(ENOSPC | EDQUOT)) => Status::INSUFFICIENT_STORAGE,
        (io::ErrorKind::WouldBlock, _) | (_, Some(EMFILE | ENFILE)) => Status::UNAVAILABLE,
        _ => Status::INTERNAL_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_all_that_a_client_needs() {
        let mut output = Vec::new();
        let head = Head {
            status: Status::METHOD_NOT_ALLOWED,
            fields: &[("Content-Type", "text/plain"), ("Allow", "GET, HEAD")],
            framing: Framing::Length(1234),
        };
        head.append(&mut output, &date(SystemTime::UNIX_EPOCH), Persistence::Close);
        let expected = "HTTP/1.1 405 Method Not Allowed\r\n\
            Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: text/plain\r\n\
            Allow: GET, HEAD\r\nContent-Length: 1234\r\nConnection: close\r\n\r\n";
        assert_eq!(String::from_utf8(output).unwrap(), expected);
    }

    #[test]
    fn any_time_has_a_date() {
        let second = Duration::from_secs(1);
        let far = Duration::from_secs(LAST_SECOND * 2);
        for (time, expected) in [
            (SystemTime::UNIX_EPOCH - second, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (SystemTime::UNIX_EPOCH + second, "Thu, 01 Jan 1970 00:00:01 GMT"),
            (SystemTime::UNIX_EPOCH + far, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(date(time), expected.as_bytes());
        }
    }
}
