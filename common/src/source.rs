//! Where a server's connections come from: a listening socket, or whoever has accepted them and
//! passes them on.
//!
//! **Invariant:** a connection that is passed on belongs to nobody else afterwards.

#![allow(unsafe_code, reason = "accept4 fills in an address, and descriptors arrive as numbers")]

use std::cell::Cell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::cmsg_space;
use nix::libc;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::tally;

/// How long a blocking write may block by itself.
const BRIEF: Duration = Duration::from_millis(1);
/// Room for a few connections that are being passed on, as the kernel counts it: the rest wait in
/// the listening socket's backlog, which tells them when it is full.
const OUTBOX_BYTES: usize = 8 * 1024;

/// What connections are taken from.
#[derive(Debug)]
pub(crate) enum Source {
    Listener(TcpListener),
    /// One that listens when there is a worker for it, and not before.
    Sibling(TcpListener),
    /// The end of an [`Outbox`].
    Inbox(Socket),
}

impl Source {
    /// Takes one, with these flags of accept4(2). `EINVAL` says that no more will come.
    pub(crate) fn accept(&self, flags: i32) -> io::Result<(TcpStream, IpAddr)> {
        match self {
            Source::Listener(listener) | Source::Sibling(listener) => accept(listener, flags),
            Source::Inbox(inbox) => {
                let socket = receive(inbox.as_fd())?;
                // Whoever has vanished meanwhile has no address.
                let peer =
                    socket.peer_addr().map_err(|_| lost(io::ErrorKind::ConnectionAborted))?;
                socket.set_nonblocking(flags & libc::SOCK_NONBLOCK != 0)?;
                Ok((socket, peer.ip()))
            }
        }
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Source::Listener(listener) | Source::Sibling(listener) => listener.as_fd(),
            Source::Inbox(inbox) => inbox.as_fd(),
        }
    }
}

/// A socket to listen with, which does not yet. Accepted sockets inherit the options and the
/// timeouts, which saves system calls for each of them. (The timeout also makes a blocking `accept`
/// return now and then, which it may.)
pub(crate) fn bind(
    address: SocketAddr,
    idle_timeout: Duration,
    reuse_port: bool,
) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_tcp_nodelay(true)?;
    // FTP's ABOR comes as urgent data (RFC 959 §4.1.3), which is to be read in its place.
    socket.set_out_of_band_inline(true)?;
    socket.set_read_timeout(Some(idle_timeout))?;
    // A write that cannot go on at once is waited for with poll, which knows the deadline: the
    // kernel's timeout begins anew with each of the writes that a reply is sent in.
    socket.set_write_timeout(Some(BRIEF))?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// accept4(2), which makes a socket non-blocking in the same system call, and which a signal
/// interrupts: std has neither.
fn accept(listener: &TcpListener, flags: i32) -> io::Result<(TcpStream, IpAddr)> {
    let descriptor = listener.as_raw_fd();
    // SAFETY: accept4 writes an address of at most the length it is given, and says which; the
    // descriptor that it returns is new, and nobody else's.
    let (socket, address) = unsafe {
        SockAddr::try_init(|storage, length| {
            match libc::accept4(descriptor, storage.cast(), length, flags | libc::SOCK_CLOEXEC) {
                -1 => Err(io::Error::last_os_error()),
                accepted => Ok(OwnedFd::from_raw_fd(accepted)),
            }
        })
    }?;
    let peer = address.as_socket().as_ref().map(SocketAddr::ip);
    Ok((TcpStream::from(socket), peer.ok_or(io::ErrorKind::ConnectionAborted)?))
}

/// Passes connections on to a worker, by their descriptors (`SCM_RIGHTS`, unix(7)).
#[derive(Debug)]
pub struct Outbox {
    socket: Socket,
    worker: usize,
    passed: Cell<u64>,
}

impl Outbox {
    /// An outbox to that worker, and where what is passed on is received. The waiting there returns
    /// now and then.
    pub(crate) fn new(worker: usize, timeout: Duration) -> io::Result<(Self, Socket)> {
        let (socket, inbox) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None)?;
        socket.set_send_buffer_size(OUTBOX_BYTES)?;
        inbox.set_read_timeout(Some(timeout))?;
        Ok((Outbox { socket, worker, passed: Cell::new(0) }, inbox))
    }

    /// Passes a connection on, which is to be dropped here then, if there is room for it: tells
    /// whether there was. One that cannot be passed on has ended.
    pub fn pass(&self, connection: &TcpStream) -> bool {
        match self.send(connection) {
            Ok(()) => self.passed.set(self.passed.get() + 1),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) => {
                tally::count_lost();
                tracing::warn!(%error, "cannot pass a connection on");
            }
        }
        true
    }

    fn send(&self, connection: &TcpStream) -> io::Result<()> {
        let descriptors = [connection.as_raw_fd()];
        let control = [ControlMessage::ScmRights(&descriptors)];
        // A message is of one byte at least.
        let message = [IoSlice::new(&[0])];
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        sendmsg::<()>(self.socket.as_raw_fd(), &message, &control, flags, None)?;
        Ok(())
    }

    /// How many of those passed on have not ended, in the inbox or in conversation.
    pub fn open(&self) -> u64 {
        self.passed.get().saturating_sub(tally::ended(self.worker))
    }
}

/// Writable when there is room.
impl AsFd for Outbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn receive(inbox: BorrowedFd<'_>) -> io::Result<TcpStream> {
    let mut byte = [0];
    let mut message = [IoSliceMut::new(&mut byte)];
    let mut control = cmsg_space!(RawFd);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let received = recvmsg::<()>(inbox.as_raw_fd(), &mut message, Some(&mut control), flags)?;
    if received.bytes == 0 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // So it is where there was no descriptor left for it: the message is cut off.
    let mut messages =
        received.cmsgs().map_err(|_| lost(io::Error::from_raw_os_error(libc::EMFILE)))?;
    match messages.next() {
        Some(ControlMessageOwned::ScmRights(descriptors)) if descriptors.len() == 1 => {
            // SAFETY: the kernel has just made this descriptor for us.
            Ok(TcpStream::from(unsafe { OwnedFd::from_raw_fd(descriptors[0]) }))
        }
        // There is no descriptor left for it.
        _ => Err(lost(io::Error::from_raw_os_error(libc::EMFILE))),
    }
}

/// What was passed on has come to its end before it was a conversation.
fn lost(error: impl Into<io::Error>) -> io::Error {
    tally::count_lost();
    error.into()
}
