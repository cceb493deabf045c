//! From a request's method and target to what it asks for.

use std::borrow::Cow;
use std::time::Duration;

use super::fields::check_host;
use super::request::Method;
use super::response::Status;
use super::wanted::UPLOADS;

/// The most bytes that `/bytes/N` sends.
pub const MAX_BYTES: u64 = 1 << 40;

/// The longest that `/compute`, `/block`, each part of `/work`, and `/backend` take.
pub const MAX_DELAY: Duration = Duration::from_secs(10);

/// What `/bytes/N` repeats.
pub const PATTERN: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+\n";

/// The most events that `/stream/N/…` sends.
pub const MAX_EVENTS: u64 = 1000;

/// The methods of what can be read, of what answers a body, of the guestbook, of what can be read
/// and stored and of the server as a whole.
const READ: &str = "GET, HEAD, OPTIONS";
const SEND: &str = "OPTIONS, POST, PUT";
const SIGN: &str = "GET, HEAD, OPTIONS, POST";
const ALL: &str = "GET, HEAD, OPTIONS, POST, PUT";

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// A body that never changes.
    Fixed(&'static str, &'static [u8]),
    /// So many bytes of [`PATTERN`].
    Bytes(u64),
    /// Burn so much CPU, then block a thread for so long.
    Work(Duration, Duration),
    /// Ask the backend, which answers so many milliseconds later.
    Backend(u64),
    /// So many events, with a pause between any two.
    Stream(u32, Duration),
    /// The request's own body.
    Echo,
    /// The page of the guestbook.
    Guestbook,
    /// To write the body into the guestbook.
    Sign,
    /// What has this path below the root, percent-encoded as it was sent.
    File(Cow<'a, str>),
    /// To store the body under this path.
    Upload(Cow<'a, str>),
    /// What can be done with the target.
    Options(&'static str),
    /// Not to be had, and by which methods it is to be had, if that is why.
    Refused(Status, Option<&'static str>),
}

/// What a request asks for whose target is in any of its forms (RFC 9112 §3.2). A query is ignored.
pub(super) fn route(method: Method, target: &str) -> Route<'_> {
    let reads = matches!(method, Method::Get | Method::Head);
    // By far the most frequent in a benchmark, and not to be slowed down by the others.
    if reads && target == "/plaintext" {
        return PLAINTEXT;
    }
    if method == Method::Unknown {
        return Route::Refused(Status::NOT_IMPLEMENTED, None);
    }
    if target == "*" && method == Method::Options {
        return Route::Options(ALL);
    }
    let Some(path) = path_of(target) else {
        return BAD;
    };
    let found = find(path);
    let (allow, allowed) = match &found {
        Route::Refused(..) => return found,
        Route::Echo => (SEND, matches!(method, Method::Post | Method::Put)),
        Route::Guestbook => (SIGN, reads || method == Method::Post),
        Route::Upload(_) => (ALL, method != Method::NotAllowed),
        _ => (READ, reads),
    };
    match (method, found) {
        (Method::Options, _) => Route::Options(allow),
        (_, Route::Upload(path)) if reads => Route::File(path),
        (Method::Post, Route::Guestbook) => Route::Sign,
        (_, found) if allowed => found,
        _ => Route::Refused(Status::METHOD_NOT_ALLOWED, Some(allow)),
    }
}

const PLAINTEXT: Route<'static> = Route::Fixed("text/plain", b"Hello, World!");
const JSON: Route<'static> = Route::Fixed("application/json", br#"{"message":"Hello, World!"}"#);
const BAD: Route<'static> = Route::Refused(Status::BAD_REQUEST, None);

fn find(path: &str) -> Route<'_> {
    let Some((name, argument)) = path[1..].split_once('/') else {
        return match path {
            "/plaintext" => PLAINTEXT,
            "/json" => JSON,
            "/echo" => Route::Echo,
            "/guestbook" => Route::Guestbook,
            _ => Route::File(Cow::Borrowed(path)),
        };
    };
    match name {
        "bytes" => number(argument, MAX_BYTES).map(Route::Bytes),
        "compute" => work(argument, "0"),
        "block" => work("0", argument),
        "work" => argument.split_once('/').and_then(|(compute, block)| work(compute, block)),
        "backend" => number(argument, MAX_DELAY.as_millis() as u64).map(Route::Backend),
        "stream" => stream(argument),
        UPLOADS if !argument.is_empty() && !argument.contains('/') => {
            return Route::Upload(Cow::Borrowed(path));
        }
        _ => return Route::File(Cow::Borrowed(path)),
    }
    .unwrap_or(BAD)
}

/// From microseconds and milliseconds.
fn work(compute: &str, block: &str) -> Option<Route<'static>> {
    let compute = number(compute, MAX_DELAY.as_micros() as u64)?;
    let block = number(block, MAX_DELAY.as_millis() as u64)?;
    Some(Route::Work(Duration::from_micros(compute), Duration::from_millis(block)))
}

fn stream(argument: &str) -> Option<Route<'static>> {
    let (count, interval) = argument.split_once('/')?;
    let interval = number(interval, MAX_DELAY.as_millis() as u64)?;
    let count = number(count, MAX_EVENTS)?;
    Some(Route::Stream(count as u32, Duration::from_millis(interval)))
}

