//! Completions: one `io_uring` for each thread.
//!
//! ```text
//! enter: submit what the turn before has queued, wait ─► completions ─► events
//!    ▲                                                                     │
//!    └──────────── connects, sends, cancellations, closes, queued ◄────────┘
//! ```
//!
//! Each socket has a receive under way that goes on by itself and takes one of the thread's buffers
//! when something has arrived. So in the steady state a request costs one send, in a system call
//! that all sends of a turn share.
//!
//! Invariants: what the kernel may still read or write lives until the operation has completed,
//! also after its socket is closed; a completion carries the generation of its socket, so that one
//! of a closed socket gives its buffer back and does nothing else.

#![allow(unsafe_code, reason = "the kernel is handed addresses")]

mod buffers;
mod queue;

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, IntoRawFd as _, OwnedFd};
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::squeue::Flags;
use io_uring::types::Fd;
use io_uring::{cqueue, opcode};
use nix::errno::Errno;
use nix::libc;
use nix::sys::eventfd::EventFd;
use nix::sys::socket::{SockaddrIn, SockaddrIn6, SockaddrLike};
use slab::Slab;
use socket2::{SockRef, Type};

use self::buffers::{Buffers, GROUP, SCRATCH_BYTES};
use self::queue::Queue;
use super::driver::{Driver, Event, Intake, Slot};
use super::timer::Timer;

/// A send takes so much at most of what must be copied.
const COPY_BYTES_MAX: usize = 64 * 1024;
/// Empty buffers of sends that are kept for the next: about as many as a turn has sends.
const SPARE_MAX: usize = 128;

/// More than this in a turn would no longer lie in the processor's cache when it is looked at: it
/// costs less to have the peers wait than to provide more buffers.
const CACHED_BYTES: usize = 512 * 1024;

/// How much there is of what a ring shares.
struct Limits {
    /// Operations that are submitted together at most. With more, the first of them would wait long
    /// for the end of the turn, and that would count as time of the server.
    submissions: u32,
    /// What completes beyond that is kept by the kernel until there is room.
    completions: u32,
    /// Buffers to begin with: as few as stay in the processor's cache.
    buffers: u16,
    /// Where there are no more, a receive is begun anew.
    buffers_max: u16,
}

const LIMITS: Limits =
    Limits { submissions: 32, completions: 4096, buffers: 16, buffers_max: 1024 };

pub(crate) struct Ring {
    queue: Queue,
    sockets: Vec<Socket>,
    sends: Slab<Sending>,
    spare: Vec<Vec<u8>>,
    buffers: Rc<Buffers>,
    /// Completions of this turn that are not looked at yet.
    left: usize,
    /// What has been received in this turn.
    received_bytes: usize,
    timer: Timer,
    waker: Arc<EventFd>,
}

struct Socket {
    descriptor: Option<OwnedFd>,
    /// Tells the completions of this socket from those of earlier ones.
    generation: u32,
    state: State,
    intake: Intake,
    /// How much is asked for, where it receives in pieces.
    piece_bytes: usize,
    is_receiving: bool,
    /// Something was offered while a send was under way.
    is_refused: bool,
    /// The stream ends when its send has completed.
    ends: bool,
    /// The send that is under way.
    send: Option<usize>,
    /// For the connect, until that is submitted.
    address: Address,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Connecting,
    Open,
    /// It is closed when its send has completed.
    Finishing,
}

#[derive(Clone, Copy)]
enum Address {
    V4(SockaddrIn),
    V6(SockaddrIn6),
}

/// A send that has yet to complete.
struct Sending {
    slot: Slot,
    generation: u32,
    output: Output,
    range: Range<usize>,
}

enum Output {
    Copy(Vec<u8>),
    Constant(Arc<[u8]>),
}

/// What has completed. In the user data, its lowest bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Wake,
    Connect,
    Receive,
    Send,
    /// Cancellations and closes, which complete only if they fail.
    Silent,
}

pub(crate) struct Inbox {
    buffers: Rc<Buffers>,
    /// The buffer that the last event was in.
    lent: Option<u16>,
}

impl Ring {
    /// Says why there is none to be had here.
    pub(crate) fn check() -> Result<(), String> {
        let made =
            Queue::new(&LIMITS).and_then(|mut queue| Buffers::new(&mut queue, &LIMITS).map(drop));
        made.map_err(|error| refusal(&error))
    }

