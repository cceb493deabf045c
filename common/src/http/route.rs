//! From a request's method and target to what it asks for.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fields::check_host;
use super::request::Method;
use super::response::Status;
use crate::partial::is_partial_name;

/// What stands for a folder, where there is one.
const INDEX: &str = "index.html";

/// The most bytes that `/bytes/N` sends.
pub const MAX_BYTES: u64 = 1 << 40;

/// The longest that `/compute`, `/block` and `/backend` take.
pub const MAX_DELAY: Duration = Duration::from_secs(10);

/// What `/bytes/N` repeats.
pub const PATTERN: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+\n";

/// The most events that `/stream/N/…` sends.
pub const MAX_EVENTS: u64 = 1000;

/// The folder in which `/upload/NAME` stores.
pub(super) const UPLOADS: &str = "upload";

/// The methods of what can be read, of what answers a body, of what can be read and stored, and of
/// the server as a whole.
const READ: &str = "GET, HEAD, OPTIONS";
const SEND: &str = "OPTIONS, POST, PUT";
const ALL: &str = "GET, HEAD, OPTIONS, POST, PUT";

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// A body that never changes.
    Fixed(&'static str, &'static [u8]),
    /// So many bytes of [`PATTERN`].
    Bytes(u64),
    /// Burn CPU for so long.
    Compute(Duration),
    /// Block a thread for so long.
    Block(Duration),
    /// Ask the backend, which answers so many milliseconds later.
    Backend(u64),
    /// So many events, with a pause between any two.
    Stream(u32, Duration),
    /// The request's own body.
    Echo,
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
        Route::Upload(_) => (ALL, method != Method::NotAllowed),
        _ => (READ, reads),
    };
    match (method, found) {
        (Method::Options, _) => Route::Options(allow),
        (_, Route::Upload(path)) if reads => Route::File(path),
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
            _ => Route::File(Cow::Borrowed(path)),
        };
    };
    let delay = MAX_DELAY.as_micros() as u64;
    match name {
        "bytes" => number(argument, MAX_BYTES).map(Route::Bytes),
        "compute" => number(argument, delay).map(|us| Route::Compute(Duration::from_micros(us))),
        "block" => number(argument, delay / 1000).map(|ms| Route::Block(Duration::from_millis(ms))),
        "backend" => number(argument, delay / 1000).map(Route::Backend),
        "stream" => stream(argument),
        UPLOADS if !argument.is_empty() && !argument.contains('/') => {
            return Route::Upload(Cow::Borrowed(path));
        }
        _ => return Route::File(Cow::Borrowed(path)),
    }
    .unwrap_or(BAD)
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
        matches!(self, Route::Echo | Route::Upload(_))
    }

    /// The same, to be kept beyond the input.
    pub(super) fn into_owned(self) -> Route<'static> {
        match self {
            Route::Fixed(content_type, body) => Route::Fixed(content_type, body),
            Route::Bytes(length) => Route::Bytes(length),
            Route::Compute(time) => Route::Compute(time),
            Route::Block(time) => Route::Block(time),
            Route::Backend(delay_ms) => Route::Backend(delay_ms),
            Route::Stream(count, interval) => Route::Stream(count, interval),
            Route::Echo => Route::Echo,
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

/// A file that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Relative to the root.
    pub(super) path: PathBuf,
    pub(super) content_type: &'static str,
    /// Whether the target ended in a slash: then only a directory will do, and its index is meant.
    pub(super) directory: bool,
}

/// Percent-decodes (RFC 3986 §2.1). A stray percent sign is an error, and so is a NUL, which no
/// file name can hold.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            (high * 16 + low) as u8
        } else {
            byte
        };
        if byte == 0 {
            return None;
        }
        decoded.push(byte);
    }
    Some(decoded)
}

