//! From a request target to what it stands for.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

/// The most bytes that `/bytes/N` sends.
pub const MAX_BYTES: u64 = 1 << 40;

/// The longest that `/compute`, `/block` and `/backend` take.
pub const MAX_DELAY: Duration = Duration::from_secs(10);

/// What `/bytes/N` repeats.
pub const PATTERN: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+\n";

/// What a target stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
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
    /// A file below the root.
    File(Wanted),
    /// Not a target that can be served.
    Bad,
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

/// What `target` stands for, in any of its forms (RFC 9112 §3.2). A query is ignored.
pub(super) fn route(target: &str) -> Route {
    // By far the most frequent in a benchmark, and not to be slowed down by the others.
    if target == "/plaintext" {
        return Route::Fixed("text/plain", b"Hello, World!");
    }
    let Some(path) = path_of(target) else {
        return Route::Bad;
    };
    let Some((name, argument)) = path[1..].split_once('/') else {
        return match path {
            "/plaintext" => Route::Fixed("text/plain", b"Hello, World!"),
            "/json" => Route::Fixed("application/json", br#"{"message":"Hello, World!"}"#),
            _ => file(path),
        };
    };
    let delay = MAX_DELAY.as_micros() as u64;
    match name {
        "bytes" => number(argument, MAX_BYTES).map(Route::Bytes),
        "compute" => number(argument, delay).map(|us| Route::Compute(Duration::from_micros(us))),
        "block" => number(argument, delay / 1000).map(|ms| Route::Block(Duration::from_millis(ms))),
        "backend" => number(argument, delay / 1000).map(Route::Backend),
        _ => return file(path),
    }
    .unwrap_or(Route::Bad)
}

/// The path, which starts with a slash.
fn path_of(target: &str) -> Option<&str> {
    let path = if target.starts_with('/') {
        target
    } else {
        let (scheme, rest) = target.split_once("://")?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return None;
        }
        rest.find(['/', '?']).map_or("/", |at| &rest[at..])
    };
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

/// Empty components and `.` are dropped; `..` is refused, because clients resolve it themselves,
/// but for those with bad intentions.
fn file(path: &str) -> Route {
    let Some(decoded) = decode(path) else {
        return Route::Bad;
    };
    let mut directory = true;
    let mut clean = Vec::with_capacity(decoded.len() + "index.html".len());
    for component in decoded.split(|&byte| byte == b'/') {
        directory = matches!(component, b"" | b".");
        if component == b".." {
            return Route::Bad;
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
        path.push("index.html");
    }
    let content_type =
        mime_guess::from_path(&path).first_raw().unwrap_or("application/octet-stream");
    Route::File(Wanted { path, content_type, directory })
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
    /// The target that names this as a directory, fit for a Location field: one slash at its start,
    /// so that no client takes it for another host.
    pub(super) fn location(&self) -> String {
        use std::os::unix::ffi::OsStrExt;
        let mut location = String::from("/");
        for &byte in self.path.as_os_str().as_bytes() {
            if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
                location.push(char::from(byte));
            } else {
                write!(location, "%{byte:02X}").expect("a string takes any text");
            }
        }
        location.push('/');
        location
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_known_cost_take_bounded_numbers() {
        for (target, expected) in [
            ("/bytes/0", Route::Bytes(0)),
            ("/bytes/1099511627776?x", Route::Bytes(MAX_BYTES)),
            ("/bytes/1099511627777", Route::Bad),
            ("/bytes/", Route::Bad),
            ("/bytes/+1", Route::Bad),
            ("/bytes/1/2", Route::Bad),
            ("/bytes/99999999999999999999999", Route::Bad),
            ("/compute/250", Route::Compute(Duration::from_micros(250))),
            ("/compute/10000001", Route::Bad),
            ("/block/10000", Route::Block(MAX_DELAY)),
            ("/block/10001", Route::Bad),
            ("/backend/7", Route::Backend(7)),
        ] {
            assert_eq!(route(target), expected, "{target}");
        }
        assert_eq!(route("http://example.org/plaintext?q"), route("/plaintext"));
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
            ("*", None),
            ("ftp://example.org/", None),
            ("example.org:80", None),
        ] {
            let found = route(target);
            let found = match &found {
                Route::File(wanted) => {
                    let path = wanted.path.to_str().unwrap();
                    Some((path, wanted.content_type, wanted.directory))
                }
                _ => None,
            };
            assert_eq!(found, expected, "{target}");
        }
    }

    #[test]
    fn a_location_stays_on_this_host() {
        let Route::File(wanted) = route("//evil.example/a%0d%0ab") else {
            panic!("not a file");
        };
        assert_eq!(wanted.location(), "/evil.example/a%0D%0Ab/");
    }
}
