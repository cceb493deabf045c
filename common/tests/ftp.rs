//! The FTP session in a world without sockets: a small executor performs its actions on a folder
//! and on byte vectors, and stops where a client would have to do something.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::conformance::{Client, Fault, Outcome, run};
use common::ftp;
use common::session::{Action, Chan, Event, Session, Settings, SharedSettings};
use proptest::prelude::*;
use tempfile::TempDir;

/// As many bytes are moved in one action.
const PIECE_BYTES: usize = 1000;
const LOGIN: &str = "USER anonymous\r\nPASS a@b\r\n";
/// The client's address, if not said otherwise.
const CLIENT: &str = "192.0.2.7";

/// Where the world stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// The session waits for a command.
    Command,
    /// It waits for the data connection.
    Data,
    End,
}

struct World {
    session: ftp::Session,
    settings: SharedSettings,
    folder: TempDir,
    /// What was said on the control connection.
    said: Vec<u8>,
    /// What has arrived at the client, and what it has still to send, on the data connection.
    downloaded: Vec<u8>,
    upload: VecDeque<u8>,
    /// Who connects to the data port, in this order. The client is last, if it comes.
    knocking: VecDeque<SocketAddr>,
    /// How many data actions are answered before they stand still.
    data_actions: usize,
    /// What the next data action or job answers instead.
    failure: Option<io::ErrorKind>,
    connected_to: Option<SocketAddr>,
    data_open: bool,
}

impl World {
    fn new() -> Self {
        Self::of(CLIENT, true)
    }

    fn of(peer: &str, writable: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = cap_std::fs::Dir::open_ambient_dir(folder.path(), cap_std::ambient_authority());
        let settings = Arc::new(Settings {
            root: Arc::new(root.unwrap()),
            writable,
            idle_timeout: Duration::from_mins(2),
            backend: None,
            now: || SystemTime::UNIX_EPOCH,
        });
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
        };
        assert_eq!(world.run(), Stop::Command);
        world
    }

    fn logged_in() -> Self {
        let mut world = Self::new();
        world.tell(LOGIN);
        world.said.clear();
        world
    }

    fn file(self, name: &str, bytes: &[u8]) -> Self {
        fs::write(self.folder.path().join(name), bytes).unwrap();
        self
    }

    /// The names in the served folder.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<String> =
            entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn content(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.path().join(name)).unwrap()
    }

    /// The client says something; the world goes on until it stands still.
    fn tell(&mut self, input: impl AsRef<[u8]>) -> Stop {
        self.session.handle(Event::Read(Chan::Control, input.as_ref()));
        self.run()
    }

    fn answer(&mut self, event: Event<'_>) -> Stop {
        self.session.handle(event);
        self.run()
    }

    /// What was said since this was last asked.
    fn heard(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.said)).into_owned()
    }

    /// The codes of the replies since this was last asked.
    fn codes(&mut self) -> String {
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

    fn run(&mut self) -> Stop {
        loop {
            match self.step() {
                Ok(event) => self.session.handle(event),
                Err(stop) => return stop,
            }
        }
    }

    /// Performs one action.
    fn step(&mut self) -> Result<Event<'static>, Stop> {
        let action = self.session.poll();
        match action {
            Action::Read(Chan::Control) => return Err(Stop::Command),
            Action::End => return Err(Stop::End),
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
        if let Action::Listen = action {
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
            other => panic!("unexpected: {other:?}"),
        }
    }
}

fn failed(kind: io::ErrorKind) -> Event<'static> {
    Event::Failed(kind.into())
}

/// What a logged-in client is answered.
fn check(input: &str, expected: &str) {
    let mut world = World::logged_in().file("a", b"0123456789");
    fs::create_dir(world.folder.path().join("d")).unwrap();
    world.tell(input);
    assert_eq!(world.codes(), expected, "{input:?}");
}

#[test]
fn a_login_may_come_in_one_packet() {
    let mut world = World::new();
    world.tell("USER anonymous\r\nPASS x\r\nSYST\r\nPWD\r\n");
    assert_eq!(world.codes(), "220 331 230 215 257");
}

