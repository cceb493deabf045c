//! What the loop's logic asks of the I/O below it, and what it is told: there is one driver for
//! readiness and one for completions, and the logic is the same.
//!
//! Invariants: what is told of a socket that has been closed never reaches the one that took its
//! place; what a driver takes to send is its own, so that a session may change or end meanwhile.

use std::io;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::eventfd::EventFd;
use socket2::{Domain, Protocol, SockRef, Type};

use crate::client::Channel;

/// The receive buffer of a socket that takes what comes in pieces; Linux makes it twice as much.
const SMALL_BUFFER_BYTES: usize = 4096;

/// A place for a socket: one of the two that each connection has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) index: usize,
    pub(crate) channel: Channel,
}

impl Slot {
    pub(crate) fn new(index: usize, channel: Channel) -> Self {
        Self { index, channel }
    }

    /// The slot as a number, which counts from 0 without gaps.
    pub(crate) fn number(self) -> usize {
        self.index << 1 | usize::from(self.channel == Channel::Data)
    }

    pub(crate) fn from_number(number: usize) -> Self {
        let channel = if number & 1 == 1 { Channel::Data } else { Channel::Control };
        Self { index: number >> 1, channel }
    }
}

/// What has happened to a socket.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// It is connected.
    Opened,
    /// This has arrived. Where it is only counted, the bytes are not those that came.
    Input(&'a [u8]),
    /// The peer has ended its stream: no more input comes.
    Ended,
    /// What was refused may be offered again.
    Writable,
    /// It is of no use any more, and to be closed.
    Failed(io::Error),
}

/// How what arrives at a socket is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Intake {
    /// It is only counted, and need not be copied.
    pub(crate) only_counted: bool,
    /// Not until it is asked for, by [`Driver::receive`], and with a small buffer, so that a peer
    /// waits with what does not fit.
    pub(crate) in_pieces: bool,
}

impl Intake {
    /// A socket that can be connected, and knows before how much of a window it may offer.
    pub(super) fn socket(self, address: SocketAddr, kind: Type) -> io::Result<socket2::Socket> {
        let domain = Domain::for_address(address);
        let socket = socket2::Socket::new_raw(domain, kind.cloexec(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if self.in_pieces {
            socket.set_recv_buffer_size(SMALL_BUFFER_BYTES)?;
        }
        Ok(socket)
    }
}

/// The sockets of a thread. A turn is a [`Driver::wait`] and then [`Driver::next`] until that has
/// no more; it is bounded, whatever the peers do.
pub(crate) trait Driver: Sized {
    /// What has arrived: apart from the driver, so that this can send while input is looked at.
    type Inbox;

    /// For so many connections. Whoever writes to `waker` ends a wait. Belongs to the thread that
    /// calls it.
    fn new(waker: &Arc<EventFd>, connections: usize) -> io::Result<(Self, Self::Inbox)>;

    /// Connects; what was in the slot before is closed.
    fn open(&mut self, slot: Slot, address: SocketAddr, intake: Intake) -> io::Result<()>;

    /// Of a socket that receives in pieces: [`Event::Input`] of so many bytes at most follows, or
    /// the end. One piece is asked for at a time.
    fn receive(&mut self, slot: Slot, at_most: usize);

    /// The socket in a slot.
    fn socket(&self, slot: Slot) -> Option<BorrowedFd<'_>>;

    /// The own address of a socket that is connected.
    fn local_address(&self, slot: Slot) -> io::Result<SocketAddr> {
        let socket = self.socket(slot).ok_or(io::ErrorKind::NotConnected)?;
        let address = SockRef::from(&socket).local_addr()?;
        address.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// When the socket is closed, the peer is to see a reset.
    fn reset_on_close(&self, slot: Slot) -> io::Result<()> {
        self.socket(slot)
            .map_or(Ok(()), |socket| SockRef::from(&socket).set_linger(Some(Duration::ZERO)))
    }

    /// The peer is to see the end of the stream behind what was taken, whatever comes from it.
    /// Nothing is sent afterwards.
    fn end_stream(&mut self, slot: Slot) -> io::Result<()> {
        self.socket(slot).map_or(Ok(()), |socket| SockRef::from(&socket).shutdown(Shutdown::Write))
    }

    /// Takes from the front of `output`, and returns how many bytes. If it is none,
    /// [`Event::Writable`] follows in a later turn.
    fn send(&mut self, slot: Slot, output: &[u8]) -> io::Result<usize>;

    /// The same of what never changes, which is therefore not copied.
    fn send_constant(
        &mut self,
        slot: Slot,
        constant: &Arc<[u8]>,
        range: Range<usize>,
    ) -> io::Result<usize>;

    /// Closes the socket when all that was taken is sent. No further event comes of it.
    fn finish(&mut self, slot: Slot);

    /// Closes the socket now, and so forgets what is not sent yet. No further event comes of it.
    fn close(&mut self, slot: Slot);

    /// Begins a turn: waits for events, until `alarm` to the microsecond, and for `at_most` so long
    /// to the millisecond.
    fn wait(
        &mut self,
        inbox: &mut Self::Inbox,
        at_most: Duration,
        alarm: Option<Instant>,
    ) -> io::Result<()>;

    /// What has happened next in this turn.
    fn next<'a>(&mut self, inbox: &'a mut Self::Inbox) -> Option<(Slot, Event<'a>)>;

    /// Ends all that is under way. The sockets stay open, and silent, in what is returned.
    fn leave(self, inbox: Self::Inbox) -> Box<dyn Send>;
}

#[cfg(test)]
mod tests;
