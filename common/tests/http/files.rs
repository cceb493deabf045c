//! Files and folders: whole, in part, or not at all.

use std::fs;

use crate::table::codes;
use crate::world::*;

#[test]
fn files_are_served_whole() {
    let site = Site::new();
    let etag = site.field("/a%20b.txt", "ETag");
    assert_eq!(
        site.get("/a%20b.txt?x"),
        format!(
            "HTTP/1.1 200 OK\nContent-Type: text/plain\nLast-Modified: {MODIFIED}\nETag: {etag}\n\
             Accept-Ranges: bytes\nContent-Length: 4\n\ntext"
        )
    );
    assert_eq!(body(&site.get("/")), "<p>home");
    assert_eq!(site.field("/", "Content-Type"), "text/html");
    assert_eq!(body(&site.get("/folder/")), "<p>folder");
    assert!(site.get("/empty").ends_with("Content-Length: 0\n\n"));
    assert_eq!(site.field("/large", "Content-Length"), "200000");
    assert_eq!(body(&site.get("/large")).as_bytes(), large());
}

#[test]
fn what_is_no_file_below_the_root_is_not_served() {
    let site = Site::new();
    let long = format!("/{}", "x".repeat(300));
    for (target, code) in [
        ("/missing", "404"),
        ("/missing/", "404"),
        ("/a%20b.txt/", "404"),
        (&long, "404"),
        ("/passwd", "403"),
        ("/../etc/passwd", "400"),
        ("/%2e%2e/etc/passwd", "400"),
        ("/%", "400"),
    ] {
        assert_eq!(codes(&site.get(target)), code, "{target}");
    }
}

#[test]
fn a_folder_without_its_slash_moves_to_the_one_with_it() {
    let reply = Site::new().get("/folder");
    assert!(reply.starts_with("HTTP/1.1 301 Moved Permanently\n"));
    assert_eq!(field(&reply, "Location").as_deref(), Some("/folder/"));
}

#[test]
fn a_folder_without_an_index_shows_its_names() {
    let site = Site::new();
    for name in ["b", "a", ".hidden", "<&>"] {
        site.file(&format!("bare/{name}"), b"12345");
    }
    fs::create_dir(site.path("bare/c")).unwrap();
    let reply = site.get("/bare/");
    assert_eq!(field(&reply, "Content-Type").as_deref(), Some("text/html; charset=utf-8"));
    let links: Vec<_> = reply
        .lines()
        .filter_map(|line| line.split_once("href=\"")?.1.split_once('"'))
        .map(|(link, _)| link)
        .collect();
    assert_eq!(links, ["../", "c/", "%3C%26%3E", "a", "b"]);
    assert!(reply.contains(&format!(">a</a><td align=\"right\">5<td>{MODIFIED}\n")), "{reply}");
    assert!(reply.ends_with("\n0\n\n"), "the last chunk");
}

#[test]
fn a_large_folder_is_shown_whole() {
    let site = Site::new();
    for i in 0..1000 {
        site.file(&format!("bare/{i:04}"), b"");
    }
    let page = site.get("/bare/");
    let places: Vec<_> = (0..1000).map(|i| page.find(&format!("\"{i:04}\"")).unwrap()).collect();
    assert!(places.is_sorted());
}

#[test]
fn a_range_is_sent_instead_of_the_whole() {
    let site = Site::new();
    let range = |target, value| site.ask("GET", target, &format!("Range: bytes={value}\r\n"));
    let reply = range("/digits.txt", "2-4");
    assert!(reply.starts_with("HTTP/1.1 206 Partial Content\n"), "{reply}");
    assert_eq!(field(&reply, "Content-Range").as_deref(), Some("bytes 2-4/10"));
    assert_eq!(field(&reply, "Content-Length").as_deref(), Some("3"));
    assert_eq!(body(&reply), "234");
    assert_eq!(body(&range("/digits.txt", "-2")), "89");
    let large = large();
    let tail = range("/large", "100000-");
    assert_eq!(body(&tail).as_bytes(), &large[100_000..]);
    let reply = range("/digits.txt", "10-");
    assert!(reply.starts_with("HTTP/1.1 416 "), "{reply}");
    assert_eq!(field(&reply, "Content-Range").as_deref(), Some("bytes */10"));
    assert_eq!(codes(&range("/digits.txt", "4-2")), "200");
    assert_eq!(codes(&range("/empty", "0-")), "200");
    let reply = site.ask("HEAD", "/digits.txt", "Range: bytes=2-4\r\n");
    assert!(reply.starts_with("HTTP/1.1 200 "), "ranges are for GET: {reply}");
}

