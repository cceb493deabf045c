//! An executor without sockets, clocks or threads, for tests and fuzzing: it plays a scripted
//! client against a session and holds the session to its contract.
//!
//! **Invariant:** a session that breaks the contract makes [`run`] panic with what it did; whatever
//! the client or the machine does, [`run`] returns.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileExt;

use crate::job::{Done, Job};
use crate::session::{Action, Chan, Event, Session};

/// The most actions of one conversation. It is far beyond what any script needs, so that who comes
/// here runs in a circle.
const MAX_STEPS: usize = 400_000;

/// The longest slice that may be waiting to be sent, in bytes: output that piles up has no bound.
const MAX_WRITE_BYTES: usize = 256 * 1024;

/// How much of a file is moved at once, in bytes.
const FILE_BYTES: usize = 64 * 1024;

/// What a client does.
#[derive(Clone, Debug)]
pub struct Client {
    /// What it sends on the control connection, cut as it arrives; then it sends no more.
    pub control: Vec<Vec<u8>>,
    /// What it sends on each data connection, cut likewise, before its end.
    pub data: Vec<Vec<u8>>,
    /// How many bytes go into a connection at a time.
    pub write_bytes: usize,
    /// Whether control input comes beside a transfer as soon as the session takes it, or only when
    /// it is waited for.
    pub eager: bool,
}

impl Client {
    /// Sends all of this at once.
    pub fn new(control: &[u8], data: &[u8]) -> Self {
        let pieces = |bytes: &[u8]| {
            let all = [bytes.to_vec()];
            all.into_iter().filter(|piece| !piece.is_empty()).collect()
        };
        Client {
            control: pieces(control),
            data: pieces(data),
            write_bytes: usize::MAX,
            eager: false,
        }
    }
}

/// What goes wrong, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The action fails.
    Failed,
    /// The action takes too long.
    TimedOut,
    /// From this action on, the client sends nothing more on any connection.
    Vanished,
    /// The server leaves as soon as the session waits for control input.
    Drain,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 4] = [Fault::Failed, Fault::TimedOut, Fault::Vanished, Fault::Drain];
}

/// What a conversation came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What the client received on the control connection.
    pub control: Vec<u8>,
    /// What it received on each data connection.
    pub data: Vec<Vec<u8>>,
    /// How many actions there were, the last one included.
    pub steps: usize,
    /// Whether the session closed the control connection in an orderly way before it ended.
    pub closed: bool,
}

/// Plays `client` to the end of the conversation; at the action of that number, `fault` happens.
pub fn run(
    mut session: Box<dyn Session>,
    client: &Client,
    fault: Option<(usize, Fault)>,
) -> Outcome {
    let mut stage = Stage::new(client);
    loop {
        let step = stage.outcome.steps;
        assert!(step < MAX_STEPS, "the session runs in a circle");
        stage.outcome.steps += 1;
        let fault = fault.filter(|(at, _)| *at == step);
        let fault = fault.map(|(_, fault)| fault);
        match fault {
            Some(Fault::Vanished) => stage.vanish(),
            Some(Fault::Drain) => stage.drain = Drain::Coming,
            Some(Fault::Failed | Fault::TimedOut) | None => {}
        }
        let had_last_words = session.has_last_words();
        let action = session.poll();
        let pending = Pending::of(&action);
        assert!(stage.said != Said::All || pending.ends(), "it goes on after its last words");
        if had_last_words && matches!(pending, Pending::Write(Chan::Control, ..)) {
            stage.said = Said::All;
        }
        let event = match (action, fault) {
            (Action::End, _) => return stage.outcome,
            // A removal that fails leaves something behind, which is not the session's doing: so
            // it is done, and fails only in what is told.
            (Action::Run(job @ Job::RemoveFile(..)), Some(Fault::Failed | Fault::TimedOut)) => {
                let _ = job.run();
                Event::Failed(io::ErrorKind::PermissionDenied.into())
            }
            (_, Some(Fault::Failed)) => {
                stage.fail(&pending);
                Event::Failed(io::ErrorKind::ConnectionReset.into())
            }
            (_, Some(Fault::TimedOut)) => {
                stage.fail(&pending);
                Event::TimedOut
            }
            (Action::Run(job), _) => run_job(job),
            _ => {
                let again = session.poll();
                assert_eq!(Pending::of(&again), pending, "asked twice, and two answers");
                stage.check_lent(&again, &pending);
                if stage.interrupt(&mut *session, &pending) {
                    continue;
                }
                stage.act(&session.poll())
            }
        };
        session.handle(event);
    }
}

