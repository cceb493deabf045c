//! Bodies of requests: echoed, stored, or read for nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use common::conformance::{Client, Fault};
use common::guestbook::Guestbook;

use crate::table::{clear, codes, furnish, table};
use crate::world::*;

fn put(name: &str, fields: &str, content: &str) -> String {
    let length = content.len();
    format!("PUT {name} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{fields}\r\n{content}")
}

#[test]
fn a_body_comes_back_however_it_is_framed() {
    let site = Site::new();
    let post = |fields: &str, body: &str| {
        site.replies(&format!("POST /echo HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}"))
    };
    assert_eq!(body(&post("Content-Length: 3", "abc")), "abc");
    let chunks = "2\r\nab\r\n00001;x=y\r\nc\r\n0\r\nTrailer: x\r\n\r\n";
    assert_eq!(body(&post("Transfer-Encoding: chunked", chunks)), "abc");
    assert_eq!(body(&post("X: y", "")), "");
}

#[test]
fn what_is_sent_is_stored_whole() {
    let site = Site::new();
    assert_eq!(codes(&site.replies(&put("/upload/a%20b", "", "one"))), "201");
    assert_eq!(site.stored("upload/a b"), "one");
    fs::set_permissions(site.path("upload/a b"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(codes(&site.replies(&put("/upload/a%20b", "", "another"))), "204");
    assert_eq!(site.stored("upload/a b"), "another");
    let mode = fs::metadata(site.path("upload/a b")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640, "the permission bits stay");
    assert_eq!(body(&site.get("/upload/a%20b")), "another");
    let large = "0123456789".repeat(30_000);
    let chunks = format!("{:x}\r\n{large}\r\n1\r\n!\r\n0\r\n\r\n", large.len());
    let head = "PUT /upload/large HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let input = format!("{head}{chunks}GET /plaintext HTTP/1.0\r\n\r\n");
    let client = Client {
        control: input.as_bytes().chunks(50_000).map(<[u8]>::to_vec).collect(),
        ..Client::new(b"", b"")
    };
    let said = String::from_utf8(site.play(&client, None).control).unwrap();
    assert_eq!(codes(&said), "201 200");
    assert_eq!(site.stored("upload/large"), large + "!");
    assert_eq!(codes(&site.replies(&put("/upload/empty", "", ""))), "201");
    assert_eq!(site.stored("upload/empty"), "");
}

#[test]
fn who_may_not_write_is_told_before_the_body() {
    let site = Site::with(|_| {});
    let input = put("/upload/a", "Expect: 100-continue\r\n", "content");
    let outcome = site.converse(&input);
    assert!(outcome.closed, "what follows may be the body or not");
    let said = String::from_utf8(outcome.control).unwrap();
    assert_eq!(codes(&said), "403");
    assert!(said.contains("\r\nConnection: close\r\n"));
    assert!(!site.path("upload").exists());
    let site = Site::new();
    fs::create_dir_all(site.path("upload/folder")).unwrap();
    assert_eq!(codes(&site.replies(&put("/upload/folder", "", "x"))), "409");
}

#[test]
fn what_has_changed_meanwhile_is_not_overwritten() {
    let site = Site::new();
    let new = "If-None-Match: *\r\n";
    assert_eq!(codes(&site.replies(&put("/upload/a", new, "one"))), "201");
    assert_eq!(codes(&site.replies(&put("/upload/a", new, "two"))), "412");
    site.file("upload/a", b"old");
    pass(1);
    let etag = site.field("/upload/a", "ETag");
    let same = format!("If-Match: {etag}\r\n");
    assert_eq!(codes(&site.replies(&put("/upload/a", &same, "three"))), "204");
    assert_eq!(codes(&site.replies(&put("/upload/a", &same, "four"))), "412");
    assert_eq!(site.stored("upload/a"), "three");
}

#[test]
fn a_failure_at_any_action_leaves_no_half_upload() {
    let content = "content ".repeat(10_000);
    let input = put("/upload/a", "Expect: 100-continue\r\n", &content);
    let client = Client {
        control: input.as_bytes().chunks(30_000).map(<[u8]>::to_vec).collect(),
        ..Client::new(b"", b"")
    };
    let site = Site::new();
    fs::create_dir(site.path("upload")).unwrap();
    site.file("upload/a", b"old");
    let steps = site.play(&client, None).steps;
    assert!(steps > 10);
    for (step, fault) in (0..steps).flat_map(|step| Fault::ALL.map(|fault| (step, fault))) {
        site.file("upload/a", b"old");
        site.play(&client, Some((step, fault)));
        let now = site.stored("upload/a");
        assert!(now == "old" || now == content, "{fault:?} at {step}");
        let names = fs::read_dir(site.path("upload")).unwrap().count();
        assert_eq!(names, 1, "{fault:?} at {step} leaves something");
    }
}

#[test]
fn a_leaving_server_lets_an_upload_come_to_its_end() {
    let site = Site::new();
    let input = put("/upload/a", "", "content");
    let client = Client {
        control: input.as_bytes().chunks(40).map(<[u8]>::to_vec).collect(),
        ..Client::new(b"", b"")
    };
    let steps = site.play(&client, None).steps;
    let mut stored = 0;
    for step in 1..steps {
        let _ = fs::remove_file(site.path("upload/a"));
        let outcome = site.play(&client, Some((step, Fault::Drain)));
        let said = String::from_utf8(outcome.control).unwrap();
        match codes(&said).as_str() {
            "201" => stored += usize::from(site.stored("upload/a") == "content"),
            code => assert_eq!(code, "503", "half a head at {step}"),
        }
    }
    assert!(stored > 3);
}

#[test]
fn the_guestbook_shows_what_was_written_into_it() {
    let folder = tempfile::tempdir().unwrap();
    let book = Guestbook::open(&folder.path().join("book"), Path::new("/dev")).unwrap();
    let book = Some(Arc::new(book));
    let open_to = |writable| {
        let guestbook = book.clone();
        Site::with(|settings| (settings.guestbook, settings.writable) = (guestbook, writable))
    };
    let site = open_to(true);
    let sign = |fields: &str, entry: &str| {
        let length = entry.len();
        let head = "POST /guestbook HTTP/1.1\r\nHost: a\r\n";
        site.replies(&format!("{head}Content-Length: {length}\r\n{fields}\r\n{entry}"))
    };
    assert!(sign("", "<one> & more").starts_with("HTTP/1.1 201 "));
    let form = "Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\n";
    let reply = sign(form, "entry=another+one");
    assert!(reply.starts_with("HTTP/1.1 303 "));
    assert_eq!(field(&reply, "Location").as_deref(), Some("/guestbook"));
    assert!(sign(form, "other=x").starts_with("HTTP/1.1 400 "));
    assert!(sign("", &"x".repeat(1025)).starts_with("HTTP/1.1 400 "));
    let page = site.get("/guestbook");
    let entries: Vec<_> = page.lines().filter_map(|line| line.split_once("<dd>")).collect();
    let texts: Vec<_> = entries.iter().map(|(_, text)| *text).collect();
    assert_eq!(texts, ["another one", "&lt;one&gt; &amp; more"]);
    assert!(page.contains("<form "));
    let read_only = open_to(false);
    let refused = read_only.get("/guestbook");
    assert!(refused.contains("<dd>another one") && !refused.contains("<form "));
    let fields = "Content-Length: 1\r\nExpect: 100-continue\r\n";
    assert_eq!(codes(&read_only.ask("POST", "/guestbook", fields)), "403");
    let without = Site::new();
    assert_eq!(codes(&without.get("/guestbook")), "503");
}

#[test]
fn the_table_holds_in_any_pieces() {
    let site = Site::new();
    furnish(site.root.path());
    let mut wrong = Vec::new();
    for (input, expected) in table() {
        for cut in [usize::MAX, 61, 7, 1] {
            // A head that grows byte by byte is parsed again and again.
            if cut < 61 && input.len() > 500 {
                continue;
            }
            clear(site.root.path());
            let client = Client {
                control: input.as_bytes().chunks(cut).map(<[u8]>::to_vec).collect(),
                ..Client::new(b"", b"")
            };
            let said = String::from_utf8(site.play(&client, None).control).unwrap();
            if codes(&said) != expected {
                let shown: String = input.chars().take(200).collect();
                wrong.push(format!("{shown:?} in pieces of {cut}: {}", codes(&said)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
