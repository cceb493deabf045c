//! Work that blocks or burns CPU, as a value.
//!
//! **Invariant:** where such work runs is the experiment, so that no protocol does it by itself: it
//! hands a [`Job`] to its executor, and the architecture runs it inline, on a pool, or wherever its
//! idea of concurrency puts it.
//!
//! Paths are relative to the served folder, without a leading slash (the folder itself is `.`), and
//! are resolved beneath it by cap-std (openat2 with `RESOLVE_BENEATH` where the kernel has it):
//! neither `..` nor a symbolic link, nor a race between check and use, leads out.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cap_std::fs::{Dir, Metadata, MetadataExt, OpenOptions, OpenOptionsExt, ReadDir};
use nix::time::{ClockId, clock_gettime};

use crate::guestbook::{GuestEntry, Guestbook};
use crate::password::{Hash, Password};

/// The served folder.
pub type Root = Arc<Dir>;

/// How many names a listing hands over at a time, so that a large directory streams at flat memory.
pub const LISTING_BATCH: usize = 256;

/// Work to be done. Each says what it is answered by.
#[derive(Debug)]
pub enum Job {
    /// Open a regular file for reading: [`Done::File`]. Anything else (a directory, a FIFO) is
    /// refused.
    Open(Root, PathBuf),
    /// The same, but a file of at most so many bytes is read whole and closed: [`Done::Contents`].
    OpenOrRead(Root, PathBuf, usize),
    /// Open a file for writing: [`Done::File`]. One that is new gets these permission bits, less
    /// those that the process's mask takes away.
    Create(Root, PathBuf, Create, u32),
    /// Read so many bytes at an offset, or fewer at the end of the file, into a buffer that is used
    /// again: [`Done::Piece`].
    Read {
        /// Open for reading. It comes back with the piece.
        file: File,
        /// In bytes from the start of the file.
        offset: u64,
        /// In bytes.
        length: usize,
        /// What it held is gone.
        buffer: Vec<u8>,
    },
    /// Write all these bytes at an offset: [`Done::Piece`].
    Write {
        /// Open for writing. It comes back with the bytes.
        file: File,
        /// In bytes from the start of the file.
        offset: u64,
        /// What is written.
        bytes: Vec<u8>,
    },
    /// Look at a name, following symbolic links: [`Done::Status`].
    Status(Root, PathBuf),
    /// Look at a name, which may be that of a symbolic link: [`Done::Status`].
    StatusOfName(Root, PathBuf),
    /// Look at a file that is to be written, following symbolic links: [`Done::Status`]. Anything
    /// but a regular file that may be written is refused.
    StatusToWrite(Root, PathBuf),
    /// Open a directory and read its first names: [`Done::Listing`]. Anything else lists as itself:
    /// [`Done::Entry`].
    List(Root, PathBuf),
    /// Read more names of a directory: [`Done::Listing`].
    ListMore(Listing),
    /// Make a directory: [`Done::Nothing`].
    MakeDirectory(Root, PathBuf),
    /// Remove an empty directory: [`Done::Nothing`].
    RemoveDirectory(Root, PathBuf),
    /// Remove anything but a directory: [`Done::Nothing`].
    RemoveFile(Root, PathBuf),
    /// Rename the first into the second: [`Done::Nothing`].
    Rename(Root, PathBuf, PathBuf),
    /// Set the time of the last change of a regular file: [`Done::Nothing`].
    SetModified(Root, PathBuf, SystemTime),
    /// Set the permission bits (07777): [`Done::Nothing`].
    SetMode(Root, PathBuf, u32),
    /// Give a written file its permission bits, if they are named here; close it, telling an error
    /// that only closing shows (a quota, a network file system); then give it its real name, if it
    /// was written under another: [`Done::Nothing`].
    Commit(Root, File, Option<u32>, Option<(PathBuf, PathBuf)>),
    /// Burn CPU time of the calling thread, then block it, as a library without an asynchronous
    /// form does: [`Done::Nothing`].
    Work {
        /// So much CPU time.
        compute: Duration,
        /// For so long.
        block: Duration,
    },
    /// Check a password, which takes tens of milliseconds of CPU time by intention:
    /// [`Done::Verified`].
    Verify(Arc<Hash>, Password),
    /// Add an entry to the guestbook, which waits for the disk: [`Done::Nothing`].
    Sign(Arc<Guestbook>, GuestEntry),
    /// Read the last entries of the guestbook: [`Done::Entries`].
    ReadGuestbook(Arc<Guestbook>),
}

