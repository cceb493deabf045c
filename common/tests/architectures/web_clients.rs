//! HTTP clients as people have them, on every architecture.

mod browser;
mod slow;

use std::fs;

use crate::support::{Server, installed, on_every_architecture, pattern, succeed};

const WRITABLE: &[&str] = &["--protocol", "http", "--writable"];

fn url(server: &Server, path: &str) -> String {
    format!("http://127.0.0.1:{}{path}", server.port())
}

/// What curl prints.
fn curl(arguments: &[&str], url: &str) -> Vec<u8> {
    let mut curl = installed("curl").unwrap();
    curl.args(["--silent", "--show-error", "--max-time", "30"]).args(arguments).arg(url);
    succeed(&mut curl).stdout
}

/// The status, with which the printed body is replaced.
fn code(arguments: &[&str], url: &str) -> String {
    let all = [&["--output", "/dev/null", "--write-out", "%{http_code}"], arguments].concat();
    String::from_utf8(curl(&all, url)).unwrap()
}

#[test]
fn curl_fetches_parts_and_resumes() {
    let Some(_) = installed("curl") else { return };
    on_every_architecture(WRITABLE, |server| {
        let bytes = server.file("file", 300_000);
        let url = url(server, "/file");
        assert!(curl(&["--range", "1000-2999"], &url) == bytes[1000..3000]);
        assert!(curl(&["--range", "-5"], &url) == bytes[299_995..]);
        assert_eq!(code(&["--range", "300000-"], &url), "416");
        let parts = curl(&["--range", "0-9,100000-199999"], &url);
        let holds = |part: &[u8]| parts.windows(part.len()).any(|window| window == part);
        assert!(holds(&bytes[..10]) && holds(&bytes[100_000..200_000]));
        let copy = server.root.path().join("copy");
        fs::write(&copy, &bytes[..123_456]).unwrap();
        curl(&["--continue-at", "-", "--output", copy.to_str().unwrap()], &url);
        assert!(fs::read(copy).unwrap() == bytes);
    });
}

#[test]
fn curl_is_not_sent_what_it_has() {
    let Some(_) = installed("curl") else { return };
    on_every_architecture(WRITABLE, |server| {
        server.file("file", 1000);
        let url = url(server, "/file");
        let tag = server.root.path().join("tag");
        let tag = tag.to_str().unwrap();
        assert_eq!(code(&["--etag-save", tag], &url), "200");
        assert_eq!(code(&["--etag-compare", tag], &url), "304");
        let file = server.root.path().join("file");
        assert_eq!(code(&["--time-cond", file.to_str().unwrap()], &url), "304");
        assert_eq!(code(&["--time-cond", "2001-09-09"], &url), "200");
        assert_eq!(code(&["--header", "If-Match: \"x\""], &url), "412");
    });
}

#[test]
fn curl_uploads_in_a_length_and_in_chunks() {
    let Some(_) = installed("curl") else { return };
    on_every_architecture(WRITABLE, |server| {
        let bytes = pattern(2_000_000);
        let source = server.root.path().join("source");
        fs::write(&source, &bytes).unwrap();
        let source = source.to_str().unwrap();
        // Of so much curl asks before whether it may send it (100-continue).
        assert_eq!(code(&["--upload-file", source], &url(server, "/upload/a%20b")), "201");
        assert!(server.stored("upload/a b") == bytes);
        let chunked = ["--header", "Transfer-Encoding: chunked", "--upload-file", source];
        assert_eq!(code(&chunked, &url(server, "/upload/a%20b")), "204");
        assert!(server.stored("upload/a b") == bytes);
        assert_eq!(code(&["--upload-file", source], &url(server, "/file")), "413");
        assert_eq!(curl(&["--data", "hello"], &url(server, "/echo")), b"hello");
        let chunked = ["--header", "Transfer-Encoding: chunked", "--data", "hello"];
        assert_eq!(curl(&chunked, &url(server, "/echo")), b"hello");
        assert_eq!(crate::support::names(&server.root.path().join("upload")), ["a b"]);
    });
    on_every_architecture(&["--protocol", "http"], |server| {
        let source = server.root.path().join("source");
        fs::write(&source, "content").unwrap();
        let arguments = ["--upload-file", source.to_str().unwrap()];
        assert_eq!(code(&arguments, &url(server, "/upload/a")), "403");
    });
}

#[test]
fn curl_sees_folders_events_and_options() {
    let Some(_) = installed("curl") else { return };
    on_every_architecture(WRITABLE, |server| {
        for i in 0..600 {
            server.file(&format!("{i:03}"), 1);
        }
        let page = String::from_utf8(curl(&[], &url(server, "/"))).unwrap();
        let shown = (0..600).filter(|i| page.contains(&format!("<a href=\"{i:03}\">"))).count();
        assert_eq!(shown, 600, "{}", server.architecture.name);
        let events = curl(&["--no-buffer"], &url(server, "/stream/3/20"));
        assert_eq!(events, b"data: 1\n\ndata: 2\n\ndata: 3\n\n");
        let events = curl(&["--http1.0"], &url(server, "/stream/2/1"));
        assert_eq!(events, b"data: 1\n\ndata: 2\n\n");
        let arguments = ["--request", "OPTIONS", "--include"];
        let options = String::from_utf8(curl(&arguments, &url(server, "/x"))).unwrap();
        assert!(options.contains("\r\nAllow: GET, HEAD, OPTIONS\r\n"), "{options}");
    });
}

#[test]
fn ab_wrk_and_h2load_count_no_failure() {
    let paths = ["/plaintext", "/small", "/large"];
    on_every_architecture(WRITABLE, |server| {
        server.file("small", 1000);
        server.file("large", 100_000);
        let connections = if server.architecture.concurrent { "8" } else { "1" };
        for path in paths {
            if let Some(mut ab) = installed("ab") {
                ab.args(["-q", "-k", "-n", "400", "-c", connections]).arg(url(server, path));
                let said = String::from_utf8(succeed(&mut ab).stdout).unwrap();
                let has = |what: &str| said.lines().any(|line| line.starts_with(what));
                assert!(said.contains("Complete requests:      400"), "{said}");
                assert!(said.contains("Failed requests:        0"), "{said}");
                assert!(said.contains("Keep-Alive requests:    400"), "{said}");
                assert!(!has("Non-2xx responses"), "{said}");
            }
            if let Some(mut wrk) = installed("wrk") {
                wrk.args(["-t1", "-c", connections, "-d", "1s"]).arg(url(server, path));
                let said = String::from_utf8(succeed(&mut wrk).stdout).unwrap();
                assert!(said.contains("Requests/sec:") && !said.contains(" 0 requests"), "{said}");
                assert!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "{said}");
            }
            if let Some(mut h2load) = installed("h2load") {
                h2load.args(["--h1", "-n", "400", "-c", connections]).arg(url(server, path));
                let said = String::from_utf8(succeed(&mut h2load).stdout).unwrap();
                assert!(said.contains("400 succeeded, 0 failed, 0 errored, 0 timeout"), "{said}");
            }
        }
    });
}