impl Wanted {
    /// What a percent-encoded path stands for. Empty components and `.` are dropped; `..` is
    /// refused, because clients resolve it themselves, but for those with bad intentions. An upload
    /// that is not whole is not there yet.
    pub(super) fn of(path: &str) -> Result<Self, Status> {
        let decoded = decode(path).ok_or(Status::BAD_REQUEST)?;
        let mut directory = true;
        let mut clean = Vec::with_capacity(decoded.len() + INDEX.len());
        for component in decoded.split(|&byte| byte == b'/') {
            directory = matches!(component, b"" | b".");
            if component == b".." {
                return Err(Status::BAD_REQUEST);
            }
            if is_partial_name(component) {
                return Err(Status::NOT_FOUND);
            }
            if !directory {
                if !clean.is_empty() {
                    clean.push(b'/');
                }
                clean.extend_from_slice(component);
            }
        }
        let mut path = PathBuf::from(OsString::from_vec(clean));
        if directory {
            path.push(INDEX);
        }
        let content_type =
            mime_guess::from_path(&path).first_raw().unwrap_or("application/octet-stream");
        Ok(Wanted { path, content_type, directory })
    }

    /// The same to be stored: directly in the folder of uploads.
    pub(super) fn of_upload(path: &str) -> Result<Self, Status> {
        let wanted = Wanted::of(path)?;
        let fits = !wanted.directory && wanted.path.parent() == Some(Path::new(UPLOADS));
        if fits { Ok(wanted) } else { Err(Status::BAD_REQUEST) }
    }

    /// The folder that it is in, for a [`Job`](crate::job::Job).
    pub(super) fn folder(&self) -> &Path {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        parent.unwrap_or(Path::new("."))
    }

    /// The target that names this as a directory, fit for a Location field: one slash at its start,
    /// so that no client takes it for another host.
    pub(super) fn location(&self) -> String {
        let mut location = String::new();
        for component in self.path.components() {
            location.push('/');
            encode(component.as_os_str().as_bytes(), &mut location);
        }
        location.push('/');
        location
    }
}

/// Adds one component of a path, percent-encoded: whatever it is, it is nothing but that.
pub(super) fn encode(component: &[u8], text: &mut String) {
    for &byte in component {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").expect("a string takes any text");
        }
    }
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
            ("/compute/250", Route::Compute(Duration::from_micros(250))),
            ("/compute/10000001", BAD),
            ("/block/10000", Route::Block(MAX_DELAY)),
            ("/block/10001", BAD),
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
    fn targets_lead_to_files_below_the_root_or_nowhere() {
        for (target, expected) in [
            ("/", Some(("index.html", "text/html", true))),
            ("http://example.org", Some(("index.html", "text/html", true))),
            ("http://example.org?q", Some(("index.html", "text/html", true))),
            ("/a/b.txt", Some(("a/b.txt", "text/plain", false))),
            ("//a/./b%20c?d=e", Some(("a/b c", "application/octet-stream", false))),
            ("/a/", Some(("a/index.html", "text/html", true))),
            ("/a%2Fb.css", Some(("a/b.css", "text/css", false))),
            ("/bytes", Some(("bytes", "application/octet-stream", false))),
            ("/..", None),
            ("/a/../b", None),
            ("/%2e%2E/etc/passwd", None),
            ("/a%00", None),
            ("/a%", None),
            ("/a%zz", None),
            ("/upload/.upload-1-2.part", None),
            ("/a#b", None),
            ("*", None),
            ("ftp://example.org/", None),
            ("http:///a", None),
            ("http://a@b/", None),
            ("example.org:80", None),
        ] {
            let found = match get(target) {
                Route::File(path) => Wanted::of(&path).ok(),
                _ => None,
            };
            let found = found.as_ref().map(|wanted| {
                let path = wanted.path.to_str().unwrap();
                (path, wanted.content_type, wanted.directory)
            });
            assert_eq!(found, expected, "{target}");
        }
    }

    #[test]
    fn what_is_stored_lies_in_the_folder_of_uploads() {
        let path = |target| Wanted::of_upload(target).map(|wanted| wanted.path);
        assert_eq!(path("/upload/a%20b"), Ok(PathBuf::from("upload/a b")));
        for target in ["/upload/a%2Fb", "/upload/..", "/upload/.", "/upload/%00", "/other/a"] {
            assert_eq!(path(target), Err(Status::BAD_REQUEST), "{target}");
        }
    }

    #[test]
    fn a_location_stays_on_this_host() {
        let wanted = Wanted::of("//evil.example/a%0d%0ab").unwrap();
        assert_eq!(wanted.location(), "/evil.example/a%0D%0Ab/");
    }
}
