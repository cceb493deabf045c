//! Names of files as clients send them, percent-encoded, and as the root knows them.
//!
//! **Invariant:** a [`Wanted`] has no `..`, no empty component and no NUL, and names no upload that
//! is not whole.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::response::Status;
use crate::partial::is_partial_name;

/// What stands for a folder, where there is one.
const INDEX: &str = "index.html";

/// The folder in which `/upload/NAME` stores.
pub(super) const UPLOADS: &str = "upload";

/// A file that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Relative to the root.
    pub(super) path: PathBuf,
    pub(super) content_type: &'static str,
    /// Whether the target ended in a slash: then only a directory will do, and its index is meant.
    pub(super) directory: bool,
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

/// Percent-decodes (RFC 3986 §2.1). A stray percent sign is an error, and so is a NUL, which no
/// file name can hold.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
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

    #[test]
    fn paths_lead_to_files_below_the_root_or_nowhere() {
        for (path, expected) in [
            ("/", Some(("index.html", "text/html", true))),
            ("/a/b.txt", Some(("a/b.txt", "text/plain", false))),
            ("//a/./b%20c", Some(("a/b c", "application/octet-stream", false))),
            ("/a/", Some(("a/index.html", "text/html", true))),
            ("/a%2Fb.css", Some(("a/b.css", "text/css", false))),
            ("/..", None),
            ("/a/../b", None),
            ("/%2e%2E/etc/passwd", None),
            ("/a%00", None),
            ("/a%", None),
            ("/a%zz", None),
            ("/upload/.upload-1-2.part", None),
        ] {
            let found = Wanted::of(path).ok();
            let found = found.as_ref().map(|wanted| {
                let path = wanted.path.to_str().unwrap();
                (path, wanted.content_type, wanted.directory)
            });
            assert_eq!(found, expected, "{path}");
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
