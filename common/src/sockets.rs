//! The sockets of one conversation, and each action performed on them once.
//!
//! The control socket is blocking or not, as the architecture accepted it; the data sockets never
//! block, so that a thread which waits for them can wait for control input as well.
//!
//! **Invariant:** an operation that cannot be done now changes nothing and says
//! `Attempt::NotReady`.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use nix::libc;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use socket2::{Domain, Protocol, Socket, Type};

use crate::conn::{AwaitedSocket, Direction};
use crate::ports::PortRange;
use crate::session::{Action, Chan, Event};
use crate::stream::{Buffer, Stream};

/// A data port waits for one client; a few strangers may queue before it.
const DATA_BACKLOG: i32 = 16;

/// What came of trying an action.
pub(crate) enum Attempt {
    /// It has turned out so.
    Event(Event<'static>),
    /// The buffer has been filled from there; empty at the end of the stream.
    Input(Chan),
    /// It cannot be done before a socket is ready.
    NotReady,
    /// It has come no further, and others may want their turn.
    Fruitless,
}

/// The control connection, and what there is of a data connection.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact about another socket")]
pub(crate) struct Sockets {
    control: Stream,
    data: Option<Stream>,
    /// The port that a data connection is awaited on.
    port: Option<TcpListener>,
    /// `data` is not connected yet.
    connecting: bool,
    /// Sockets that a reactor has not been told of.
    new_data: bool,
    new_port: bool,
    /// A pause has begun, or goes on, for so long.
    pub(crate) pause: Option<Duration>,
    /// What ends a pause for a reactor.
    timer: Option<TimerFd>,
    new_timer: bool,
    /// Whether a read may find something. Only ever wrong by being true.
    pub(crate) control_readable: bool,
    /// The peer has closed its sending side, which a read that comes up short has not necessarily
    /// reached.
    pub(crate) control_closing: bool,
    /// What is written on the control connection is followed by more, or by its end, at once.
    pub(crate) holds_back: bool,
}

impl Sockets {
    pub(crate) fn new(control: TcpStream) -> Self {
        Sockets {
            control: Stream::new(control),
            data: None,
            port: None,
            connecting: false,
            new_data: false,
            new_port: false,
            pause: None,
            timer: None,
            new_timer: false,
            control_readable: true,
            control_closing: false,
            holds_back: false,
        }
    }

    pub(crate) fn control(&self) -> &TcpStream {
        self.control.socket()
    }

    /// Whether the control connection is secured, and so never waited for in a read.
    pub(crate) fn control_is_secured(&self) -> bool {
        self.control.is_secured()
    }

    /// The data sockets and the timer that have appeared since this was last asked. Whoever does
    /// not ask needs no timer; a pause whose timer cannot be made ends with its deadline.
    pub(crate) fn new_data_descriptors(&mut self) -> [Option<RawFd>; 3] {
        if let Some(time) = self.pause.take() {
            let _ = self.set_timer(time);
        }
        let data = self.data.as_ref().filter(|_| std::mem::take(&mut self.new_data));
        let port = self.port.as_ref().filter(|_| std::mem::take(&mut self.new_port));
        let timer = self.timer.as_ref().filter(|_| std::mem::take(&mut self.new_timer));
        [
            data.map(|data| data.socket().as_raw_fd()),
            port.map(AsRawFd::as_raw_fd),
            timer.map(|timer| timer.as_fd().as_raw_fd()),
        ]
    }

    /// The timer of the present pause, for whoever watches it anew each time.
    pub(crate) fn timer(&mut self) -> Option<BorrowedFd<'_>> {
        if let Some(time) = self.pause.take() {
            let _ = self.set_timer(time);
        }
        self.timer.as_ref().map(AsFd::as_fd)
    }

    /// Has the timer become readable after this time.
    fn set_timer(&mut self, time: Duration) -> io::Result<()> {
        if self.timer.is_none() {
            let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
            self.timer = Some(TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?);
            self.new_timer = true;
        }
        let timer = self.timer.as_ref().expect("it was made, if it was not there");
        let time = Expiration::OneShot(TimeSpec::from_duration(time));
        Ok(timer.set(time, TimerSetTimeFlags::empty())?)
    }

    pub(crate) fn drop_timer(&mut self) {
        self.pause = None;
        self.timer = None;
        self.new_timer = false;
    }

    /// The socket that an action which was not ready waits for, and what for.
    pub(crate) fn awaited(&self, action: &Action<'_>) -> (Chan, AwaitedSocket<'_>) {
        let (chan, direction) = match action {
            Action::Write(chan, _) | Action::SendFile { to: chan, .. } => {
                (*chan, Direction::Output)
            }
            Action::Connect(_) | Action::Close(_) => (Chan::Data, Direction::Output),
            Action::Read(chan)
            | Action::ReceiveFile { from: chan, .. }
            | Action::StartTls(chan, _) => (*chan, Direction::Input),
            _ => (Chan::Data, Direction::Input),
        };
        if let (Action::Accept, Some(port)) = (action, &self.port) {
            return (chan, (port.as_fd(), direction));
        }
        let (chan, stream) = match (chan, &self.data) {
            (Chan::Data, Some(data)) => (chan, data),
            _ => (Chan::Control, &self.control),
        };
        let direction = if stream.wants_write() { Direction::Output } else { direction };
        (chan, (stream.socket().as_fd(), direction))
    }