/// What an action waits for, without what it lends: to be compared with another.
#[derive(Debug, PartialEq, Eq)]
enum Pending {
    Read(Chan),
    Write(Chan, *const u8, usize),
    SendFile(Chan, u64, u64),
    ReceiveFile(Chan, u64),
    Listen,
    Accept,
    Connect(SocketAddr),
    StartTls(Chan),
    Close(Chan),
    Pause,
    Run,
    End,
}

impl Pending {
    fn of(action: &Action<'_>) -> Self {
        match action {
            Action::Read(chan) => Pending::Read(*chan),
            Action::Write(chan, bytes) => Pending::Write(*chan, bytes.as_ptr(), bytes.len()),
            Action::SendFile { to, offset, length, .. } => Pending::SendFile(*to, *offset, *length),
            Action::ReceiveFile { from, offset, .. } => Pending::ReceiveFile(*from, *offset),
            Action::Listen(_) => Pending::Listen,
            Action::Accept => Pending::Accept,
            Action::Connect(address) => Pending::Connect(*address),
            Action::StartTls(chan, _) => Pending::StartTls(*chan),
            Action::Close(chan) => Pending::Close(*chan),
            Action::Pause => Pending::Pause,
            Action::Run(_) => Pending::Run,
            Action::End => Pending::End,
        }
    }

    /// Whether it may follow the last words, or is what is left of them.
    fn ends(&self) -> bool {
        matches!(self, Pending::Write(Chan::Control, ..) | Pending::Close(_) | Pending::End)
    }

    /// Whether control input is delivered beside it.
    fn admits_control(&self) -> bool {
        matches!(
            self,
            Pending::Read(Chan::Data)
                | Pending::Write(Chan::Data, ..)
                | Pending::SendFile(Chan::Data, ..)
                | Pending::ReceiveFile(Chan::Data, ..)
                | Pending::Accept
                | Pending::Connect(_)
                | Pending::StartTls(Chan::Data)
                | Pending::Pause
        )
    }
}

/// Sleeping and burning CPU take no time here.
fn run_job(job: Job) -> Event<'static> {
    let result = match job {
        Job::Work { .. } => Ok(Done::Nothing),
        job => job.run(),
    };
    result.map_or_else(Event::Failed, Event::Ran)
}

/// The world as one session sees it.
struct Stage<'a> {
    client: &'a Client,
    /// Pieces of input that have not been delivered.
    control: std::slice::Iter<'a, Vec<u8>>,
    data: std::slice::Iter<'a, Vec<u8>>,
    vanished: bool,
    told_end: bool,
    said: Said,
    channel: Channel,
    drain: Drain,
    /// What was being written when control input came beside it, and where it was.
    lent: Option<(Pending, Vec<u8>)>,
    outcome: Outcome,
}

/// How far the session has come on the control connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Something,
    /// It has said that what it wrote was the last.
    All,
    /// The connection could not be secured, so that nothing can be said on it any more.
    Unheard,
}

/// The state of the second connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Channel {
    Closed,
    Listening,
    Connected,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Drain {
    No,
    Coming,
    Gone,
}

const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000);
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 50_000);

impl<'a> Stage<'a> {
    fn new(client: &'a Client) -> Self {
        Stage {
            client,
            control: client.control.iter(),
            data: [].iter(),
            vanished: false,
            told_end: false,
            said: Said::Something,
            channel: Channel::Closed,
            drain: Drain::No,
            lent: None,
            outcome: Outcome::default(),
        }
    }

    fn vanish(&mut self) {
        self.vanished = true;
        self.control = [].iter();
        self.data = [].iter();
    }

    /// What was lent stays untouched, unless it is given up.
    fn check_lent(&mut self, action: &Action<'_>, pending: &Pending) {
        if let (Some((place, before)), Action::Write(_, now)) = (self.lent.take(), action)
            && place == *pending
        {
            assert_eq!(*now, before, "what was lent has changed");
        }
    }

    /// Delivers control input beside what is pending, if there is some and it is wanted now.
    fn interrupt(&mut self, session: &mut dyn Session, pending: &Pending) -> bool {
        let idle = *pending == Pending::Read(Chan::Control) && !session.is_receiving();
        if self.drain == Drain::Coming && idle {
            self.drain = Drain::Gone;
            session.handle(Event::Drain);
            return true;
        }
        let wanted = pending.admits_control() && session.accepts_control();
        if !wanted || self.told_end || !(self.client.eager || self.vanished) {
            return false;
        }
        let action = session.poll();
        if let Action::Write(_, bytes) = action {
            self.lent = Some((Pending::of(&action), bytes.to_vec()));
        }
        let piece = self.control.next().map_or(&[][..], Vec::as_slice);
        self.told_end = piece.is_empty();
        session.handle(Event::Read(Chan::Control, piece));
        true
    }

