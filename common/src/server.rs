//! The front that every server has: command line, listening socket, limits, the signal to leave.
//!
//! **Invariant:** it is the same for every architecture, so that none has another backlog, other
//! socket options or other limits than the rest.

use std::io::{self, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use clap::Args;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_gettime};
use socket2::SockRef;

use crate::conn::Conn;
use crate::drain::{self, Live, is_draining};
use crate::guestbook::Guestbook;
use crate::http::Files;
use crate::limits::Limits;
pub use crate::limits::Permit;
use crate::options::{Architecture, Options, Shown, WorkerOptions};
use crate::ports::Passive;
use crate::protocol::Protocol;
use crate::session::{Session, Settings, SharedSettings};
use crate::sockets::is_transient;
use crate::source::{Outbox, Source, bind};
use crate::tally;
use crate::users::Users;

/// Descriptors that are not connections: standard streams, the listener, the root, a poll, files
/// being served.
const RESERVED_DESCRIPTORS: u64 = 64;
/// Which part of the descriptors is set aside for files that HTTP keeps open, and how many at most.
const KEPT_OPEN_PART: u64 = 16;
const KEPT_OPEN_MAX: u64 = 1024;
/// More than any server here needs. Some machines have no limit to speak of, and each descriptor
/// has a slot in a table.
const DESCRIPTORS_MAX: u64 = 1 << 20;
/// How long to wait when the machine has run out of something that it will have again.
const BACK_OFF: Duration = Duration::from_millis(50);

/// How long to wait for room at a time: a signal that comes just before the waiting does not end
/// it.
const ROOM_TIMEOUT: Duration = Duration::from_secs(1);

/// A server that is listening.
#[derive(Debug)]
pub struct Server {
    source: Source,
    protocol: Protocol,
    settings: SharedSettings,
    limits: Arc<Limits>,
    workers: usize,
    backlog: i32,
}

/// A connection that has been accepted, in parts, for an executor of its own. They are to be
/// dropped in this order.
pub struct Accepted {
    /// Lets go of the socket before that is closed. It is busy.
    pub live: Live,
    /// The conversation.
    pub session: Box<dyn Session>,
    /// The socket.
    pub control: TcpStream,
    /// Its place among those that count.
    pub permit: Permit,
}

