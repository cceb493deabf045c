//! Paths, connections and time.

use common::conformance::{Client, Fault};
use common::http;
use common::session::{Action, Chan, Event, Session as _};

use crate::table::codes;
use crate::world::*;

/// The codes of the replies.
fn codes_of(input: &str) -> String {
    codes(&Site::new().replies(input))
}

#[test]
fn paths_of_known_cost_answer() {
    let site = Site::new();
    assert_eq!(
        site.get("/plaintext"),
        "HTTP/1.1 200 OK\nContent-Type: text/plain\nContent-Length: 13\n\nHello, World!"
    );
    assert_eq!(body(&site.get("/json")), "{\"message\":\"Hello, World!\"}");
    assert_eq!(body(&site.get("/compute/10")), "OK");
    assert_eq!(body(&site.get("/block/1")), "OK");
    assert_eq!(body(&site.get("/work/10/1")), "OK");
    let bytes = site.get("/bytes/150000");
    assert_eq!(body(&bytes).len(), 150_000);
    let mut pattern = http::PATTERN.iter().cycle();
    assert!(body(&bytes).bytes().all(|byte| Some(&byte) == pattern.next()));
}

#[test]
fn events_come_in_chunks_with_pauses_between_them() {
    let site = Site::new();
    assert_eq!(
        site.get("/stream/2/50"),
        "HTTP/1.1 200 OK\nContent-Type: text/event-stream\nCache-Control: no-store\n\
         Transfer-Encoding: chunked\n\n9\ndata: 1\n\n\n9\ndata: 2\n\n\n0\n\n"
    );
    assert_eq!(body(&site.get("/stream/0/50")), "0\n\n");
    let mut session = site.session();
    session.handle(Event::Read(Chan::Control, b"GET /stream/2/50 HTTP/1.1\r\nHost: a\r\n\r\n"));
    let Action::Write(_, head) = session.poll() else { panic!("no head") };
    let length = head.len();
    session.handle(Event::Wrote(length));
    assert!(matches!(session.poll(), Action::Pause));
    assert_eq!(session.deadline().limit.as_millis(), 50);
}

