//! TLS on one socket (RFC 8446, by rustls, which knows no sockets itself).
//!
//! **Invariant:** the socket is never waited for here: what cannot go on now says `WouldBlock`.
//! Bytes count as sent when their records are with the kernel, and not before, so that whoever
//! asked for the write keeps them until then.

use std::io::{self, BufRead, IoSlice, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{MsgFlags, recv, send};
use rustls::{ServerConfig, ServerConnection};
use socket2::SockRef;

/// The server's side of a secured connection.
#[derive(Debug)]
pub(crate) struct Tls {
    connection: ServerConnection,
    /// How many bytes have been encrypted for a write that is not answered yet, because the kernel
    /// has not taken all of their records.
    unanswered: usize,
    /// The peer has been told that nothing more comes.
    closing: bool,
    /// The peer has said that nothing more comes from it.
    ended: bool,
}

/// What a read came to.
pub(crate) struct Received {
    /// 0 at the end of the stream.
    pub(crate) bytes: usize,
    /// Nothing is left to be read for now, as far as one can tell without trying.
    pub(crate) drained: bool,
}

impl Tls {
    /// Nothing has been said yet.
    pub(crate) fn new(config: &Arc<ServerConfig>) -> io::Result<Self> {
        let connection = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
        Ok(Tls { connection, unanswered: 0, closing: false, ended: false })
    }

    /// Whether it waits for the kernel to take something, rather than for the peer to say
    /// something.
    pub(crate) fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// The handshake, as far as it goes now.
    pub(crate) fn shake_hands(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let mut wire = Wire { socket, drained: false };
        loop {
            self.flush(&mut wire)?;
            if !self.connection.is_handshaking() {
                return Ok(());
            }
            if self.take_in(&mut wire)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Appends what the peer has sent, at least a byte unless the stream has ended, and no more
    /// than fits. A stream that ends without the peer's word for it (RFC 8446 §6.1) is an
    /// error: somebody may have cut it.
    pub(crate) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        into: &mut Vec<u8>,
    ) -> io::Result<Received> {
        let mut wire = Wire { socket, drained: false };
        let before = into.len();
        loop {
            self.take_out(into)?;
            let bytes = into.len() - before;
            if self.ended || bytes > 0 {
                let is_full = into.len() == into.capacity();
                return Ok(Received { bytes, drained: wire.drained && !is_full });
            }
            self.take_in(&mut wire)?;
        }
    }

    /// Sends some of these bytes; to be called with the same ones until it succeeds.
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
        if self.unanswered == 0 {
            self.unanswered = self.connection.writer().write(bytes)?;
        }
        self.flush(&mut Wire { socket, drained: false })?;
        Ok(std::mem::take(&mut self.unanswered))
    }

    /// How many bytes of a write that was tried before are on their way.
    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// Whether the peer has said that nothing more comes from it.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Tells the peer that nothing more comes. A stream that is cut in the midst is not closed in
    /// this way, so that the peer does not take what it has for the whole.
    pub(crate) fn close(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        if self.connection.is_handshaking() || self.unanswered > 0 {
            return Ok(());
        }
        if !std::mem::replace(&mut self.closing, true) {
            self.connection.send_close_notify();
        }
        self.flush(&mut Wire { socket, drained: false })
    }

    /// Plain text from rustls.
    fn take_out(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
        let mut reader = self.connection.reader();
        while into.len() < into.capacity() {
            let plain = match reader.fill_buf() {
                Ok([]) => {
                    self.ended = true;
                    break;
                }
                Ok(plain) => plain,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if into.is_empty() => return Err(error),
                Err(_) => break,
            };
            let count = plain.len().min(into.capacity() - into.len());
            into.extend_from_slice(&plain[..count]);
            reader.consume(count);
        }
        Ok(())
    }

    /// Records from the socket; 0 at its end. What rustls wants to say to them is sent as far as it
    /// goes now: the alert that tells the peer what is wrong, or a new key.
    fn take_in(&mut self, wire: &mut Wire<'_>) -> io::Result<usize> {
        let count = self.connection.read_tls(wire)?;
        let result = self.connection.process_new_packets();
        match self.flush(wire) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        result.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(count)
    }

    fn flush(&mut self, wire: &mut Wire<'_>) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(wire)?;
        }
        Ok(())
    }
}

/// The socket as rustls uses it: never waited for.
struct Wire<'a> {
    socket: BorrowedFd<'a>,
    /// The last read came up short.
    drained: bool,
}

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = uninterrupted(|| {
            recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT).map_err(Errno::into)
        })?;
        self.drained = count < buffer.len();
        Ok(count)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        uninterrupted(|| send(self.socket.as_raw_fd(), bytes, flags).map_err(Errno::into))
    }

    fn write_vectored(&mut self, records: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        uninterrupted(|| SockRef::from(&self.socket).send_vectored_with_flags(records, flags))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes a system call again for as long as signals interrupt it.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