/// What becomes of a file that is opened for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Create {
    /// It must not exist yet.
    New,
    /// It is emptied if it exists.
    Truncate,
    /// It is kept as it is, and made if it does not exist.
    Keep,
}

/// What came of a [`Job`].
#[derive(Debug)]
pub enum Done {
    /// It is done, and there is nothing to tell.
    Nothing,
    /// An open file, and what it was when it was opened.
    File(File, Status),
    /// All of a file, as it was read, and what it was when it was opened.
    Contents(Vec<u8>, Status),
    /// What a name stands for.
    Status(Status),
    /// The next names of a directory, and what is to be asked for the rest, if there is one.
    Listing(Vec<Entry>, Option<Listing>),
    /// What lists as itself, being no directory.
    Entry(Entry),
    /// A file, and the buffer with the piece of it that was read or written.
    Piece(File, Vec<u8>),
    /// Whether the password is the one that the hash was made of.
    Verified(bool),
    /// The last entries, the newest first.
    Entries(Vec<GuestEntry>),
}

/// What kind of thing a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link (in listings only, where links are not followed).
    Link,
    /// A FIFO, a socket, a device, by the letter that `ls -l` shows for it.
    Other(char),
}

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// File, directory, link or something else.
    pub kind: Kind,
    /// In bytes.
    pub length: u64,
    /// The time of the last change.
    pub modified: SystemTime,
    /// Permission bits (07777).
    pub mode: u32,
    /// How many names it has.
    pub links: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device and inode number: what RFC 3659 §7.5.2 calls unique.
    pub unique: (u64, u64),
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// One path component, any bytes but `/` and NUL.
    pub name: OsString,
    /// What it stands for.
    pub status: Status,
    /// What it points to, if it is a symbolic link: any bytes but NUL.
    pub target: Option<OsString>,
}

/// A directory that is being read.
#[derive(Debug)]
pub struct Listing {
    folder: Dir,
    entries: ReadDir,
}

impl Job {
    /// Does the work on the calling thread. One that panics has failed, and takes nobody with it.
    pub fn run(self) -> io::Result<Done> {
        panic::catch_unwind(AssertUnwindSafe(|| self.perform()))
            .unwrap_or_else(|_| Err(io::Error::other("it panicked")))
    }

