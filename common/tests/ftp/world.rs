//! A small executor: it performs the actions of a session on a folder and on byte vectors, and
//! stops where a client would have to do something.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::ftp;
use common::ports::Passive;
use common::session::{Action, Chan, Event, Session, Settings, SharedSettings};
use common::users::Users;
use tempfile::TempDir;

/// As many bytes are moved in one action.
pub(crate) const PIECE_BYTES: usize = 1000;
pub(crate) const LOGIN: &str = "USER anonymous\r\nPASS a@b\r\n";
/// The client's address, if not said otherwise.
pub(crate) const CLIENT: &str = "192.0.2.7";

/// Where the world stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The session waits for a command.
    Command,
    /// It waits for the data connection.
    Data,
    /// It waits for the end of a pause.
    Pause,
    End,
}

pub(crate) struct World {
    pub(crate) session: ftp::Session,
    pub(crate) settings: SharedSettings,
    pub(crate) folder: TempDir,
    /// What was said on the control connection.
    pub(crate) said: Vec<u8>,
    /// What has arrived at the client, and what it has still to send, on the data connection.
    pub(crate) downloaded: Vec<u8>,
    pub(crate) upload: VecDeque<u8>,
    /// Who connects to the data port, in this order. The client is last, if it comes.
    pub(crate) knocking: VecDeque<SocketAddr>,
    /// How many data actions are answered before they stand still.
    pub(crate) data_actions: usize,
    /// What the next data action or job answers instead.
    pub(crate) failure: Option<io::ErrorKind>,
    pub(crate) connected_to: Option<SocketAddr>,
    pub(crate) data_open: bool,
    /// The connections that were secured, in their order.
    pub(crate) secured: Vec<Chan>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(CLIENT, true)
    }

    pub(crate) fn of(peer: &str, writable: bool) -> Self {
        Self::with(peer, |settings| settings.writable = writable)
    }

    /// A server that is writable, unless these changes say otherwise.
    pub(crate) fn with(peer: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = cap_std::fs::Dir::open_ambient_dir(folder.path(), cap_std::ambient_authority());
        let mut settings = Settings {
            root: Arc::new(root.unwrap()),
            writable: true,
            users: Users::default(),
            passive: Passive::default(),
            idle_timeout: Duration::from_mins(2),
            backend: None,
            tls: None,
            guestbook: None,
            files: common::http::Files::default(),
            now: || SystemTime::UNIX_EPOCH,
        };
        change(&mut settings);
        let settings = Arc::new(settings);
        let peer: IpAddr = peer.parse().unwrap();
        let mut world = World {
            session: ftp::Session::new(&settings, peer),
            settings,
            folder,
            said: Vec::new(),
            downloaded: Vec::new(),
            upload: VecDeque::new(),
            knocking: VecDeque::from([SocketAddr::from((peer, 4000))]),
            data_actions: usize::MAX,
            failure: None,
            connected_to: None,
            data_open: false,
            secured: Vec::new(),
        };
        assert_eq!(world.run(), Stop::Command);
        world
    }

    /// Another client of the same folder.
    pub(crate) fn another(&self) -> Self {
        let mut world = Self::logged_in();
        world.settings = self.settings.clone();
        world.session = ftp::Session::new(&world.settings, CLIENT.parse().unwrap());
        world.tell(LOGIN);
        world.tell("TYPE I\r\n");
        world.said.clear();
        world
    }

    /// A client as most are: with files as they are.
    pub(crate) fn logged_in() -> Self {
        let mut world = Self::new();
        world.tell(LOGIN);
        world.tell("TYPE I\r\n");
        world.said.clear();
        world
    }

    /// A server that has a certificate.
    pub(crate) fn with_certificate() -> Self {
        let mut world = Self::new();
        let tls = common::certificate::self_signed(SocketAddr::from(([127, 0, 0, 1], 0)));
        let settings = Settings { tls: Some(tls.unwrap()), ..(*world.settings).clone() };
        world.settings = Arc::new(settings);
        world.session = ftp::Session::new(&world.settings, CLIENT.parse().unwrap());
        world.run();
        world.said.clear();
        world
    }

    pub(crate) fn file(self, name: &str, bytes: &[u8]) -> Self {
        fs::write(self.folder.path().join(name), bytes).unwrap();
        self
    }

    pub(crate) fn folder(self, name: &str) -> Self {
        fs::create_dir(self.folder.path().join(name)).unwrap();
        self
    }

    pub(crate) fn set_mode(&self, name: &str, mode: u32) {
        let path = self.folder.path().join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.folder.path().join(name)).unwrap().permissions().mode() & 0o7777
    }

    /// The names in the served folder.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<String> =
            entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    pub(crate) fn content(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.path().join(name)).unwrap()
    }

    /// The client says something; the world goes on until it stands still.
    pub(crate) fn tell(&mut self, input: impl AsRef<[u8]>) -> Stop {
        self.session.handle(Event::Read(Chan::Control, input.as_ref()));
        self.run()
    }

    /// The client sends a file over the data connection, after it has said this.
    pub(crate) fn send(&mut self, bytes: &[u8], command: &str) -> Stop {
        self.upload.extend(bytes);
        self.tell(format!("EPSV\r\n{command}\r\n"))
    }

    /// What arrives over the data connection when the client says this.
    pub(crate) fn fetch(&mut self, command: &str) -> Vec<u8> {
        self.tell(format!("EPSV\r\n{command}\r\n"));
        std::mem::take(&mut self.downloaded)
    }

    pub(crate) fn answer(&mut self, event: Event<'_>) -> Stop {
        self.session.handle(event);
        self.run()
    }

    /// What was said since this was last asked.
    pub(crate) fn heard(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.said)).into_owned()
    }

    /// The codes of the replies since this was last asked.
    pub(crate) fn codes(&mut self) -> String {
        let heard = self.heard();
        assert!(heard.is_empty() || heard.ends_with("\r\n"), "{heard:?}");
        let mut codes = Vec::new();
        let mut inside: Option<&str> = None;
        for line in heard.lines() {
            match inside {
                Some(code) if !line.starts_with(&format!("{code} ")) => continue,
                _ => {}
            }
            let code = &line[..3];
            inside = (line.as_bytes()[3] == b'-').then_some(code);
            if inside.is_none() {
                codes.push(code);
            }
        }
        codes.join(" ")
    }

    pub(crate) fn run(&mut self) -> Stop {
        loop {
            match self.step() {
                Ok(Event::Received(count)) if self.takes_text() => {
                    let bytes: Vec<u8> = self.upload.drain(..count).collect();
                    self.session.handle(Event::Read(Chan::Data, &bytes));
                }
                Ok(event) => self.session.handle(event),
                Err(stop) => return stop,
            }
        }
    }

    fn takes_text(&mut self) -> bool {
        matches!(self.session.poll(), Action::Read(Chan::Data))
    }

    /// Performs one action. A read of the data connection is answered by how much there is to read.
    pub(crate) fn step(&mut self) -> Result<Event<'static>, Stop> {
        let patience = self.session.deadline().limit;
        let action = self.session.poll();
        match action {
            Action::Read(Chan::Control) => return Err(Stop::Command),
            Action::End => return Err(Stop::End),
            // One that is too short for anybody to notice passes.
            Action::Pause if patience < Duration::from_millis(100) => return Ok(Event::TimedOut),
            Action::Pause => return Err(Stop::Pause),
            Action::Write(Chan::Control, bytes) => {
                self.said.extend_from_slice(bytes);
                return Ok(Event::Wrote(bytes.len()));
            }
            Action::Close(Chan::Data) => {
                self.data_open = false;
                return Ok(self.failure.take().map_or(Event::Closed, failed));
            }
            _ => {}
        }
        if let Some(kind) = self.failure.take() {
            return Ok(failed(kind));
        }
        if let Action::Run(job) = action {
            return Ok(job.run().map_or_else(Event::Failed, Event::Ran));
        }
        if let Action::StartTls(chan, _) = action {
            self.secured.push(chan);
            return Ok(Event::Secured);
        }
        if let Action::Listen(_) = action {
            return Ok(Event::Listening("192.0.2.1:5001".parse().unwrap()));
        }
        self.data_actions = self.data_actions.checked_sub(1).ok_or(Stop::Data)?;
        match action {
            Action::Accept => {
                let peer = self.knocking.pop_front().ok_or(Stop::Data)?;
                if self.knocking.is_empty() {
                    // The client comes again for each transfer.
                    self.knocking.push_back(peer);
                }
                self.data_open = true;
                Ok(Event::Opened(peer))
            }
            Action::Connect(address) => {
                self.connected_to = Some(address);
                self.data_open = true;
                Ok(Event::Opened(address))
            }
            Action::Write(Chan::Data, bytes) => {
                let count = bytes.len().min(PIECE_BYTES);
                self.downloaded.extend_from_slice(&bytes[..count]);
                Ok(Event::Wrote(count))
            }
            Action::SendFile { file, offset, length, .. } => {
                let mut bytes = vec![0; (length as usize).min(PIECE_BYTES)];
                let count = file.read_at(&mut bytes, offset).unwrap();
                self.downloaded.extend_from_slice(&bytes[..count]);
                Ok(Event::Wrote(count))
            }
            Action::ReceiveFile { file, offset, .. } => {
                let count = self.upload.len().min(PIECE_BYTES);
                let bytes: Vec<u8> = self.upload.drain(..count).collect();
                file.write_all_at(&bytes, offset).unwrap();
                Ok(Event::Received(count))
            }
            Action::Read(Chan::Data) => Ok(Event::Received(self.upload.len().min(PIECE_BYTES))),
            other => panic!("unexpected: {other:?}"),
        }
    }
}

pub(crate) fn failed(kind: io::ErrorKind) -> Event<'static> {
    Event::Failed(kind.into())
}

/// What a logged-in client is answered.
pub(crate) fn check(input: &str, expected: &str) {
    let mut world = World::logged_in().file("a", b"0123456789");
    fs::create_dir(world.folder.path().join("d")).unwrap();
    world.tell(input);
    assert_eq!(world.codes(), expected, "{input:?}");
}