#[test]
fn a_wrong_user_looks_like_a_right_one_until_the_password() {
    let mut world = World::new();
    assert_eq!(world.tell("USER root\r\nPASS x\r\nUSER root\r\nPASS x\r\n"), Stop::Command);
    assert_eq!(world.tell("USER root\r\nPASS x\r\nNOOP\r\n"), Stop::End);
    assert_eq!(world.codes(), "220 331 530 331 530 331 530");
}

#[test]
fn little_is_allowed_before_login() {
    let mut world = World::new();
    world.tell("FEAT\r\nHELP\r\nNOOP\r\nSYST\r\nOPTS UTF8 ON\r\nAUTH TLS\r\nPBSZ 0\r\nPROT P\r\n");
    assert_eq!(world.codes(), "220 211 214 200 215 200 502 503 503");
    world.tell("PASS x\r\nPWD\r\nRETR a\r\nSTOR a\r\nPASV\r\nNONSENSE\r\nQUIT\r\n");
    assert_eq!(world.codes(), "503 530 530 530 530 500 221");
}

#[test]
fn every_command_has_its_reply() {
    check("NOOP\r\nALLO 1\r\nACCT x\r\nSMNT x\r\nABOR\r\nSTAT\r\n", "200 202 502 502 226 211");
    check("TYPE A\r\nTYPE A N\r\nTYPE I\r\nTYPE L 8\r\n", "200 200 200 200");
    check("TYPE E\r\nTYPE L 7\r\nTYPE X\r\nTYPE\r\nTYPE nonsense\r\n", "504 504 504 501 501");
    check("MODE S\r\nMODE B\r\nSTRU F\r\nSTRU R\r\nSTRU\r\n", "200 504 200 504 501");
    check("CWD d\r\nPWD\r\nCDUP\r\nXCWD d\r\nXCUP\r\nXPWD\r\n", "250 257 250 250 250 257");
    check("CWD a\r\nCWD nothing\r\n", "550 550");
    check("MKD e\r\nMKD e\r\nRMD e\r\nRMD e\r\nXMKD e\r\nXRMD e\r\n", "257 550 250 550 257 250");
    check("DELE a\r\nDELE a\r\nDELE d\r\nRMD /\r\n", "250 550 550 550");
    check("RNFR a\r\nRNTO b\r\nRNFR a\r\nRNTO c\r\n", "350 250 550 503");
    check("RNFR a\r\nNOOP\r\nRNTO b\r\n", "350 200 503");
    check("REST 5\r\nREST x\r\nREST -1\r\nREST 99999999999999999999\r\n", "350 501 501 501");
    check("SIZE a\r\nTYPE I\r\nSIZE a\r\nSIZE d\r\nSIZE x\r\n", "550 200 213 550 550");
    check("MDTM a\r\nMDTM d\r\nMDTM x\r\n", "213 550 550");
    check("MFMT 20010909014640 a\r\nMFMT x a\r\nMFMT 20010909014640\r\n", "213 501 501");
    check("MLST a\r\nMLST\r\nMLST x\r\nSTAT d\r\nSTAT x\r\n", "250 250 550 213 550");
    check("OPTS MLST size;\r\nOPTS nonsense\r\nOPTS UTF8 ON\r\n", "200 501 200");
    check("SITE CHMOD 600 a\r\nSITE CHMOD 9 a\r\nSITE HELP\r\nSITE X\r\n", "200 501 214 504");
    check("REIN\r\nPWD\r\n", "220 530");
    check("PWD x\r\nCWD\r\n\r\nNONSENSE\r\nQUIT\r\nNOOP\r\n", "501 501 500 500 221");
}

#[test]
fn a_read_only_server_changes_nothing() {
    let mut world = World::of(CLIENT, false).file("a", b"a");
    world.tell(LOGIN);
    world.codes();
    let commands = [
        "MKD b",
        "RMD b",
        "DELE a",
        "RNFR a",
        "STOR a",
        "APPE a",
        "STOU",
        "SITE CHMOD 0 a",
        "MFMT 20010909014640 a",
    ];
    for command in commands {
        world.tell(format!("EPSV\r\n{command}\r\n"));
        assert_eq!(world.codes(), "229 550", "{command}");
    }
    assert_eq!(world.names(), ["a"]);
}

