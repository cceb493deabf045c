//! What HTTP clients may rely on, checked without sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use common::conformance::{Client, Fault, Outcome, run};
use common::http;
use common::ports::Passive;
use common::session::{Chan, Event, Session as _, Settings, SharedSettings};
use common::users::Users;

fn settings(root: &tempfile::TempDir) -> SharedSettings {
    Arc::new(Settings {
        root: Arc::new(Dir::open_ambient_dir(root.path(), ambient_authority()).unwrap()),
        writable: false,
        users: Users::default(),
        passive: Passive::default(),
        idle_timeout: Duration::from_mins(1),
        backend: Some("127.0.0.1:9".parse().unwrap()),
        now: || SystemTime::UNIX_EPOCH,
    })
}

fn site() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("index.html"), "<p>home").unwrap();
    fs::write(root.path().join("a b.txt"), "text").unwrap();
    fs::write(root.path().join("empty"), "").unwrap();
    fs::write(root.path().join("large"), vec![b'x'; 200_000]).unwrap();
    fs::create_dir(root.path().join("folder")).unwrap();
    fs::write(root.path().join("folder/index.html"), "<p>folder").unwrap();
    fs::create_dir(root.path().join("bare")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", root.path().join("passwd")).unwrap();
    root
}

fn converse(input: &str, data: &str, fault: Option<(usize, Fault)>) -> Outcome {
    let root = site();
    let session = Box::new(http::Session::new(&settings(&root)));
    let client = Client::new(input.as_bytes(), data.as_bytes());
    run(session, &client, fault)
}

/// The replies to `input`, without what never changes.
fn replies(input: &str) -> String {
    let outcome = converse(input, "HTTP/1.1 200 OK\r\n\r\nfrom behind", None);
    let text = String::from_utf8(outcome.control).unwrap();
    text.replace("Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n", "").replace('\r', "")
}