    fn with_limits(
        limits: &Limits,
        waker: &Arc<EventFd>,
        connections: usize,
    ) -> io::Result<(Self, Inbox)> {
        let mut queue = Queue::new(limits)?;
        let buffers = Rc::new(Buffers::new(&mut queue, limits)?);
        let mut sockets = Vec::new();
        sockets.resize_with(2 * connections, Socket::new);
        let mut driver = Self {
            queue,
            sockets,
            sends: Slab::new(),
            spare: Vec::new(),
            buffers: Rc::clone(&buffers),
            left: 0,
            received_bytes: 0,
            timer: Timer::new()?,
            waker: Arc::clone(waker),
        };
        driver.listen(WAKER);
        driver.listen(TIMER);
        Ok((driver, Inbox { buffers, lent: None }))
    }
}

impl Driver for Ring {
    type Inbox = Inbox;

    fn new(waker: &Arc<EventFd>, connections: usize) -> io::Result<(Self, Inbox)> {
        Self::with_limits(&LIMITS, waker, connections)
    }

    fn open(&mut self, slot: Slot, address: SocketAddr, intake: Intake) -> io::Result<()> {
        self.close(slot);
        // A blocking one: the ring itself waits where it would block.
        let open = || intake.socket(address, Type::STREAM);
        let is_short = |error: &io::Error| {
            [Errno::EMFILE as i32, Errno::ENFILE as i32].map(Some).contains(&error.raw_os_error())
        };
        let descriptor = match open() {
            Err(error) if is_short(&error) => {
                // What was closed in this turn is still to be submitted.
                self.queue.submit();
                open()?
            }
            opened => opened?,
        };
        let fd = Fd(descriptor.as_raw_fd());
        let socket = &mut self.sockets[slot.number()];
        let generation = socket.generation;
        *socket = Socket {
            descriptor: Some(descriptor.into()),
            generation,
            state: State::Connecting,
            intake,
            address: match address {
                SocketAddr::V4(address) => Address::V4(address.into()),
                SocketAddr::V6(address) => Address::V6(address.into()),
            },
            ..Socket::new()
        };
        let (address, length) = socket.address.raw();
        let connect = opcode::Connect::new(fd, address, length).build();
        // SAFETY: the address lies in the table of sockets, which is never moved.
        unsafe { self.queue.push(connect.user_data(Kind::Connect.of(slot, generation))) };
        Ok(())
    }

    fn receive(&mut self, slot: Slot, at_most: usize) {
        self.sockets[slot.number()].piece_bytes = at_most;
        self.submit_receive(slot);
    }

    fn socket(&self, slot: Slot) -> Option<BorrowedFd<'_>> {
        self.sockets[slot.number()].descriptor.as_ref().map(AsFd::as_fd)
    }

    fn send(&mut self, slot: Slot, output: &[u8]) -> io::Result<usize> {
        if !self.may_send(slot) {
            return Ok(0);
        }
        let count = output.len().min(COPY_BYTES_MAX);
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.extend_from_slice(&output[..count]);
        self.submit_send(slot, Output::Copy(copy), 0..count);
        Ok(count)
    }

    fn send_constant(
        &mut self,
        slot: Slot,
        constant: &Arc<[u8]>,
        range: Range<usize>,
    ) -> io::Result<usize> {
        if !self.may_send(slot) {
            return Ok(0);
        }
        let count = range.len();
        self.submit_send(slot, Output::Constant(Arc::clone(constant)), range);
        Ok(count)
    }

    fn end_stream(&mut self, slot: Slot) -> io::Result<()> {
        let socket = &mut self.sockets[slot.number()];
        // A system call would overtake what is only queued, or waits for room.
        socket.ends = socket.send.is_some();
        if socket.ends { Ok(()) } else { socket.end() }
    }

    fn finish(&mut self, slot: Slot) {
        let socket = &mut self.sockets[slot.number()];
        if socket.send.is_some() {
            socket.state = State::Finishing;
        } else {
            self.close(slot);
        }
    }

    fn close(&mut self, slot: Slot) {
        let socket = &mut self.sockets[slot.number()];
        let Some(descriptor) = socket.descriptor.take() else {
            return;
        };
        let generation = socket.generation;
        let receive = socket.is_receiving.then(|| Kind::Receive.of(slot, generation));
        let connect =
            (socket.state == State::Connecting).then(|| Kind::Connect.of(slot, generation));
        let send = socket.send.map(Kind::of_send);
        *socket = Socket { generation: (generation + 1) % GENERATIONS, ..Socket::new() };
        for operation in [receive, connect, send].into_iter().flatten() {
            // SAFETY: no address is handed over.
            unsafe { self.queue.push_silent(opcode::AsyncCancel::new(operation).build()) };
        }
        // By the ring, so that no other socket has this descriptor while operations for this one
        // are still to be submitted.
        let close = opcode::Close::new(Fd(descriptor.into_raw_fd())).build();
        // SAFETY: no address is handed over.
        unsafe { self.queue.push_silent(close) };
    }

    fn wait(&mut self, _: &mut Inbox, at_most: Duration, alarm: Option<Instant>) -> io::Result<()> {
        let wait = self.timer.arm(alarm, at_most);
        self.queue.enter(wait)?;
        self.received_bytes = 0;
        self.left = self.queue.completed();
        Ok(())
    }

    fn next<'a>(&mut self, inbox: &'a mut Inbox) -> Option<(Slot, Event<'a>)> {
        if let Some(buffer) = inbox.lent.take() {
            self.buffers.provide(buffer);
        }
        while self.left > 0 {
            self.left -= 1;
            let completion = self.queue.next()?;
            let data = completion.user_data();
            let happened = match Kind::from_data(data) {
                Kind::Receive => self.received(&completion, inbox),
                Kind::Send => self.sent(data, completion.result()),
                Kind::Connect => self.connected(data, completion.result()),
                Kind::Wake => {
                    if !cqueue::more(completion.flags()) {
                        self.listen(data);
                    }
                    None
                }
                Kind::Silent => None,
            };
            if let Some((slot, happened)) = happened {
                return Some((slot, happened.event(inbox)));
            }
        }
        None
    }

    fn leave(mut self, _: Inbox) -> Box<dyn Send> {
        // The table stays: what is not submitted yet may have addresses in it.
        let open = self.sockets.iter_mut().filter_map(|socket| socket.descriptor.take());
        Box::new(open.collect::<Vec<OwnedFd>>())
    }
}

