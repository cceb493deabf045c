//! An input of the fuzzer as a conversation, and what must hold of each.
//!
//! The first bytes say how it is played; then follows what the client sends on the control
//! connection, cut where [`CUT`] stands, and after [`DATA`], what it sends on each data connection.
//! The corpus can so be read, and written by hand.
//!
//! **Invariant:** whatever the input, a conversation ends, keeps the contract (`conformance`
//! panics otherwise), touches nothing outside the served folder, and what the server says can be
//! parsed as replies: in FTP no more of them than there were commands, in HTTP the same ones in
//! whatever pieces the input arrived.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use common::conformance::{Client, Fault, Outcome, run};
use common::ports::Passive;
use common::session::{Session, Settings, SharedSettings, TlsConfig};
use common::users::Users;
use common::{ftp, http};

/// Cuts the control input in two.
const CUT: u8 = 0x1f;
/// Ends the control input.
const DATA: u8 = 0x1e;

/// So many digits has the length of what is asked for at most: all that is said is kept here.
const BODY_DIGITS_MAX: usize = 5;

/// An input as a conversation.
struct Scene<'a> {
    flags: u8,
    control: &'a [u8],
    client: Client,
    fault: Option<(usize, Fault)>,
}

impl<'a> Scene<'a> {
    fn of(input: &'a [u8]) -> Option<Self> {
        let (&[flags, write, fault, at], rest) = input.split_first_chunk()?;
        let (control, data) = halves(rest);
        let client = Client {
            control: without_empty(
                control.split(|byte| *byte == CUT).map(<[u8]>::to_vec).collect(),
            ),
            data: data.chunks(usize::from(write).max(1)).map(<[u8]>::to_vec).collect(),
            write_bytes: usize::from(write).max(1) * 16,
            eager: flags & 1 != 0,
        };
        let fault = Fault::ALL.get(usize::from(fault)).map(|fault| (usize::from(at), *fault));
        Some(Scene { flags, control, client, fault })
    }

    /// Plays it on a folder of its own.
    fn play(&self, client: &Client, session: fn(&SharedSettings) -> Box<dyn Session>) -> Outcome {
        let place = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let root = place.path().join("root");
        std::fs::create_dir_all(root.join("folder")).unwrap();
        std::fs::write(root.join("file"), b"some\nlines\r\nof text\n").unwrap();
        std::os::unix::fs::symlink("..", root.join("out")).unwrap();
        let settings = Settings {
            root: Arc::new(Dir::open_ambient_dir(&root, ambient_authority()).unwrap()),
            writable: self.flags & 2 != 0,
            users: Users::default(),
            passive: Passive::default(),
            idle_timeout: Duration::from_mins(1),
            backend: None,
            tls: (self.flags & 4 != 0).then(certificate),
            guestbook: None,
            files: http::Files::default(),
            now: || SystemTime::UNIX_EPOCH,
        };
        let outcome = run(session(&Arc::new(settings)), client, self.fault);
        let beside = std::fs::read_dir(place.path()).unwrap().count();
        assert_eq!(beside, 1, "something was made outside the served folder");
        outcome
    }

    /// Whether it asks for bodies that only a real client, which keeps nothing, can receive.
    fn asks_for_much(&self) -> bool {
        let control = String::from_utf8_lossy(&self.client.control.concat()).into_owned();
        let mut numbers = control.split("/bytes/").skip(1).map(|rest| {
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
            digits.trim_start_matches('0').len()
        });
        numbers.any(|digits| digits > BODY_DIGITS_MAX)
    }

    /// Whether what was said has its end: a write that fails is heard in part.
    fn is_heard(&self) -> bool {
        !matches!(self.fault, Some((_, Fault::Failed | Fault::TimedOut)))
    }
}

/// Plays one input as FTP.
#[allow(dead_code, reason = "each fuzz target plays one protocol")]
pub(crate) fn ftp(input: &[u8]) {
    let Some(scene) = Scene::of(input) else { return };
    let outcome = scene.play(&scene.client, |settings| {
        let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Box::new(ftp::Session::new(settings, peer))
    });
    if scene.is_heard() {
        let commands = scene.control.split(|byte| *byte == b'\n').count() - 1;
        let replies = final_replies(&outcome.control);
        // The greeting, and perhaps a farewell that nobody has asked for.
        assert!(replies <= commands + 2, "{commands} commands have {replies} replies");
    }
}

