//! The head of a reply, appended to a buffer without formatting machinery.

use std::cell::Cell;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

/// A status code and its reason phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status(pub(super) &'static str);

impl Status {
    pub(super) const OK: Status = Status("200 OK");
    pub(super) const MOVED: Status = Status("301 Moved Permanently");
    pub(super) const BAD_REQUEST: Status = Status("400 Bad Request");
    pub(super) const FORBIDDEN: Status = Status("403 Forbidden");
    pub(super) const NOT_FOUND: Status = Status("404 Not Found");
    pub(super) const METHOD_NOT_ALLOWED: Status = Status("405 Method Not Allowed");
    pub(super) const REQUEST_TIMEOUT: Status = Status("408 Request Timeout");
    pub(super) const LENGTH_REQUIRED: Status = Status("411 Length Required");
    pub(super) const CONTENT_TOO_LARGE: Status = Status("413 Content Too Large");
    pub(super) const URI_TOO_LONG: Status = Status("414 URI Too Long");
    pub(super) const EXPECTATION_FAILED: Status = Status("417 Expectation Failed");
    pub(super) const HEAD_TOO_LARGE: Status = Status("431 Request Header Fields Too Large");
    pub(super) const INTERNAL_ERROR: Status = Status("500 Internal Server Error");
    pub(super) const NOT_IMPLEMENTED: Status = Status("501 Not Implemented");
    pub(super) const BAD_GATEWAY: Status = Status("502 Bad Gateway");
    pub(super) const UNAVAILABLE: Status = Status("503 Service Unavailable");
    pub(super) const GATEWAY_TIMEOUT: Status = Status("504 Gateway Timeout");
    pub(super) const VERSION_NOT_SUPPORTED: Status = Status("505 HTTP Version Not Supported");
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

/// The head of a reply.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a> {
    pub(super) status: Status,
    pub(super) content_type: &'static str,
    /// Of the body, in bytes.
    pub(super) length: u64,
    /// One more field, if the status wants one.
    pub(super) extra: Option<(&'static str, &'a str)>,
}

impl Head<'_> {
    /// The head as bytes, its empty line included.
    pub(super) fn append(&self, output: &mut Vec<u8>, date: &Date, persistence: Persistence) {
        let mut length = itoa::Buffer::new();
        output.reserve(256);
        output.extend_from_slice(b"HTTP/1.1 ");
        output.extend_from_slice(self.status.0.as_bytes());
        output.extend_from_slice(b"\r\nDate: ");
        output.extend_from_slice(date);
        output.extend_from_slice(b"\r\nContent-Type: ");
        output.extend_from_slice(self.content_type.as_bytes());
        output.extend_from_slice(b"\r\nContent-Length: ");
        output.extend_from_slice(length.format(self.length).as_bytes());
        if let Some((name, value)) = self.extra {
            output.extend_from_slice(b"\r\n");
            output.extend_from_slice(name.as_bytes());
            output.extend_from_slice(b": ");
            output.extend_from_slice(value.as_bytes());
        }
        output.extend_from_slice(match persistence {
            Persistence::Implied => b"\r\n\r\n",
            Persistence::KeepAlive => b"\r\nConnection: keep-alive\r\n\r\n",
            Persistence::Close => b"\r\nConnection: close\r\n\r\n",
        });
    }
}

/// The value of a Date field (RFC 9110 §5.6.7).
pub(super) type Date = [u8; 29];

/// The last second that has such a value.
const LAST_SECOND: u64 = 253_402_300_799;

/// The date of `now`. Each thread remembers the one of the last second that it was asked for, which
/// changes what it costs and nothing else.
pub(super) fn date(now: SystemTime) -> Date {
    thread_local! {
        static LAST: Cell<(u64, Date)> = const { Cell::new((u64::MAX, [0; 29])) };
    }
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    let second = since.map_or(0, |since| since.as_secs()).min(LAST_SECOND);
    let (last_second, last) = LAST.get();
    if second == last_second {
        return last;
    }
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
    let mut text = String::with_capacity(29);
    write!(text, "{}", httpdate::HttpDate::from(time)).expect("a string takes any text");
    let date = text.as_bytes().try_into().expect("a date is of fixed length");
    LAST.set((second, date));
    date
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_all_that_a_client_needs() {
        let mut output = Vec::new();
        let head = Head {
            status: Status::METHOD_NOT_ALLOWED,
            content_type: "text/plain",
            length: 1234,
            extra: Some(("Allow", "GET, HEAD")),
        };
        head.append(&mut output, &date(SystemTime::UNIX_EPOCH), Persistence::Close);
        let expected = "HTTP/1.1 405 Method Not Allowed\r\n\
            Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: text/plain\r\n\
            Content-Length: 1234\r\nAllow: GET, HEAD\r\nConnection: close\r\n\r\n";
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