/// An event, but for the bytes that it may come with.
enum Happened {
    Input(Option<u16>, usize),
    Other(Event<'static>),
}

impl Happened {
    fn event(self, inbox: &mut Inbox) -> Event<'_> {
        match self {
            Self::Other(event) => event,
            Self::Input(None, count) => Event::Input(inbox.buffers.counted(count)),
            Self::Input(Some(buffer), count) => {
                inbox.lent = Some(buffer);
                // SAFETY: the buffer is not provided to the kernel until the next event is asked
                // for, and until then the inbox is borrowed.
                Event::Input(unsafe { inbox.buffers.filled(buffer, count) })
            }
        }
    }
}

impl Ring {
    /// Lets the waker or the timer end waits.
    fn listen(&mut self, data: u64) {
        let descriptor = if data == TIMER { self.timer.as_fd() } else { self.waker.as_fd() };
        let fd = Fd(descriptor.as_raw_fd());
        let poll = opcode::PollAdd::new(fd, libc::POLLIN as u32).multi(true).build();
        // SAFETY: no address is handed over.
        unsafe { self.queue.push(poll.user_data(data)) };
    }

    /// The socket of a completion, if it is still in use.
    fn current(&mut self, data: u64) -> Option<(Slot, &mut Socket)> {
        let (slot, generation) = slot_and_generation(data);
        let socket = self.sockets.get_mut(slot.number())?;
        (socket.generation == generation && socket.state != State::Closed).then_some((slot, socket))
    }

    fn connected(&mut self, data: u64, result: i32) -> Option<(Slot, Happened)> {
        let (slot, socket) = self.current(data)?;
        socket.state = State::Open;
        if let Some(error) = error_of(result) {
            return Some((slot, Happened::Other(Event::Failed(error))));
        }
        if !socket.intake.in_pieces {
            self.submit_receive(slot);
        }
        Some((slot, Happened::Other(Event::Opened)))
    }

    /// Begins to receive, all that comes or a piece of it.
    fn submit_receive(&mut self, slot: Slot) {
        let socket = &mut self.sockets[slot.number()];
        let Some(descriptor) = &socket.descriptor else {
            return;
        };
        let fd = Fd(descriptor.as_raw_fd());
        let Intake { only_counted, in_pieces } = socket.intake;
        let piece_bytes = if in_pieces { socket.piece_bytes } else { SCRATCH_BYTES };
        let piece_bytes = piece_bytes.min(SCRATCH_BYTES) as u32;
        let receive = if only_counted {
            // Linux does not even copy it, so that the client of a download is not what is
            // measured.
            opcode::Recv::new(fd, self.buffers.scratch(), piece_bytes)
                .flags(libc::MSG_TRUNC)
                .build()
        } else if in_pieces {
            opcode::Recv::new(fd, ptr::null_mut(), piece_bytes)
                .buf_group(GROUP)
                .build()
                .flags(Flags::BUFFER_SELECT)
        } else {
            opcode::RecvMulti::new(fd, GROUP).build()
        };
        socket.is_receiving = true;
        let data = Kind::Receive.of(slot, socket.generation);
        // SAFETY: the buffers are freed only when no operation is under way.
        unsafe { self.queue.push(receive.user_data(data)) };
    }

