//! What a client is answered that sends what could be read in two ways, what is too large, or what
//! is not to be had: one table, for the session without sockets and for every architecture.

use std::fs;
use std::path::Path;

/// What follows a request to see whether the connection goes on, and with what.
const NEXT: &str = "GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n";

/// Heads, without their last line end, and the codes that they and [`NEXT`] are answered. A single
/// code says that the connection ends with it, so that nothing that follows is a request.
const HEADS: &[(&str, &str)] = &[
    // Where a request ends (RFC 9112 §6, §11.2).
    ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n", "400"),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n", "200 200"),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 0\r\n", "400"),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n", "400"),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n", "400"),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n", "400"),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1 1\r\n", "400"),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n", "400"),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length : 0\r\n", "400"),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length\t: 0\r\n", "400"),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n 0\r\n", "400"),
    ("POST /echo HTTP/1.1\r\nHost: a\r\n Content-Length: 0\r\n", "400"),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nX: y\r\n\tContent-Length: 0\r\n", "400"),
    ("POST /echo HTTP/1.1\r\n Host: a\r\n", "400"),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nX: y\rContent-Length: 0\r\n", "400"),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nX: y\0\r\n", "400"),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nContent Length: 0\r\n", "400"),
    ("POST /echo HTTP/1.1\r\nHost: a\r\n: 0\r\n", "400"),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length\r\n", "400"),
    (
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "400",
    ),
    (
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        "400",
    ),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n", "400"),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n", "400"),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n", "501"),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n", "501"),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n", "501"),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n", "501"),
    (
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
        "501",
    ),
    ("POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", "400"),
    ("POST /echo HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 0\r\n", "200 200"),
    ("POST /echo HTTP/1.1\r\nHost: a\r\n", "200 200"),
    // Who is asked (RFC 9112 §3.2).
    ("GET /plaintext HTTP/1.1\r\n", "400"),
    ("GET /plaintext HTTP/1.1\r\nHost: a\r\nHost: a\r\n", "400"),
    ("GET /plaintext HTTP/1.1\r\nHost: a b\r\n", "400"),
    ("GET /plaintext HTTP/1.1\r\nHost: a/b\r\n", "400"),
    ("GET /plaintext HTTP/1.1\r\nHost: a@b\r\n", "400"),
    ("GET /plaintext HTTP/1.1\r\nHost: a, b\r\n", "400"),
    ("GET /plaintext HTTP/1.1\r\nHost:\r\n", "200 200"),
    ("GET /plaintext HTTP/1.1\r\nHost: [::1]:8080\r\n", "200 200"),
    ("GET http://b/plaintext HTTP/1.1\r\nHost: a\r\n", "200 200"),
    ("GET http://b/plaintext HTTP/1.1\r\n", "400"),
    ("GET http:///plaintext HTTP/1.1\r\nHost: a\r\n", "400 200"),
    ("GET http://a@b/plaintext HTTP/1.1\r\nHost: a\r\n", "400 200"),
    ("GET ftp://b/plaintext HTTP/1.1\r\nHost: a\r\n", "400 200"),
    ("GET a:80 HTTP/1.1\r\nHost: a\r\n", "400 200"),
    ("GET * HTTP/1.1\r\nHost: a\r\n", "400 200"),
    ("OPTIONS * HTTP/1.1\r\nHost: a\r\n", "204 200"),
    ("GET /plaintext#a HTTP/1.1\r\nHost: a\r\n", "400 200"),
    // What is spoken (RFC 9112 §3, §2.3).
    ("GET  /plaintext HTTP/1.1\r\nHost: a\r\n", "400"),
    ("GET /plaintext  HTTP/1.1\r\nHost: a\r\n", "400"),
    ("GET /plaintext HTTP/1.1 \r\nHost: a\r\n", "400"),
    (" GET /plaintext HTTP/1.1\r\nHost: a\r\n", "400"),
    ("GET\t/plaintext\tHTTP/1.1\r\nHost: a\r\n", "400"),
    ("G\x01T /plaintext HTTP/1.1\r\nHost: a\r\n", "400"),
    ("GET /plain\rtext HTTP/1.1\r\nHost: a\r\n", "400"),
    ("GET /plaintext HTTP/1.1\rHost: a\r\n", "400"),
    ("GET /plaintext\r\n", "400"),
    ("GET /plaintext http/1.1\r\nHost: a\r\n", "400"),
    ("GET /plaintext HTTP/1\r\nHost: a\r\n", "505"),
    ("GET /plaintext HTTP/1.2\r\nHost: a\r\n", "505"),
    ("GET /plaintext HTTP/2.0\r\nHost: a\r\n", "505"),
    ("\r\n\r\nGET /plaintext HTTP/1.1\r\nHost: a\r\n", "200 200"),
    ("GET /plaintext HTTP/1.1\nHost: a\n", "200 200"),
    // How long the connection lasts (RFC 9112 §9.3).
    ("GET /plaintext HTTP/1.1\r\nHost: a\r\nConnection: close\r\n", "200"),
    ("GET /plaintext HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n", "200"),
    ("GET /plaintext HTTP/1.0\r\n", "200"),
    ("GET /plaintext HTTP/1.0\r\nConnection: Keep-Alive\r\n", "200 200"),
    ("GET /stream/2/0 HTTP/1.0\r\nConnection: keep-alive\r\n", "200"),
    ("GET /stream/2/0 HTTP/1.1\r\nHost: a\r\n", "200 200"),
    // What can be done (RFC 9110 §9).
    ("BREW /plaintext HTTP/1.1\r\nHost: a\r\n", "501 200"),
    ("get /plaintext HTTP/1.1\r\nHost: a\r\n", "501 200"),
    ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n", "501 200"),
    ("DELETE /plaintext HTTP/1.1\r\nHost: a\r\n", "405 200"),
    ("TRACE /plaintext HTTP/1.1\r\nHost: a\r\n", "405 200"),
    ("POST /plaintext HTTP/1.1\r\nHost: a\r\n", "405 200"),
    ("GET /echo HTTP/1.1\r\nHost: a\r\n", "405 200"),
    ("OPTIONS /echo HTTP/1.1\r\nHost: a\r\n", "204 200"),
    ("PUT /upload/x HTTP/1.1\r\nHost: a\r\nContent-Range: bytes 0-0/2\r\n", "400"),
    ("PUT /upload/x HTTP/1.1\r\nHost: a\r\nIf-Match: *\r\n", "412"),
    ("PUT /upload/a%2Fb HTTP/1.1\r\nHost: a\r\n", "400"),
    ("PUT /upload/.. HTTP/1.1\r\nHost: a\r\n", "400"),
    ("PUT /upload/.upload-1-2.part HTTP/1.1\r\nHost: a\r\n", "404"),
    ("PUT /x HTTP/1.1\r\nHost: a\r\n", "405 200"),
    ("GET /upload/.upload-1-2.part HTTP/1.1\r\nHost: a\r\n", "404 200"),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\n", "417"),
    ("POST /echo HTTP/1.0\r\nExpect: miracles\r\nConnection: keep-alive\r\n", "200 200"),
    ("GET /../etc/passwd HTTP/1.1\r\nHost: a\r\n", "400 200"),
    ("GET /%2e%2e/etc/passwd HTTP/1.1\r\nHost: a\r\n", "400 200"),
    ("GET /outside/passwd HTTP/1.1\r\nHost: a\r\n", "403 200"),
    ("GET /% HTTP/1.1\r\nHost: a\r\n", "400 200"),
    ("GET /a%00b HTTP/1.1\r\nHost: a\r\n", "400 200"),
    ("GET /none HTTP/1.1\r\nHost: a\r\n", "404 200"),
    ("GET /bytes/x HTTP/1.1\r\nHost: a\r\n", "400 200"),
];