#[test]
fn curl_downloads() {
    let mut world = World::new().file("a", b"0123456789");
    for line in ["USER anonymous", "PASS ftp@example.com", "PWD", "EPSV", "TYPE I", "SIZE a"] {
        world.tell(format!("{line}\r\n"));
    }
    world.tell("RETR a\r\n");
    assert_eq!(world.downloaded, b"0123456789");
    world.downloaded.clear();
    world.tell("EPSV\r\nREST 7\r\nRETR a\r\n");
    assert_eq!(world.downloaded, b"789");
    assert_eq!(world.tell("QUIT\r\n"), Stop::End);
    assert_eq!(world.codes(), "220 331 230 257 229 200 213 150 226 229 350 150 226 221");
}

#[test]
fn wget_lists_and_leaves_without_a_word() {
    let mut world = World::logged_in().file("a", b"0123456789");
    world.tell("SYST\r\nPWD\r\nTYPE I\r\nCWD /\r\nPASV\r\nLIST -a\r\n");
    let heard = world.heard();
    assert!(heard.contains("227 Entering passive mode (192,0,2,1,19,137)\r\n"), "{heard}");
    let listing = String::from_utf8_lossy(&world.downloaded).into_owned();
    assert!(listing.starts_with("-rw") && listing.ends_with(" a\r\n"), "{listing}");
    assert_eq!(world.tell(""), Stop::End);
}

#[test]
fn lftp_mirrors() {
    let mut world = World::new();
    world.tell("FEAT\r\nAUTH TLS\r\nOPTS UTF8 ON\r\n");
    world.tell(LOGIN);
    world.tell("OPTS MLST type;size;modify;\r\nMKD d\r\nCWD d\r\nTYPE I\r\nPASV\r\n");
    world.upload.extend(b"content");
    world.tell("STOR a\r\nMFMT 20010909014640 a\r\nSITE CHMOD 600 a\r\nEPSV\r\nMLSD\r\n");
    let codes = "220 211 502 200 331 230 200 257 250 200 227 150 226 213 200 229 150 226";
    assert_eq!(world.codes(), codes);
    assert_eq!(world.downloaded, b"type=file;size=7;modify=20010909014640; a\r\n");
    assert_eq!(world.content("d/a"), b"content");
}

#[test]
fn ftplib_lists_under_type_a() {
    let mut world = World::logged_in().file("a", b"").file("b", b"");
    world.tell("TYPE A\r\nEPSV\r\nNLST\r\n");
    let mut lines: Vec<_> = world.downloaded.split_inclusive(|&byte| byte == b'\n').collect();
    lines.sort();
    assert_eq!(lines, [b"a\r\n", b"b\r\n"]);
}

#[test]
fn an_upload_replaces_a_file_only_when_it_is_whole() {
    let mut world = World::logged_in().file("a", b"old");
    world.upload.extend([b'n'; 2500]);
    // The connection, two of the three pieces, and no more.
    world.data_actions = 3;
    assert_eq!(world.tell("EPSV\r\nSTOR a\r\n"), Stop::Data);
    assert_eq!(world.codes(), "229 150");
    assert_eq!(world.content("a"), b"old");
    world.data_actions = usize::MAX;
    world.run();
    assert_eq!(world.codes(), "226");
    assert_eq!(world.content("a"), [b'n'; 2500]);
    assert_eq!(world.names(), ["a"]);
}

#[test]
fn uploads_resume_append_and_find_names() {
    let mut world = World::logged_in().file("a", b"0123456789");
    world.upload.extend(b"xyz");
    world.tell("EPSV\r\nREST 9\r\nSTOR a\r\n");
    assert_eq!(world.content("a"), b"012345678xyz");
    world.upload.extend(b"!");
    world.tell("EPSV\r\nAPPE a\r\n");
    assert_eq!(world.content("a"), b"012345678xyz!");
    world.upload.extend(b"new");
    world.tell("EPSV\r\nAPPE b\r\n");
    assert_eq!(world.content("b"), b"new");
    world.tell("EPSV\r\nREST 99\r\nSTOR a\r\nREST 99\r\nRETR a\r\nREST 1\r\nSTOR c\r\n");
    assert_eq!(
        world.codes(),
        "229 350 150 226 229 150 226 229 150 226 229 350 554 350 554 350 554"
    );
    world.upload.extend(b"unique");
    world.tell("STOU\r\n");
    let heard = world.heard();
    let name = heard.strip_prefix("150 FILE: /").unwrap().lines().next().unwrap();
    assert_eq!(world.content(name), b"unique");
    assert_eq!(world.names().len(), 3);
}