    /// Tries an action on a socket once. `Pause`, `Run` and `End` are not for sockets, and a read
    /// of the control connection is [`read_control`](Self::read_control).
    pub(crate) fn attempt(&mut self, action: &Action<'_>, buffer: &mut Buffer) -> Attempt {
        let result = match *action {
            Action::Read(chan) => {
                let received = self.stream(chan).and_then(|stream| stream.receive(0, buffer));
                received.map(|_| Attempt::Input(chan))
            }
            Action::Write(to, bytes) => {
                let more = self.holds_back && to == Chan::Control;
                let sent = self.stream(to).and_then(|stream| stream.send(bytes, more));
                sent.map(|count| Attempt::Event(Event::Wrote(count)))
            }
            Action::SendFile { to, file, offset, length } => {
                let stream = self.stream(to);
                let sent = stream.and_then(|to| to.send_file(file, offset, length, buffer));
                sent.map(|count| Attempt::Event(Event::Wrote(count)))
            }
            Action::ReceiveFile { from, file, offset } => {
                let stream = self.stream(from);
                let received = stream.and_then(|from| from.receive_file(file, offset, buffer));
                received.map(|count| Attempt::Event(Event::Received(count)))
            }
            Action::StartTls(chan, config) => {
                let secured = self.stream(chan).and_then(|stream| stream.secure(config.of(chan)));
                // The peer's first words may have come with the end of the handshake.
                self.control_readable |= chan == Chan::Control && secured.is_ok();
                secured.map(|()| Attempt::Event(Event::Secured))
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
            io::ErrorKind::Interrupted => Attempt::Fruitless,
            _ => Attempt::Event(Event::Failed(error)),
        })
    }

    /// Reads from the control connection, waiting only if `flags` and the socket say so, and not if
    /// it is secured.
    ///
    /// What has drained the socket need not be followed by a read that would only find `EAGAIN`;
    /// unless the end of the stream is known to be behind it, which no further edge would announce.
    pub(crate) fn read_control(&mut self, flags: i32, buffer: &mut Buffer) -> io::Result<usize> {
        match self.control.receive(flags, buffer) {
            Ok(received) => {
                self.control_readable = !received.drained || self.control_closing;
                Ok(received.bytes)
            }
            Err(error) => {
                self.control_readable = error.kind() == io::ErrorKind::Interrupted;
                // Many clients leave without a word for it, and nothing hangs on it here.
                if error.kind() == io::ErrorKind::UnexpectedEof { Ok(0) } else { Err(error) }
            }
        }
    }

    /// Tells the client of a secured connection that nothing more comes, if that goes at once.
    pub(crate) fn end_control(&mut self) {
        if self.control.is_secured() {
            let _ = self.control.end();
        }
    }

    fn stream(&mut self, chan: Chan) -> io::Result<&mut Stream> {
        match chan {
            Chan::Control => Ok(&mut self.control),
            Chan::Data => self.data.as_mut().ok_or(io::ErrorKind::NotConnected.into()),
        }
    }

    fn listen(&mut self, ports: Option<PortRange>) -> io::Result<Attempt> {
        self.close_data();
        let port = listen_beside(self.control(), ports)?;
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
                    self.data = Some(Stream::new(stream));
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
            let socket = socket_beside(self.control(), address)?;
            match socket.connect(&address.into()) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
                    self.connecting = true;
                }
                Err(error) => return Err(error),
            }
            self.data = Some(Stream::new(socket.into()));
            self.new_data = true;
        }
        let data = self.data.as_ref().expect("a socket that connects is there").socket();
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

    fn close(&mut self) -> io::Result<Attempt> {
        let ended = self.data.as_mut().map_or(Ok(()), Stream::end);
        if ended.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            return Ok(Attempt::NotReady);
        }
        self.close_data();
        ended.map(|()| Attempt::Event(Event::Closed))
    }

    /// Closes at once, and says nothing.
    pub(crate) fn close_data(&mut self) {
        self.data = None;
        self.port = None;
        self.connecting = false;
        self.new_data = false;
        self.new_port = false;
    }
}

/// Opens a port for a data connection, on the address that a control connection came to, and one of
/// these, if they are said. It does not block.
pub fn listen_beside(control: &TcpStream, ports: Option<PortRange>) -> io::Result<TcpListener> {
    let address = control.local_addr()?;
    match ports {
        None => listen_on(address, 0),
        Some(ports) => listen_within(address, ports),
    }
}

/// A socket to connect to this address with, beside a control connection. It does not block.
pub fn socket_beside(control: &TcpStream, address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    let mut local = control.local_addr()?;
    // A client that guards its ports expects us at the address that it knows.
    if local.is_ipv4() == address.is_ipv4() && !local.ip().is_loopback() {
        local.set_port(0);
        socket.bind(&local.into())?;
    }
    Ok(socket)
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
pub fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
        || matches!(error.raw_os_error(), Some(libc::EPROTO | libc::EHOSTUNREACH | libc::ENETDOWN))
}
