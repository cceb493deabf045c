//! The sockets of one conversation, and each action performed on them once.
//!
//! The control socket is blocking or not, as the architecture accepted it; the data sockets never
//! block, so that a thread which waits for them can wait for control input as well.
//!
//! **Invariant:** an operation that cannot be done now changes nothing and says
//! [`Attempt::NotReady`].

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::libc;
use nix::poll::PollFlags;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::ports::PortRange;
use crate::session::{Action, Chan, Event};

/// The size of the one hot input buffer that a thread has, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;
/// The most that one `sendfile` is asked for, in bytes: a fast client must not keep a thread in the
/// kernel.
const SENDFILE_BYTES: u64 = 1024 * 1024;
/// A data port waits for one client; a few strangers may queue before it.
const DATA_BACKLOG: i32 = 16;

/// The input buffer of a thread, lent to whichever connection it is working for.
pub(crate) struct Buffer(Vec<u8>);

thread_local! {
    static BUFFER: RefCell<Buffer> = RefCell::new(Buffer(Vec::with_capacity(BUFFER_BYTES)));
}

impl Buffer {
    /// Lends this thread's buffer.
    pub(crate) fn lend<T>(work: impl FnOnce(&mut Buffer) -> T) -> T {
        BUFFER.with_borrow_mut(work)
    }

    /// Receives into the buffer, which is not cleared before: a thread touches as many of its pages
    /// as its clients fill.
    #[allow(unsafe_code, reason = "the buffer is filled without being zeroed first")]
    fn fill(&mut self, socket: BorrowedFd<'_>, flags: i32) -> io::Result<usize> {
        self.0.clear();
        let received = uninterrupted(|| {
            SockRef::from(&socket).recv_with_flags(self.0.spare_capacity_mut(), flags)
        })?;
        // SAFETY: the kernel has written that many bytes at the start of the spare capacity.
        unsafe { self.0.set_len(received) };
        Ok(received)
    }

    /// What was last received.
    pub(crate) fn input(&self) -> &[u8] {
        &self.0
    }
}

/// What came of trying an action.
pub(crate) enum Attempt {
    /// It has turned out so.
    Event(Event<'static>),
    /// The buffer has been filled from there; empty at the end of the stream.
    Input(Chan),
    /// It cannot be done before a socket is ready.
    NotReady,
}

/// The control connection, and what there is of a data connection.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact about another socket")]
pub(crate) struct Sockets {
    control: TcpStream,
    data: Option<TcpStream>,
    /// The port that a data connection is awaited on.
    port: Option<TcpListener>,
    /// `data` is not connected yet.
    connecting: bool,
    /// Sockets that a reactor has not been told of.
    new_data: bool,
    new_port: bool,
    /// Whether a read may find something. Only ever wrong by being true.
    pub(crate) control_readable: bool,
    /// The peer has closed its sending side, which a read that comes up short has not necessarily
    /// reached.
    pub(crate) control_closing: bool,
}

impl Sockets {
    pub(crate) fn new(control: TcpStream) -> Self {
        Sockets {
            control,
            data: None,
            port: None,
            connecting: false,
            new_data: false,
            new_port: false,
            control_readable: true,
            control_closing: false,
        }
    }

    pub(crate) fn control(&self) -> &TcpStream {
        &self.control
    }

    /// The data sockets that have appeared since this was last asked.
    pub(crate) fn new_data_descriptors(&mut self) -> [Option<RawFd>; 2] {
        let data = self.data.as_ref().filter(|_| std::mem::take(&mut self.new_data));
        let port = self.port.as_ref().filter(|_| std::mem::take(&mut self.new_port));
        [data.map(AsRawFd::as_raw_fd), port.map(AsRawFd::as_raw_fd)]
    }