#[test]
fn a_client_that_knows_no_chunks_gets_pieces_until_the_end() {
    let site = Site::new();
    let stream = site.replies("GET /stream/2/0 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(field(&stream, "Connection").as_deref(), Some("close"));
    assert_eq!(field(&stream, "Transfer-Encoding"), None);
    assert_eq!(body(&stream), "data: 1\n\ndata: 2\n\n");
    let page = site.replies("GET /bare/ HTTP/1.0\r\n\r\n");
    assert!(body(&page).starts_with("<!DOCTYPE html>") && page.ends_with("</table>\n"), "{page}");
}

#[test]
fn the_backend_answers_or_is_blamed() {
    let request = "GET /backend/5 HTTP/1.1\r\nHost: a\r\n\r\n";
    let site = Site::new();
    assert_eq!(body(&site.replies(request)), "from behind");
    let code = |data: &str, fault| {
        let outcome = site.play(&Client::new(request.as_bytes(), data.as_bytes()), fault);
        String::from_utf8(outcome.control).unwrap()[9..12].to_owned()
    };
    assert_eq!(code("rubbish", None), "502");
    assert_eq!(code("", None), "502");
    // Its actions: read, connect, write, read, close.
    for step in 1..4 {
        assert_eq!(code("", Some((step, Fault::Failed))), "502");
        assert_eq!(code("", Some((step, Fault::TimedOut))), "504");
    }
    let without = Site::with(|settings| settings.backend = None);
    assert_eq!(codes(&without.replies(request)), "503");
}

#[test]
fn pipelined_requests_are_answered_in_order_in_one_write() {
    let site = Site::new();
    let get = |target| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    let outcome = site.converse(&get("/plaintext").repeat(16));
    // Read, write, read the end, end.
    assert_eq!(outcome.steps, 4);
    assert_eq!(codes_of(&get("/plaintext").repeat(16)), ["200"; 16].join(" "));
    let mixed = ["/block/1", "/a%20b.txt", "/bytes/70000", "/missing", "/backend/1", "/bare/"];
    let mixed: String = mixed.map(get).concat() + &get("/stream/1/1") + &get("/json");
    assert_eq!(codes_of(&mixed), "200 200 200 404 200 200 200 200");
}

#[test]
fn a_connection_persists_as_its_client_wishes() {
    let next = "GET /json HTTP/1.1\r\nHost: a\r\n\r\n";
    let site = Site::new();
    for (request, count, expected) in [
        ("GET /json HTTP/1.1\r\nHost: a\r\n\r\n", 2, None),
        ("GET /json HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 1, Some("close")),
        ("GET /json HTTP/1.0\r\n\r\n", 1, Some("close")),
        ("GET /json HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 2, Some("keep-alive")),
        ("GET /block/1 HTTP/1.0\r\n\r\n", 1, Some("close")),
        ("GET /large HTTP/1.0\r\n\r\n", 1, Some("close")),
        ("POST /echo HTTP/1.0\r\nContent-Length: 1\r\n\r\na", 1, Some("close")),
    ] {
        let replies = codes_of(&format!("{request}{next}"));
        assert_eq!(replies.split(' ').count(), count, "{request}");
        assert_eq!(field(&site.replies(request), "Connection").as_deref(), expected, "{request}");
    }
}

#[test]
fn what_can_be_done_is_told() {
    let site = Site::new();
    let allow = |method, target| field(&site.ask(method, target, ""), "Allow").unwrap();
    assert_eq!(allow("OPTIONS", "*"), "GET, HEAD, OPTIONS, POST, PUT");
    assert_eq!(allow("OPTIONS", "/file"), "GET, HEAD, OPTIONS");
    assert_eq!(allow("DELETE", "/plaintext"), "GET, HEAD, OPTIONS");
    assert_eq!(allow("GET", "/echo"), "OPTIONS, POST, PUT");
    let reply = site.ask("OPTIONS", "/file", "");
    assert!(reply.starts_with("HTTP/1.1 204 ") && field(&reply, "Content-Length").is_none());
}

#[test]
fn head_is_get_without_the_body() {
    let site = Site::new();
    let targets = ["/plaintext", "/json", "/bytes/100000", "/large", "/a%20b.txt", "/missing"];
    for target in targets.into_iter().chain(["/block/1", "/bare/", "/stream/2/0", "/folder"]) {
        let get = site.get(target);
        let head = site.ask("HEAD", target, "");
        assert_eq!(head, get[..get.find("\n\n").unwrap() + 2], "{target}");
    }
}

#[test]
fn half_a_request_is_told_why_it_gets_no_answer_and_silence_is_not() {
    let site = Site::new();
    let code = |input: &str, fault| {
        let outcome = site.play(&Client::new(input.as_bytes(), b""), Some((1, fault)));
        let text = String::from_utf8(outcome.control).unwrap();
        text.get(9..12).map(str::to_owned)
    };
    let half = "GET / HTTP/1.1\r\nHo";
    assert_eq!(code(half, Fault::TimedOut).as_deref(), Some("408"));
    assert_eq!(code(half, Fault::Drain).as_deref(), Some("503"));
    assert_eq!(code(half, Fault::Vanished), None);
    let half = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na";
    assert_eq!(code(half, Fault::TimedOut).as_deref(), Some("408"));
    assert_eq!(code(half, Fault::Vanished), None);
    for fault in Fault::ALL {
        let outcome = site.play(&Client::new(half.as_bytes(), b""), Some((0, fault)));
        assert_eq!(outcome.control, b"", "{fault:?}");
    }
}

/// How many phases pass while a client sends something byte by byte.
fn phases(session: &mut http::Session, input: &[u8]) -> usize {
    let mut phases = Vec::new();
    for byte in input {
        session.handle(Event::Read(Chan::Control, &[*byte]));
        phases.push(session.deadline().phase);
    }
    phases.dedup();
    phases.len()
}

#[test]
fn only_a_whole_request_and_progress_buy_time() {
    let mut session = Site::new().session();
    let silence = session.deadline().phase;
    assert_eq!(phases(&mut session, b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r"), 1);
    let request = session.deadline().phase;
    assert_ne!(request, silence);
    session.handle(Event::Read(Chan::Control, b"\n"));
    let answered = session.deadline().phase;
    assert_ne!(answered, request);
    session.handle(Event::Wrote(1));
    assert_ne!(session.deadline().phase, answered);
}

#[test]
fn a_body_that_drips_buys_no_time() {
    let mut session = Site::new().session();
    let head = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    session.handle(Event::Read(Chan::Control, head));
    let before = session.deadline().phase;
    assert_eq!(phases(&mut session, b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n"), 1);
    assert_eq!(session.deadline().phase, before);
}

#[test]
fn an_idle_connection_is_small() {
    let bytes = size_of::<http::Session>();
    assert!(bytes <= 160, "{bytes}");
}
