//! An input of the fuzzer as a conversation, and what must hold of each.
//!
//! The first bytes say how it is played; then follows what the client sends on the control
//! connection, cut where [`CUT`] stands, and after [`DATA`], what it sends on each data connection.
//! The corpus can so be read, and written by hand.
//!
//! **Invariant:** whatever the input, a conversation ends, keeps the contract (`conformance`
//! panics otherwise), touches nothing outside the served folder, and what the server says can be
//! parsed as replies, no more of them than there were commands.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use common::conformance::{Client, Fault, run};
use common::ftp;
use common::ports::Passive;
use common::session::{Settings, TlsConfig};
use common::users::Users;

/// Cuts the control input in two.
const CUT: u8 = 0x1f;
/// Ends the control input.
const DATA: u8 = 0x1e;

/// Plays one input.
pub(crate) fn ftp(input: &[u8]) {
    let Some((&[flags, write, fault, at], rest)) = input.split_first_chunk() else {
        return;
    };
    let (control, data) = halves(rest);
    let client = Client {
        control: control.split(|byte| *byte == CUT).map(<[u8]>::to_vec).collect(),
        data: data.chunks(usize::from(write).max(1)).map(<[u8]>::to_vec).collect(),
        write_bytes: usize::from(write).max(1) * 16,
        eager: flags & 1 != 0,
    };
    let client = Client { control: without_empty(client.control), ..client };
    let fault = Fault::ALL.get(usize::from(fault)).map(|fault| (usize::from(at), *fault));

    let place = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let root = place.path().join("root");
    std::fs::create_dir_all(root.join("folder")).unwrap();
    std::fs::write(root.join("file"), b"some\nlines\r\nof text\n").unwrap();
    std::os::unix::fs::symlink("..", root.join("out")).unwrap();
    let settings = Settings {
        root: Arc::new(Dir::open_ambient_dir(&root, ambient_authority()).unwrap()),
        writable: flags & 2 != 0,
        users: Users::default(),
        passive: Passive::default(),
        idle_timeout: Duration::from_mins(1),
        backend: None,
        tls: (flags & 4 != 0).then(certificate),
        now: || SystemTime::UNIX_EPOCH,
    };
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let session = ftp::Session::new(&Arc::new(settings), peer);
    let outcome = run(Box::new(session), &client, fault);

    let beside = std::fs::read_dir(place.path()).unwrap().count();
    assert_eq!(beside, 1, "something was made outside the served folder");
    // A write that fails is heard in part.
    if !matches!(fault, Some((_, Fault::Failed | Fault::TimedOut))) {
        let commands = control.split(|byte| *byte == b'\n').count() - 1;
        let replies = final_replies(&outcome.control);
        // The greeting, and perhaps a farewell that nobody has asked for.
        assert!(replies <= commands + 2, "{commands} commands have {replies} replies");
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