/// Bodies in chunks that are sent to be echoed.
const CHUNKS: &[(&str, &str)] = &[
    ("0\r\n\r\n", "200 200"),
    ("3\r\nabc\r\n0\r\n\r\n", "200 200"),
    ("3;a=b;c=\"d\"\r\nabc\r\n0;x\r\nTrailer: y\r\nOther:z\r\n\r\n", "200 200"),
    ("00a\r\n0123456789\r\n0\r\n\r\n", "200 200"),
    ("g\r\n", "400"),
    ("-1\r\n", "400"),
    ("0x3\r\nabc\r\n0\r\n\r\n", "400"),
    ("3 \r\nabc\r\n0\r\n\r\n", "400"),
    (" 3\r\nabc\r\n0\r\n\r\n", "400"),
    ("3\nabc\r\n0\r\n\r\n", "400"),
    ("3;a\nabc\r\n0\r\n\r\n", "400"),
    ("3\r\nabc\n0\r\n\r\n", "400"),
    ("3\r\nabcd\r\n0\r\n\r\n", "400"),
    ("3\r\nab\r\n0\r\n\r\n", "400"),
    ("\r\n", "400"),
    ("1000000000000000\r\n", "400"),
    ("ffffffffffffffffffff\r\n", "400"),
    ("0\r\n\n", "400"),
    ("0\r\nX : y\r\n\r\n", "400"),
    ("0\r\nX: y\r\n z\r\n\r\n", "400"),
    ("0\r\n: y\r\n\r\n", "400"),
];