#[test]
fn several_ranges_come_as_parts() {
    let site = Site::new();
    for (target, content) in [("/digits.txt", b"0123456789".to_vec()), ("/large", large())] {
        let reply = site.ask("GET", target, "Range: bytes=1-2,-3,5-5\r\n");
        let content_type = field(&reply, "Content-Type").unwrap();
        let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
        let length = field(&reply, "Content-Length").unwrap();
        // Line ends count as two.
        let body = body(&reply);
        assert_eq!(length, (body.len() + body.matches('\n').count()).to_string());
        let cut = format!("\n--{boundary}");
        let parts: Vec<_> = body.split(cut.as_str()).collect();
        assert_eq!(parts.len(), 5, "{body}");
        assert_eq!((parts[0], parts[4]), ("", "--\n"));
        let of = content.len();
        for (part, range) in parts[1..4].iter().zip([1..3, of - 3..of, 5..6]) {
            let (head, bytes) = part.split_once("\n\n").unwrap();
            let last = range.end - 1;
            assert!(head.ends_with(&format!("Content-Range: bytes {}-{last}/{of}", range.start)));
            assert_eq!(bytes.as_bytes(), &content[range]);
        }
    }
}

#[test]
fn what_a_client_has_is_not_sent_again() {
    let site = Site::new();
    let etag = site.field("/large", "ETag");
    assert!(etag.starts_with('"'), "a file that has settled has a strong tag: {etag}");
    for fields in [
        format!("If-None-Match: {etag}"),
        format!("If-None-Match: \"x\", W/{etag}"),
        format!("If-Modified-Since: {MODIFIED}"),
    ] {
        let reply = site.ask("GET", "/large", &format!("{fields}\r\n"));
        let expected =
            format!("HTTP/1.1 304 Not Modified\nLast-Modified: {MODIFIED}\nETag: {etag}\n\n");
        assert_eq!(reply, expected, "{fields}");
    }
    for (fields, code) in [
        ("If-None-Match: \"x\"", "200"),
        ("If-Match: \"x\"", "412"),
        ("If-Unmodified-Since: Sat, 08 Sep 2001 01:46:40 GMT", "412"),
    ] {
        assert_eq!(codes(&site.ask("GET", "/large", &format!("{fields}\r\n"))), code, "{fields}");
    }
    site.file("large", b"changed");
    pass(1);
    let reply = site.ask("GET", "/large", &format!("If-None-Match: {etag}\r\n"));
    assert_eq!(body(&reply), "changed");
}

#[test]
fn what_was_just_served_is_served_again_without_a_look() {
    let site = Site::new();
    for target in ["/digits.txt", "/large", "/folder/"] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let first = site.converse(&request);
        let second = site.converse(&request);
        assert_eq!(second.steps, first.steps - 1, "without a job");
        assert_eq!(second.control, first.control);
    }
    site.file("digits.txt", b"changed");
    assert_eq!(body(&site.get("/digits.txt")), "0123456789");
    let fields = "If-None-Match: *\r\nRange: bytes=1-1\r\n";
    assert_eq!(codes(&site.ask("GET", "/digits.txt?x", fields)), "304");
    pass(1);
    assert_eq!(body(&site.get("/digits.txt")), "changed");
}

#[test]
fn what_a_client_has_stored_is_served_at_once() {
    let site = Site::new();
    for content in ["one", "another"] {
        let length = format!("Content-Length: {}", content.len());
        site.replies(&format!("PUT /upload/a HTTP/1.1\r\nHost: a\r\n{length}\r\n\r\n{content}"));
        assert_eq!(body(&site.get("/upload/a")), content);
        assert_eq!(body(&site.get("/upload/%61")), content);
    }
}

#[test]
fn a_download_is_resumed_only_where_it_is_the_same_file() {
    let site = Site::new();
    let etag = site.field("/digits.txt", "ETag");
    let resumed = |value: &str| {
        let fields = format!("Range: bytes=8-\r\nIf-Range: {value}\r\n");
        body(&site.ask("GET", "/digits.txt", &fields)).to_owned()
    };
    assert_eq!(resumed(&etag), "89");
    assert_eq!(resumed(MODIFIED), "89");
    assert_eq!(resumed("\"other\""), "0123456789");
    assert_eq!(resumed("Sat, 08 Sep 2001 01:46:40 GMT"), "0123456789");
}
