//! A file as its readers see it: its content, and the fields that describe it.

use std::fs::File;
use std::time::{Duration, SystemTime};

use super::conditional::Validators;
use super::response::{Date, http_date};
use crate::job::Status;

/// How long ago a file must have been changed for its tag to be strong: one that is changed twice
/// between two ticks of the kernel's clock has the same time of change (RFC 9110 §8.8.1).
const SETTLED: Duration = Duration::from_secs(2);

/// The largest file that is read at once and leaves in one piece with its head, in bytes.
pub(super) const MEMORY_BYTES_MAX: usize = 16 * 1024;

/// A state of a file.
#[derive(Debug)]
pub(super) struct Resource {
    pub(super) content: Content,
    /// In bytes.
    pub(super) length: u64,
    pub(super) content_type: &'static str,
    pub(super) etag: String,
    pub(super) modified: SystemTime,
    pub(super) last_modified: Date,
}

/// Where a file's bytes are.
#[derive(Debug)]
pub(super) enum Content {
    /// All of them here.
    Memory(Vec<u8>),
    /// In the open file.
    File(File),
}

impl Resource {
    /// The file that was found like this at `now`.
    pub(super) fn new(
        content: Content,
        status: &Status,
        content_type: &'static str,
        now: SystemTime,
    ) -> Self {
        // A file that is being written may have changed since it was looked at.
        let length = match &content {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::File(_) => status.length,
        };
        Resource {
            content,
            length,
            content_type,
            etag: etag(status, now),
            modified: status.modified,
            last_modified: http_date(status.modified.min(now)),
        }
    }

    pub(super) fn validators(&self) -> Validators<'_> {
        Validators { etag: &self.etag, modified: self.modified }
    }

    /// What separates the parts of a reply, and is in no file but by the work of who can tell the
    /// time of its last change to the nanosecond beforehand.
    pub(super) fn boundary(&self) -> String {
        let digits: String = self.etag.chars().filter(char::is_ascii_alphanumeric).collect();
        format!("part-{digits}")
    }
}

/// An entity tag of what is known of a file: the same on every server that has a copy of it with
/// the same time.
pub(super) fn etag(status: &Status, now: SystemTime) -> String {
    let since = status.modified.duration_since(SystemTime::UNIX_EPOCH);
    let nanoseconds = since.as_ref().map_or(0, Duration::as_nanos);
    let settled = now.duration_since(status.modified).is_ok_and(|age| age >= SETTLED);
    let weak = if settled { "" } else { "W/" };
    format!("{weak}\"{nanoseconds:x}-{:x}\"", status.length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Kind;

    #[test]
    fn a_tag_is_strong_once_the_file_has_settled() {
        let second = Duration::from_secs(1);
        let status = Status {
            kind: Kind::File,
            length: 18,
            modified: SystemTime::UNIX_EPOCH + second,
            mode: 0o644,
            links: 1,
            uid: 0,
            gid: 0,
            unique: (0, 0),
        };
        assert_eq!(etag(&status, status.modified + 2 * second), "\"3b9aca00-12\"");
        for now in [status.modified + second, SystemTime::UNIX_EPOCH] {
            assert_eq!(etag(&status, now), "W/\"3b9aca00-12\"");
        }
    }
}