/// Runs a server from its command line to its end: the `main` of every architecture. `run` serves
/// until the server leaves, that is until [`Server::accept`] says so.
pub fn serve(
    architecture: &Architecture,
    run: impl FnOnce(&'static Server) -> io::Result<()>,
) -> ExitCode {
    serve_with(architecture, |server, ()| run(server))
}

/// The same with flags of the architecture's own.
pub fn serve_with<Own: Args>(
    architecture: &Architecture,
    run: impl FnOnce(&'static Server, Own) -> io::Result<()>,
) -> ExitCode {
    serve_within(architecture, |_| u64::MAX, run)
}

/// The same with no more descriptors than the architecture can have with these flags.
pub fn serve_within<Own: Args>(
    architecture: &Architecture,
    descriptors_max: impl FnOnce(&Own) -> u64,
    run: impl FnOnce(&'static Server, Own) -> io::Result<()>,
) -> ExitCode {
    log_to_standard_error();
    let started = match Options::parse(architecture, std::env::args_os()) {
        Ok((options, workers, own)) => workers.open_report().and_then(|report| {
            let server = Server::start(&options, &workers, descriptors_max(&own))?;
            Ok((server, own, report))
        }),
        Err(Shown::Asked(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(Shown::Mistake(line)) => Err(line),
    };
    let (server, own, report) = match started {
        Ok((server, own, report)) => (Box::leak(Box::new(server)), own, report),
        Err(line) => {
            eprintln!("{}: {line}", architecture.name);
            return ExitCode::from(2);
        }
    };
    let result = run(server, own);
    drain::wait_for_connections();
    let reported = report.map_or(Ok(()), |file| tally::write(&file));
    match result.and(reported) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", architecture.name);
            ExitCode::FAILURE
        }
    }
}

impl Server {
    /// Listens, and says so in one line on standard output. An error is a line for the user.
    fn start(options: &Options, workers: &WorkerOptions, most: u64) -> Result<Self, String> {
        let root = open_root(options)?;
        let tls = options.tls.config(options.listen)?;
        let descriptors_max =
            set_descriptor_limit(most).map_err(|error| format!("descriptor limit: {error}"))?;
        // Each home is a descriptor, so that the limit is raised before.
        let users = options.users.as_deref().map(|file| Users::open(file, &options.root));
        let users = users.transpose();
        let users = users.map_err(|mistake| mistake.to_string())?.unwrap_or_default();
        let guestbook =
            options.guestbook.as_deref().map(|file| Guestbook::open(file, &options.root));
        let guestbook = guestbook.transpose().map_err(|mistake| mistake.to_string())?;
        let idle_timeout = Duration::from_secs(options.idle_timeout);
        let listener = bind(options.listen, idle_timeout, false)
            .and_then(|listener| {
                SockRef::from(&listener).listen(options.backlog)?;
                Ok(listener)
            })
            .map_err(|error| cannot_listen(options, &error))?;
        drain::install(descriptors_max as usize, Duration::from_secs(options.grace))
            .map_err(|error| format!("cannot take over signals: {error}"))?;
        drain::add_listener(listener.as_raw_fd());
        let kept_open = (descriptors_max / KEPT_OPEN_PART).min(KEPT_OPEN_MAX);
        let reserved = RESERVED_DESCRIPTORS + users.count() as u64 + kept_open;
        let possible = descriptors_max.saturating_sub(reserved).max(1);
        let max_connections = options.max_connections.unwrap_or(possible);
        if max_connections > possible {
            let advice = if descriptors_max < most.min(DESCRIPTORS_MAX) {
                "raise it with `ulimit -n`, or "
            } else {
                ""
            };
            return Err(format!(
                "--max-connections {max_connections}: the descriptor limit allows {possible}; \
                 {advice}give no more"
            ));
        }
        let max_per_ip = options.max_per_ip.unwrap_or(max_connections);
        let settings = Settings {
            root: Arc::new(root),
            writable: options.writable,
            users,
            passive: Passive { ports: options.passive_ports, address: options.passive_address },
            idle_timeout,
            backend: options.backend,
            guestbook: guestbook.map(Arc::new),
            tls,
            files: Files::new(kept_open as usize),
            now: coarse_now,
        };
        let workers = workers.count.min(max_connections as usize);
        tally::install(workers).map_err(|error| format!("no memory to count in: {error}"))?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        // Whoever started us without caring for our output may have closed it.
        let _ =
            writeln!(io::stdout(), "listening on {address}").and_then(|()| io::stdout().flush());
        Ok(Server {
            source: Source::Listener(listener),
            protocol: options.protocol,
            settings: Arc::new(settings),
            limits: Limits::new(max_connections as usize, max_per_ip as usize),
            workers,
            backlog: options.backlog,
        })
    }

    /// This server and others like it, one for each of so many workers, each on a listening socket
    /// of its own, between which the kernel shares new connections out (`SO_REUSEPORT`, socket(7)).
    /// A sibling has none before its worker is there, and [`opens`](Self::open) it. To be made
    /// before workers are forked, so that a signal reaches it through its parent, and what waits in
    /// it outlives the worker.
    pub fn siblings(&'static self, count: usize) -> io::Result<Vec<&'static Server>> {
        (0..count).map(|worker| if worker == 0 { Ok(self) } else { self.sibling() }).collect()
    }

    fn sibling(&self) -> io::Result<&'static Server> {
        let own = SockRef::from(&self.source);
        // Not before it is bound: a port that somebody else has would be shared with them.
        own.set_reuse_port(true)?;
        let address = own.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
        let listener = bind(address, self.settings.idle_timeout, true)?;
        Ok(self.with(Source::Sibling(listener)))
    }

    /// Has a sibling listen: what it has of the port's connections would wait in vain before. Again
    /// for one that listens, it changes nothing.
    pub fn open(&self) -> io::Result<()> {
        match &self.source {
            Source::Sibling(socket) => SockRef::from(socket).listen(self.backlog),
            Source::Listener(_) | Source::Inbox(_) => Ok(()),
        }
    }

    /// The same server for a worker that takes connections from whoever accepts them. To be made
    /// before the worker is forked, so that a signal reaches it through its parent, and what waits
    /// in it outlives the worker.
    pub fn inbox(&self, worker: usize) -> io::Result<(Outbox, &'static Server)> {
        let (outbox, inbox) = Outbox::new(worker, self.settings.idle_timeout)?;
        Ok((outbox, self.with(Source::Inbox(inbox))))
    }

    fn with(&self, source: Source) -> &'static Server {
        drain::add_listener(source.as_fd().as_raw_fd());
        Box::leak(Box::new(Server {
            source,
            protocol: self.protocol,
            settings: self.settings.clone(),
            limits: self.limits.clone(),
            ..*self
        }))
    }

    /// How many workers the user wants, and no more than there may be connections.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Waits for a connection, whose socket blocks. `None` when the server is leaving.
    pub fn accept(&self) -> Option<Conn> {
        self.accept_or(|| {})
    }

    /// Like [`accept`](Self::accept), and does `interrupted` whenever a signal interrupts the
    /// waiting, and before it. A signal that falls just between the two is noticed with the next.
    pub fn accept_or(&self, mut interrupted: impl FnMut()) -> Option<Conn> {
        while !is_draining() {
            interrupted();
            let Some((control, peer)) = self.try_accept(0) else { continue };
            let timeout = Some(self.settings.idle_timeout);
            if let Some(accepted) = self.admit(control, peer) {
                return Some(Conn::new(accepted, timeout));
            }
        }
        None
    }

    /// Waits for room in one of these, and then for a connection to be passed on there; does
    /// `interrupted` like [`accept_or`](Self::accept_or). Nothing is held meanwhile that a child
    /// which is forked there could inherit.
    pub fn accept_to_pass(
        &self,
        outboxes: &[Outbox],
        mut interrupted: impl FnMut(),
    ) -> Option<TcpStream> {
        while !is_draining() {
            interrupted();
            if !self.waits_for_room(outboxes) {
                continue;
            }
            if let Some((connection, _)) = self.try_accept(0) {
                return Some(connection);
            }
        }
        None
    }

    /// Whether there was some before a signal, the server's leaving, or the timeout.
    fn waits_for_room(&self, outboxes: &[Outbox]) -> bool {
        let room = outboxes.iter().map(|outbox| PollFd::new(outbox.as_fd(), PollFlags::POLLOUT));
        // What is watched for nothing is found when it has been shut down.
        let listener = PollFd::new(self.as_fd(), PollFlags::empty());
        let mut watched: Vec<_> = room.chain([listener]).collect();
        let timeout = PollTimeout::try_from(ROOM_TIMEOUT).unwrap_or(PollTimeout::MAX);
        poll(&mut watched, timeout).is_ok()
            && watched[..outboxes.len()].iter().any(|outbox| outbox.any() == Some(true))
    }

    /// Waits for a connection, whose socket does not block.
    pub fn accept_nonblocking(&self) -> Option<Conn> {
        while !is_draining() {
            let Some((control, peer)) = self.try_accept(libc::SOCK_NONBLOCK) else { continue };
            if let Some(accepted) = self.admit(control, peer) {
                return Some(Conn::new(accepted, None));
            }
        }
        None
    }

    fn try_accept(&self, flags: i32) -> Option<(TcpStream, IpAddr)> {
        let accepted = self.source.accept(flags);
        if let Some(pause) = accepted.as_ref().err().and_then(Self::after_failure) {
            std::thread::sleep(pause);
        }
        accepted.ok()
    }

    /// Takes one connection, whose socket does not block either; `None` if it was turned away. For
    /// this, the listening socket must not block: see [`watch`](Self::watch). An error says that
    /// none waits, or that the machine has run out of something, to be tried again later.
    pub fn accept_ready(&self) -> io::Result<Option<Conn>> {
        if is_draining() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match self.source.accept(libc::SOCK_NONBLOCK) {
            Ok((control, peer)) => {
                Ok(self.admit(control, peer).map(|accepted| Conn::new(accepted, None)))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Err(error) if Self::after_failure(&error).is_some() => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// For a main thread whose workers serve: waits for so long, or until the last conversation of
    /// a server that leaves has ended, which is false then.
    pub fn goes_on(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        if !is_draining() {
            let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
            // What is watched for nothing is found when it has been shut down.
            let _ = poll(&mut [PollFd::new(self.as_fd(), PollFlags::empty())], timeout);
        }
        while is_draining() && drain::live() > 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        !(is_draining() && drain::live() == 0)
    }

    /// The listening socket for a reactor to watch, which [`opens`](Self::open) it; from now on it
    /// does not block. It becomes readable also when the server is leaving.
    pub fn watch(&self) -> io::Result<RawFd> {
        self.open()?;
        SockRef::from(&self.source).set_nonblocking(true)?;
        Ok(self.source.as_fd().as_raw_fd())
    }

    /// Gives a socket that has been accepted its session, or turns the client away in words where
    /// there is no room.
    pub fn admit(&self, control: TcpStream, peer: IpAddr) -> Option<Accepted> {
        if let Some(permit) = self.limits.admit(peer) {
            let session = self.protocol.session(&self.settings, peer);
            let live = Live::new(control.as_raw_fd());
            return Some(Accepted { live, session, control, permit });
        }
        tracing::warn!(%peer, "turned away: too many connections");
        tally::count_lost();
        // As far as it goes without waiting: whoever is turned away must not hold up the others.
        let socket = SockRef::from(&control);
        let _ = socket
            .send_with_flags(self.protocol.refusal(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        let _ = control.shutdown(Shutdown::Write);
        None
    }

    /// Nothing that `accept` can say ends a server. What concerns a single client, a signal or the
    /// timeout that accepted sockets inherit is tried again at once; for what the machine
    /// lacks, after a pause.
    pub fn after_failure(error: &io::Error) -> Option<Duration> {
        if error.raw_os_error() == Some(libc::EINVAL) {
            drain::listener_is_shut();
            return None;
        }
        if is_transient(error) || error.kind() == io::ErrorKind::WouldBlock {
            return None;
        }
        tracing::warn!(%error, "cannot accept for the moment");
        Some(BACK_OFF)
    }
}

/// The listening socket, or the inbox.
impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
}

/// The time of day to a few milliseconds, which is what dates need, at a fraction of the cost.
fn coarse_now() -> SystemTime {
    let since_epoch = clock_gettime(ClockId::CLOCK_REALTIME_COARSE).map(Duration::from);
    since_epoch.map_or_else(|_| SystemTime::now(), |elapsed| SystemTime::UNIX_EPOCH + elapsed)
}

/// A worker could not be made for the moment: says so, and gives the machine time.
pub fn back_off(error: &io::Error) {
    tracing::warn!(%error, "cannot make a worker for the moment");
    std::thread::sleep(BACK_OFF);
}

fn log_to_standard_error() {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::ERROR.into())
        .from_env_lossy();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
}

fn open_root(options: &Options) -> Result<Dir, String> {
    let root = Dir::open_ambient_dir(&options.root, ambient_authority());
    // One that may not be entered can be opened all the same.
    root.and_then(|root| root.metadata(".").map(|_| root)).map_err(|error| {
        let root = options.root.display();
        format!("cannot serve --root {root}: {error}; name a folder that may be entered")
    })
}

/// Sets the soft limit to the hard one, or to the most that the architecture can have, and tells
/// it.
fn set_descriptor_limit(most: u64) -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = hard.min(most).min(DESCRIPTORS_MAX);
    if soft != wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
    }
    Ok(wanted)
}

fn cannot_listen(options: &Options, error: &io::Error) -> String {
    let advice = match error.kind() {
        _ if error.raw_os_error() == Some(libc::EMFILE) => "start it with fewer open descriptors",
        io::ErrorKind::AddrInUse => {
            "the port is taken: stop who has it, or choose another with --listen (port 0 picks one)"
        }
        io::ErrorKind::AddrNotAvailable => "choose an address of this machine with --listen",
        io::ErrorKind::PermissionDenied => "choose a port above 1023 with --listen",
        _ => "choose another with --listen",
    };
    format!("cannot listen on {}: {error}; {advice}", options.listen)
}
