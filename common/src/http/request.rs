//! The head of a request: parsed once, checked once, and from then on known to be sound.
//!
//! **Invariant:** what is decided about a head depends on its bytes alone, not on the pieces in
//! which they arrived: a head is refused at its first offending byte.

use std::mem::MaybeUninit;

use super::response::Status;

/// The largest head, request line included, in bytes. Most servers' limit is about this.
pub(super) const MAX_HEAD_BYTES: usize = 8192;

/// The most header fields of a request.
const MAX_HEADERS: usize = 100;

/// The largest body that is read (and discarded), in bytes.
const MAX_BODY_BYTES: u64 = 64 * 1024;

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
pub(super) struct Request<'a> {
    pub(super) method: Method,
    /// As sent: percent-encoded, in any of its four forms (RFC 9112 §3.2).
    pub(super) target: &'a str,
    /// Whether the client speaks HTTP/1.0, and has to be told that the connection persists.
    pub(super) old: bool,
    pub(super) keep_alive: bool,
    /// How long the body is that follows the head, in bytes; at most [`MAX_BODY_BYTES`].
    pub(super) body_length: u64,
    pub(super) head_length: usize,
}

/// What the client wants of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    /// A method of RFC 9110 or RFC 5789 that no resource here has.
    NotAllowed,
    /// A method that nobody knows.
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

/// What the header fields say that bears on where this request ends and the next one starts.
#[derive(Default)]
struct Fields {
    hosts: u32,
    content_length: Option<u64>,
    transfer_encoding: Option<bool>,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

fn check<'a>(head: &httparse::Request<'_, 'a>, head_length: usize) -> Result<Request<'a>, Status> {
    let old = head.version == Some(0);
    let fields = Fields::read(head.headers)?;
    if fields.hosts > 1 || (fields.hosts == 0 && !old) {
        return Err(Status::BAD_REQUEST);
    }
    match fields.transfer_encoding {
        None => {}
        // RFC 9112 §6.1: faulty framing, and likely somebody's attempt at smuggling.
        Some(_) if old || fields.content_length.is_some() => return Err(Status::BAD_REQUEST),
        Some(true) => return Err(Status::LENGTH_REQUIRED),
        Some(false) => return Err(Status::NOT_IMPLEMENTED),
    }
    let body_length = fields.content_length.unwrap_or(0);
    if body_length > MAX_BODY_BYTES {
        return Err(Status::CONTENT_TOO_LARGE);
    }
    // A client that waits for "100 Continue" gets its final answer instead, and then nobody knows
    // whether the body follows (RFC 9110 §10.1.1).
    let uncertain = fields.expects_continue && body_length > 0;
    Ok(Request {
        method: Method::of(head.method.unwrap_or_default()),
        target: head.path.unwrap_or_default(),
        old,
        keep_alive: !fields.close && !uncertain && (!old || fields.keep_alive),
        body_length,
        head_length,
    })
}

impl Method {
    fn of(name: &str) -> Self {
        match name {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" | "PUT" | "DELETE" | "OPTIONS" | "PATCH" | "TRACE" | "CONNECT" => {
                Method::NotAllowed
            }
            _ => Method::Unknown,
        }
    }
}

impl Fields {
    fn read(headers: &[httparse::Header<'_>]) -> Result<Self, Status> {
        let mut fields = Fields::default();
        for header in headers {
            // The length is compared first, and tells nearly all the others from these.
            let name = header.name.as_bytes();
            match name.len() {
                4 if name.eq_ignore_ascii_case(b"host") => {
                    fields.hosts += 1;
                    check_host(header.value)?;
                }
                6 if name.eq_ignore_ascii_case(b"expect") => {
                    if !header.value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(Status::EXPECTATION_FAILED);
                    }
                    fields.expects_continue = true;
                }
                10 if name.eq_ignore_ascii_case(b"connection") => fields.connection(header.value),
                14 if name.eq_ignore_ascii_case(b"content-length") => {
                    let length = content_length(header.value)?;
                    if fields.content_length.is_some_and(|before| before != length) {
                        return Err(Status::BAD_REQUEST);
                    }
                    fields.content_length = Some(length);
                }
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                    let chunked = header.value.eq_ignore_ascii_case(b"chunked");
                    fields.transfer_encoding = Some(chunked && fields.transfer_encoding.is_none());
                }
                _ => {}
            }
        }
        Ok(fields)
    }

    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',') {
            let option = option.trim_ascii();
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }
}

