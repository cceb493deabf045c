//! Readiness: edge-triggered epoll by mio.
//!
//! Invariants: a short read has drained the socket, unless the stream has an end to be read as
//! well, of which no further edge would tell; a socket that has more to read or to write than its
//! share of a turn lets the others go first.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::errno::Errno;
use nix::sys::eventfd::EventFd;
use nix::sys::socket::{MsgFlags, recv};
use socket2::Type;

use super::driver::{Driver, Event, Intake, Slot};
use super::timer::Timer;

const WAKE: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);

const BUFFER_BYTES: usize = 256 * 1024;
const EVENTS: usize = 1024;
/// A socket that has more to read than so many buffers lets the others go first.
const READS_PER_TURN: usize = 8;
/// So does one that takes more than so many writes.
const WRITES_PER_TURN: usize = 8;

pub(crate) struct Epoll {
    poll: Poll,
    sockets: Vec<Socket>,
    /// What goes on in the next turn without a new event.
    unfinished: Vec<Ready>,
    timer: Timer,
    /// Registered; must stay open.
    _waker: Arc<EventFd>,
}

#[derive(Default)]
struct Socket {
    stream: Option<TcpStream>,
    /// Tells the events of this socket from those of earlier ones.
    generation: u32,
    is_open: bool,
    intake: Intake,
    /// How much is asked for, where it receives in pieces.
    piece_bytes: usize,
    /// It has taken less than it was offered.
    is_blocked: bool,
    /// Since the last event.
    writes: usize,
}

/// What one socket is ready for.
#[derive(Clone, Copy)]
struct Ready {
    slot: Slot,
    generation: u32,
    has_failed: bool,
    writable: bool,
    readable: Readable,
    /// In this turn.
    reads: usize,
}

impl Ready {
    fn nothing(slot: Slot, generation: u32) -> Self {
        let (has_failed, writable, readable, reads) = (false, false, Readable::No, 0);
        Self { slot, generation, has_failed, writable, readable, reads }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Readable {
    No,
    /// Until a read comes up short.
    Some,
    /// Until its end.
    ToTheEnd,
}

pub(crate) struct Inbox {
    events: Events,
    ready: Vec<Ready>,
    /// How much of `ready` is done.
    done: usize,
    buffer: Vec<u8>,
}

impl Driver for Epoll {
    type Inbox = Inbox;

    fn new(waker: &Arc<EventFd>, connections: usize) -> io::Result<(Self, Inbox)> {
        let poll = Poll::new()?;
        let descriptor = waker.as_fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&descriptor), WAKE, Interest::READABLE)?;
        let timer = Timer::new()?;
        let descriptor = timer.as_fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&descriptor), TIMER, Interest::READABLE)?;
        let mut sockets = Vec::new();
        sockets.resize_with(2 * connections, Socket::default);
        let driver =
            Self { poll, timer, sockets, unfinished: Vec::new(), _waker: Arc::clone(waker) };
        let inbox = Inbox {
            events: Events::with_capacity(EVENTS),
            ready: Vec::with_capacity(EVENTS),
            done: 0,
            buffer: vec![0; BUFFER_BYTES],
        };
        Ok((driver, inbox))
    }

    fn open(&mut self, slot: Slot, address: SocketAddr, intake: Intake) -> io::Result<()> {
        self.close(slot);
        let socket = &mut self.sockets[slot.number()];
        let stream = intake.socket(address, Type::STREAM.nonblocking())?;
        match stream.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => {
                return Err(error);
            }
            _ => {}
        }
        let mut stream = TcpStream::from_std(stream.into());
        let token = pack(slot, socket.generation);
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, token, interest)?;
        let generation = socket.generation;
        *socket = Socket { stream: Some(stream), generation, intake, ..Socket::default() };
        Ok(())
    }

    fn receive(&mut self, slot: Slot, at_most: usize) {
        let socket = &mut self.sockets[slot.number()];
        socket.piece_bytes = at_most;
        let ready = Ready { readable: Readable::Some, ..Ready::nothing(slot, socket.generation) };
        self.unfinished.push(ready);
    }

    fn socket(&self, slot: Slot) -> Option<BorrowedFd<'_>> {
        self.sockets[slot.number()].stream.as_ref().map(AsFd::as_fd)
    }

    fn send(&mut self, slot: Slot, output: &[u8]) -> io::Result<usize> {
        let socket = &mut self.sockets[slot.number()];
        let Some(stream) = socket.stream.as_mut().filter(|_| !socket.is_blocked) else {
            return Ok(0);
        };
        if socket.writes == WRITES_PER_TURN {
            socket.is_blocked = true;
            let ready = Ready { writable: true, ..Ready::nothing(slot, socket.generation) };
            self.unfinished.push(ready);
            return Ok(0);
        }
        socket.writes += 1;
        let count = loop {
            match stream.write(output) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break 0,
                written => break written?,
            }
        };
        socket.is_blocked = count < output.len();
        Ok(count)
    }

    fn send_constant(
        &mut self,
        slot: Slot,
        constant: &Arc<[u8]>,
        range: Range<usize>,
    ) -> io::Result<usize> {
        self.send(slot, &constant[range])
    }

    fn finish(&mut self, slot: Slot) {
        // What was taken is with the kernel, which sends it before the end.
        self.close(slot);
    }

    fn close(&mut self, slot: Slot) {
        let socket = &mut self.sockets[slot.number()];
        if socket.stream.take().is_some() {
            socket.generation = socket.generation.wrapping_add(1);
        }
    }

    fn wait(
        &mut self,
        inbox: &mut Inbox,
        mut at_most: Duration,
        alarm: Option<Instant>,
    ) -> io::Result<()> {
        if !self.unfinished.is_empty() {
            at_most = Duration::ZERO;
        }
        at_most = self.timer.arm(alarm, at_most);
        match self.poll.poll(&mut inbox.events, Some(at_most)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        inbox.done = 0;
        inbox.ready.clear();
        inbox.ready.append(&mut self.unfinished);
        for event in inbox.events.iter().filter(|event| ![WAKE, TIMER].contains(&event.token())) {
            let (slot, generation) = unpack(event.token());
            inbox.ready.push(Ready {
                has_failed: event.is_error(),
                writable: event.is_writable(),
                readable: match (event.is_read_closed(), event.is_readable()) {
                    (true, _) => Readable::ToTheEnd,
                    (false, true) => Readable::Some,
                    (false, false) => Readable::No,
                },
                ..Ready::nothing(slot, generation)
            });
        }
        Ok(())
    }

    fn next<'a>(&mut self, inbox: &'a mut Inbox) -> Option<(Slot, Event<'a>)> {
        let Inbox { ready, done, buffer, .. } = inbox;
        loop {
            let ready = ready.get_mut(*done)?;
            let socket = &mut self.sockets[ready.slot.number()];
            let happened = if socket.generation == ready.generation {
                socket.happened(ready, buffer)
            } else {
                None
            };
            match happened {
                None => *done += 1,
                Some(Happened::Input(count)) => {
                    if ready.readable != Readable::No && ready.reads == READS_PER_TURN {
                        self.unfinished.push(Ready { reads: 0, ..*ready });
                        *done += 1;
                    }
                    return Some((ready.slot, Event::Input(&buffer[..count])));
                }
                Some(Happened::Other(event)) => return Some((ready.slot, event)),
            }
        }
    }

    fn leave(self, _: Inbox) -> Box<dyn Send> {
        Box::new(self.sockets)
    }
}

