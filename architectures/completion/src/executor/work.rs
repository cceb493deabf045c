//! The two connections of a conversation, and each action submitted once.
//!
//! **Invariant:** what an operation has the address of lives in its [`Work`], in the ring, or in
//! the session that waits for it, until it has completed.

mod completed;

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use common::job::Job;
use common::ports::PortRange;
use common::session::{Action, Chan, Event};
use common::sockets::{listen_beside, socket_beside};
use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fd, Timespec};
use nix::libc;
use socket2::SockAddr;

use super::buffers::Filled;
use super::channel::{Channel, Tried};
use super::files::FileJob;
use super::ring::{Kind, PIECE_BYTES, PIPE_BYTES, Pipe, Ring};

pub(crate) use completed::Outcome;

/// What is under way for a session.
pub(crate) enum Work {
    /// Bytes of the session are sent.
    Send,
    /// Records of this connection are sent.
    Flush(Chan),
    /// Input of the data connection is awaited.
    Receive,
    /// A piece of input is written to a file.
    WriteFile {
        source: Source,
        written: usize,
        file: RawFd,
        offset: u64,
    },
    /// A piece of a file is moved into a pipe.
    FillPipe {
        to: Chan,
        pipe: Pipe,
    },
    /// And on to the socket.
    EmptyPipe {
        to: Chan,
        pipe: Pipe,
        left: usize,
        sent: usize,
    },
    /// A piece of a file is read.
    ReadFile {
        to: Chan,
        piece: Vec<u8>,
    },
    /// And sent.
    SendPiece {
        piece: Vec<u8>,
    },
    Accept,
    Connect(#[expect(dead_code, reason = "the kernel reads it")] Box<SockAddr>),
    Pause(#[expect(dead_code, reason = "the kernel reads it")] Box<Timespec>),
    /// A job on the ring.
    File(Box<FileJob>),
    /// A job on a thread.
    Job,
}

/// Where a piece of input lies.
pub(crate) enum Source {
    /// In a provided buffer.
    Buffer(Filled),
    /// In one of our own, because it was decrypted.
    Piece(Vec<u8>),
}

/// What is to be done now.
pub(crate) enum Step {
    /// Tell the session.
    Event(Event<'static>),
    /// Tell the session what the ring's text has been filled with from there; if it is empty, the
    /// end of the stream.
    Text(Chan),
    /// Wait for this.
    Work(Work),
    /// Wait for more control input.
    Input,
    /// Have this done.
    Job(Job),
    /// Ask the session again.
    Again,
}

/// The connections.
pub(crate) struct Channels {
    pub(crate) control: Channel,
    pub(crate) data: Option<Channel>,
    /// The port that a data connection is awaited on.
    port: Option<TcpListener>,
    /// In the user data of what is submitted.
    key: usize,
}

impl Channels {
    pub(crate) fn new(control: TcpStream, key: usize) -> Self {
        Channels { control: Channel::new(control), data: None, port: None, key }
    }

    fn of(&mut self, chan: Chan) -> io::Result<&mut Channel> {
        match chan {
            Chan::Control => Ok(&mut self.control),
            Chan::Data => self.data.as_mut().ok_or(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Closes at once, and says nothing.
    pub(crate) fn close_data(&mut self) {
        (self.data, self.port) = (None, None);
    }

    /// Begins what a session waits for, if it is for sockets; `last` if its words on `Control` are.
    pub(crate) fn start(&mut self, action: &Action<'_>, more: bool, ring: &mut Ring) -> Step {
        let step = match *action {
            Action::Read(Chan::Control) => Ok(self.read_control(ring)),
            Action::Read(Chan::Data) => self.read_data(ring),
            Action::Write(to, bytes) => self.write(to, bytes, more, ring),
            Action::SendFile { to, file, offset, length } => {
                self.read_file(to, file, offset, length, ring)
            }
            Action::ReceiveFile { file, offset, .. } => self.receive_file(file, offset, ring),
            Action::StartTls(chan, config) => {
                let tried = self.of(chan).map(|channel| channel.shake_hands(chan, config));
                tried.map(|tried| self.secured(chan, tried, Step::Event(Event::Secured), ring))
            }
            Action::Listen(ports) => self.listen(ports),
            Action::Accept => self.accept(ring),
            Action::Connect(address) => self.connect(address, ring),
            Action::Close(_) => self.close(ring),
            Action::Pause | Action::Run(_) | Action::End => {
                unreachable!("these are for the executor itself")
            }
        };
        step.unwrap_or_else(|error| Step::Event(Event::Failed(error)))
    }

    /// Records that wait to be sent go first, but for those of a write, whose session is asked
    /// whether it still wants it.
    pub(crate) fn flush(&mut self, ring: &mut Ring) -> Option<Work> {
        let waits = |channel: &&Channel| channel.unsent().is_some_and(|(_, owed)| owed == 0);
        let data = self.data.as_ref().filter(waits).map(|_| Chan::Data);
        let chan = data.or(Some(&self.control).filter(waits).map(|_| Chan::Control))?;
        Some(self.send_records(chan, ring))
    }

    fn send_records(&mut self, chan: Chan, ring: &mut Ring) -> Work {
        let channel = self.of(chan).expect("it has records");
        let (records, _) = channel.unsent().expect("it has records");
        let entry = send(&channel.socket, records, 0);
        // SAFETY: the outbox is not touched before the records are sent.
        unsafe { ring.push(entry, Kind::Work, self.key) };
        Work::Flush(chan)
    }

    /// What a step of TLS came to. Its records are sent before it is answered: it is then tried
    /// again, and has nothing to do.
    fn secured(&mut self, chan: Chan, tried: Tried, done: Step, ring: &mut Ring) -> Step {
        let has_records = self.of(chan).is_ok_and(|channel| channel.unsent().is_some());
        match (tried, chan) {
            (Tried::Failed(error), _) => Step::Event(Event::Failed(error)),
            _ if has_records => Step::Work(self.send_records(chan, ring)),
            (Tried::Done, _) => done,
            (Tried::NotYet, Chan::Control) => Step::Input,
            (Tried::NotYet, Chan::Data) => self.receive(ring),
        }
    }

    /// What has arrived on the control connection, if it has.
    pub(crate) fn read_control(&mut self, ring: &mut Ring) -> Step {
        ring.text.clear();
        if self.control.secured.is_some() {
            let tried = self.control.decrypt(&mut ring.text);
            return match tried {
                Tried::Done => Step::Text(Chan::Control),
                // Many clients leave without a word for it, and nothing hangs on it here.
                Tried::Failed(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Step::Text(Chan::Control)
                }
                Tried::Failed(error) => Step::Event(Event::Failed(error)),
                Tried::NotYet => Step::Input,
            };
        }
        let inbox = &mut self.control.inbox;
        if inbox.len() == 0 && !inbox.ended {
            return Step::Input;
        }
        if inbox.len() == 0
            && let Some(error) = inbox.error.take()
        {
            return Step::Event(Event::Failed(error));
        }
        inbox.take(&mut ring.text);
        Step::Text(Chan::Control)
    }

    fn read_data(&mut self, ring: &mut Ring) -> io::Result<Step> {
        let channel = self.of(Chan::Data)?;
        if channel.secured.is_none() {
            return Ok(self.receive(ring));
        }
        ring.text.clear();
        let tried = channel.decrypt(&mut ring.text);
        Ok(self.secured(Chan::Data, tried, Step::Text(Chan::Data), ring))
    }

    /// Has the kernel take a buffer when something has arrived.
    fn receive(&mut self, ring: &mut Ring) -> Step {
        let data = self.data.as_ref().expect("who reads is connected");
        let receive = opcode::Recv::new(fd(&data.socket), std::ptr::null_mut(), 0);
        let entry = receive.buf_group(ring.data.group()).build().flags(Flags::BUFFER_SELECT);
        // SAFETY: its buffer is the ring's.
        unsafe { ring.push(entry, Kind::Work, self.key) };
        Step::Work(Work::Receive)
    }

    fn write(&mut self, to: Chan, bytes: &[u8], more: bool, ring: &mut Ring) -> io::Result<Step> {
        let channel = self.of(to)?;
        if channel.secured.is_some() {
            if channel.unsent().is_none() {
                channel.encrypt(bytes)?;
            }
            return Ok(Step::Work(self.send_records(to, ring)));
        }
        // They wait for what follows at once, be it the end, to leave in one packet with it.
        let flags = if more && to == Chan::Control { libc::MSG_MORE } else { 0 };
        let entry = send(&channel.socket, bytes, flags);
        // SAFETY: what a session lends stays until it is answered.
        unsafe { ring.push(entry, Kind::Work, self.key) };
        Ok(Step::Work(Work::Send))
    }

    fn read_file(
        &mut self,
        to: Chan,
        file: &File,
        offset: u64,
        length: u64,
        ring: &mut Ring,
    ) -> io::Result<Step> {
        let channel = self.of(to)?;
        // A copy costs less than two threads of the kernel, if it is short.
        if channel.secured.is_none()
            && length > PIECE_BYTES as u64
            && let Some(pipe) = ring.take_pipe()
        {
            // The kernel's thread is to wait for the client, not for what such sockets inherit.
            channel.socket.set_write_timeout(None)?;
            let length = length.min(PIPE_BYTES as u64) as u32;
            let (from, into) = (fd(file), fd(&pipe.input));
            let splice = opcode::Splice::new(from, offset as i64, into, -1, length).build();
            // SAFETY: no address is handed over.
            unsafe { ring.push(splice, Kind::Work, self.key) };
            return Ok(Step::Work(Work::FillPipe { to, pipe }));
        }
        if channel.unsent().is_some() {
            return Ok(Step::Work(self.send_records(to, ring)));
        }
        let mut piece = ring.take_piece();
        piece.resize(length.min(PIECE_BYTES as u64) as usize, 0);
        let read = opcode::Read::new(fd(file), piece.as_mut_ptr(), piece.len() as u32);
        // SAFETY: the piece is kept until it is read.
        unsafe { ring.push(read.offset(offset).build(), Kind::Work, self.key) };
        Ok(Step::Work(Work::ReadFile { to, piece }))
    }

    fn receive_file(&mut self, file: &File, offset: u64, ring: &mut Ring) -> io::Result<Step> {
        let channel = self.of(Chan::Data)?;
        if channel.secured.is_none() {
            return Ok(self.receive(ring));
        }
        let mut piece = ring.take_piece();
        let tried = channel.decrypt(&mut piece);
        if !matches!(tried, Tried::Done) || piece.is_empty() {
            ring.put_back(piece);
            let end = Step::Event(Event::Received(0));
            return Ok(self.secured(Chan::Data, tried, end, ring));
        }
        let (file, source) = (file.as_raw_fd(), Source::Piece(piece));
        Ok(Step::Work(self.write_file(source, 0, file, offset, ring)))
    }

    /// Has what was not written yet of a piece written.
    fn write_file(
        &mut self,
        source: Source,
        written: usize,
        file: RawFd,
        offset: u64,
        ring: &mut Ring,
    ) -> Work {
        let rest = &source.bytes()[written..];
        let write = opcode::Write::new(Fd(file), rest.as_ptr(), rest.len() as u32);
        let entry = write.offset(offset + written as u64).build();
        // SAFETY: the piece is kept until it is written.
        unsafe { ring.push(entry, Kind::Work, self.key) };
        Work::WriteFile { source, written, file, offset }
    }

    /// Moves what a pipe holds to the socket.
    fn empty_pipe(
        &mut self,
        to: Chan,
        pipe: Pipe,
        (left, sent): (usize, usize),
        ring: &mut Ring,
    ) -> io::Result<Step> {
        let (from, into) = (fd(&pipe.output), fd(&self.of(to)?.socket));
        let splice = opcode::Splice::new(from, -1, into, -1, left as u32).build();
        // SAFETY: no address is handed over.
        unsafe { ring.push(splice, Kind::Work, self.key) };
        Ok(Step::Work(Work::EmptyPipe { to, pipe, left, sent }))
    }

    /// A piece of a file has been read: it is sent.
    fn send_piece(&mut self, to: Chan, piece: Vec<u8>, ring: &mut Ring) -> io::Result<Step> {
        let channel = self.of(to)?;
        if channel.secured.is_some() {
            let encrypted = channel.encrypt(&piece);
            ring.put_back(piece);
            encrypted?;
            return Ok(Step::Work(self.send_records(to, ring)));
        }
        // All of it, so that nothing of it is read again.
        let entry = send(&channel.socket, &piece, libc::MSG_WAITALL);
        // SAFETY: the piece is kept until it is sent.
        unsafe { ring.push(entry, Kind::Work, self.key) };
        Ok(Step::Work(Work::SendPiece { piece }))
    }

    fn listen(&mut self, ports: Option<PortRange>) -> io::Result<Step> {
        self.close_data();
        let port = listen_beside(&self.control.socket, ports)?;
        // The ring waits by itself, and would take the flag for a wish not to.
        port.set_nonblocking(false)?;
        let address = port.local_addr()?;
        self.port = Some(port);
        Ok(Step::Event(Event::Listening(address)))
    }

    fn accept(&mut self, ring: &mut Ring) -> io::Result<Step> {
        self.data = None;
        let port = self.port.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let nobody = std::ptr::null_mut();
        let accept = opcode::Accept::new(fd(port), nobody, nobody.cast());
        // SAFETY: no address is asked for.
        unsafe { ring.push(accept.flags(libc::SOCK_CLOEXEC).build(), Kind::Work, self.key) };
        Ok(Step::Work(Work::Accept))
    }

    fn connect(&mut self, address: SocketAddr, ring: &mut Ring) -> io::Result<Step> {
        self.close_data();
        let socket = socket_beside(&self.control.socket, address)?;
        socket.set_nonblocking(false)?;
        let address = Box::new(SockAddr::from(address));
        let entry = opcode::Connect::new(fd(&socket), address.as_ptr().cast(), address.len());
        // SAFETY: the address is kept until it is connected to.
        unsafe { ring.push(entry.build(), Kind::Work, self.key) };
        self.data = Some(Channel::new(socket.into()));
        Ok(Step::Work(Work::Connect(address)))
    }

    /// Tells the peer of a secured connection that nothing more comes, and then whether the
    /// connection has been in order until its end: if a reset has arrived, bytes that were sent are
    /// not where they belong. A peer that has said all that it had to say may be gone.
    fn close(&mut self, ring: &mut Ring) -> io::Result<Step> {
        let Some(data) = &mut self.data else {
            self.close_data();
            return Ok(Step::Event(Event::Closed));
        };
        let said = data.close();
        if let Tried::Done = said
            && data.unsent().is_some()
        {
            return Ok(Step::Work(self.send_records(Chan::Data, ring)));
        }
        let in_order = data.has_said_its_end();
        let error = data.socket.take_error()?.filter(|_| !in_order);
        self.close_data();
        error.map_or(Ok(Step::Event(Event::Closed)), Err)
    }

    /// Waits for so long.
    pub(crate) fn pause(&mut self, time: Duration, ring: &mut Ring) -> Work {
        let time = Box::new(Timespec::from(time));
        // SAFETY: the time is kept until it has passed.
        unsafe { ring.push(opcode::Timeout::new(&raw const *time).build(), Kind::Work, self.key) };
        Work::Pause(time)
    }
}

impl Work {
    /// Files are read and written without waiting for anybody.
    pub(crate) fn may_be_cancelled(&self) -> bool {
        let is_for_files = matches!(self, Work::FillPipe { .. } | Work::ReadFile { .. });
        let is_for_files = is_for_files || matches!(self, Work::WriteFile { .. } | Work::File(_));
        !(is_for_files || matches!(self, Work::Job))
    }

    /// Whether its session, asked again, will name it again.
    pub(crate) fn can_be_repeated(&self) -> bool {
        !matches!(self, Work::WriteFile { .. } | Work::File(_))
    }

    /// It was cancelled, interrupted, or had no buffer. If it is past being asked for again, with
    /// what it has moved by then, it is handed back.
    pub(crate) fn interrupted(self, ring: &mut Ring) -> Option<Self> {
        match self {
            Work::EmptyPipe { sent: 1.., .. } => return Some(self),
            Work::ReadFile { piece, .. } | Work::SendPiece { piece } => ring.put_back(piece),
            _ => {}
        }
        None
    }
}

impl Source {
    fn bytes(&self) -> &[u8] {
        match self {
            Source::Buffer(filled) => filled,
            Source::Piece(piece) => piece,
        }
    }

    /// Gives back where it lay.
    fn give_back(self, ring: &mut Ring) {
        if let Source::Piece(piece) = self {
            ring.put_back(piece);
        }
    }
}

fn fd(descriptor: &impl AsRawFd) -> Fd {
    Fd(descriptor.as_raw_fd())
}

fn send(socket: &TcpStream, bytes: &[u8], flags: i32) -> Entry {
    let send = opcode::Send::new(fd(socket), bytes.as_ptr(), bytes.len() as u32);
    send.flags(flags | libc::MSG_NOSIGNAL).build()
}