#[test]
fn what_is_wrong_with_a_transfer_is_said_before_150() {
    check("RETR a\r\nLIST\r\nSTOR b\r\n", "425 425 425");
    check("EPSV\r\nRETR x\r\nRETR d\r\nLIST x\r\nNLST x\r\n", "229 550 550 550 550");
    check("EPSV\r\nMLSD a\r\nMLSD x\r\n", "229 501 550");
    check("EPSV\r\nSTOR d\r\nSTOR x/y\r\nSTOR /\r\nAPPE d\r\n", "229 550 550 550 550");
}

#[test]
fn abor_cuts_a_transfer() {
    let mut world = World::logged_in().file("a", &[b'a'; 5000]);
    world.data_actions = 3;
    assert_eq!(world.tell("EPSV\r\nRETR a\r\n"), Stop::Data);
    assert_eq!(world.tell(b"\xff\xf4\xff\xf2ABOR\r\nNOOP\r\n"), Stop::Command);
    assert_eq!(world.codes(), "229 150 426 226 200");
    assert!(!world.data_open);
    assert_eq!(world.downloaded.len(), 2 * PIECE_BYTES);
    world.data_actions = usize::MAX;
    world.tell("EPSV\r\nRETR a\r\n");
    assert_eq!(world.codes(), "229 150 226");
}

#[test]
fn abor_cuts_an_upload_which_leaves_nothing() {
    for data_actions in 0..3 {
        let mut world = World::logged_in().file("a", b"old");
        world.upload.extend([b'n'; 5000]);
        world.data_actions = data_actions;
        assert_eq!(world.tell("EPSV\r\nSTOR a\r\n"), Stop::Data);
        world.tell("NOOP\r\nABOR\r\n");
        assert_eq!(world.codes(), "229 150 426 200 226");
        assert_eq!((world.names(), world.content("a")), (vec!["a".to_owned()], b"old".to_vec()));
    }
}

#[test]
fn stat_is_answered_during_a_transfer_and_disturbs_nothing() {
    let content: Vec<u8> = (0..5000_u32).map(|number| number as u8).collect();
    let mut world = World::logged_in().file("a", &content);
    world.data_actions = 3;
    assert_eq!(world.tell("EPSV\r\nRETR a\r\n"), Stop::Data);
    assert_eq!(world.tell("STAT\r\nSTAT\r\nNOOP\r\n"), Stop::Data);
    assert!(world.heard().contains(" 2000 bytes so far."));
    world.data_actions = usize::MAX;
    assert_eq!(world.run(), Stop::Command);
    assert_eq!(world.codes(), "226 200");
    assert_eq!(world.downloaded, content);
}

#[test]
fn quit_waits_for_the_transfer() {
    let mut world = World::logged_in().file("a", &[b'a'; 5000]);
    world.data_actions = 3;
    world.tell("EPSV\r\nRETR a\r\n");
    assert_eq!(world.tell("QUIT\r\n"), Stop::Data);
    assert_eq!(world.tell(""), Stop::Data);
    world.data_actions = usize::MAX;
    assert_eq!(world.run(), Stop::End);
    assert_eq!(world.codes(), "229 150 226 221");
}

#[test]
fn a_client_that_vanishes_leaves_nothing() {
    for data_actions in 0..5 {
        let mut world = World::logged_in().file("a", b"old");
        world.upload.extend([b'n'; 5000]);
        world.data_actions = data_actions;
        assert_eq!(world.tell("EPSV\r\nSTOR a\r\n"), Stop::Data);
        assert_eq!(world.tell(""), Stop::End);
        assert_eq!((world.names(), world.content("a")), (vec!["a".to_owned()], b"old".to_vec()));
        assert!(!world.data_open);
    }
}