enum Happened {
    Input(usize),
    Other(Event<'static>),
}

impl Socket {
    /// Does one thing of those that the socket is ready for; `None` if there is none left.
    fn happened(&mut self, ready: &mut Ready, buffer: &mut [u8]) -> Option<Happened> {
        let stream = self.stream.as_mut()?;
        self.writes = 0;
        if !self.is_open {
            if ready.has_failed {
                *ready =
                    Ready { has_failed: false, writable: false, readable: Readable::No, ..*ready };
                let error = stream.take_error().unwrap_or_else(Some);
                let error = error.unwrap_or_else(|| io::ErrorKind::NotConnected.into());
                return Some(Happened::Other(Event::Failed(error)));
            }
            if !ready.writable {
                return None;
            }
            (self.is_open, ready.writable) = (true, false);
            return Some(Happened::Other(Event::Opened));
        }
        if std::mem::take(&mut ready.writable) && std::mem::take(&mut self.is_blocked) {
            return Some(Happened::Other(Event::Writable));
        }
        // What is not asked for yet is looked for again when it is.
        let is_asked = !self.intake.in_pieces || self.piece_bytes > 0;
        if ready.readable == Readable::No || !is_asked {
            return None;
        }
        let length = if self.intake.in_pieces { self.piece_bytes } else { buffer.len() };
        let buffer = &mut buffer[..length.min(BUFFER_BYTES)];
        let read = loop {
            let read = if self.intake.only_counted {
                // Linux does not even copy it, so that the client of a download is not what is
                // measured.
                recv(stream.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC).map_err(io::Error::from)
            } else {
                stream.read(buffer)
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        ready.reads += 1;
        let is_drained = match &read {
            Ok(count) if ready.readable == Readable::Some => *count < buffer.len(),
            Ok(count) => *count == 0,
            Err(_) => true,
        };
        if is_drained || self.intake.in_pieces {
            ready.readable = Readable::No;
        }
        if read.is_ok() {
            self.piece_bytes = 0;
        }
        match read {
            Ok(0) => Some(Happened::Other(Event::Ended)),
            Ok(count) => Some(Happened::Input(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Happened::Other(Event::Failed(error))),
        }
    }
}

/// The generation in the upper half, the slot in the lower.
fn pack(slot: Slot, generation: u32) -> Token {
    Token((generation as usize) << 32 | slot.number())
}

fn unpack(token: Token) -> (Slot, u32) {
    (Slot::from_number(token.0 & 0xffff_ffff), (token.0 >> 32) as u32)
}
