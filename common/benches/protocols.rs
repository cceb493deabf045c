//! What a protocol costs without sockets: parsing, and a session's poll and handle. What is left of
//! a server's CPU time for a request is system calls and architecture.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use common::http;
use common::ports::Passive;
use common::protocol::Protocol;
use common::session::{Action, Chan, Event, Session, Settings};
use common::users::Users;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// What load generators send.
const SMALL: &str = "GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

/// What a browser sends.
const BROWSER: &str = "GET /plaintext HTTP/1.1\r\nHost: www.example.org\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Connection: keep-alive\r\nUpgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\nSec-Fetch-Site: none\r\nPriority: u=0, i\r\n\r\n";

fn heads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("http head");
    for (name, head) in [("small", SMALL), ("browser", BROWSER)] {
        assert_eq!(http::head_length(head.as_bytes()), Some(head.len()));
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| http::head_length(black_box(head.as_bytes())));
        });
    }
    group.finish();
}

/// A session that waits for input.
fn session(protocol: Protocol) -> Box<dyn Session> {
    let root = Dir::open_ambient_dir(".", ambient_authority()).expect("there is a working folder");
    let settings = Settings {
        root: Arc::new(root),
        writable: false,
        users: Users::default(),
        passive: Passive::default(),
        idle_timeout: Duration::from_mins(1),
        backend: None,
        tls: None,
        guestbook: None,
        files: http::Files::default(),
        now: SystemTime::now,
    };
    let mut session = protocol.session(&Arc::new(settings), IpAddr::V4(Ipv4Addr::LOCALHOST));
    drain(&mut *session);
    session
}

/// Takes all that the session has to say, and tells how much that was.
fn drain(session: &mut dyn Session) -> usize {
    let mut written = 0;
    while let Action::Write(_, bytes) = session.poll() {
        let count = black_box(bytes).len();
        written += count;
        session.handle(Event::Wrote(count));
    }
    written
}

/// One input and the whole reply to it.
fn turns(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session");
    for (name, protocol, input, requests) in [
        ("echo", Protocol::Echo, "hello\r\n".to_owned(), 1),
        ("ftp NOOP", Protocol::Ftp, "NOOP\r\n".to_owned(), 1),
        ("ftp TYPE I", Protocol::Ftp, "TYPE I\r\n".to_owned(), 1),
        ("http plaintext", Protocol::Http, SMALL.to_owned(), 1),
        ("http plaintext browser", Protocol::Http, BROWSER.to_owned(), 1),
        ("http plaintext 16 pipelined", Protocol::Http, SMALL.repeat(16), 16),
        ("http bytes 1024", Protocol::Http, SMALL.replace("plaintext", "bytes/1024"), 1),
    ] {
        let mut session = session(protocol);
        if protocol == Protocol::Ftp {
            session.handle(Event::Read(Chan::Control, b"USER anonymous\r\nPASS a@b\r\n"));
            drain(&mut *session);
        }
        group.throughput(Throughput::Elements(requests));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                session.handle(Event::Read(Chan::Control, black_box(input.as_bytes())));
                drain(&mut *session)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, heads, turns);
criterion_main!(benches);
