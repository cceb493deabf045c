//! The state machine: what a session waits for, and what follows.
//!
//! ```text
//!              ┌─────────────────────────────────────────────┐
//!              v                                             │
//!  ──> Command ──> Working (a job) ──> Transferring ─────────┤
//!        │   ├───> Listening (PASV) ─────────────────────────┤
//!        │   ├───> Pausing (a wrong password) ───────────────┤
//!        │   ├───> Releasing (a port not wanted any more) ───┤
//!        │   └───> Securing (AUTH) ──────────────────────────┘
//!        v
//!       Over
//! ```
//!
//! **Invariant:** what is to be said is said before anything else is done. Input is only queued
//! while something is lent, except that during a transfer:
//!
//! - ABOR, wherever it stands in the queue, cuts it (426); its own reply (226) has its turn after
//!   those of the commands before it;
//! - STAT, as the next command, is answered at once. The reply makes `poll` name a write on the
//!   control connection, so that the executor abandons what it was doing on the data connection;
//!   afterwards exactly the same action is asked again, with the same bytes or file;
//! - the end of input means that the client has vanished, and cuts it, unless it is a download and
//!   the client has said QUIT: an upload whose client was killed is not mistaken for a whole file.
//!
//! The end of input ends a pause, too, and with it the session, unless the client has said QUIT.

use std::net::IpAddr;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::job::{Job, Root};
use crate::session::{Action, Chan, Deadline, Event, Settings, SharedSettings};

use super::command::Verb;
use super::files::Work;
use super::lines::Lines;
use super::listing::Facts;
use super::login::{self, Login};
use super::path::VirtualPath;
use super::reply;
use super::security::Security;
use super::transfer::{Progress, Route, SETTLE, Transfer};

/// The largest buffer that is kept between two commands, in bytes.
const KEPT_BYTES: usize = 512;
/// With more to say than this, no further command is begun.
const OUTPUT_BYTES: usize = 4096;
/// With more queued than this, no more input is wanted.
const QUEUE_BYTES: usize = 2 * super::lines::LINE_BYTES;
/// How long a client may take for a command before it has logged in.
const LOGIN_LIMIT: Duration = Duration::from_mins(1);
/// How long a data connection may take to come about.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// One client's conversation.
#[derive(Debug)]
pub struct Session {
    settings: SharedSettings,
    /// The client's address, as IPv4 if it is an IPv4-mapped one.
    pub(super) peer: IpAddr,
    pub(super) lines: Lines,
    pub(super) output: Vec<u8>,
    sent: usize,
    pub(super) state: State,
    phase: u32,
    commands: u32,
    control: Control,
    /// What is said when the session ends of its own accord.
    pub(super) farewell: Option<&'static str>,
    pub(super) login: Login,
    pub(super) failed_logins: u8,
    pub(super) folder: VirtualPath,
    /// What RNFR named.
    pub(super) rename_from: Option<VirtualPath>,
    /// What REST named, in bytes.
    pub(super) restart: u64,
    pub(super) representation: Representation,
    pub(super) route: Route,
    /// The client has said EPSV ALL.
    pub(super) extended_only: bool,
    pub(super) facts: Facts,
    pub(super) security: Security,
}

#[derive(Debug)]
pub(super) enum State {
    /// Commands are obeyed as they come.
    Command,
    /// A job is to be run (`None`: runs), for this purpose.
    Working(Option<Job>, Work),
    /// A port is being opened; whether EPSV asked for it.
    Listening { extended: bool },
    /// A port that is not wanted any more is being closed, perhaps before the control connection is
    /// secured.
    Releasing { then_secure: bool },
    /// The control connection is being secured.
    Securing,
    /// The reply to a wrong password is held back.
    Pausing,
    /// Boxed, because an idle session shall be small.
    Transferring(Box<Transfer>),
    /// There is nothing left to do but to say what is to be said.
    Over,
}

/// What is known of the control connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Control {
    Open,
    /// Nothing more will come from the client, which may still listen.
    InputEnded,
    /// Nothing reaches it either.
    Gone,
}

/// TYPE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Representation {
    /// TYPE A, with which a conversation begins (RFC 959 §5.1).
    Ascii,
    /// TYPE I, or what is the same here, L 8.
    Image,
}