    fn received(&mut self, completion: &cqueue::Entry, inbox: &Inbox) -> Option<(Slot, Happened)> {
        let result = completion.result();
        let buffer = cqueue::buffer_select(completion.flags());
        let goes_on = cqueue::more(completion.flags());
        self.received_bytes += result.max(0) as usize;
        let is_much = self.received_bytes >= CACHED_BYTES;
        let give_back = || {
            if let Some(buffer) = buffer {
                inbox.buffers.provide(buffer);
            }
        };
        let Some((slot, socket)) = self.current(completion.user_data()) else {
            give_back();
            return None;
        };
        socket.is_receiving = goes_on;
        let is_finishing = socket.state == State::Finishing;
        let is_piece = socket.intake.in_pieces && result > 0;
        let errno = Errno::from_raw(-result.min(0));
        match errno {
            Errno::ENOBUFS if !is_much => self.buffers.provide_more(),
            Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR => {}
            _ if result > 0 => {}
            _ => {
                give_back();
                let event = error_of(result).map_or(Event::Ended, Event::Failed);
                return (!is_finishing).then_some((slot, Happened::Other(event)));
            }
        }
        if !goes_on && !is_piece {
            self.submit_receive(slot);
        }
        if is_finishing || result <= 0 {
            give_back();
            return None;
        }
        Some((slot, Happened::Input(buffer, result as usize)))
    }

    /// Whether a send can be taken. If not, it will be said when.
    fn may_send(&mut self, slot: Slot) -> bool {
        let socket = &mut self.sockets[slot.number()];
        socket.is_refused = socket.send.is_some();
        socket.state == State::Open && !socket.is_refused
    }

    fn submit_send(&mut self, slot: Slot, output: Output, range: Range<usize>) {
        let socket = &mut self.sockets[slot.number()];
        let generation = socket.generation;
        let key = self.sends.insert(Sending { slot, generation, output, range });
        socket.send = Some(key);
        self.push_send(key);
    }

    /// Queues what is left of a send.
    fn push_send(&mut self, key: usize) {
        let Sending { slot, output, range, .. } = &self.sends[key];
        let Some(descriptor) = &self.sockets[slot.number()].descriptor else {
            return;
        };
        let bytes = match output {
            Output::Copy(bytes) => &bytes[range.clone()],
            Output::Constant(bytes) => &bytes[range.clone()],
        };
        let length = bytes.len().min(u32::MAX as usize) as u32;
        let send = opcode::Send::new(Fd(descriptor.as_raw_fd()), bytes.as_ptr(), length)
            .flags(libc::MSG_NOSIGNAL)
            .build();
        // SAFETY: the bytes are the send's own, or never change, and stay in the table until it has
        // completed.
        unsafe { self.queue.push(send.user_data(Kind::of_send(key))) };
    }

    fn sent(&mut self, data: u64, result: i32) -> Option<(Slot, Happened)> {
        let key = (data >> KIND_BITS) as usize;
        let send = self.sends.get_mut(key)?;
        let (slot, generation) = (send.slot, send.generation);
        let socket = &mut self.sockets[slot.number()];
        let is_current = socket.generation == generation && socket.send == Some(key);
        if result > 0 {
            send.range.start += result as usize;
        }
        let is_interrupted = [-libc::EAGAIN, -libc::EINTR].contains(&result);
        if is_current && !send.range.is_empty() && (result > 0 || is_interrupted) {
            self.push_send(key);
            return None;
        }
        if let Output::Copy(mut copy) = self.sends.remove(key).output
            && self.spare.len() < SPARE_MAX
        {
            copy.clear();
            self.spare.push(copy);
        }
        if !is_current {
            return None;
        }
        socket.send = None;
        if std::mem::take(&mut socket.ends) {
            // A socket of no more use says so by itself.
            let _ = socket.end();
        }
        if socket.state == State::Finishing {
            self.close(slot);
            return None;
        }
        if let Some(error) = error_of(result) {
            return Some((slot, Happened::Other(Event::Failed(error))));
        }
        let was_refused = std::mem::take(&mut socket.is_refused);
        was_refused.then_some((slot, Happened::Other(Event::Writable)))
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if !self.queue.cancel_all() {
            // The kernel may yet write to or read from what cannot be freed then.
            std::mem::forget(Rc::clone(&self.buffers));
            std::mem::forget(std::mem::take(&mut self.sends));
        }
    }
}

