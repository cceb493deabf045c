//! The contract between a protocol and whatever runs it.
//!
//! A [`Session`] is one conversation with one client, as a state machine: it says what it waits for
//! ([`Action`]) and is told how that turned out ([`Event`]).
//!
//! **Invariant:** a protocol knows no sockets, no clock and no threads. Everything it learns of the
//! world arrives in [`Session::handle`]; the time of day comes from [`Settings::now`].

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::guestbook::Guestbook;
use crate::job::{Done, Job, Root};
use crate::ports::{Passive, PortRange};
use crate::users::Users;

/// One conversation with one client.
pub trait Session: Send {
    /// Names the one thing this session waits for. Stable until [`handle`](Self::handle): asking
    /// twice changes nothing, but for [`Action::Run`], whose job is handed over once and
    /// answered before the session is asked again.
    fn poll(&mut self) -> Action<'_>;

    /// How that thing turned out, or input on the control connection beside it.
    fn handle(&mut self, event: Event<'_>);

    /// How long the present phase of the conversation may last before [`Event::TimedOut`].
    fn deadline(&self) -> Deadline;

    /// How many requests have been begun so far, of whatever kind the protocol has: commands,
    /// messages. It may wrap around.
    fn requests(&self) -> u32;

    /// Whether what is now to be written on `Control` is the last that is said there: nothing but
    /// [`Action::Close`] or [`Action::End`] follows. The executor may then have it leave together
    /// with the end of the stream, which saves a packet for each connection.
    fn has_last_words(&self) -> bool {
        false
    }

    /// Whether what is now to be written on `Control` is followed by more at once, without waiting
    /// for anything: a head by its file. The executor may hold it back until then, which saves a
    /// packet.
    fn more_follows(&self) -> bool {
        false
    }

    /// Whether the input that is waited for with `Read(Control)` belongs to something that has
    /// begun, such as an upload. Then a leaving server lets it come to its end, and
    /// [`Event::Drain`] waits for the next request.
    fn is_receiving(&self) -> bool {
        false
    }

    /// Whether input on `Control` is wanted while an action on `Data`, or a pause, is pending: that
    /// is how ABOR, STAT, QUIT and a vanished client are seen during a transfer. A session whose
    /// queue of commands is full answers `false`, and the peer waits by TCP's own flow control.
    fn accepts_control(&self) -> bool {
        false
    }
}

/// The time that a phase may take. The clock starts anew when `phase` changes, so that a client
/// which sends a byte of its request now and then (slowloris) does not buy time with each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// Differs from the one before when a new phase has begun. Compared for equality only; it may
    /// wrap around.
    pub phase: u32,
    /// How long this phase may last from its start.
    pub limit: Duration,
}

/// With what a server secures its connections: its certificate and its key. Sessions know only that
/// it is there, and lend it.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// For [`Chan::Control`], where the client is given tickets by which it can resume the session
    /// on another connection.
    pub control: Arc<rustls::ServerConfig>,
    /// For [`Chan::Data`], where it is given none: a client that only sends would not read them,
    /// and closing a connection with something unread in it resets it, and loses what was
    /// sent.
    pub data: Arc<rustls::ServerConfig>,
}

impl TlsConfig {
    /// The one for this connection.
    pub fn of(&self, chan: Chan) -> &Arc<rustls::ServerConfig> {
        match chan {
            Chan::Control => &self.control,
            Chan::Data => &self.data,
        }
    }
}

/// The two connections that a session can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chan {
    /// The accepted connection. Dropping the session closes it.
    Control,
    /// The second one: FTP's data connection (RFC 959 §3.2), HTTP's call to its backend.
    Data,
}

