//! What holds for every protocol, whatever it says: a conversation does not depend on how its input
//! was cut or how little a write took, it survives a failure at every action, and rubbish.
//!
//! A new protocol is asked for its transcripts by the compiler.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, SystemTime};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use clap::ValueEnum;
use common::conformance::{Client, Fault, Outcome, run};
use common::ports::Passive;
use common::protocol::Protocol;
use common::session::{Settings, TlsConfig};
use common::users::Users;
use proptest::collection::vec;
use proptest::prelude::*;

/// What one client says, and what its side of every data connection sends.
struct Transcript {
    control: Vec<u8>,
    data: &'static [u8],
    /// The names that may be found in the root afterwards beside those that were there before.
    leaves: &'static [&'static str],
    /// Whether it matters what the client says while a transfer runs, so that other cuts may well
    /// have other replies.
    timed: bool,
}

fn transcripts(protocol: Protocol) -> Vec<Transcript> {
    match protocol {
        Protocol::Echo => vec![Transcript {
            control: b"some words, and\0others".to_vec(),
            data: b"",
            leaves: &[],
            timed: false,
        }],
        Protocol::Ftp => vec![
            ftp("ABOR|FEAT|PWD|CWD folder|CDUP|MKD made|RMD made|NONSENSE|\u{ff}\u{0}", false),
            ftp("EPSV|LIST|PASV|NLST|SIZE file|REST 5000|PASV|RETR file|QUIT|NOOP", false),
            ftp("REST 9|PORT 127,0,0,1,200,10|RETR file|PASV|PASV|PORT 1|RETR missing", false),
            ftp("PASV|STOR upload|EPSV|APPE upload|SIZE upload|PASV|STOR folder|LIST", false),
            ftp("PASV|STOR upload|RNFR upload|RNTO moved|DELE moved|RETR file", false),
            ftp(
                "REIN|USER user|PASS secret|PWD|DELE file|USER nobody|PASS secret|REIN|NOOP",
                false,
            ),
            ftp("USER user|PASS wrong|PASS x|USER ftp|PASS|SIZE file|USER a|PASS b|PWD", false),
            ftp("USER user|PASS wrong|USER user|PASS|USER a|PASS b|NOOP", true),
            ftp("PASV|RETR file|ABOR|PASV|STOR upload|STAT|ABOR|NOOP|PASV|LIST|STAT|QUIT", true),
            ftp(
                "EPRT !1!127.0.0.1!2000!|APPE upload|PASV|STOR upload|STAT|STAT .|EPSV ALL|EPSV",
                true,
            ),
        ],
        Protocol::Http => [
            &[
                "GET /plaintext",
                "HEAD /file",
                "GET /file",
                "GET /",
                "GET /bytes/5000",
                "GET /block/1",
                "GET /compute/1",
                "GET /json",
                "GET /missing",
                "GET /folder",
                "BREW /",
                "GET /../x",
                "GET /backend/2",
                "GET /plaintext",
            ][..],
            &["GET /plaintext", "GET / HTTP/3.0", "GET /"],
            &["GET /backend/2", "get / \0"],
        ]
        .map(http)
        .into(),
    }
}

/// Commands of a client that has logged in, a line each.
fn ftp(commands: &str, timed: bool) -> Transcript {
    let mut control = String::from("USER anonymous\r\nPASS a@b\r\nTYPE I\r\n");
    for command in commands.split('|') {
        control.push_str(command);
        control.push_str("\r\n");
    }
    Transcript {
        control: control.into_bytes(),
        data: b"what a client uploads",
        leaves: &["made", "upload", "moved"],
        timed,
    }
}

/// Bodies and endings of heads are mixed in, since these are where requests are told apart.
fn http(requests: &[&str]) -> Transcript {
    let mut control = Vec::new();
    for (index, request) in requests.iter().enumerate() {
        let rest = match index % 3 {
            0 => " HTTP/1.1\r\nHost: a\r\n\r\n",
            1 => " HTTP/1.1\r\nhost: b\r\nContent-Length: 4\r\n\r\nGET \r\n",
            _ => " HTTP/1.0\nConnection: keep-alive\nX-Long: some more words\n\n\r\n",
        };
        control.extend_from_slice(request.as_bytes());
        control.extend_from_slice(rest.as_bytes());
    }
    let data = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    Transcript { control, data, leaves: &[], timed: false }
}

/// With it, those protocols that are secured from the first byte are played within TLS.
fn certificate() -> Arc<TlsConfig> {
    static CERTIFICATE: OnceLock<Arc<TlsConfig>> = OnceLock::new();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    CERTIFICATE.get_or_init(|| common::certificate::self_signed(address).unwrap()).clone()
}

