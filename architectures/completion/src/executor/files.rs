//! Jobs that the ring has operations for: opening, looking at what was opened, reading, writing,
//! and what is done to names.
//!
//! The kernel does at once what it needs not wait for (a name that it knows, a page that is there),
//! and the rest on threads of its own.
//!
//! **Invariant:** a name is resolved beneath its root, its folder first where the operation itself
//! knows no bounds. What fails here has changed nothing, and is done again on a thread of ours, so
//! that all architectures tell errors in the same words.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use common::job::{Create, Done, Job, Root};
use io_uring::opcode;
use io_uring::squeue::Entry;
use io_uring::types::{Fd, OpenHow};
use nix::libc;

use super::ring::{Kind, Ring};

/// A job on the ring, and what its operations have the addresses of.
pub(crate) struct FileJob {
    job: Job,
    /// What it is done to: two for a renaming, none for a file that is open.
    names: Vec<Name>,
    how: OpenHow,
    /// How many bytes have been read or written.
    moved: usize,
}

/// A name, and the folder that it is in.
struct Name {
    root: Root,
    /// Where it differs from the root, and is to be opened.
    path: Option<CString>,
    folder: Option<OwnedFd>,
    last: CString,
}

/// How far a job has come.
pub(crate) enum Progress {
    Work(Box<FileJob>),
    Done(io::Result<Done>),
    /// It is for a thread.
    Failed(Job),
}

impl FileJob {
    /// Begins a job, if it is for the ring.
    pub(crate) fn start(mut job: Job, key: usize, ring: &mut Ring) -> Result<Box<Self>, Job> {
        let Some(names) = names(&job) else {
            return Err(job);
        };
        let how = beneath(libc::O_PATH | libc::O_DIRECTORY, 0);
        let how = match &mut job {
            Job::Open(..) => beneath(libc::O_RDONLY | libc::O_NONBLOCK, 0),
            Job::Status(..) => beneath(libc::O_PATH, 0),
            Job::Create(_, _, create, mode) => {
                let flags = match create {
                    Create::New => libc::O_EXCL,
                    Create::Truncate => libc::O_TRUNC,
                    Create::Keep => 0,
                };
                beneath(libc::O_WRONLY | libc::O_NONBLOCK | libc::O_CREAT | flags, *mode)
            }
            Job::Read { length, buffer, .. } => {
                buffer.resize(*length, 0);
                how
            }
            _ => how,
        };
        let mut job = Box::new(FileJob { job, names, how, moved: 0 });
        job.submit(key, ring);
        Ok(job)
    }

    fn submit(&mut self, key: usize, ring: &mut Ring) {
        let entry = self.entry();
        // SAFETY: what it has the address of lies in this job, on the heap, and stays there until
        // it has completed.
        unsafe { ring.push(entry, Kind::Work, key) };
    }

    fn entry(&mut self) -> Entry {
        let closed = |name: &&Name| name.folder.is_none() && name.path.is_some();
        if let Some(name) = self.names.iter().find(closed) {
            let path = name.path.as_ref().expect("it was found by that");
            return opcode::OpenAt2::new(name.root(), path.as_ptr(), &raw const self.how).build();
        }
        match (&mut self.job, &self.names[..]) {
            (Job::Read { file, offset, buffer, .. }, _) => {
                let rest = &mut buffer[self.moved..];
                let read = opcode::Read::new(fd(file), rest.as_mut_ptr(), rest.len() as u32);
                read.offset(*offset + self.moved as u64).build()
            }
            (Job::Write { file, offset, bytes }, _) => {
                let rest = &bytes[self.moved..];
                let write = opcode::Write::new(fd(file), rest.as_ptr(), rest.len() as u32);
                write.offset(*offset + self.moved as u64).build()
            }
            (Job::MakeDirectory(..), [name]) => {
                opcode::MkDirAt::new(name.folder(), name.last.as_ptr()).mode(0o777).build()
            }
            (Job::RemoveDirectory(..), [name]) => {
                let remove = opcode::UnlinkAt::new(name.folder(), name.last.as_ptr());
                remove.flags(libc::AT_REMOVEDIR).build()
            }
            (Job::RemoveFile(..), [name]) => {
                opcode::UnlinkAt::new(name.folder(), name.last.as_ptr()).build()
            }
            (Job::Rename(..), [from, to]) => {
                let (old, new) = (from.last.as_ptr(), to.last.as_ptr());
                opcode::RenameAt::new(from.folder(), old, to.folder(), new).build()
            }
            _ => unreachable!("what opens has a path until it is opened, and nothing to do then"),
        }
    }