#[test]
fn an_upload_that_fails_says_why_and_leaves_nothing() {
    use io::ErrorKind as Kind;
    let reasons = [
        (Kind::StorageFull, "452"),
        (Kind::QuotaExceeded, "452"),
        (Kind::FileTooLarge, "552"),
        (Kind::ConnectionReset, "426"),
        (Kind::Other, "451"),
    ];
    for (kind, code) in reasons {
        let mut world = World::logged_in();
        world.upload.extend([b'n'; 5000]);
        world.data_actions = 2;
        assert_eq!(world.tell("EPSV\r\nSTOR a\r\n"), Stop::Data);
        world.answer(failed(kind));
        assert_eq!(world.codes(), format!("229 150 {code}"), "{kind:?}");
        assert!(world.names().is_empty(), "{kind:?}");
    }
}

#[test]
fn a_failure_of_the_last_step_is_no_success() {
    // Closing the data connection, or the job that closes the file and gives it its name.
    let fails_at = |job: bool, expected: &str| {
        let mut world = World::logged_in();
        world.upload.extend(b"new");
        world.data_actions = 2;
        assert_eq!(world.tell("EPSV\r\nSTOR a\r\n"), Stop::Data);
        world.session.handle(Event::Received(0));
        assert!(matches!(world.session.poll(), Action::Close(Chan::Data)));
        if job {
            world.session.handle(Event::Closed);
            assert!(matches!(world.session.poll(), Action::Run(_)));
            world.answer(failed(io::ErrorKind::QuotaExceeded));
        } else {
            world.answer(failed(io::ErrorKind::ConnectionReset));
        }
        assert_eq!(world.codes(), expected);
        assert!(world.names().is_empty());
    };
    fails_at(false, "229 150 426");
    fails_at(true, "229 150 452");
}

#[test]
fn a_file_that_shrinks_meanwhile_is_451() {
    let mut world = World::logged_in().file("a", &[b'a'; 5000]);
    world.data_actions = 2;
    world.tell("EPSV\r\nRETR a\r\n");
    fs::write(world.folder.path().join("a"), b"short").unwrap();
    world.data_actions = usize::MAX;
    world.run();
    assert_eq!(world.codes(), "229 150 451");
}

#[test]
fn a_stranger_on_the_data_port_is_turned_away() {
    let mut world = World::logged_in().file("a", b"secret");
    world.knocking.push_front("198.51.100.1:4000".parse().unwrap());
    world.data_actions = 1;
    world.tell("EPSV\r\nRETR a\r\n");
    let phase = world.session.deadline();
    assert!(matches!(world.session.poll(), Action::Accept));
    assert_eq!(world.session.deadline(), phase);
    world.data_actions = usize::MAX;
    world.run();
    assert_eq!(world.codes(), "229 150 226");
    assert_eq!(world.downloaded, b"secret");
}

#[test]
fn a_mapped_address_is_the_ipv4_address() {
    let mut world = World::of("::ffff:192.0.2.7", true).file("a", b"content");
    world.tell(LOGIN);
    world.tell("PASV\r\nRETR a\r\nPORT 192,0,2,7,8,0\r\nRETR a\r\nEPSV 2\r\nEPSV 1\r\n");
    assert_eq!(world.codes(), "220 331 230 227 150 226 200 150 226 522 229");
    assert_eq!(world.downloaded, b"contentcontent");
    assert_eq!(world.connected_to, Some("192.0.2.7:2048".parse().unwrap()));
}

#[test]
fn port_reaches_nobody_but_the_client() {
    check("PORT 192,0,2,7,8,0\r\nLIST\r\n", "200 150 226");
    check("EPRT |1|192.0.2.7|2048|\r\nLIST\r\n", "200 150 226");
    check("PORT 198,51,100,1,8,0\r\nLIST\r\n", "501 425");
    check("PORT 192,0,2,7,0,25\r\nEPRT |1|192.0.2.7|25|\r\n", "501 501");
    check("EPRT |2|::1|2048|\r\nEPRT |3|x|1|\r\nEPRT x\r\nPORT x\r\n", "522 522 501 501");
    check("EPSV ALL\r\nPASV\r\nPORT 192,0,2,7,8,0\r\nEPSV\r\nLIST\r\n", "200 501 501 229 150 226");
    check("EPSV 2\r\nEPSV x\r\n", "522 501");
}