/// A root with one file and one folder, of a fixed time; in memory where that is possible, because
/// there are thousands of them.
fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let pattern: Vec<u8> = (0..6000_u32).map(|index| index as u8).collect();
    fs::write(root.path().join("file"), pattern).unwrap();
    fs::create_dir(root.path().join("folder")).unwrap();
    for name in ["file", "folder"] {
        let file = fs::File::open(root.path().join(name)).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 365);
        file.set_modified(time).unwrap();
    }
    root
}

/// A user beside anonymous: `user`, whose password is `secret`.
static USERS: LazyLock<Users> = LazyLock::new(|| {
    let hash =
        "$argon2id$v=19$m=8,t=1,p=1$YSBmaXhlZCBzYWx0$ZdxW6tkjqaaRT54leQFEQD0hS+erohxgTV1gKYXeQ0U";
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), format!("user:{hash}:read:.\n")).unwrap();
    Users::open(file.path(), Path::new(".")).unwrap()
});

fn names(root: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(root).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn play(protocol: Protocol, client: &Client, fault: Option<(usize, Fault)>) -> Outcome {
    play_leaving(protocol, client, fault, None)
}

/// Plays a conversation in a fresh root, and looks at what it left there, if that is told.
fn play_leaving(
    protocol: Protocol,
    client: &Client,
    fault: Option<(usize, Fault)>,
    leaves: Option<&[&str]>,
) -> Outcome {
    let root = root();
    let mut expected = names(root.path());
    let settings = Settings {
        root: Arc::new(Dir::open_ambient_dir(root.path(), ambient_authority()).unwrap()),
        writable: true,
        users: USERS.clone(),
        passive: Passive::default(),
        idle_timeout: Duration::from_mins(1),
        backend: Some("127.0.0.1:9".parse().unwrap()),
        tls: Some(certificate()),
        guestbook: None,
        files: common::http::Files::default(),
        now: || SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 365),
    };
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let outcome = run(protocol.session(&Arc::new(settings), peer), client, fault);
    if let Some(leaves) = leaves {
        expected.extend(leaves.iter().map(|&name| name.to_owned()));
        let found = names(root.path());
        assert!(found.is_subset(&expected), "{protocol:?} {fault:?} leaves {found:?}");
    }
    outcome
}

/// What the client sees: how many actions it took is nobody's business.
fn seen(outcome: Outcome) -> (Vec<u8>, Vec<Vec<u8>>) {
    (masked(outcome.control), outcome.data.into_iter().map(masked).collect())
}

/// Without the facts that differ from one fresh root to the next, which a damaged command can ask
/// for.
fn masked(mut bytes: Vec<u8>) -> Vec<u8> {
    for fact in [b"unique=", b"modify="] {
        let mut at = 0;
        while let Some(found) = bytes[at..].windows(fact.len()).position(|here| here == fact) {
            at += found + fact.len();
            let value = bytes[at..].iter().position(|byte| *byte == b';').unwrap_or(0);
            bytes.drain(at..at + value);
        }
    }
    bytes
}

fn check_same(protocol: Protocol, client: &Client, expected: &Outcome) {
    let found = play(protocol, client, None);
    let (found, expected) = (seen(found), seen(expected.clone()));
    let text = |control: &[u8]| String::from_utf8_lossy(control).into_owned();
    assert_eq!(text(&found.0), text(&expected.0), "{protocol:?} {client:?}");
    assert_eq!(found, expected, "{protocol:?} {client:?}");
}

fn each_transcript(mut check: impl FnMut(Protocol, &Transcript, Client)) {
    for protocol in Protocol::value_variants() {
        for transcript in transcripts(*protocol) {
            let client = Client::new(&transcript.control, transcript.data);
            check(*protocol, &transcript, client);
        }
    }
}

/// Each of which the client sees the same, however it was cut.
fn each_untimed(mut check: impl FnMut(Protocol, &Transcript, Client)) {
    each_transcript(|protocol, transcript, client| {
        if !transcript.timed {
            check(protocol, transcript, client);
        }
    });
}

fn byte_by_byte(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.iter().map(|byte| vec![*byte]).collect()
}

#[test]
fn transcripts_say_something() {
    each_transcript(|protocol, _, client| {
        let outcome = play(protocol, &client, None);
        assert!(!outcome.control.is_empty(), "{protocol:?}");
    });
}

#[test]
fn input_may_be_cut_in_two_anywhere() {
    each_untimed(|protocol, transcript, client| {
        let expected = play(protocol, &client, None);
        for at in 1..transcript.control.len() {
            let (first, second) = transcript.control.split_at(at);
            let control = vec![first.to_vec(), second.to_vec()];
            check_same(protocol, &Client { control, ..client.clone() }, &expected);
        }
    });
}

#[test]
fn input_may_come_byte_by_byte() {
    each_untimed(|protocol, transcript, client| {
        let expected = play(protocol, &client, None);
        let control = byte_by_byte(&transcript.control);
        let data = byte_by_byte(transcript.data);
        check_same(protocol, &Client { control, data, ..client }, &expected);
    });
}

