//! A file to lock (flock(2)), which has no name.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::memfd::{MFdFlags, memfd_create};

/// As the supervisor has it.
pub(crate) struct LockFile(OwnedFd);

impl LockFile {
    /// To be made before forking. What a worker will need is tried here.
    pub(crate) fn new() -> io::Result<Self> {
        let file = LockFile(memfd_create("accept", MFdFlags::MFD_CLOEXEC)?);
        file.open()?;
        Ok(file)
    }

    /// Opened anew, for one worker: forked descriptors would all hold one lock.
    pub(crate) fn open(&self) -> io::Result<File> {
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        File::options().write(true).open(path).map_err(|error| {
            let advice = "--accept flock needs /proc and descriptors; choose another way";
            io::Error::new(error.kind(), format!("{error}: {advice}"))
        })
    }
}
