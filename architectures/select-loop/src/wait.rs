//! The two system calls, told the same way.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use common::conn::Direction;
use common::session::Chan;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::select::{FdSet, select};
use nix::sys::time::{TimeVal, TimeValLike};

/// Which of them waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mechanism {
    /// poll(2): an array of what is watched
    Poll,
    /// select(2): three sets of bits, for descriptors below 1024
    Select,
}

/// A connection and the socket of it; none is the listening socket.
pub(crate) type Owner = Option<(usize, Chan)>;

/// What one turn watches.
#[derive(Default)]
pub(crate) struct Watched<'a> {
    sockets: Vec<(BorrowedFd<'a>, Direction)>,
    owners: Vec<Owner>,
}

impl<'a> Watched<'a> {
    pub(crate) fn add(&mut self, socket: BorrowedFd<'a>, direction: Direction, owner: Owner) {
        self.sockets.push((socket, direction));
        self.owners.push(owner);
    }

    /// Waits until one is ready, or for so long, and tells whose are.
    pub(crate) fn wait(self, mechanism: Mechanism, timeout: Duration) -> io::Result<Vec<Owner>> {
        let found = match mechanism {
            Mechanism::Poll => self.poll(timeout),
            Mechanism::Select => self.select(timeout),
        };
        let ready = match found {
            Err(Errno::EINTR) => return Ok(Vec::new()),
            found => found?,
        };
        Ok(self.owners.into_iter().zip(ready).filter_map(|(one, is)| is.then_some(one)).collect())
    }

    fn poll(&self, timeout: Duration) -> nix::Result<Vec<bool>> {
        let flags = |direction| match direction {
            Direction::Input => PollFlags::POLLIN,
            Direction::Output => PollFlags::POLLOUT,
        };
        let sockets = self.sockets.iter();
        let mut array: Vec<_> =
            sockets.map(|(socket, direction)| PollFd::new(*socket, flags(*direction))).collect();
        // It counts in whole milliseconds, and would find what is left of the last one too short.
        let timeout = timeout.as_micros().div_ceil(1000);
        poll(&mut array, PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX))?;
        Ok(array.iter().map(|socket| socket.any() == Some(true)).collect())
    }

    fn select(&self, timeout: Duration) -> nix::Result<Vec<bool>> {
        let (mut input, mut output) = (FdSet::new(), FdSet::new());
        for (socket, direction) in &self.sockets {
            match direction {
                Direction::Input => input.insert(*socket),
                Direction::Output => output.insert(*socket),
            }
        }
        let mut timeout = TimeVal::microseconds(timeout.as_micros() as i64);
        select(None, &mut input, &mut output, None, &mut timeout)?;
        let ready = |(socket, direction): &(BorrowedFd<'_>, Direction)| match direction {
            Direction::Input => input.contains(*socket),
            Direction::Output => output.contains(*socket),
        };
        Ok(self.sockets.iter().map(ready).collect())
    }
}
