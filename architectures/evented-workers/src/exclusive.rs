//! What mio has no word for: a listening socket in many epoll sets, of which a connection wakes
//! one.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use mio::{Poll, Token};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

/// Watches it with `EPOLLEXCLUSIVE`, which is said when it is added or never.
#[allow(unsafe_code, reason = "mio tells descriptors as numbers")]
pub(crate) fn watch_exclusively(poll: &Poll, socket: RawFd, token: Token) -> io::Result<()> {
    // SAFETY: both are open for as long as this lasts.
    let (set, socket) =
        unsafe { (BorrowedFd::borrow_raw(poll.as_raw_fd()), BorrowedFd::borrow_raw(socket)) };
    let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLET | EpollFlags::EPOLLEXCLUSIVE;
    // Another descriptor of the same set.
    let set = Epoll(set.try_clone_to_owned()?);
    Ok(set.add(socket, EpollEvent::new(flags, token.0 as u64))?)
}
