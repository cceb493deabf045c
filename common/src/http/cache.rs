//! Files that are open, or in memory, for all sessions of a process.
//!
//! **Invariant:** what is served from here is what there was at most [`VALID`] ago; then the file
//! is looked at anew. So a change is seen after a second at the latest, in each process by itself.
//! What a client of this process has stored is seen at once, unless the file was just being opened
//! for another.
//!
//! Known weakness: what was served last stays open until something else is kept, a second later or
//! more; until then a large file that was deleted takes its room on the disk.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::resource::{Content, Resource};

/// How long a file is taken for what it was.
const VALID: Duration = Duration::from_secs(1);

/// The most files that are kept: those in memory take 16 MiB, and those that are open as many
/// descriptors as the server has set aside, if these are fewer.
const FILES_MAX: usize = 1024;

/// The longest path that a file is kept under, in bytes.
const PATH_BYTES_MAX: usize = 256;

/// The files that a process keeps.
#[derive(Clone, Debug, Default)]
pub struct Files {
    open_max: usize,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    /// By their paths as they are asked for: percent-encoded, without a query.
    files: HashMap<Box<str>, Looked>,
    /// How many of them are open.
    open: usize,
    /// When those that are too old were last looked for.
    swept: Option<SystemTime>,
}

#[derive(Debug)]
struct Looked {
    resource: Arc<Resource>,
    at: SystemTime,
}

impl Files {
    /// Room for so many files that stay open.
    pub fn new(open_max: usize) -> Self {
        Files { open_max, kept: Arc::default() }
    }

    /// What is known of a file, if that is not too long ago.
    pub(super) fn find(&self, path: &str, now: SystemTime) -> Option<Arc<Resource>> {
        let kept = self.lock();
        let looked = kept.files.get(path)?;
        looked.is_valid(now).then(|| looked.resource.clone())
    }

    /// Keeps what a file was found to be, if there is room for it.
    pub(super) fn keep(&self, path: &str, resource: &Arc<Resource>, now: SystemTime) {
        if path.len() > PATH_BYTES_MAX {
            return;
        }
        let mut kept = self.lock();
        kept.remove(path);
        kept.sweep(now);
        let opens = is_open(resource);
        let room = kept.files.len() < FILES_MAX && !(opens && kept.open >= self.open_max);
        if room {
            kept.open += usize::from(opens);
            kept.files.insert(path.into(), Looked { resource: resource.clone(), at: now });
        }
    }

    /// Forgets everything: something has changed, which may have many names.
    pub(super) fn forget(&self) {
        *self.lock() = Kept::default();
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn remove(&mut self, path: &str) {
        if let Some(before) = self.files.remove(path) {
            self.open -= usize::from(is_open(&before.resource));
        }
    }

    /// Once in [`VALID`], lets go of all that is too old.
    fn sweep(&mut self, now: SystemTime) {
        if self.swept.is_some_and(|swept| is_within(swept, now)) {
            return;
        }
        self.swept = Some(now);
        self.files.retain(|_, looked| looked.is_valid(now));
        self.open = self.files.values().filter(|looked| is_open(&looked.resource)).count();
    }
}

impl Looked {
    fn is_valid(&self, now: SystemTime) -> bool {
        is_within(self.at, now)
    }
}

fn is_open(resource: &Resource) -> bool {
    matches!(resource.content, Content::File(_))
}

/// A clock that was set back makes everything too old.
fn is_within(then: SystemTime, now: SystemTime) -> bool {
    now.duration_since(then).is_ok_and(|age| age < VALID)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Kind, Status};

    const THEN: SystemTime = SystemTime::UNIX_EPOCH;

    fn resource(content: Content) -> Arc<Resource> {
        let (kind, mode, links, uid, gid, unique) = (Kind::File, 0o644, 1, 0, 0, (0, 0));
        let status = Status { kind, length: 3, modified: THEN, mode, links, uid, gid, unique };
        Arc::new(Resource::new(content, &status, "text/plain", THEN))
    }

    fn small() -> Arc<Resource> {
        resource(Content::Memory(b"abc".to_vec()))
    }

    fn large() -> Arc<Resource> {
        resource(Content::File(tempfile::tempfile().unwrap()))
    }

    #[test]
    fn what_is_known_of_a_file_is_good_for_a_second() {
        let files = Files::new(1);
        files.keep("/a", &small(), THEN);
        let found = |now| files.find("/a", now).is_some();
        assert!(found(THEN));
        assert!(found(THEN + Duration::from_millis(999)));
        assert!(!found(THEN + VALID));
        assert!(!found(THEN - VALID), "the clock was set back");
        assert!(files.find("/b", THEN).is_none());
        files.keep("/a", &small(), THEN + VALID);
        assert!(found(THEN + VALID));
        files.forget();
        assert!(!found(THEN + VALID));
    }

    #[test]
    fn no_more_files_stay_open_than_there_is_room_for() {
        let files = Files::new(1);
        files.keep("/a", &large(), THEN);
        files.keep("/b", &large(), THEN);
        files.keep("/c", &small(), THEN);
        let found = |path, now| files.find(path, now).is_some();
        assert!(found("/a", THEN) && !found("/b", THEN) && found("/c", THEN));
        files.keep("/b", &large(), THEN + VALID);
        assert!(found("/b", THEN + VALID), "what is too old makes room");
        assert!(!found("/a", THEN));
        files.keep("/b", &large(), THEN + VALID);
        assert!(found("/b", THEN + VALID), "it takes its own place");
    }

    #[test]
    fn no_more_files_are_kept_than_there_is_room_for() {
        let files = Files::new(0);
        for i in 0..=FILES_MAX {
            files.keep(&format!("/{i}"), &small(), THEN);
        }
        assert!(files.find("/0", THEN).is_some());
        assert!(files.find(&format!("/{FILES_MAX}"), THEN).is_none());
        files.keep(&"x".repeat(PATH_BYTES_MAX + 1), &small(), THEN + VALID);
        assert_eq!(files.lock().files.len(), FILES_MAX);
        files.keep("/a", &small(), THEN + VALID);
        assert_eq!(files.lock().files.len(), 1);
    }
}