impl Session {
    /// A conversation that has just begun, with a client from `peer`.
    pub fn new(settings: &SharedSettings, peer: IpAddr) -> Self {
        let mut session = Session {
            settings: settings.clone(),
            peer: peer.to_canonical(),
            lines: Lines::default(),
            output: Vec::new(),
            sent: 0,
            state: State::Command,
            phase: 0,
            commands: 0,
            control: Control::Open,
            farewell: None,
            login: Login::None,
            failed_logins: 0,
            folder: VirtualPath::default(),
            rename_from: None,
            restart: 0,
            representation: Representation::Ascii,
            route: Route::Unknown,
            extended_only: false,
            facts: Facts::default(),
            security: Security::default(),
        };
        session.say(reply::GREETING);
        session
    }

    /// What all sessions share; but what is served, and how, depends on who is here: see
    /// [`root`](Self::root) and [`may_write`](Self::may_write).
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the client sees as the root.
    pub(super) fn root(&self) -> &Root {
        self.login.root(&self.settings)
    }

    /// Whether the client may store, rename and delete.
    pub(super) fn may_write(&self) -> bool {
        self.login.may_write(&self.settings)
    }

    /// Says a line.
    pub(super) fn say(&mut self, text: &str) {
        reply::line(&mut self.output, text);
    }

    /// Has a job done, for a purpose.
    pub(super) fn work(&mut self, job: Job, purpose: Work) {
        self.state = State::Working(Some(job), purpose);
    }

    /// The session goes on with the next command.
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Read(Chan::Control, []) => self.input_ended(),
            Event::Read(Chan::Control, input) => self.lines.push(input),
            Event::Drain => self.farewell = Some(reply::DRAIN),
            event if !self.output.is_empty() => self.said(&event),
            event => self.answered(event),
        }
    }

    fn input_ended(&mut self) {
        if self.control == Control::Open {
            self.control = Control::InputEnded;
        }
    }

    /// A write on the control connection was answered.
    fn said(&mut self, event: &Event<'_>) {
        match event {
            Event::Wrote(count @ 1..) => {
                self.sent += count;
                if self.sent >= self.output.len() {
                    self.clear_output();
                }
                if !matches!(self.state, State::Transferring(_)) {
                    self.next_phase();
                }
            }
            _ => self.gone(),
        }
    }

    fn clear_output(&mut self) {
        self.sent = 0;
        self.output.clear();
        self.output.shrink_to(KEPT_BYTES);
    }

    /// Nothing reaches the client any more: what is half done is undone.
    pub(super) fn gone(&mut self) {
        self.control = Control::Gone;
        self.clear_output();
        match &mut self.state {
            State::Transferring(transfer) => transfer.fail(reply::ABORTED),
            state => *state = State::Over,
        }
    }

    /// Whatever is pending, other than a write on the control connection, was answered.
    fn answered(&mut self, event: Event<'_>) {
        match std::mem::replace(&mut self.state, State::Command) {
            State::Command => match event {
                Event::TimedOut => self.farewell = Some(reply::IDLE),
                _ => self.gone(),
            },
            State::Working(_, purpose) => {
                let result = match event {
                    Event::Ran(done) => Ok(done),
                    Event::Failed(error) => Err(error),
                    _ => Err(std::io::ErrorKind::TimedOut.into()),
                };
                self.worked(purpose, result);
                self.next_phase();
            }
            State::Listening { extended } => {
                self.listening(&event, extended);
                self.next_phase();
            }
            State::Releasing { then_secure } => {
                if then_secure {
                    self.state = State::Securing;
                }
                self.next_phase();
            }
            State::Securing => {
                self.secured(&event);
                self.next_phase();
            }
            State::Pausing => {
                self.turn_away();
                self.next_phase();
            }
            State::Transferring(transfer) => self.transferred(transfer, event),
            State::Over => self.state = State::Over,
        }
    }

    fn transferred(&mut self, mut transfer: Box<Transfer>, event: Event<'_>) {
        let is_waiting = transfer.is_connecting() || transfer.is_settling();
        if matches!(event, Event::TimedOut) && !is_waiting {
            self.farewell = Some(reply::IDLE);
        }
        let progress = transfer.handle(event, self.peer);
        if progress != Progress::None {
            self.next_phase();
        }
        if progress == Progress::Finished {
            self.route = Route::Unknown;
            self.say(transfer.outcome());
            if self.control == Control::Gone {
                self.gone();
            }
        } else {
            self.state = State::Transferring(transfer);
        }
    }

    /// What follows from an event: the next commands, or what the client says to a transfer.
    fn proceed(&mut self) {
        if !self.output.is_empty() {
            return;
        }
        while matches!(self.state, State::Command) && self.output.len() < OUTPUT_BYTES {
            if let Some(farewell) = self.farewell {
                self.say(farewell);
                self.state = State::Over;
            } else if let Some(line) = self.lines.next() {
                // It may be a password.
                let line = Zeroizing::new(line);
                self.next_phase();
                self.commands = self.commands.wrapping_add(1);
                self.command(&line);
            } else if self.control == Control::Open {
                break;
            } else {
                self.state = State::Over;
            }
        }
        self.attend();
    }

    /// Looks through the queue for what concerns the running transfer, or a pause.
    fn attend(&mut self) {
        let has = |verb| self.lines.peek().any(|line| is(line, verb));
        if matches!(self.state, State::Pausing) {
            if self.control != Control::Open && !has(Verb::Quit) {
                self.state = State::Over;
            }
            return;
        }
        let State::Transferring(transfer) = &mut self.state else {
            return;
        };
        let excused = has(Verb::Quit) && !transfer.is_upload();
        let vanished = self.control != Control::Open && !excused;
        if vanished || transfer.is_open() && has(Verb::Abort) {
            transfer.fail(reply::ABORTED);
        } else if transfer.is_open()
            && self.output.is_empty()
            && self.lines.peek().next().is_some_and(|line| is(line, Verb::Status))
        {
            self.lines.next();
            self.commands = self.commands.wrapping_add(1);
            let moved = transfer.moved();
            self.say("211-A transfer is running.");
            self.say(&format!(" {moved} bytes so far."));
            self.say("211 End");
        }
    }

    fn next_phase(&mut self) {
        self.phase = self.phase.wrapping_add(1);
    }
}

