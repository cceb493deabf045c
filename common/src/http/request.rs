//! The head of a request: parsed once, checked once, and from then on known to be sound.
//!
//! **Invariant:** what is decided about a head depends on its bytes alone, not on the pieces in
//! which they arrived: a head is refused at its first offending byte.

use std::mem::MaybeUninit;

use super::body::{Body, Chunked};
use super::conditional::Conditions;
use super::fields::Fields;
use super::response::Status;

/// The largest head, request line included, in bytes. Most servers' limit is about this.
pub(super) const MAX_HEAD_BYTES: usize = 8192;

/// The most header fields of a request.
const MAX_HEADERS: usize = 100;

/// The largest body of any request, in bytes; most paths take less.
pub(super) const MAX_BODY_BYTES: u64 = 16 << 30;

/// What was found at the start of some input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed<'a> {
    /// Not yet a whole head.
    Partial,
    /// A request that deserves a look.
    Request(Request<'a>),
    /// A request that ends the conversation, and whether its reply shall do without a body.
    Refused(Status, bool),
}

/// A sound request.
#[derive(Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is said by another part of the head")]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    /// As sent: percent-encoded, in any of its four forms (RFC 9112 §3.2).
    pub(super) target: &'a str,
    /// Whether the client speaks HTTP/1.0, and has to be told that the connection persists.
    pub(super) old: bool,
    pub(super) keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
    /// What follows the head, if something does.
    pub(super) body: Option<Body>,
    /// The body is that of a form.
    pub(super) is_form: bool,
    pub(super) conditions: Conditions<'a>,
    pub(super) head_length: usize,
}

/// What the client wants of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Options,
    Post,
    Put,
    /// A method of RFC 9110 or RFC 5789 that no resource here has.
    NotAllowed,
    /// A method that nobody knows, or that is for proxies.
    Unknown,
}

/// Looks for a request at the start of `input`, which does not start with an empty line.
pub(super) fn parse(input: &[u8]) -> Parsed<'_> {
    let window = &input[..input.len().min(MAX_HEAD_BYTES)];
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut []);
    match head.parse_with_uninit_headers(window, &mut headers) {
        Ok(httparse::Status::Complete(length)) => match check(&head, length) {
            Ok(request) => Parsed::Request(request),
            Err(status) => Parsed::Refused(status, head.method == Some("HEAD")),
        },
        Ok(httparse::Status::Partial) if window.len() < MAX_HEAD_BYTES => Parsed::Partial,
        Ok(httparse::Status::Partial) if window.contains(&b'\n') => {
            Parsed::Refused(Status::HEAD_TOO_LARGE, head.method == Some("HEAD"))
        }
        Ok(httparse::Status::Partial) => {
            Parsed::Refused(Status::URI_TOO_LONG, head.method == Some("HEAD"))
        }
        Err(error) => Parsed::Refused(status_of(error, window), head.method == Some("HEAD")),
    }
}