impl Route<'_> {
    /// Whether it is the body that it is about.
    pub(super) fn takes_body(&self) -> bool {
        matches!(self, Route::Echo | Route::Sign | Route::Upload(_))
    }

    /// The same, to be kept beyond the input.
    pub(super) fn into_owned(self) -> Route<'static> {
        match self {
            Route::Fixed(content_type, body) => Route::Fixed(content_type, body),
            Route::Bytes(length) => Route::Bytes(length),
            Route::Work(compute, block) => Route::Work(compute, block),
            Route::Backend(delay_ms) => Route::Backend(delay_ms),
            Route::Stream(count, interval) => Route::Stream(count, interval),
            Route::Echo => Route::Echo,
            Route::Guestbook => Route::Guestbook,
            Route::Sign => Route::Sign,
            Route::File(path) => Route::File(Cow::Owned(path.into_owned())),
            Route::Upload(path) => Route::Upload(Cow::Owned(path.into_owned())),
            Route::Options(allow) => Route::Options(allow),
            Route::Refused(status, allow) => Route::Refused(status, allow),
        }
    }
}

/// The path, which starts with a slash. A fragment is for the client alone.
fn path_of(target: &str) -> Option<&str> {
    let path = if target.starts_with('/') {
        target
    } else {
        let (scheme, rest) = target.split_once("://")?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return None;
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.is_empty() || check_host(authority.as_bytes()).is_err() {
            return None;
        }
        if path.is_empty() { "/" } else { path }
    };
    if path.contains('#') {
        return None;
    }
    let path = path.split('?').next().unwrap_or_default();
    Some(if path.is_empty() { "/" } else { path })
}

fn number(text: &str, most: u64) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = if digits {
        text.parse().ok()?
    } else {
        return None;
    };
    (number <= most).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(target: &str) -> Route<'_> {
        route(Method::Get, target)
    }

    #[test]
    fn paths_of_known_cost_take_bounded_numbers() {
        for (target, expected) in [
            ("/bytes/0", Route::Bytes(0)),
            ("/bytes/1099511627776?x", Route::Bytes(MAX_BYTES)),
            ("/bytes/1099511627777", BAD),
            ("/bytes/", BAD),
            ("/bytes/+1", BAD),
            ("/bytes/1/2", BAD),
            ("/bytes/99999999999999999999999", BAD),
            ("/compute/250", Route::Work(Duration::from_micros(250), Duration::ZERO)),
            ("/compute/10000001", BAD),
            ("/block/10000", Route::Work(Duration::ZERO, MAX_DELAY)),
            ("/block/10001", BAD),
            ("/work/7/8", Route::Work(Duration::from_micros(7), Duration::from_millis(8))),
            ("/work/7", BAD),
            ("/backend/7", Route::Backend(7)),
            ("/stream/3/20", Route::Stream(3, Duration::from_millis(20))),
            ("/stream/1001/0", BAD),
            ("/stream/1/10001", BAD),
            ("/stream/1", BAD),
        ] {
            assert_eq!(get(target), expected, "{target}");
        }
        assert_eq!(get("http://example.org/plaintext?q"), PLAINTEXT);
    }

    #[test]
    fn a_method_is_allowed_where_it_means_something() {
        use Method::{Get, Head, NotAllowed, Options, Post, Put, Unknown};
        let file = |path| Route::File(Cow::Borrowed(path));
        let upload = || Route::Upload(Cow::Borrowed("/upload/a"));
        let not = |allow| Route::Refused(Status::METHOD_NOT_ALLOWED, Some(allow));
        for (method, target, expected) in [
            (Get, "/a", file("/a")),
            (Head, "/a", file("/a")),
            (Post, "/a", not(READ)),
            (Put, "/plaintext", not(READ)),
            (Get, "/echo", not(SEND)),
            (Post, "/echo", Route::Echo),
            (Put, "/echo?x", Route::Echo),
            (Get, "/guestbook", Route::Guestbook),
            (Post, "/guestbook", Route::Sign),
            (Put, "/guestbook", not(SIGN)),
            (Get, "/upload/a", file("/upload/a")),
            (Put, "/upload/a", upload()),
            (Post, "/upload/a", upload()),
            (NotAllowed, "/upload/a", not(ALL)),
            (Put, "/upload/", not(READ)),
            (Put, "/upload/a/b", not(READ)),
            (Options, "/a", Route::Options(READ)),
            (Options, "/echo", Route::Options(SEND)),
            (Options, "*", Route::Options(ALL)),
            (Get, "*", BAD),
            (Post, "/bytes/x", BAD),
            (Unknown, "/a", Route::Refused(Status::NOT_IMPLEMENTED, None)),
        ] {
            assert_eq!(route(method, target), expected, "{method:?} {target}");
        }
    }

    #[test]
    fn the_path_of_a_target_is_what_a_client_of_this_server_means() {
        for (target, expected) in [
            ("/a/b?c=d", Some("/a/b")),
            ("http://example.org", Some("/")),
            ("http://example.org?q", Some("/")),
            ("HTTPS://example.org:80/a", Some("/a")),
            ("/bytes", Some("/bytes")),
            ("/a#b", None),
            ("*", None),
            ("ftp://example.org/", None),
            ("http:///a", None),
            ("http://a@b/", None),
            ("example.org:80", None),
        ] {
            assert_eq!(path_of(target), expected, "{target}");
        }
    }
}
