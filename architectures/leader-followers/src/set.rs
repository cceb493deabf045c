//! The epoll set, in which each socket is armed for one event.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use common::conn::Direction;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

pub(crate) struct Set(Epoll);

impl Set {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Set(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    /// Has its events wake somebody for as long as it is readable.
    pub(crate) fn add(&self, source: impl AsFd, name: u64) -> io::Result<()> {
        Ok(self.0.add(source, EpollEvent::new(EpollFlags::EPOLLIN, name))?)
    }

    /// Has its next event wake somebody. A socket that was closed is in no set, whoever has its
    /// number now.
    pub(crate) fn arm(&self, socket: BorrowedFd<'_>, way: Direction, name: u64) -> io::Result<()> {
        let way = match way {
            Direction::Input => EpollFlags::EPOLLIN,
            Direction::Output => EpollFlags::EPOLLOUT,
        };
        let mut event = EpollEvent::new(way | EpollFlags::EPOLLONESHOT, name);
        match self.0.modify(socket, &mut event) {
            Err(Errno::ENOENT) => Ok(self.0.add(socket, event)?),
            armed => Ok(armed?),
        }
    }

    /// Waits for one event, and tells whose it is.
    pub(crate) fn wait(&self) -> io::Result<u64> {
        let mut event = [EpollEvent::empty()];
        loop {
            match self.0.wait(&mut event, EpollTimeout::NONE) {
                Ok(1) => return Ok(event[0].data()),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