#[test]
fn port_closes_the_passive_port() {
    let mut world = World::logged_in();
    world.data_open = true;
    world.tell("PASV\r\nPORT 192,0,2,7,8,0\r\n");
    assert!(!world.data_open);
    assert_eq!(world.codes(), "227 200");
}

#[test]
fn nothing_outside_the_root_is_reached() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), b"secret").unwrap();
    let mut world = World::logged_in();
    std::os::unix::fs::symlink(outside.path(), world.folder.path().join("link")).unwrap();
    let secret = outside.path().join("secret");
    std::os::unix::fs::symlink(&secret, world.folder.path().join("file")).unwrap();
    let commands = [
        "RETR link/secret",
        "RETR file",
        "RETR ../secret",
        "STOR link/new",
        "STOR file",
        "APPE file",
        "LIST link",
        "CWD link",
        "DELE link/secret",
        "MKD link/d",
        "RNFR link/secret",
        "MLST file",
        "SITE CHMOD 777 file",
    ];
    for command in commands {
        world.tell(format!("EPSV\r\n{command}\r\n"));
        assert_eq!(world.codes(), "229 550", "{command}");
    }
    world.tell("CWD ../../..\r\nPWD\r\n");
    assert!(world.heard().contains("257 \"/\" "));
    assert_eq!(fs::read(secret).unwrap(), b"secret");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn names_are_bytes_and_quotes_are_doubled() {
    let mut world = World::logged_in();
    world.tell(b"MKD a\"b\xfe\xff\xff \r\nCWD a\"b\xfe\xff\xff \r\nPWD\r\n");
    let path = b"257 \"/a\"\"b\xfe\xff \" ";
    let said = std::mem::take(&mut world.said);
    assert_eq!(said.windows(path.len()).filter(|part| part == path).count(), 2);
    let name = std::ffi::OsStr::from_bytes(b"a\"b\xfe\xff ");
    assert!(world.folder.path().join(name).is_dir());
}

#[test]
fn a_newline_in_a_name_forges_nothing() {
    let mut world = World::logged_in().file("a\r\n226 b", b"");
    world.tell("EPSV\r\nNLST\r\nSTAT /\r\n");
    assert_eq!(world.downloaded, b"a??226 b\r\n");
    assert_eq!(world.codes(), "229 150 226 213");
}

#[test]
fn a_bad_line_gets_one_500_and_the_session_lives() {
    let mut world = World::logged_in();
    for _ in 0..100 {
        assert_eq!(world.tell([b'x'; 1000]), Stop::Command);
    }
    world.tell("\r\nNOOP\r\nCWD a\0b\r\nNOOP\r\n");
    assert_eq!(world.codes(), "500 200 500 200");
}

#[test]
fn a_full_queue_wants_no_more_input() {
    let mut world = World::logged_in().file("a", &[b'a'; 5000]);
    world.data_actions = 1;
    world.tell("EPSV\r\nRETR a\r\n");
    assert!(world.session.accepts_control());
    world.tell("NOOP\r\n".repeat(2000));
    assert!(!world.session.accepts_control());
    world.data_actions = usize::MAX;
    world.run();
    assert_eq!(world.codes().split(' ').filter(|&code| code == "200").count(), 2000);
    assert!(world.session.accepts_control());
}

#[test]
fn silence_ends_a_session_and_pieces_of_a_line_do_not_help() {
    let mut world = World::logged_in();
    let deadline = world.session.deadline();
    world.tell("NO");
    assert_eq!(world.session.deadline(), deadline);
    world.tell("OP\r\nPA");
    assert_ne!(world.session.deadline().phase, deadline.phase);
    assert_eq!(world.answer(Event::TimedOut), Stop::End);
    assert_eq!(world.codes(), "200 421");
}