/// What a session waits for. What it lends (bytes, a file) stays untouched until the action is
/// answered, also while control input is handled meanwhile: a completion-based executor has given
/// its address to the kernel.
///
/// If, after control input, [`Session::poll`] names another action, the executor abandons the
/// pending one and answers only the new one: that is how ABOR cuts a transfer.
#[derive(Debug)]
pub enum Action<'a> {
    /// Wait for input. Answered by [`Event::Read`].
    Read(Chan),
    /// Send bytes, never an empty slice. Answered by [`Event::Wrote`], which may be short.
    Write(Chan, &'a [u8]),
    /// Send `length` bytes (more than zero) of `file` from `offset`. Answered by [`Event::Wrote`],
    /// which may be short; `Wrote(0)` says that the file ended early.
    SendFile {
        /// Where to.
        to: Chan,
        /// A regular file, open for reading.
        file: &'a File,
        /// In bytes from the start of the file.
        offset: u64,
        /// In bytes.
        length: u64,
    },
    /// Move input into `file` at `offset`. Answered by [`Event::Received`].
    ReceiveFile {
        /// Where from.
        from: Chan,
        /// A regular file, open for writing.
        file: &'a File,
        /// In bytes from the start of the file.
        offset: u64,
    },
    /// Open a port for one data connection, on the address that the client reached us at, and one
    /// of these, whichever is free, if they are said. Replaces whatever `Data` was. Answered by
    /// [`Event::Listening`].
    Listen(Option<PortRange>),
    /// Wait for a data connection on that port. Asked again after [`Event::Opened`], the executor
    /// drops the connection it had accepted and waits for another: that is how a stranger is
    /// turned away. Answered by [`Event::Opened`].
    Accept,
    /// Open the data connection to this address, from the address that the client reached us at if
    /// that is of the same family and not loopback. Replaces whatever `Data` was. Answered by
    /// [`Event::Opened`].
    Connect(SocketAddr),
    /// Secure a connection, which is open, with TLS: from then on what is read and written is what
    /// was meant. Answered by [`Event::Secured`].
    StartTls(Chan, &'a TlsConfig),
    /// Close a connection. `Close(Data)` closes its port too; a channel that is not open is closed
    /// already. Where it is secured, and its peer reads nothing, it takes as long as the phase
    /// lasts at most, and no control input is delivered beside it. `Close(Control)` is for a
    /// session whose last words shall arrive although its client may still be sending: the
    /// executor ends our side, and discards for a bounded time what comes (RFC 9112 §9.6); only
    /// [`Action::End`] may follow. Answered by [`Event::Closed`].
    Close(Chan),
    /// Wait for nothing but the end of the present phase: that is how a client is made to wait
    /// without holding up anybody else. Answered by [`Event::TimedOut`].
    Pause,
    /// Do something that blocks or burns CPU; the architecture decides where. Answered by
    /// [`Event::Ran`].
    Run(Job),
    /// The conversation is over.
    End,
}

impl Action<'_> {
    /// Whether control input is to be seen while this is pending, if the session accepts it.
    pub fn admits_control(&self) -> bool {
        match self {
            Action::Read(chan)
            | Action::Write(chan, _)
            | Action::SendFile { to: chan, .. }
            | Action::ReceiveFile { from: chan, .. }
            | Action::StartTls(chan, _) => *chan == Chan::Data,
            Action::Accept | Action::Connect(_) | Action::Pause => true,
            Action::Listen(_) | Action::Close(_) | Action::Run(_) | Action::End => false,
        }
    }
}

/// How an action turned out.
#[derive(Debug)]
pub enum Event<'a> {
    /// Input on a connection, never to be had again: the session keeps what it cannot use yet.
    /// Empty at the end of the stream. `Read(Control, …)` also arrives beside a pending action
    /// on `Data`, or a pause, where [`Session::accepts_control`] says so; there an error on
    /// `Control` counts as the end of its stream.
    Read(Chan, &'a [u8]),
    /// That many bytes were sent.
    Wrote(usize),
    /// That many bytes were moved into the file; 0 is the end of the stream.
    Received(usize),
    /// The port is open, at this address.
    Listening(SocketAddr),
    /// The data connection is there, with this peer.
    Opened(SocketAddr),
    /// The connection is secured.
    Secured,
    /// The connection is closed.
    Closed,
    /// The job is done.
    Ran(Done),
    /// The action, whichever it was, failed.
    Failed(io::Error),
    /// The present phase outlasted its [`Deadline`].
    TimedOut,
    /// The server is leaving: finish what runs, say farewell, begin nothing new. Comes at most
    /// once, and only while the pending action is `Read(Control)` and nothing is being received;
    /// the session then no longer reads from `Control`.
    Drain,
}

/// What every session of a server shares.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder that is served to whoever has no home of their own. Nothing outside it can be
    /// named through it.
    pub root: Root,
    /// Whether anonymous clients may store, rename and delete.
    pub writable: bool,
    /// Who else may log in.
    pub users: Users,
    /// Where data connections are awaited.
    pub passive: Passive,
    /// How long a client may be silent, or a transfer stand still.
    pub idle_timeout: Duration,
    /// Where HTTP's `/backend/…` calls.
    pub backend: Option<SocketAddr>,
    /// The book behind HTTP's `/guestbook`.
    pub guestbook: Option<Arc<Guestbook>>,
    /// With what connections are secured, if they can be.
    pub tls: Option<Arc<TlsConfig>>,
    /// The files that HTTP keeps open or in memory.
    pub files: crate::http::Files,
    /// The time of day; a test puts a constant here.
    pub now: fn() -> SystemTime,
}

/// The settings as sessions hold them.
pub type SharedSettings = Arc<Settings>;