    /// An operation of it has completed, if not in vain.
    pub(crate) fn advance(
        mut self: Box<Self>,
        result: Option<usize>,
        key: usize,
        ring: &mut Ring,
    ) -> Progress {
        let Some(result) = result else {
            return Progress::Failed(self.job);
        };
        let closed = |name: &&mut Name| name.folder.is_none() && name.path.is_some();
        if let Some(name) = self.names.iter_mut().find(closed) {
            // SAFETY: the descriptor is new, and nobody else's.
            let opened = unsafe { OwnedFd::from_raw_fd(result as RawFd) };
            match self.job {
                Job::Open(..) | Job::Create(..) => {
                    return Progress::Done(Done::of_opened(File::from(opened)));
                }
                Job::Status(..) => return Progress::Done(Done::of_found(&File::from(opened))),
                _ => name.folder = Some(opened),
            }
        } else {
            self.moved += result;
            let length = match &self.job {
                Job::Read { buffer, .. } => buffer.len(),
                Job::Write { bytes, .. } => bytes.len(),
                _ => return Progress::Done(Ok(Done::Nothing)),
            };
            if result == 0 || self.moved == length {
                return self.transferred();
            }
        }
        self.submit(key, ring);
        Progress::Work(self)
    }

    /// All was read or written, or the file has come to its end.
    fn transferred(self) -> Progress {
        match self.job {
            Job::Read { file, mut buffer, .. } => {
                buffer.truncate(self.moved);
                Progress::Done(Ok(Done::Piece(file, buffer)))
            }
            Job::Write { file, bytes, .. } if self.moved == bytes.len() => {
                Progress::Done(Ok(Done::Piece(file, bytes)))
            }
            job => Progress::Failed(job),
        }
    }
}

impl Name {
    /// A name that is opened, as a path from the root.
    fn whole(root: &Root, path: &Path) -> Option<Self> {
        let path = CString::new(path.as_os_str().as_bytes()).ok()?;
        let root = root.clone();
        Some(Name { root, path: Some(path), folder: None, last: CString::default() })
    }

    /// A name that something is done to in its folder.
    fn within(root: &Root, path: &Path) -> Option<Self> {
        let last = CString::new(path.file_name()?.as_bytes()).ok()?;
        let folder = path.parent().map(|folder| folder.as_os_str().as_bytes());
        let folder = folder.filter(|folder| !folder.is_empty());
        let path = folder.map(CString::new).transpose().ok()?;
        Some(Name { root: root.clone(), path, folder: None, last })
    }

    fn root(&self) -> Fd {
        fd(&*self.root)
    }

    fn folder(&self) -> Fd {
        self.folder.as_ref().map_or(self.root(), fd)
    }
}

/// The names that a job for the ring is done to.
fn names(job: &Job) -> Option<Vec<Name>> {
    let all = |names: [Option<Name>; 1]| names.into_iter().collect();
    match job {
        Job::Open(root, path) | Job::Create(root, path, ..) | Job::Status(root, path) => {
            all([Name::whole(root, path)])
        }
        Job::MakeDirectory(root, path)
        | Job::RemoveDirectory(root, path)
        | Job::RemoveFile(root, path) => all([Name::within(root, path)]),
        Job::Rename(root, from, to) => {
            [from, to].into_iter().map(|path: &PathBuf| Name::within(root, path)).collect()
        }
        Job::Read { .. } | Job::Write { .. } => Some(Vec::new()),
        // A directory is read, times and permissions are set by system calls that the ring does not
        // have; the looking at a link would take two; and the rest is not for the kernel.
        _ => None,
    }
}

/// As cap-std resolves what it opens.
fn beneath(flags: i32, mode: u32) -> OpenHow {
    let flags = (flags | libc::O_CLOEXEC) as u64;
    let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
    OpenHow::new().flags(flags).mode(u64::from(mode)).resolve(resolve)
}

fn fd(descriptor: &impl AsRawFd) -> Fd {
    Fd(descriptor.as_raw_fd())
}