#[test]
fn writes_may_be_short() {
    each_transcript(|protocol, _, client| {
        let expected = play(protocol, &client, None);
        for write_bytes in (1..64).chain([100, 500, 1000, 1448, 4096, 5000]) {
            check_same(protocol, &Client { write_bytes, ..client.clone() }, &expected);
        }
    });
}

#[test]
fn a_failure_at_any_action_ends_in_order() {
    each_transcript(|protocol, transcript, client| {
        let client = Client { eager: transcript.timed, write_bytes: 1000, ..client };
        let steps = play(protocol, &client, None).steps;
        for fault in Fault::ALL {
            for step in 0..steps {
                play_leaving(protocol, &client, Some((step, fault)), Some(transcript.leaves));
            }
        }
    });
}

/// Where to cut, as shares of what is left.
fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    vec(any::<prop::sample::Index>(), 0..20)
}

fn cut(bytes: &[u8], cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.dedup();
    at.windows(2).map(|ends| bytes[ends[0]..ends[1]].to_vec()).collect()
}

/// What commands and requests are made of, in the order of nobody's liking. What an FTP client may
/// say during a transfer is not among it.
const WORDS: &[&str] = &[
    "\r\n",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    " ",
    ":",
    "\0",
    "\u{ff}",
    "..",
    "/",
    "%2",
    "1",
    "file",
    "GET ",
    "HEAD ",
    "POST ",
    "GET /plaintext HTTP/1.1\r\n",
    "GET /bytes/70 HTTP/1.0\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\n",
    " HTTP/1.1\r\n",
    " HTTP/1.",
    "Host: a\r\n",
    "Connection: close",
    "Content-Length: 7\r\n",
    "Content-Length: ",
    "Transfer-Encoding: chunked\r\n",
    "Expect: ",
    LONG,
    "USER ftp\r\n",
    "USER user\r\n",
    "PASS secret\r\n",
    "PASS x\r\n",
    "PASV\r\n",
    "LIST\r\n",
    "RETR file\r\n",
    "STOR ",
    "CWD ",
    "REST 3\r\n",
];

const LONG: &str = match str::from_utf8(&[b'x'; 3000]) {
    Ok(text) => text,
    Err(_) => "",
};

fn config() -> ProptestConfig {
    ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn input_may_be_cut_anyhow(control in cuts(), data in cuts(), write_bytes in 1..3000_usize) {
        each_untimed(|protocol, transcript, client| {
            let expected = play(protocol, &client, None);
            let control = cut(&transcript.control, &control);
            let data = cut(transcript.data, &data);
            let client = Client { control, data, write_bytes, ..client };
            check_same(protocol, &client, &expected);
        });
    }

    #[test]
    fn a_damaged_conversation_comes_to_an_end_however_it_is_cut(
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cuts in cuts(),
        fault in prop::option::of((0..100_usize, prop::sample::select(&Fault::ALL[..]))),
    ) {
        each_transcript(|protocol, transcript, client| {
            let mut control = transcript.control.clone();
            for (at, byte) in &damage {
                let at = at.index(control.len());
                control[at] = *byte;
            }
            let whole = Client { control: vec![control.clone()], ..client };
            let expected = play(protocol, &whole, None);
            let client = Client { control: cut(&control, &cuts), ..whole };
            // STOU tells a name that nobody has had before.
            let unique = control.to_ascii_uppercase().windows(4).any(|verb| verb == b"STOU");
            if !transcript.timed && !unique {
                check_same(protocol, &client, &expected);
            }
            play(protocol, &Client { eager: true, ..client }, fault);
        });
    }

    #[test]
    fn rubbish_comes_to_an_end_however_it_is_cut(
        rubbish in vec(any::<u8>(), 1..2000),
        words in vec(prop::sample::select(WORDS), 0..80),
        cuts in cuts(),
    ) {
        for protocol in Protocol::value_variants() {
            for control in [rubbish.clone(), words.concat().into_bytes()] {
                let whole = Client::new(&control, &rubbish);
                let expected = play(*protocol, &whole, None);
                let client = Client { control: cut(&control, &cuts), ..whole };
                check_same(*protocol, &client, &expected);
            }
        }
    }
}

#[test]
fn much_rubbish_at_once_does_not_pile_up() {
    for protocol in Protocol::value_variants() {
        for unit in [&b"\r\n"[..], b"x", b"GET /bytes/4000 HTTP/1.1\r\nHost: a\r\n\r\n"] {
            let piece = unit.repeat(65_536 / unit.len());
            let control = std::iter::repeat_n(piece, 16).collect();
            play(*protocol, &Client { control, ..Client::new(b"", b"") }, None);
        }
    }
}