    /// The socket that an action which was not ready waits for, and what for.
    pub(crate) fn awaited(&self, action: &Action<'_>) -> (BorrowedFd<'_>, PollFlags) {
        let (chan, flags) = match action {
            Action::Write(chan, _) | Action::SendFile { to: chan, .. } => {
                (*chan, PollFlags::POLLOUT)
            }
            Action::Connect(_) => (Chan::Data, PollFlags::POLLOUT),
            Action::Read(chan) | Action::ReceiveFile { from: chan, .. } => {
                (*chan, PollFlags::POLLIN)
            }
            _ => (Chan::Data, PollFlags::POLLIN),
        };
        let descriptor = match (chan, action, &self.data, &self.port) {
            (Chan::Data, Action::Accept, _, Some(port)) => port.as_fd(),
            (Chan::Data, _, Some(data), _) => data.as_fd(),
            _ => self.control.as_fd(),
        };
        (descriptor, flags)
    }

    /// Tries an action on a socket once. `Pause`, `Run` and `End` are not for sockets, and a read
    /// of the control connection is [`read_control`](Self::read_control).
    pub(crate) fn attempt(&mut self, action: &Action<'_>, buffer: &mut Buffer) -> Attempt {
        let result = match *action {
            Action::Read(chan) => {
                let filled = self.stream(chan).and_then(|stream| buffer.fill(stream, 0));
                filled.map(|_| Attempt::Input(chan))
            }
            Action::Write(chan, bytes) => self.stream(chan).and_then(|stream| send(stream, bytes)),
            Action::SendFile { to, file, offset, length } => {
                self.stream(to).and_then(|stream| send_file(stream, file, offset, length))
            }
            Action::ReceiveFile { from, file, offset } => {
                self.stream(from).and_then(|stream| receive_file(stream, file, offset, buffer))
            }
            Action::Listen(ports) => self.listen(ports),
            Action::Accept => self.accept(),
            Action::Connect(address) => self.connect(address),
            Action::Close(Chan::Data) => self.close(),
            Action::Close(Chan::Control) | Action::Pause | Action::Run(_) | Action::End => {
                unreachable!("these are for the executor itself")
            }
        };
        result.unwrap_or_else(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Attempt::NotReady,
            _ => Attempt::Event(Event::Failed(error)),
        })
    }

    /// Reads from the control connection, waiting only if `flags` and the socket say so.
    ///
    /// A read that comes up short has drained the socket, so that the next one would only find
    /// `EAGAIN`; unless the end of the stream is known to be behind it, which no further edge
    /// would announce.
    pub(crate) fn read_control(&mut self, flags: i32, buffer: &mut Buffer) -> io::Result<usize> {
        let result = buffer.fill(self.control.as_fd(), flags);
        self.control_readable = match &result {
            Ok(received) => *received == BUFFER_BYTES || self.control_closing,
            Err(_) => false,
        };
        result
    }