fn status_of(error: httparse::Error, window: &[u8]) -> Status {
    match error {
        httparse::Error::TooManyHeaders => Status::HEAD_TOO_LARGE,
        // The one digit decides, because the rest need not have arrived.
        httparse::Error::Version => match window.splitn(3, |&byte| byte == b' ').nth(2) {
            Some([b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', ..]) => Status::VERSION_NOT_SUPPORTED,
            _ => Status::BAD_REQUEST,
        },
        _ => Status::BAD_REQUEST,
    }
}

fn check<'a>(head: &httparse::Request<'_, 'a>, head_length: usize) -> Result<Request<'a>, Status> {
    let old = head.version == Some(0);
    let fields = Fields::read(head.headers, old)?;
    if fields.hosts > 1 || (fields.hosts == 0 && !old) {
        return Err(Status::BAD_REQUEST);
    }
    let body = match (fields.chunked, fields.content_length) {
        (None, None) => None,
        (None, Some(length)) if length > MAX_BODY_BYTES => return Err(Status::CONTENT_TOO_LARGE),
        (None, Some(length)) => Some(Body::Length(length)),
        // RFC 9112 §6.1: faulty framing, and likely somebody's attempt at smuggling.
        (Some(_), Some(_)) => return Err(Status::BAD_REQUEST),
        (Some(_), None) if old => return Err(Status::BAD_REQUEST),
        (Some(true), None) => Some(Body::Chunked(Chunked::default())),
        (Some(false), None) => return Err(Status::NOT_IMPLEMENTED),
    };
    let body = body.filter(|body| !body.is_over());
    let method = Method::of(head.method.unwrap_or_default());
    // RFC 9110 §14.5: a part must not be taken for the whole.
    if fields.has_content_range && method == Method::Put {
        return Err(Status::BAD_REQUEST);
    }
    Ok(Request {
        method,
        target: head.path.unwrap_or_default(),
        old,
        keep_alive: !fields.close && (!old || fields.keep_alive),
        expects_continue: fields.expects_continue && body.is_some(),
        body,
        is_form: fields.is_form,
        conditions: fields.conditions,
        head_length,
    })
}

impl Method {
    fn of(name: &str) -> Self {
        match name {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "OPTIONS" => Method::Options,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "DELETE" | "PATCH" | "TRACE" => Method::NotAllowed,
            _ => Method::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expected: &Result<(Method, bool, Option<Body>), Status>) {
        let found = match parse(input.as_bytes()) {
            Parsed::Request(request) => Ok((request.method, request.keep_alive, request.body)),
            Parsed::Refused(status, _) => Err(status),
            Parsed::Partial => panic!("{input:?} is not whole"),
        };
        assert_eq!(&found, expected, "{input:?}");
    }

    #[test]
    fn persistence_follows_version_and_connection_field() {
        for (version, connection, expected) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: upgrade, Close\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
        ] {
            let input = format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n");
            check(&input, &Ok((Method::Get, expected, None)));
        }
    }

    #[test]
    fn framing_that_could_smuggle_is_refused() {
        for (fields, status) in [
            ("Content-Length: 1\r\nContent-Length: 2", Status::BAD_REQUEST),
            ("Content-Length: 1\r\nTransfer-Encoding: chunked", Status::BAD_REQUEST),
            ("Content-Length: +1", Status::BAD_REQUEST),
            ("Content-Length: 1, 1", Status::BAD_REQUEST),
            ("Content-Length:", Status::BAD_REQUEST),
            ("Content-Length : 1", Status::BAD_REQUEST),
            ("X: a\r\n b", Status::BAD_REQUEST),
            ("X: a\rb", Status::BAD_REQUEST),
            ("Content-Length: 17179869185", Status::CONTENT_TOO_LARGE),
            ("Content-Length: 99999999999999999999999", Status::CONTENT_TOO_LARGE),
            ("Transfer-Encoding: gzip", Status::NOT_IMPLEMENTED),
            ("Transfer-Encoding: gzip, chunked", Status::NOT_IMPLEMENTED),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Status::NOT_IMPLEMENTED),
            ("Transfer-Encoding: chunked, identity", Status::NOT_IMPLEMENTED),
            ("Transfer-Encoding : chunked", Status::BAD_REQUEST),
            ("Transfer-Encoding: chunked\r\nContent-Length: 1", Status::BAD_REQUEST),
            ("Host: b", Status::BAD_REQUEST),
            ("Expect: miracles", Status::EXPECTATION_FAILED),
        ] {
            check(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"), &Err(status));
        }
        check(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\ncontent-length: 7\r\n\r\n",
            &Ok((Method::Post, true, Some(Body::Length(7)))),
        );
        check(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n",
            &Ok((Method::Post, true, Some(Body::Chunked(Chunked::default())))),
        );
        check("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", &Err(Status::BAD_REQUEST));
    }

    #[test]
    fn host_is_required_once_and_well_formed() {
        check("GET / HTTP/1.1\r\n\r\n", &Err(Status::BAD_REQUEST));
        check("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", &Err(Status::BAD_REQUEST));
        check("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", &Ok((Method::Get, true, None)));
        check("GET / HTTP/1.1\r\nHost:\r\n\r\n", &Ok((Method::Get, true, None)));
        check("GET / HTTP/1.0\r\n\r\n", &Ok((Method::Get, false, None)));
    }

    #[test]
    fn versions_from_elsewhere_are_told_from_rubbish() {
        for (line, status) in [
            ("GET / HTTP/2.0", Status::VERSION_NOT_SUPPORTED),
            ("GET / HTTP/1.2", Status::VERSION_NOT_SUPPORTED),
            ("PRI * HTTP/2.0", Status::VERSION_NOT_SUPPORTED),
            ("GET / HTTP/x", Status::BAD_REQUEST),
            ("GET / FTP/1.1", Status::BAD_REQUEST),
            ("GET /", Status::BAD_REQUEST),
            ("\u{16}\u{3}\u{1}", Status::BAD_REQUEST),
        ] {
            check(&format!("{line}\r\n\r\n"), &Err(status));
        }
    }

    #[test]
    fn an_oversized_head_is_told_by_what_is_too_large() {
        let long = "x".repeat(MAX_HEAD_BYTES);
        check(&format!("GET /{long} HTTP/1.1\r\n\r\n"), &Err(Status::URI_TOO_LONG));
        check(
            &format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"),
            &Err(Status::HEAD_TOO_LARGE),
        );
        let many = "X: y\r\n".repeat(MAX_HEADERS + 1);
        check(&format!("GET / HTTP/1.1\r\n{many}\r\n"), &Err(Status::HEAD_TOO_LARGE));
    }

    #[test]
    fn only_who_sends_a_body_waits_for_100_continue() {
        let expects = |version, length| {
            let head = format!(
                "PUT / HTTP/{version}\r\nHost: a\r\nContent-Length: {length}\r\n\
                 Expect: 100-Continue\r\n\r\n"
            );
            matches!(parse(head.as_bytes()), Parsed::Request(request) if request.expects_continue)
        };
        assert!(expects("1.1", 3));
        assert!(!expects("1.1", 0));
        assert!(!expects("1.0", 3));
    }

    #[test]
    fn a_part_is_not_taken_for_the_whole() {
        let field = "Content-Range: bytes 0-1/3\r\nContent-Length: 2";
        check(&format!("PUT / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n"), &Err(Status::BAD_REQUEST));
    }
}