/// Whether a line is that command, without an argument.
fn is(line: &[u8], verb: Verb) -> bool {
    super::command::parse(line).is_ok_and(|(row, argument)| row.verb == verb && argument.is_empty())
}

impl crate::session::Session for Session {
    fn poll(&mut self) -> Action<'_> {
        if !self.output.is_empty() {
            return Action::Write(Chan::Control, &self.output[self.sent..]);
        }
        match &mut self.state {
            State::Command => Action::Read(Chan::Control),
            State::Working(job, _) => Action::Run(job.take().expect("a job is handed over once")),
            State::Listening { .. } => Action::Listen(self.settings.passive.ports),
            State::Releasing { .. } => Action::Close(Chan::Data),
            State::Securing => match &self.settings.tls {
                Some(config) => Action::StartTls(Chan::Control, config),
                None => unreachable!("AUTH is refused without a certificate"),
            },
            State::Pausing => Action::Pause,
            State::Transferring(transfer) => transfer.action(self.login.root(&self.settings)),
            State::Over => Action::End,
        }
    }

    /// What a transfer has moved changes nothing of what the client has said: the queue, which the
    /// client fills, is not looked through for it.
    fn handle(&mut self, event: Event<'_>) {
        let moved = self.output.is_empty()
            && matches!(event, Event::Wrote(_) | Event::Received(_) | Event::Read(Chan::Data, _));
        self.event(event);
        if !(moved && matches!(self.state, State::Transferring(_))) {
            self.proceed();
        }
    }

    /// A phase is one command, or one piece of a transfer. A piece of a line begins none, and
    /// neither does a stranger on the data port nor a STAT.
    fn deadline(&self) -> Deadline {
        let idle = self.settings.idle_timeout;
        let limit = match &self.state {
            State::Transferring(transfer) if transfer.is_connecting() => CONNECT_LIMIT.min(idle),
            State::Transferring(transfer) if transfer.is_settling() => SETTLE,
            State::Pausing if self.output.is_empty() => login::PAUSE,
            _ if !self.login.is_complete() => LOGIN_LIMIT.min(idle),
            _ => idle,
        };
        Deadline { phase: self.phase, limit }
    }

    fn requests(&self) -> u32 {
        self.commands
    }

    fn has_last_words(&self) -> bool {
        matches!(self.state, State::Over)
    }

    fn accepts_control(&self) -> bool {
        self.control == Control::Open && self.lines.len() < QUEUE_BYTES
    }
}