/// Plays one input as HTTP.
#[allow(dead_code, reason = "each fuzz target plays one protocol")]
pub(crate) fn http(input: &[u8]) {
    let Some(scene) = Scene::of(input).filter(|scene| !scene.asks_for_much()) else { return };
    let session =
        |settings: &SharedSettings| -> Box<dyn Session> { Box::new(http::Session::new(settings)) };
    let outcome = scene.play(&scene.client, session);
    if !scene.is_heard() {
        return;
    }
    let asked = scene.client.control.concat();
    // Replies to HEAD cannot be told from others without knowing what was asked.
    if !asked.windows(4).any(|four| four == b"HEAD") {
        responses(&outcome.control);
    }
    if scene.fault.is_none() {
        let whole = Client {
            control: without_empty(vec![asked]),
            write_bytes: usize::MAX,
            ..scene.client.clone()
        };
        let again = scene.play(&whole, session);
        assert_eq!(without_tags(&again.control), without_tags(&outcome.control));
    }
}

/// Tags and dates of files differ from folder to folder.
fn without_tags(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let varies = |line: &&str| {
        !["ETag:", "Last-Modified:", "--part-"].iter().any(|start| line.starts_with(start))
            && !line.contains("part-")
            && !line.contains("<td>")
    };
    text.lines().filter(varies).collect::<Vec<_>>().join("\n")
}

/// Parses all that was said as replies (RFC 9112 §6.3).
fn responses(mut said: &[u8]) {
    while !said.is_empty() {
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut head = httparse::Response::new(&mut fields);
        let Ok(httparse::Status::Complete(length)) = head.parse(said) else {
            panic!("no head: {:?}", String::from_utf8_lossy(said));
        };
        let code = head.code.unwrap();
        let field = |name| head.headers.iter().find(|field| field.name == name);
        let closes = field("Connection").is_some_and(|field| field.value == b"close");
        said = &said[length..];
        if let Some(field) = field("Content-Length") {
            let length: usize = std::str::from_utf8(field.value).unwrap().parse().unwrap();
            said = &said[length..];
        } else if field("Transfer-Encoding").is_some() {
            while let httparse::Status::Complete((start, size)) =
                httparse::parse_chunk_size(said).unwrap()
            {
                let end = start + size as usize;
                assert_eq!(&said[end..end + 2], b"\r\n");
                said = &said[end + 2..];
                if size == 0 {
                    break;
                }
            }
        } else if !matches!(code, 100 | 204 | 304) {
            assert!(closes, "nobody knows where the body ends");
            return;
        }
        assert!(!closes || said.is_empty(), "it goes on after its last reply");
    }
}

fn halves(rest: &[u8]) -> (&[u8], &[u8]) {
    match rest.iter().position(|byte| *byte == DATA) {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, b"what a client uploads\r\n"),
    }
}

/// An empty piece of input is its end.
fn without_empty(pieces: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    pieces.into_iter().filter(|piece| !piece.is_empty()).collect()
}

/// Parses what was said (RFC 959 §4.2), and counts the replies that are not preliminary.
fn final_replies(said: &[u8]) -> usize {
    assert!(said.ends_with(b"\r\n"), "the last line has no end");
    let mut count = 0;
    let mut inside: Option<[u8; 3]> = None;
    for line in said[..said.len() - 2].split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        assert!(!line.contains(&b'\r'), "a CR within a line");
        let begins = line.split_first_chunk::<3>().filter(|(code, rest)| {
            code.iter().all(u8::is_ascii_digit) && matches!(rest, [b' ' | b'-', ..])
        });
        match (inside, begins) {
            (Some(code), Some((end, [b' ', ..]))) if *end == code => inside = None,
            (Some(_), _) => continue,
            (None, Some((code, [b'-', ..]))) => {
                inside = Some(*code);
                continue;
            }
            (None, Some(_)) => {}
            (None, None) => panic!("no reply: {:?}", String::from_utf8_lossy(line)),
        }
        count += usize::from(line[0] != b'1');
    }
    assert_eq!(inside, None, "a reply of many lines has no end");
    count
}

fn certificate() -> Arc<TlsConfig> {
    static CERTIFICATE: OnceLock<Arc<TlsConfig>> = OnceLock::new();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    CERTIFICATE.get_or_init(|| common::certificate::self_signed(address).unwrap()).clone()
}