fn get(target: &str) -> String {
    replies(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"))
}

/// The code of each reply. A status line may follow a body that does not end in a newline.
fn codes(input: &str) -> Vec<u32> {
    let replies = replies(input);
    let after = replies.split("HTTP/1.1 ").skip(1);
    after.map(|reply| reply[..3].parse().unwrap()).collect()
}

#[test]
fn files_are_served_whole() {
    assert_eq!(
        get("/a%20b.txt?x"),
        "HTTP/1.1 200 OK\nContent-Type: text/plain\nContent-Length: 4\n\ntext"
    );
    assert_eq!(get("/"), "HTTP/1.1 200 OK\nContent-Type: text/html\nContent-Length: 7\n\n<p>home");
    assert!(get("/folder/").ends_with("\n\n<p>folder"));
    assert!(get("/empty").ends_with("Content-Length: 0\n\n"));
    let large = get("/large");
    let (head, body) = large.split_once("\n\n").unwrap();
    assert!(head.ends_with("Content-Length: 200000"));
    assert_eq!(body.len(), 200_000);
}

#[test]
fn what_is_no_file_below_the_root_is_not_served() {
    let long = format!("/{}", "x".repeat(300));
    for (target, code) in [
        ("/missing", 404),
        ("/a%20b.txt/", 404),
        ("/bare/", 404),
        (&long, 404),
        ("/passwd", 403),
        ("/../etc/passwd", 400),
        ("/%2e%2e/etc/passwd", 400),
        ("/%", 400),
    ] {
        let request = format!("GET {target} HTTP/1.0\r\n\r\n");
        assert_eq!(codes(&request), [code], "{target}");
    }
}

#[test]
fn a_folder_without_its_slash_moves_to_the_one_with_it() {
    let reply = get("/folder");
    assert!(reply.starts_with("HTTP/1.1 301 Moved Permanently\n"));
    assert!(reply.contains("\nLocation: /folder/\n"));
}

#[test]
fn head_is_get_without_the_body() {
    for target in ["/plaintext", "/json", "/bytes/100000", "/large", "/missing", "/block/1"] {
        let head = replies(&format!("HEAD {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let get = get(target);
        assert_eq!(head, get[..get.find("\n\n").unwrap() + 2], "{target}");
    }
}

#[test]
fn paths_of_known_cost_answer() {
    assert_eq!(
        get("/plaintext"),
        "HTTP/1.1 200 OK\nContent-Type: text/plain\nContent-Length: 13\n\nHello, World!"
    );
    assert!(get("/json").ends_with("\n\n{\"message\":\"Hello, World!\"}"));
    assert!(get("/compute/10").ends_with("\n\nOK"));
    assert!(get("/block/1").ends_with("\n\nOK"));
    let bytes = get("/bytes/150000");
    let (_, body) = bytes.split_once("\n\n").unwrap();
    assert_eq!(body.len(), 150_000);
    let mut pattern = http::PATTERN.iter().cycle();
    assert!(body.bytes().all(|byte| Some(&byte) == pattern.next()));
}

#[test]
fn the_backend_answers_or_is_blamed() {
    let request = "GET /backend/5 HTTP/1.1\r\nHost: a\r\n\r\n";
    assert!(get("/backend/5").ends_with("\n\nfrom behind"));
    let code = |data: &str, fault| {
        let outcome = converse(request, data, fault);
        String::from_utf8(outcome.control).unwrap()[9..12].to_owned()
    };
    assert_eq!(code("rubbish", None), "502");
    assert_eq!(code("", None), "502");
    // Its actions: read, connect, write, read, close.
    for step in 1..4 {
        assert_eq!(code("", Some((step, Fault::Failed))), "502");
        assert_eq!(code("", Some((step, Fault::TimedOut))), "504");
    }
    let root = site();
    let mut without = (*settings(&root)).clone();
    without.backend = None;
    let session = Box::new(http::Session::new(&Arc::new(without)));
    let outcome = run(session, &Client::new(request.as_bytes(), b""), None);
    assert!(outcome.control.starts_with(b"HTTP/1.1 503 "));
}

#[test]
fn pipelined_requests_are_answered_in_order_in_one_write() {
    let request = "GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n";
    let outcome = converse(&request.repeat(16), "", None);
    // Read, write, read the end, end.
    assert_eq!(outcome.steps, 4);
    let mixed = "GET /block/1 HTTP/1.1\r\nHost: a\r\n\r\nGET /a%20b.txt HTTP/1.1\r\nHost: a\r\n\r\n\
        GET /bytes/70000 HTTP/1.1\r\nHost: a\r\n\r\nGET /missing HTTP/1.1\r\nHost: a\r\n\r\n\
        GET /backend/1 HTTP/1.1\r\nHost: a\r\n\r\nGET /json HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(codes(&request.repeat(16)), [200; 16]);
    assert_eq!(codes(mixed), [200, 200, 200, 404, 200, 200]);
}

#[test]
fn a_connection_persists_as_its_client_wishes() {
    let next = "GET /json HTTP/1.1\r\nHost: a\r\n\r\n";
    for (request, count, field) in [
        ("GET /json HTTP/1.1\r\nHost: a\r\n\r\n", 2, ""),
        ("GET /json HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 1, "close"),
        ("GET /json HTTP/1.0\r\n\r\n", 1, "close"),
        ("GET /json HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 2, "keep-alive"),
        ("GET /block/1 HTTP/1.0\r\n\r\n", 1, "close"),
        ("GET /large HTTP/1.0\r\n\r\n", 1, "close"),
    ] {
        assert_eq!(codes(&format!("{request}{next}")).len(), count, "{request}");
        let first = replies(request);
        let mut fields = first.lines();
        let found = fields.find_map(|line| line.strip_prefix("Connection: "));
        assert_eq!(found.unwrap_or_default(), field, "{request}");
    }
}

#[test]
fn other_methods_are_refused_and_their_bodies_skipped() {
    let next = "GET /json HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "POST /plaintext HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n";
    let body = "GET / HTTP/1.1\r\n\r\n\r\n";
    assert_eq!(body.len(), 20);
    assert!(replies(post).contains("\nAllow: GET, HEAD\n"));
    assert_eq!(codes(&format!("{post}{body}{next}")), [405, 200]);
    let unknown = "BREW / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(codes(&format!("{unknown}{next}")), [501, 200]);
    let with_body = "GET /json HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(codes(&format!("{with_body}\r\n{next}")), [200, 200]);
}

#[test]
fn a_request_that_cannot_be_framed_ends_the_connection_in_an_orderly_way() {
    for (request, code) in [
        ("GET /\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n", 413),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n", 405),
    ] {
        let input = format!("{request}GET /json HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(codes(&input), [code], "{request}");
        let outcome = converse(&input, "", None);
        assert!(outcome.closed, "{request}");
        let text = String::from_utf8(outcome.control).unwrap();
        assert!(text.contains("\r\nConnection: close\r\n"), "{request}");
    }
}

#[test]
fn half_a_request_is_told_why_it_gets_no_answer_and_silence_is_not() {
    let code = |input: &str, fault| {
        let outcome = converse(input, "", Some((1, fault)));
        let text = String::from_utf8(outcome.control).unwrap();
        text.get(9..12).map(str::to_owned)
    };
    let half = "GET / HTTP/1.1\r\nHo";
    assert_eq!(code(half, Fault::TimedOut).as_deref(), Some("408"));
    assert_eq!(code(half, Fault::Drain).as_deref(), Some("503"));
    assert_eq!(code(half, Fault::Vanished), None);
    for fault in Fault::ALL {
        let outcome = converse(half, "", Some((0, fault)));
        assert_eq!(outcome.control, b"", "{fault:?}");
    }
}

#[test]
fn only_a_whole_request_and_progress_buy_time() {
    let root = site();
    let mut session = http::Session::new(&settings(&root));
    let mut phases = vec![session.deadline().phase];
    for byte in b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r" {
        session.handle(Event::Read(Chan::Control, &[*byte]));
        phases.push(session.deadline().phase);
    }
    phases.dedup();
    assert_eq!(phases.len(), 2, "the silence before, and the request");
    session.handle(Event::Read(Chan::Control, b"\n"));
    let answered = session.deadline().phase;
    assert_ne!(answered, phases[1]);
    session.handle(Event::Wrote(1));
    assert_ne!(session.deadline().phase, answered);
}

#[test]
fn an_idle_connection_is_small() {
    let bytes = size_of::<http::Session>();
    assert!(bytes <= 160, "{bytes}");
}