#[test]
fn a_client_that_never_connects_gets_425_and_goes_on() {
    let mut world = World::logged_in().file("a", b"content");
    world.data_actions = 0;
    assert_eq!(world.tell("EPSV\r\nRETR a\r\n"), Stop::Data);
    assert!(world.session.deadline().limit <= Duration::from_secs(30));
    assert_eq!(world.answer(Event::TimedOut), Stop::Command);
    assert_eq!(world.codes(), "229 150 425");
}

#[test]
fn a_transfer_that_stands_still_ends_and_so_does_its_session() {
    let mut world = World::logged_in();
    world.upload.extend([b'n'; 5000]);
    world.data_actions = 2;
    world.tell("EPSV\r\nSTOR a\r\n");
    assert_eq!(world.answer(Event::TimedOut), Stop::End);
    assert_eq!(world.codes(), "229 150 426 421");
    assert!(world.names().is_empty());
}

#[test]
fn a_server_that_leaves_says_so() {
    let mut world = World::logged_in();
    assert_eq!(world.answer(Event::Drain), Stop::End);
    assert_eq!(world.codes(), "421");
}

#[test]
fn a_port_that_cannot_be_opened_is_425() {
    let mut world = World::logged_in();
    world.failure = Some(io::ErrorKind::AddrInUse);
    world.tell("PASV\r\nLIST\r\n");
    assert_eq!(world.codes(), "425 425");
}

#[test]
fn a_large_directory_streams() {
    let mut world = World::logged_in();
    for number in 0..1000 {
        fs::write(world.folder.path().join(number.to_string()), b"").unwrap();
    }
    world.tell("EPSV\r\nNLST\r\nSTAT .\r\nEPSV\r\nMLSD\r\n");
    let lines = world.downloaded.split(|&byte| byte == b'\n').count() - 1;
    assert_eq!(lines, 2000);
    assert_eq!(world.said.split(|&byte| byte == b'\n').count() - 1, 1000 + 8);
    assert_eq!(world.codes(), "229 150 226 213 229 150 226");
}

#[test]
fn a_pattern_selects_names_and_keeps_the_folder_it_was_given_with() {
    let mut world = World::logged_in().file("a1", b"").file("b1", b"").file(".a1", b"");
    world.tell("EPSV\r\nNLST a*\r\nEPSV\r\nNLST ../?1*1\r\nEPSV\r\nNLST /b?\r\n");
    assert_eq!(world.downloaded, b"a1\r\n/b1\r\n");
    world.tell("EPSV\r\nLIST -a nothing*\r\nEPSV\r\nNLST x/*\r\n");
    let codes = "229 150 226 229 150 226 229 150 226 229 150 226 229 550";
    assert_eq!(world.codes(), codes);
}

#[test]
fn an_idle_session_is_small() {
    assert!(size_of::<ftp::Session>() <= 512, "{}", size_of::<ftp::Session>());
}

/// Everything that a session does, but for what depends on when it arrives (ABOR, STAT).
const SCRIPT: &[u8] = b"FEAT\r\nUSER anonymous\r\nPASS x\r\nPWD\nMKD d\r\nCWD d\r\nTYPE I\r\n\
    EPSV\r\nSTOR a\r\nSIZE a\r\nPASV\r\nREST 2\r\nRETR a\r\nCWD a\0\r\n\xff\xf1NOOP\r\nRNFR a\r\n\
    RNTO \xff\xffb\r\nEPSV\r\nNLST\r\nCWD \xfe\"\r\nHELP\r\nDELE \xff\xffb\r\nCDUP\r\nRMD d\r\nQUIT\r\n";

fn converse(pieces: &[&[u8]]) -> (Vec<u8>, Vec<u8>) {
    let mut world = World::new();
    world.upload.extend([b'u'; 2500]);
    let mut stop = Stop::Command;
    for piece in pieces {
        assert_eq!(stop, Stop::Command);
        stop = world.tell(piece);
    }
    assert_eq!(stop, Stop::End);
    assert!(world.names().is_empty());
    (world.said, world.downloaded)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn commands_may_arrive_in_any_pieces(
        cuts in proptest::collection::btree_set(1..SCRIPT.len(), 0..40)
    ) {
        let mut pieces = Vec::new();
        let mut rest = SCRIPT;
        for cut in cuts.into_iter().rev() {
            let (before, after) = rest.split_at(cut);
            pieces.push(after);
            rest = before;
        }
        pieces.push(rest);
        pieces.reverse();
        prop_assert_eq!(converse(&pieces), converse(&[SCRIPT]));
    }

    #[test]
    fn rubbish_never_harms(
        input in proptest::collection::vec(any::<u8>(), 1..3000)
    ) {
        let mut world = World::logged_in();
        world.tell(input);
        prop_assert_eq!(world.answer(Event::Read(Chan::Control, &[])), Stop::End);
    }
}