    fn stream(&self, chan: Chan) -> io::Result<BorrowedFd<'_>> {
        match chan {
            Chan::Control => Ok(self.control.as_fd()),
            Chan::Data => match &self.data {
                Some(data) => Ok(data.as_fd()),
                None => Err(io::ErrorKind::NotConnected.into()),
            },
        }
    }

    fn listen(&mut self, ports: Option<PortRange>) -> io::Result<Attempt> {
        self.close_data();
        let address = self.control.local_addr()?;
        let port = match ports {
            None => listen_on(address, 0)?,
            Some(ports) => listen_within(address, ports)?,
        };
        let address = port.local_addr()?;
        self.port = Some(port);
        self.new_port = true;
        Ok(Attempt::Event(Event::Listening(address)))
    }

    fn accept(&mut self) -> io::Result<Attempt> {
        self.data = None;
        let Some(port) = &self.port else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        loop {
            match port.accept() {
                Ok((stream, peer)) => {
                    stream.set_nonblocking(true)?;
                    self.data = Some(stream);
                    self.new_data = true;
                    return Ok(Attempt::Event(Event::Opened(peer)));
                }
                Err(error) if is_transient(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn connect(&mut self, address: SocketAddr) -> io::Result<Attempt> {
        if !self.connecting {
            self.close_data();
            let domain = Domain::for_address(address);
            let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
            let mut local = self.control.local_addr()?;
            // A client that guards its ports expects us at the address that it knows.
            if local.is_ipv4() == address.is_ipv4() && !local.ip().is_loopback() {
                local.set_port(0);
                socket.bind(&local.into())?;
            }
            match socket.connect(&address.into()) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
                    self.connecting = true;
                }
                Err(error) => return Err(error),
            }
            self.data = Some(socket.into());
            self.new_data = true;
        }
        let data = self.data.as_ref().expect("a socket that connects is there");
        if let Some(error) = data.take_error()? {
            self.close_data();
            return Err(error);
        }
        match data.peer_addr() {
            Ok(peer) => {
                self.connecting = false;
                Ok(Attempt::Event(Event::Opened(peer)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            Err(error) => Err(error),
        }
    }

    /// A reset that has already arrived is told: bytes that were sent are then not where they
    /// belong.
    fn close(&mut self) -> io::Result<Attempt> {
        let error = self.data.as_ref().map_or(Ok(None), TcpStream::take_error);
        self.close_data();
        error?.map_or(Ok(Attempt::Event(Event::Closed)), Err)
    }

    fn close_data(&mut self) {
        self.data = None;
        self.port = None;
        self.connecting = false;
        self.new_data = false;
        self.new_port = false;
    }
}

/// Begins anywhere, so that the next port is not to be guessed from the last, and tries them all. A
/// range that is taken costs two system calls and a socket for each of its ports.
fn listen_within(address: SocketAddr, ports: PortRange) -> io::Result<TcpListener> {
    use io::ErrorKind::{AddrInUse, PermissionDenied};
    let mut result = Err(AddrInUse.into());
    for port in ports.beginning_at(fastrand::u16(..)) {
        result = listen_on(address, port);
        if !matches!(&result, Err(error) if matches!(error.kind(), AddrInUse | PermissionDenied)) {
            break;
        }
    }
    result
}

fn listen_on(mut address: SocketAddr, port: u16) -> io::Result<TcpListener> {
    address.set_port(port);
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // The kernel remembers a connection that we have closed for a minute, and would hold its port
    // back for so long; one that somebody listens on it gives to nobody else.
    socket.set_reuse_address(port != 0)?;
    socket.bind(&address.into())?;
    socket.listen(DATA_BACKLOG)?;
    Ok(socket.into())
}

/// Errors of `accept` that concern the connection it would have returned, not the next one.
pub(crate) fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
        || matches!(error.raw_os_error(), Some(libc::EPROTO | libc::EHOSTUNREACH | libc::ENETDOWN))
}

fn send(stream: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<Attempt> {
    uninterrupted(|| SockRef::from(&stream).send_with_flags(bytes, libc::MSG_NOSIGNAL))
        .map(|sent| Attempt::Event(Event::Wrote(sent)))
}

fn send_file(stream: BorrowedFd<'_>, file: &File, offset: u64, length: u64) -> io::Result<Attempt> {
    let mut offset = offset as libc::off64_t;
    let count = length.min(SENDFILE_BYTES) as usize;
    uninterrupted(|| {
        nix::sys::sendfile::sendfile64(stream, file, Some(&mut offset), count).map_err(Errno::into)
    })
    .map(|sent| Attempt::Event(Event::Wrote(sent)))
}

/// Files are always ready: a write to the disk blocks whoever does it, also a reactor. That is a
/// weakness of readiness on Linux, which completion does not have.
fn receive_file(
    stream: BorrowedFd<'_>,
    file: &File,
    offset: u64,
    buffer: &mut Buffer,
) -> io::Result<Attempt> {
    let received = buffer.fill(stream, 0)?;
    file.write_all_at(buffer.input(), offset)?;
    Ok(Attempt::Event(Event::Received(received)))
}

fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
