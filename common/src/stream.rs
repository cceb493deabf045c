//! One connected socket, plain or secured, and what can be done on it once.
//!
//! **Invariant:** an operation that cannot be done now changes nothing that its caller can see, and
//! says `WouldBlock`.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc;
use rustls::ServerConfig;
use socket2::SockRef;

use crate::tls::{Received, SocketWire, Tls, uninterrupted};

/// The size of the one hot buffer that a thread has, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;
/// The most that one `sendfile` is asked for, in bytes: a fast client must not keep a thread in the
/// kernel. With less, a client on the same machine empties the socket's buffer between two calls.
const SENDFILE_BYTES: u64 = 4 * 1024 * 1024;

/// The buffer of a thread, lent to whichever connection it is working for.
pub(crate) struct Buffer(Vec<u8>);

thread_local! {
    static BUFFER: RefCell<Buffer> = RefCell::new(Buffer(Vec::with_capacity(BUFFER_BYTES)));
}

impl Buffer {
    /// Lends this thread's buffer.
    pub(crate) fn lend<T>(work: impl FnOnce(&mut Buffer) -> T) -> T {
        BUFFER.with_borrow_mut(work)
    }

    /// What was last received.
    pub(crate) fn input(&self) -> &[u8] {
        &self.0
    }

    /// Receives into the buffer, which is not cleared before: a thread touches as many of its pages
    /// as its clients fill. What a signal interrupts is for the caller to begin again, who knows
    /// how long it may still wait.
    #[allow(unsafe_code, reason = "the buffer is filled without being zeroed first")]
    fn receive(&mut self, socket: BorrowedFd<'_>, flags: i32) -> io::Result<Received> {
        self.0.clear();
        let bytes = SockRef::from(&socket).recv_with_flags(self.0.spare_capacity_mut(), flags)?;
        // SAFETY: the kernel has written that many bytes at the start of the spare capacity.
        unsafe { self.0.set_len(bytes) };
        Ok(Received { bytes, drained: bytes < BUFFER_BYTES })
    }

    /// Reads a piece of a file into the buffer.
    fn read(&mut self, file: &File, offset: u64, length: u64) -> io::Result<&[u8]> {
        self.0.resize(length.min(BUFFER_BYTES as u64) as usize, 0);
        let count = file.read_at(&mut self.0, offset)?;
        Ok(&self.0[..count])
    }
}

/// A connected socket.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: TcpStream,
    /// Boxed, because a connection without shall be small.
    tls: Option<Box<Tls>>,
}

impl Stream {
    pub(crate) fn new(socket: TcpStream) -> Self {
        Stream { socket, tls: None }
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub(crate) fn is_secured(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether it must be writable before it can go on, whatever it is that shall go on.
    pub(crate) fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Receives into the buffer, waiting only if `flags` and the socket say so, and never if it is
    /// secured.
    pub(crate) fn receive(&mut self, flags: i32, buffer: &mut Buffer) -> io::Result<Received> {
        match &mut self.tls {
            None => buffer.receive(self.socket.as_fd(), flags),
            Some(tls) => {
                buffer.0.clear();
                tls.receive(&mut SocketWire::from(self.socket.as_fd()), &mut buffer.0)
            }
        }
    }

    /// Sends some of these bytes, and tells how many. If `more` follows at once, or the end of the
    /// stream, they wait for it, to leave in one packet with it.
    pub(crate) fn send(&mut self, bytes: &[u8], more: bool) -> io::Result<usize> {
        let socket = self.socket.as_fd();
        let flags = libc::MSG_NOSIGNAL | if more { libc::MSG_MORE } else { 0 };
        match &mut self.tls {
            None => uninterrupted(|| SockRef::from(&socket).send_with_flags(bytes, flags)),
            Some(tls) => tls.send(&mut SocketWire::from(socket), bytes),
        }
    }

    /// Sends a piece of a file, and tells how long it was; 0 at the file's end. What is secured
    /// goes through the buffer.
    pub(crate) fn send_file(
        &mut self,
        file: &File,
        offset: u64,
        length: u64,
        buffer: &mut Buffer,
    ) -> io::Result<usize> {
        let socket = self.socket.as_fd();
        let Some(tls) = &mut self.tls else {
            let mut offset = offset as libc::off64_t;
            let count = length.min(SENDFILE_BYTES) as usize;
            return uninterrupted(|| {
                nix::sys::sendfile::sendfile64(socket, file, Some(&mut offset), count)
                    .map_err(Errno::into)
            });
        };
        // What is on its way already is not read again.
        let bytes =
            if tls.unanswered() > 0 { &[][..] } else { buffer.read(file, offset, length)? };
        if bytes.is_empty() && tls.unanswered() == 0 {
            return Ok(0);
        }
        tls.send(&mut SocketWire::from(socket), bytes)
    }

    /// Moves input into a file, and tells how much; 0 at the end of the stream.
    ///
    /// Files are always ready: a write to the disk blocks whoever does it, also a reactor. That is
    /// a weakness of readiness on Linux, which completion does not have.
    pub(crate) fn receive_file(
        &mut self,
        file: &File,
        offset: u64,
        buffer: &mut Buffer,
    ) -> io::Result<usize> {
        let received = self.receive(0, buffer)?;
        file.write_all_at(buffer.input(), offset)?;
        Ok(received.bytes)
    }

    /// Makes it secured, as far as that goes now.
    pub(crate) fn secure(&mut self, config: &Arc<ServerConfig>) -> io::Result<()> {
        let tls = match &mut self.tls {
            Some(tls) => tls,
            empty => empty.insert(Box::new(Tls::new(config)?)),
        };
        tls.shake_hands(&mut SocketWire::from(self.socket.as_fd()))
    }

    /// Tells the peer of a secured connection that nothing more comes, as far as that goes now, and
    /// then whether the connection has been in order until its end: if a reset has arrived, bytes
    /// that were sent are not where they belong. A peer that has said all that it had to say may be
    /// gone.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        let said = self
            .tls
            .as_mut()
            .map_or(Ok(()), |tls| tls.close(&mut SocketWire::from(self.socket.as_fd())));
        match said {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            _ if self.tls.as_ref().is_some_and(|tls| tls.has_ended()) => Ok(()),
            _ => said.and(self.socket.take_error()?.map_or(Ok(()), Err)),
        }
    }
}