    fn perform(self) -> io::Result<Done> {
        match self {
            Job::Open(root, path) => opened(open(&root, &path)),
            Job::OpenOrRead(root, path, bytes_max) => open_or_read(&root, &path, bytes_max),
            Job::Create(root, path, create, mode) => {
                opened(open_for_writing(&root, &path, create, mode))
            }
            Job::Read { file, offset, length, buffer } => read(file, offset, length, buffer),
            Job::Write { file, offset, bytes } => {
                file.write_all_at(&bytes, offset)?;
                Ok(Done::Piece(file, bytes))
            }
            Job::Status(root, path) => Ok(Done::Status(Status::of(&root.metadata(path)?))),
            Job::StatusOfName(root, path) => {
                Ok(Done::Status(Status::of(&root.symlink_metadata(path)?)))
            }
            Job::StatusToWrite(root, path) => status_to_write(&root, &path),
            Job::List(root, path) => list(&root, &path),
            Job::ListMore(listing) => listing.next_batch(),
            Job::MakeDirectory(root, path) => nothing(root.create_dir(path)),
            Job::RemoveDirectory(root, path) => nothing(root.remove_dir(path)),
            Job::RemoveFile(root, path) => nothing(root.remove_file(path)),
            Job::Rename(root, from, to) => nothing(root.rename(from, &root, to)),
            Job::SetModified(root, path, time) => set_modified(&root, &path, time),
            Job::SetMode(root, path, mode) => {
                let mode = PermissionsExt::from_mode(mode & 0o7777);
                let permissions = cap_std::fs::Permissions::from_std(mode);
                nothing(root.set_permissions(path, permissions))
            }
            Job::Commit(root, file, mode, rename) => commit(&root, file, mode, rename),
            Job::Work { compute: time, block } => {
                compute(time)?;
                if !block.is_zero() {
                    std::thread::sleep(block);
                }
                Ok(Done::Nothing)
            }
            Job::Verify(hash, password) => hash.is_of(&password).map(Done::Verified),
            Job::Sign(book, entry) => nothing(book.append(&entry)),
            Job::ReadGuestbook(book) => book.latest().map(Done::Entries),
        }
    }
}

impl Done {
    /// Of a file that was opened to be read or written. Anything but a regular file is refused.
    pub fn of_opened(file: File) -> io::Result<Self> {
        opened(regular(cap_std::fs::File::from_std(file)))
    }

    /// Of what was opened to be looked at.
    pub fn of_found(file: &File) -> io::Result<Self> {
        Ok(Done::Status(Status::of(&Metadata::from_file(file)?)))
    }
}

impl Status {
    fn of(metadata: &Metadata) -> Self {
        let kind = match metadata.mode() & nix::libc::S_IFMT {
            nix::libc::S_IFREG => Kind::File,
            nix::libc::S_IFDIR => Kind::Directory,
            nix::libc::S_IFLNK => Kind::Link,
            nix::libc::S_IFIFO => Kind::Other('p'),
            nix::libc::S_IFSOCK => Kind::Other('s'),
            nix::libc::S_IFBLK => Kind::Other('b'),
            _ => Kind::Other('c'),
        };
        let modified =
            metadata.modified().map_or(SystemTime::UNIX_EPOCH, cap_std::time::SystemTime::into_std);
        Status {
            kind,
            length: metadata.len(),
            modified,
            mode: metadata.mode() & 0o7777,
            links: metadata.nlink(),
            uid: metadata.uid(),
            gid: metadata.gid(),
            unique: (metadata.dev(), metadata.ino()),
        }
    }
}

impl Entry {
    /// The name is the last one of the path, which begins at the folder.
    fn of(folder: &Dir, path: impl AsRef<Path>, metadata: &Metadata) -> io::Result<Self> {
        let path = path.as_ref();
        let name = path.file_name().unwrap_or(path.as_os_str()).to_owned();
        let status = Status::of(metadata);
        let target = match status.kind {
            Kind::Link => Some(folder.read_link_contents(path)?.into_os_string()),
            _ => None,
        };
        Ok(Entry { name, status, target })
    }
}

impl Listing {
    /// A name that vanishes between being read and being looked at is left out, as `ls` does.
    fn next_batch(mut self) -> io::Result<Done> {
        let mut batch = Vec::with_capacity(LISTING_BATCH);
        while batch.len() < LISTING_BATCH {
            let Some(entry) = self.entries.next() else {
                return Ok(Done::Listing(batch, None));
            };
            let entry = entry?;
            let name = entry.file_name();
            let looked = entry.metadata();
            match looked.and_then(|metadata| Entry::of(&self.folder, &name, &metadata)) {
                Ok(entry) => batch.push(entry),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Done::Listing(batch, Some(self)))
    }
}

/// `O_NONBLOCK` keeps the opening of a FIFO from waiting for its other end; on a regular file it
/// means nothing.
fn open(root: &Dir, path: &Path) -> io::Result<(File, Status)> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(nix::libc::O_NONBLOCK);
    regular(root.open_with(path, &options)?)
}