/// A conversation under the conformance kit, which holds the session to the contract; and what is
/// left in the served folder.
fn under_test(client: &Client, fault: Option<(usize, Fault)>) -> (Outcome, TempDir) {
    let World { folder, settings, .. } =
        World::new().file("old", b"old").file("big", &[b'b'; 2000]);
    let session = ftp::Session::new(&settings, "127.0.0.1".parse().unwrap());
    (run(Box::new(session), client, fault), folder)
}

const CONVERSATION: &[u8] = b"USER anonymous\r\nPASS x\r\nTYPE I\r\nEPSV\r\nRETR big\r\n\
    PORT 127,0,0,1,8,0\r\nSTOR old\r\nPASV\r\nNLST\r\nSTAT /\r\nEPSV\r\nAPPE new\r\nEPSV\r\n\
    EPRT |1|127.0.0.1|2048|\r\nRNFR new\r\nRNTO newer\r\nDELE newer\r\nMKD d\r\nRMD d\r\nQUIT\r\n";

#[test]
fn every_chunking_gives_the_same_conversation() {
    let (expected, _folder) = under_test(&Client::new(CONVERSATION, b"new content"), None);
    for piece in [1, 2, 7, 100] {
        let client = Client {
            control: CONVERSATION.chunks(piece).map(<[u8]>::to_vec).collect(),
            data: b"new content".chunks(piece).map(<[u8]>::to_vec).collect(),
            write_bytes: piece,
            eager: false,
        };
        let (outcome, _folder) = under_test(&client, None);
        assert_eq!(outcome.data, expected.data);
        let text = |outcome: &Outcome| String::from_utf8_lossy(&outcome.control).into_owned();
        assert_eq!(text(&outcome), text(&expected));
    }
}

#[test]
fn a_failure_at_any_action_leaves_no_half_upload() {
    let mut client = Client::new(CONVERSATION, b"new content");
    client.control = CONVERSATION.chunks(50).map(<[u8]>::to_vec).collect();
    let steps = under_test(&client, None).0.steps;
    for (step, fault) in (0..steps).flat_map(|step| Fault::ALL.map(|fault| (step, fault))) {
        let (_, folder) = under_test(&client, Some((step, fault)));
        let old = fs::read(folder.path().join("old")).unwrap();
        assert!(old == b"old" || old == b"new content", "{fault:?} at {step}");
        for entry in fs::read_dir(folder.path()).unwrap() {
            let name = entry.unwrap().file_name();
            assert!(!name.as_bytes().starts_with(b"."), "{name:?}: {fault:?} at {step}");
        }
    }
}

#[test]
fn what_overtakes_a_transfer_keeps_to_the_contract() {
    let script =
        b"USER ftp\r\nPASS x\r\nEPSV\r\n|RETR big\r\n|STAT\r\n|STAT\r\n|ABOR\r\n|EPSV\r\n|\
        NLST\r\n|STAT\r\n|EPSV\r\n|STOR old\r\n|STAT\r\n|ABOR\r\n|QUIT\r\n";
    let client = Client {
        control: script.split(|&byte| byte == b'|').map(<[u8]>::to_vec).collect(),
        data: vec![b"new".to_vec()],
        write_bytes: 100,
        eager: true,
    };
    let (outcome, folder) = under_test(&client, None);
    assert_eq!(fs::read(folder.path().join("old")).unwrap(), b"old");
    let text = String::from_utf8_lossy(&outcome.control);
    assert!(text.ends_with("221 Goodbye.\r\n"), "{text}");
    for (step, fault) in (0..outcome.steps).flat_map(|step| Fault::ALL.map(|fault| (step, fault))) {
        under_test(&client, Some((step, fault)));
    }
}
