//! A book that guests write in, kept by SQLite: a library that blocks whoever calls it, and has no
//! form that does not.
//!
//! **Invariant:** an entry that was acknowledged is on the disk: it outlives the process, and the
//! machine's power. (Each entry waits for that; WAL lets others read meanwhile.)

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, ErrorCode, params};

/// How many entries are read at a time: the last ones.
pub const ENTRIES_SHOWN: usize = 20;

/// The most connections to the database that a process has; who finds them all in use waits.
const CONNECTIONS_MAX: usize = 8;

/// How long a connection waits for others to have written.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// What a guest has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestEntry {
    /// When, to the second.
    pub at: SystemTime,
    /// Any text, as it was sent.
    pub text: String,
}

/// The book.
#[derive(Debug)]
pub struct Guestbook {
    path: PathBuf,
    connections: Mutex<Connections>,
    given_back: Condvar,
}

/// None are open before the first is needed, so that no process inherits one by fork, which SQLite
/// forbids.
#[derive(Debug, Default)]
struct Connections {
    idle: Vec<Connection>,
    open: usize,
}

/// Why a file cannot be the book: a line for whoever named it.
#[derive(Debug, thiserror::Error)]
pub enum Mistake {
    /// Clients could fetch it.
    #[error("--guestbook {0} lies in {1}, which clients are served; move it elsewhere")]
    Served(PathBuf, PathBuf),
    /// SQLite does not take it.
    #[error("cannot use --guestbook {0}: {1}; name a file that SQLite made, or a new one")]
    Database(PathBuf, rusqlite::Error),
}

impl Guestbook {
    /// The book in this file, which is made if it is not there. Nothing of `root` can be it.
    pub fn open(path: &Path, root: &Path) -> Result<Self, Mistake> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let place = fs::canonicalize(path).or_else(|_| fs::canonicalize(folder));
        if let (Ok(place), Ok(root)) = (place, fs::canonicalize(root))
            && place.starts_with(&root)
        {
            return Err(Mistake::Served(path.to_owned(), root));
        }
        let book = Guestbook {
            path: path.to_owned(),
            connections: Mutex::default(),
            given_back: Condvar::new(),
        };
        // Closed again at once: processes may be forked off.
        book.prepare().map_err(|error| Mistake::Database(path.to_owned(), error))?;
        Ok(book)
    }

    fn prepare(&self) -> rusqlite::Result<()> {
        let connection = self.connect()?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS entries \
             (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, text TEXT NOT NULL) STRICT",
        )
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open(&self.path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        Ok(connection)
    }

    /// Adds an entry, and returns when it is on the disk.
    pub(crate) fn append(&self, entry: &GuestEntry) -> io::Result<()> {
        let since = entry.at.duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since.as_ref().map_or(0, Duration::as_secs) as i64;
        self.with(|connection| {
            connection
                .prepare_cached("INSERT INTO entries (at, text) VALUES (?1, ?2)")?
                .execute(params![seconds, entry.text])
        })?;
        Ok(())
    }

    /// The last entries, the newest first.
    pub(crate) fn latest(&self) -> io::Result<Vec<GuestEntry>> {
        self.with(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT at, text FROM entries ORDER BY id DESC LIMIT ?1")?;
            let entries = statement.query_map(params![ENTRIES_SHOWN as i64], |row| {
                let seconds: i64 = row.get(0)?;
                let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
                let at = SystemTime::UNIX_EPOCH.checked_add(since);
                let at = at.unwrap_or(SystemTime::UNIX_EPOCH);
                Ok(GuestEntry { at, text: row.get(1)? })
            })?;
            entries.collect()
        })
    }

    /// Does something on a connection that nobody else uses. One on which something failed is not
    /// used again.
    fn with<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> io::Result<T> {
        let mut connections = self.lock();
        while connections.idle.is_empty() && connections.open >= CONNECTIONS_MAX {
            let waited = self.given_back.wait(connections);
            connections = waited.unwrap_or_else(PoisonError::into_inner);
        }
        let idle = connections.idle.pop();
        connections.open += usize::from(idle.is_none());
        drop(connections);

        let connection = idle.map_or_else(|| self.connect(), Ok);
        let (result, connection) = match connection {
            Ok(connection) => (work(&connection), Some(connection)),
            Err(error) => (Err(error), None),
        };
        let kept = connection.filter(|_| result.is_ok());
        let mut connections = self.lock();
        connections.open -= usize::from(kept.is_none());
        connections.idle.extend(kept);
        drop(connections);
        self.given_back.notify_one();
        result.map_err(|error| failure(&error))
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What SQLite says, as the system would say it.
fn failure(error: &rusqlite::Error) -> io::Error {
    use nix::errno::Errno;
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Errno::ENOSPC.into(),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Errno::EACCES.into(),
        Some(ErrorCode::CannotOpen) => Errno::EMFILE.into(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Errno::EAGAIN.into(),
        _ => io::Error::other(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn entry(number: usize) -> GuestEntry {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(number as u64);
        GuestEntry { at, text: format!("{number} '); DROP TABLE entries; --") }
    }

    #[test]
    fn the_last_entries_are_shown_and_the_newest_first() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Guestbook::open(&folder.path().join("book"), Path::new("/dev")).unwrap();
        let book = open();
        assert_eq!(book.latest().unwrap(), []);
        for number in 0..=ENTRIES_SHOWN {
            book.append(&entry(number)).unwrap();
        }
        drop(book);
        let expected: Vec<_> = (1..=ENTRIES_SHOWN).rev().map(entry).collect();
        assert_eq!(open().latest().unwrap(), expected);
    }

    #[test]
    fn more_guests_than_connections_all_get_their_turn() {
        let folder = tempfile::tempdir().unwrap();
        let book = Guestbook::open(&folder.path().join("book"), Path::new("/dev")).unwrap();
        thread::scope(|scope| {
            for number in 0..CONNECTIONS_MAX * 2 {
                let book = &book;
                scope.spawn(move || book.append(&entry(number)).unwrap());
            }
        });
        assert_eq!(book.latest().unwrap().len(), CONNECTIONS_MAX * 2);
        assert!(book.lock().open <= CONNECTIONS_MAX);
    }

    #[test]
    fn what_cannot_be_a_book_is_refused_in_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "this is no database, and long enough to be none".repeat(20)).unwrap();
        let refused = |file: &Path, root: &Path| {
            Guestbook::open(file, root).map(|_| ()).unwrap_err().to_string()
        };
        assert!(refused(&file, Path::new("/dev")).contains("name a file that SQLite made"));
        assert!(refused(&folder.path().join("new"), folder.path()).contains("move it elsewhere"));
        assert!(refused(Path::new("/none/new"), Path::new("/dev")).contains("cannot use"));
    }
}