    /// Does what the session waits for, as far as it goes at once.
    fn act(&mut self, action: &Action<'_>) -> Event<'a> {
        match *action {
            Action::Read(Chan::Control) => {
                assert!(self.drain != Drain::Gone, "it reads on after Drain");
                assert!(!self.outcome.closed, "it reads on after its last words");
                assert!(!self.is_connected(), "it goes on and leaves a data connection open");
                let piece = self.control.next().map_or(&[][..], Vec::as_slice);
                self.told_end |= piece.is_empty();
                Event::Read(Chan::Control, piece)
            }
            Action::Read(Chan::Data) => {
                assert!(self.is_connected(), "it reads from no data connection");
                Event::Read(Chan::Data, self.data.next().map_or(&[], Vec::as_slice))
            }
            Action::Write(to, bytes) => {
                assert!(!bytes.is_empty(), "it writes nothing");
                assert!(bytes.len() <= MAX_WRITE_BYTES, "its output piles up");
                let count = bytes.len().min(self.client.write_bytes);
                self.received_by(to).extend_from_slice(&bytes[..count]);
                Event::Wrote(count)
            }
            Action::SendFile { to, file, offset, length } => {
                assert!(length > 0, "it sends nothing of a file");
                let most = length.min(self.client.write_bytes.min(FILE_BYTES) as u64);
                let mut bytes = vec![0; most as usize];
                match file.read_at(&mut bytes, offset) {
                    Ok(count) => {
                        self.received_by(to).extend_from_slice(&bytes[..count]);
                        Event::Wrote(count)
                    }
                    Err(error) => Event::Failed(error),
                }
            }
            Action::ReceiveFile { file, offset, .. } => {
                assert!(self.is_connected(), "it receives from no data connection");
                let piece = self.data.next().map_or(&[][..], Vec::as_slice);
                let result = file.write_all_at(piece, offset);
                result.map_or_else(Event::Failed, |()| Event::Received(piece.len()))
            }
            Action::Listen(_) => {
                self.channel = Channel::Listening;
                Event::Listening(LOCAL)
            }
            Action::Accept => {
                assert!(self.channel != Channel::Closed, "it accepts where it does not listen");
                self.connect();
                Event::Opened(PEER)
            }
            Action::Connect(address) => {
                self.connect();
                Event::Opened(address)
            }
            Action::StartTls(chan, _) => {
                assert!(chan == Chan::Control || self.is_connected(), "it secures nothing");
                Event::Secured
            }
            Action::Close(Chan::Data) => {
                self.channel = Channel::Closed;
                Event::Closed
            }
            Action::Close(Chan::Control) => {
                assert!(!self.outcome.closed, "it closes the control connection twice");
                self.outcome.closed = true;
                Event::Closed
            }
            // No time passes here but this way.
            Action::Pause => Event::TimedOut,
            Action::Run(_) | Action::End => unreachable!("handled before"),
        }
    }

    /// Where the client keeps what it gets.
    fn received_by(&mut self, to: Chan) -> &mut Vec<u8> {
        match to {
            Chan::Control => {
                assert!(self.said != Said::Unheard, "it writes to what could not be secured");
                assert!(!self.outcome.closed, "it writes to a closed control connection");
                &mut self.outcome.control
            }
            Chan::Data => {
                assert!(self.is_connected(), "it writes to no data connection");
                let last = self.outcome.data.last_mut();
                last.expect("a connection has a place for what it brings")
            }
        }
    }

    fn connect(&mut self) {
        self.channel = Channel::Connected;
        self.data = if self.vanished { [].iter() } else { self.client.data.iter() };
        self.outcome.data.push(Vec::new());
    }

    fn is_connected(&self) -> bool {
        self.channel == Channel::Connected
    }

    /// What a failure leaves behind: closing closes in any case, and a connection or port that
    /// could not be had has nevertheless replaced the one before.
    fn fail(&mut self, pending: &Pending) {
        match pending {
            Pending::StartTls(Chan::Control) => self.said = Said::Unheard,
            Pending::Close(Chan::Control) => self.outcome.closed = true,
            Pending::Close(Chan::Data) | Pending::Connect(_) | Pending::Listen => {
                self.channel = Channel::Closed;
            }
            _ => {}
        }
    }
}