/// Digits and nothing else: no sign, no list. More than fits a `u64` is certainly too much.
fn content_length(value: &[u8]) -> Result<u64, Status> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Status::BAD_REQUEST);
    }
    let digits = str::from_utf8(value).map_err(|_| Status::BAD_REQUEST)?;
    digits.parse().map_err(|_| Status::CONTENT_TOO_LARGE)
}

/// An empty name is legal (RFC 9112 §3.2); what would end a host name inside a URI is not.
fn check_host(value: &[u8]) -> Result<(), Status> {
    // Written out, because this is done for every byte of every Host field: a search in a list
    // took a third of all the time of a small request.
    let fits = |byte: &u8| {
        let ends = matches!(byte, b'/' | b'?' | b'#' | b'@' | b'\\' | b',' | b'"' | b'<' | b'>');
        byte.is_ascii_graphic() && !ends
    };
    if value.iter().all(fits) { Ok(()) } else { Err(Status::BAD_REQUEST) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expected: Result<(Method, bool, u64), Status>) {
        let found = match parse(input.as_bytes()) {
            Parsed::Request(request) => {
                Ok((request.method, request.keep_alive, request.body_length))
            }
            Parsed::Refused(status, _) => Err(status),
            Parsed::Partial => panic!("{input:?} is not whole"),
        };
        assert_eq!(found, expected, "{input:?}");
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
            check(&input, Ok((Method::Get, expected, 0)));
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
            ("Content-Length: 65537", Status::CONTENT_TOO_LARGE),
            ("Content-Length: 99999999999999999999999", Status::CONTENT_TOO_LARGE),
            ("Transfer-Encoding: chunked", Status::LENGTH_REQUIRED),
            ("Transfer-Encoding: gzip", Status::NOT_IMPLEMENTED),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Status::NOT_IMPLEMENTED),
            ("Host: b", Status::BAD_REQUEST),
            ("Expect: miracles", Status::EXPECTATION_FAILED),
        ] {
            check(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"), Err(status));
        }
        check(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\ncontent-length: 7\r\n\r\n",
            Ok((Method::NotAllowed, true, 7)),
        );
        check("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Err(Status::BAD_REQUEST));
    }

    #[test]
    fn host_is_required_once_and_well_formed() {
        check("GET / HTTP/1.1\r\n\r\n", Err(Status::BAD_REQUEST));
        check("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Err(Status::BAD_REQUEST));
        check("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", Ok((Method::Get, true, 0)));
        check("GET / HTTP/1.1\r\nHost:\r\n\r\n", Ok((Method::Get, true, 0)));
        check("GET / HTTP/1.0\r\n\r\n", Ok((Method::Get, false, 0)));
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
            check(&format!("{line}\r\n\r\n"), Err(status));
        }
    }

    #[test]
    fn an_oversized_head_is_told_by_what_is_too_large() {
        let long = "x".repeat(MAX_HEAD_BYTES);
        check(&format!("GET /{long} HTTP/1.1\r\n\r\n"), Err(Status::URI_TOO_LONG));
        check(
            &format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"),
            Err(Status::HEAD_TOO_LARGE),
        );
        let many = "X: y\r\n".repeat(MAX_HEADERS + 1);
        check(&format!("GET / HTTP/1.1\r\n{many}\r\n"), Err(Status::HEAD_TOO_LARGE));
    }

    #[test]
    fn a_client_that_waits_for_100_continue_is_not_kept() {
        let head = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
        check(head, Ok((Method::NotAllowed, false, 3)));
    }
}