/// Everything: what is sent, and the codes of what is answered.
pub(crate) fn table() -> Vec<(String, &'static str)> {
    let heads = HEADS.iter().map(|(head, codes)| (format!("{head}\r\n{NEXT}"), *codes));
    let post = |fields: &str| format!("POST /echo HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
    let chunked = post("Transfer-Encoding: chunked");
    let chunks = CHUNKS.iter().map(|(body, codes)| (format!("{chunked}{body}{NEXT}"), *codes));
    heads.chain(chunks).chain(limits(&chunked)).chain(bodies()).collect()
}

/// What is too much, and what is just not.
fn limits(chunked: &str) -> Vec<(String, &'static str)> {
    let get = |target: &str, fields: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n{NEXT}")
    };
    let field = |length| format!("X: {}\r\n", "x".repeat(length));
    let chunk = |length: usize| format!("{length:x}\r\n{}\r\n", "c".repeat(length));
    let echo = |length| format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n");
    vec![
        (get(&format!("/{}", "x".repeat(8000)), ""), "404 200"),
        (get(&format!("/{}", "x".repeat(9000)), ""), "414"),
        (get("/plaintext", &field(8000)), "200 200"),
        (get("/plaintext", &field(9000)), "431"),
        (get("/plaintext", &"X: y\r\n".repeat(99)), "200 200"),
        (get("/plaintext", &"X: y\r\n".repeat(101)), "431"),
        (format!("{}\r\n{}{NEXT}", echo(65_536), "b".repeat(65_536)), "200 200"),
        (format!("{}\r\n{}{NEXT}", echo(65_537), "b".repeat(100)), "413"),
        (format!("{}\r\n", echo(1_u64 << 40)), "413"),
        (format!("{}0000000000000\r\n\r\n", echo(1_u64 << 40).trim_end()), "413"),
        (format!("{chunked}{}{}0\r\n\r\n{NEXT}", chunk(30_000), chunk(30_000)), "200 200"),
        (format!("{chunked}{}{}0\r\n\r\n{NEXT}", chunk(40_000), chunk(40_000)), "413"),
        (format!("{chunked}1;{}\r\na\r\n0\r\n\r\n{NEXT}", "x".repeat(5000)), "413"),
        (format!("{chunked}0\r\n{}\r\n{NEXT}", field(5000)), "431"),
    ]
}

/// Requests with bodies that look like requests.
fn bodies() -> Vec<(String, &'static str)> {
    let inner = "GET /none HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = inner.len();
    let with = |line: &str, fields: &str, body: &str| {
        format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}{NEXT}")
    };
    let plain = format!("Content-Length: {length}");
    let chunked = "Transfer-Encoding: chunked";
    let chunk = format!("{length:x}\r\n{inner}\r\n0\r\n\r\n");
    let expects = format!("{plain}\r\nExpect: 100-continue");
    vec![
        (with("POST /echo", &plain, inner), "200 200"),
        (with("POST /echo", chunked, &chunk), "200 200"),
        (with("POST /plaintext", &plain, inner), "405 200"),
        (with("POST /plaintext", chunked, &chunk), "405 200"),
        (with("GET /plaintext", &plain, inner), "200 200"),
        (with("GET /plaintext", chunked, &chunk), "200 200"),
        (with("BREW /plaintext", &plain, inner), "501 200"),
        (with("GET /file", &plain, inner), "200 200"),
        (with("PUT /upload/a", &plain, inner), "201 200"),
        (with("PUT /upload/a", chunked, &chunk), "201 200"),
        (with("POST /upload/a%20b", &plain, inner), "201 200"),
        (with("PUT /upload/a", "If-Match: *", ""), "412"),
        (with("POST /echo", &expects, inner), "100 200 200"),
        (with("PUT /upload/a", &expects, inner), "100 201 200"),
        (with("PUT /plaintext", &expects, inner), "405"),
        (with("PUT /none", &expects, inner), "405"),
        (with("GET /plaintext", "Content-Length: 65537", inner), "413"),
        (with("GET /plaintext", chunked, "x\r\n"), "400"),
    ]
}

/// The code of each reply. A status line may follow a body that does not end in a newline.
pub(crate) fn codes(said: &str) -> String {
    let replies = said.split("HTTP/1.1 ").skip(1).filter(|reply| {
        // What was sent is not what was said.
        reply.as_bytes().first_chunk::<3>().is_some_and(|code| code.iter().all(u8::is_ascii_digit))
    });
    replies.map(|reply| &reply[..3]).collect::<Vec<_>>().join(" ")
}

/// A folder with a file, and a way out.
pub(crate) fn furnish(root: &Path) {
    fs::write(root.join("file"), "some content").unwrap();
    std::os::unix::fs::symlink("/etc", root.join("outside")).unwrap();
}

/// Forgets what was stored there.
pub(crate) fn clear(root: &Path) {
    if let Ok(stored) = fs::read_dir(root.join("upload")) {
        for file in stored {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
    }
}