impl Socket {
    fn new() -> Self {
        Self {
            descriptor: None,
            generation: 0,
            state: State::Closed,
            intake: Intake::default(),
            piece_bytes: 0,
            is_receiving: false,
            is_refused: false,
            ends: false,
            send: None,
            address: Address::V4(SockaddrIn::new(0, 0, 0, 0, 0)),
        }
    }

    /// The peer sees the end of the stream.
    fn end(&self) -> io::Result<()> {
        let shut = |descriptor| SockRef::from(descriptor).shutdown(Shutdown::Write);
        self.descriptor.as_ref().map_or(Ok(()), shut)
    }
}

impl Address {
    fn raw(&self) -> (*const libc::sockaddr, libc::socklen_t) {
        match self {
            Self::V4(address) => (address.as_ptr(), address.len()),
            Self::V6(address) => (address.as_ptr(), address.len()),
        }
    }
}

/// User data.
const WAKER: u64 = Kind::Wake as u64;
const TIMER: u64 = 1 << KIND_BITS | WAKER;

const KIND_BITS: u32 = 3;
/// A process has at most 2³⁰ descriptors, and so fewer than 2³¹ slots.
const SLOT_BITS: u32 = 31;
/// As many as there is room for.
const GENERATIONS: u32 = 1 << (u64::BITS - KIND_BITS - SLOT_BITS);

/// Of an operation of a socket, from its user data.
fn slot_and_generation(data: u64) -> (Slot, u32) {
    let slot = data >> KIND_BITS & ((1 << SLOT_BITS) - 1);
    (Slot::from_number(slot as usize), (data >> (KIND_BITS + SLOT_BITS)) as u32)
}

impl Kind {
    /// The user data of an operation of a socket.
    fn of(self, slot: Slot, generation: u32) -> u64 {
        let socket = u64::from(generation) << SLOT_BITS | slot.number() as u64;
        socket << KIND_BITS | self as u64
    }

    fn of_send(key: usize) -> u64 {
        (key as u64) << KIND_BITS | Self::Send as u64
    }

    fn from_data(data: u64) -> Self {
        let all = [Self::Wake, Self::Connect, Self::Receive, Self::Send, Self::Silent];
        all[(data & ((1 << KIND_BITS) - 1)) as usize]
    }
}

/// Why there is no ring, in words.
fn refusal(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOSYS) => "this kernel has no io_uring".to_owned(),
        Some(Errno::EPERM | Errno::EACCES) => {
            "io_uring is forbidden here, by kernel.io_uring_disabled or a seccomp filter".to_owned()
        }
        Some(Errno::EINVAL) => "the io_uring of this kernel is older than Linux 6.1".to_owned(),
        _ => format!("no io_uring can be made: {error}"),
    }
}

fn error_of(result: i32) -> Option<io::Error> {
    (result < 0).then(|| io::Error::from_raw_os_error(-result))
}

/// One that lacks entries and buffers all the time.
#[cfg(test)]
pub(super) fn short_of_everything(
    waker: &Arc<EventFd>,
    connections: usize,
) -> io::Result<(Ring, Inbox)> {
    let limits = Limits { submissions: 2, completions: 2, buffers: 1, buffers_max: 2 };
    Ring::with_limits(&limits, waker, connections)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Channel;

    #[test]
    fn user_data_come_back_as_they_went() {
        for channel in [Channel::Control, Channel::Data] {
            let slot = Slot::new((1 << 30) - 1, channel);
            let data = Kind::Receive.of(slot, GENERATIONS - 1);
            assert_eq!(slot_and_generation(data), (slot, GENERATIONS - 1));
            assert_eq!(Kind::from_data(data), Kind::Receive);
        }
    }

    #[test]
    fn why_there_is_no_ring_is_said_in_words() {
        let said = |errno| refusal(&io::Error::from_raw_os_error(errno));
        assert!(said(libc::ENOSYS).contains("no io_uring"));
        assert!(said(libc::EPERM).contains("kernel.io_uring_disabled"));
        assert!(said(libc::EINVAL).contains("Linux 6.1"));
        assert!(said(libc::ENOMEM).contains("memory"));
    }
}