fn open_or_read(root: &Dir, path: &Path, bytes_max: usize) -> io::Result<Done> {
    let (file, status) = open(root, path)?;
    if status.length > bytes_max as u64 {
        return Ok(Done::File(file, status));
    }
    match read(file, 0, status.length as usize, Vec::new())? {
        Done::Piece(_, bytes) => Ok(Done::Contents(bytes, status)),
        done => Ok(done),
    }
}

fn open_for_writing(
    root: &Dir,
    path: &Path,
    create: Create,
    mode: u32,
) -> io::Result<(File, Status)> {
    let mut options = OpenOptions::new();
    options.write(true).mode(mode).custom_flags(nix::libc::O_NONBLOCK);
    match create {
        Create::New => options.create_new(true),
        Create::Truncate => options.create(true).truncate(true),
        Create::Keep => options.create(true),
    };
    regular(root.open_with(path, &options)?)
}

fn regular(file: cap_std::fs::File) -> io::Result<(File, Status)> {
    let status = Status::of(&file.metadata()?);
    match status.kind {
        Kind::File => Ok((file.into_std(), status)),
        Kind::Directory => Err(io::ErrorKind::IsADirectory.into()),
        _ => Err(not_regular()),
    }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

fn read(file: File, offset: u64, length: usize, mut buffer: Vec<u8>) -> io::Result<Done> {
    buffer.resize(length, 0);
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(Done::Piece(file, buffer))
}

/// A FIFO is not opened to see whether it could be: its reader would notice.
fn status_to_write(root: &Dir, path: &Path) -> io::Result<Done> {
    if matches!(Status::of(&root.metadata(path)?).kind, Kind::Other(_)) {
        return Err(not_regular());
    }
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(nix::libc::O_NONBLOCK);
    let (_, status) = regular(root.open_with(path, &options)?)?;
    Ok(Done::Status(status))
}

/// What a symbolic link to a directory stands for is listed; a link to anything else is shown as
/// the link that it is.
fn list(root: &Dir, path: &Path) -> io::Result<Done> {
    if root.metadata(path)?.is_dir() {
        let folder = root.open_dir(path)?;
        let entries = folder.entries()?;
        return Listing { folder, entries }.next_batch();
    }
    let metadata = root.symlink_metadata(path)?;
    Ok(Done::Entry(Entry::of(root, path, &metadata)?))
}

fn set_modified(root: &Dir, path: &Path, time: SystemTime) -> io::Result<Done> {
    // Opening for reading suffices to set times, which the owner may do to a file without write
    // permission.
    nothing(open(root, path)?.0.set_modified(time))
}

fn commit(
    root: &Dir,
    file: File,
    mode: Option<u32>,
    rename: Option<(PathBuf, PathBuf)>,
) -> io::Result<Done> {
    if let Some(mode) = mode {
        file.set_permissions(PermissionsExt::from_mode(mode))?;
    }
    nix::unistd::close(file)?;
    match rename {
        Some((from, to)) => nothing(root.rename(from, root, to)),
        None => Ok(Done::Nothing),
    }
}

fn opened(result: io::Result<(File, Status)>) -> io::Result<Done> {
    result.map(|(file, status)| Done::File(file, status))
}

fn nothing(result: io::Result<()>) -> io::Result<Done> {
    result.map(|()| Done::Nothing)
}

/// Burns CPU until the thread's own clock has moved on by `time`, so that a thread that loses its
/// core does not get away with less. The clock is a system call: it is read once in a thousand
/// turns (about a microsecond).
fn compute(time: Duration) -> io::Result<()> {
    let start: Duration = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    loop {
        for _ in 0..1000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
        }
        std::hint::black_box(state);
        let now: Duration = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into();
        if now.saturating_sub(start) >= time {
            return Ok(());
        }
    }
}
