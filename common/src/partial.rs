//! Names for uploads that are not whole yet, in any protocol.
//!
//! **Invariant:** an upload is nobody's file until it is whole: what has such a name is in no
//! listing, and no client can name it.

use std::sync::atomic::{AtomicU64, Ordering};

/// How many names are tried for an upload before it is given up.
pub(crate) const NAME_ATTEMPTS: u8 = 16;

/// What a new file may be to its owner, group and others, where the process's mask allows it.
pub(crate) const NEW_MODE: u32 = 0o666;
/// The permission bits that a file takes over from the one that it replaces.
pub(crate) const KEPT_MODE: u32 = 0o777;

/// Makes the names of uploads differ within a process; its id tells processes apart.
static UPLOADS: AtomicU64 = AtomicU64::new(0);

/// A name that no other upload has.
pub(crate) fn unique_name() -> Vec<u8> {
    let (process, number) = (std::process::id(), UPLOADS.fetch_add(1, Ordering::Relaxed));
    format!("upload-{process}-{number}").into_bytes()
}

/// A hidden name for what is not whole yet.
pub(crate) fn partial_name() -> Vec<u8> {
    [b".", unique_name().as_slice(), b".part"].concat()
}

/// Whether a name is of those.
pub(crate) fn is_partial_name(name: &[u8]) -> bool {
    let numbers = name.strip_prefix(b".upload-").and_then(|rest| rest.strip_suffix(b".part"));
    let is_number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    numbers.is_some_and(|numbers| {
        let mut parts = numbers.splitn(2, |&byte| byte == b'-');
        parts.next().is_some_and(is_number) && parts.next().is_some_and(is_number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_whole_yet_is_known_by_its_name() {
        assert!(is_partial_name(&partial_name()));
        for name in [&unique_name()[..], b".upload-1.part", b".upload-1-2-3.part", b".upload-a-1"] {
            assert!(!is_partial_name(name), "{}", String::from_utf8_lossy(name));
        }
    }
}
