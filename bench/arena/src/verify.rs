//! A real request, answered rightly, before anything is timed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use loadgen::{Method, Protocol};

use crate::certificate::Certificate;

/// What a request asks for and what must come back.
pub(crate) struct Request<'a> {
    pub(crate) protocol: Protocol,
    pub(crate) method: Method,
    /// An HTTP target or a file below the FTP root, which is there if its size is expected.
    pub(crate) path: &'a str,
    pub(crate) expected_bytes: Option<u64>,
    /// What a server within TLS must show.
    pub(crate) certificate: Option<&'a Certificate>,
}

/// An answer longer than this is not read to its end.
const BODY_LIMIT_BYTES: u64 = 1 << 20;
/// What a POST brings.
const POSTED: &str = "a text";
/// How long each read may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes one request over a connection of its own.
pub(crate) fn verify(server: SocketAddr, request: &Request<'_>) -> anyhow::Result<()> {
    let stream = TcpStream::connect_timeout(&server, PATIENCE).context("it refuses to connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    match (request.protocol, request.certificate) {
        (Protocol::Http, None) => http(stream, request),
        (Protocol::Http, Some(certificate)) => http(certificate.secure(stream, server)?, request),
        (Protocol::Echo, None) => echo(stream),
        (Protocol::Echo, Some(certificate)) => echo(certificate.secure(stream, server)?),
        (Protocol::Ftp, _) => ftp(stream, request),
    }
}

/// Whether a server greets as its protocol has it; one whose protocol has no greeting need only
/// take the connection.
pub(crate) fn greeting(server: SocketAddr, protocol: Protocol) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    // Where nobody listens yet, a connection can by TCP's simultaneous open reach itself.
    ensure!(stream.local_addr()? != server, "nobody listens");
    if protocol != Protocol::Ftp {
        return Ok(());
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    expect_reply(&mut reader, "the connection", "220")?;
    stream.write_all(b"QUIT\r\n")?;
    expect_reply(&mut reader, "QUIT", "221")?;
    Ok(())
}

fn http(mut stream: impl Read + Write, request: &Request<'_>) -> anyhow::Result<()> {
    let path = request.path;
    let (method, status, body) = match request.method {
        Method::Get => ("GET", "200", String::new()),
        Method::Post => ("POST", "20", format!("Content-Length: {}\r\n\r\n{POSTED}", POSTED.len())),
    };
    let asked = format!("{method} {path}");
    let end = if body.is_empty() { "\r\n" } else { &body };
    let head = format!("{asked} HTTP/1.1\r\nHost: arena\r\nConnection: close\r\n");
    stream.write_all((head + end).as_bytes())?;
    let mut reader = BufReader::new(stream);
    let first = read_line(&mut reader)?;
    let is_right = first.starts_with(&format!("HTTP/1.1 {status}"));
    let needed = if first.starts_with("HTTP/1.1 ") { "" } else { "; HTTP/1.1 is needed" };
    ensure!(is_right, "{asked} was answered by {first:?}{needed}");
    let mut length = None;
    loop {
        let line = read_line(&mut reader)?;
        let Some((name, value)) = line.split_once(':') else {
            ensure!(line.is_empty(), "{asked} has a header without a colon: {line:?}");
            break;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse::<u64>().context("Content-Length is no number")?);
        }
    }
    let length = length.with_context(|| format!("{asked} has no Content-Length"))?;
    if let Some(expected) = request.expected_bytes {
        ensure!(length == expected, "{asked} has {length} bytes instead of {expected}");
    }
    let mut body = vec![0; length.min(BODY_LIMIT_BYTES) as usize];
    reader.read_exact(&mut body).with_context(|| format!("the body of {asked}"))?;
    let wrong = path == "/plaintext" && body != b"Hello, World!";
    ensure!(!wrong, "{asked} has the body {:?}", String::from_utf8_lossy(&body));
    Ok(())
}

fn echo(mut stream: impl Read + Write) -> anyhow::Result<()> {
    let sent = b"what is sent comes back";
    stream.write_all(sent)?;
    let mut back = vec![0; sent.len()];
    stream.read_exact(&mut back).context("waiting for the echo")?;
    ensure!(back == sent, "the echo came back as {:?}", String::from_utf8_lossy(&back));
    Ok(())
}

fn ftp(mut stream: TcpStream, request: &Request<'_>) -> anyhow::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    expect_reply(&mut reader, "the connection", "220")?;
    let mut ask = |command: &str, code: &str| {
        // In one piece, which is what a floor takes for one command.
        stream.write_all(format!("{command}\r\n").as_bytes())?;
        expect_reply(&mut reader, command, code)
    };
    ask("USER anonymous", "331")?;
    ask("PASS arena@", "230")?;
    if let (false, Some(expected)) = (request.path.is_empty(), request.expected_bytes) {
        ask("TYPE I", "200")?;
        let size = ask(&format!("SIZE {}", request.path), "213")?;
        ensure!(size == expected.to_string(), "SIZE says {size} bytes instead of {expected}");
    }
    ask("QUIT", "221")?;
    Ok(())
}

/// The text of a reply's last line, which must have that code.
fn expect_reply(reader: &mut impl BufRead, command: &str, code: &str) -> anyhow::Result<String> {
    loop {
        let line = read_line(reader).with_context(|| format!("the reply to {command}"))?;
        ensure!(line.starts_with(code), "{command} was answered by {line:?} instead of {code}");
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(line.get(4..).unwrap_or_default().to_owned());
        }
    }
}

/// A line without its end; a closed connection is an error.
fn read_line(reader: &mut impl BufRead) -> anyhow::Result<String> {
    let mut line = Vec::new();
    reader.take(8192).read_until(b'\n', &mut line).context("no answer")?;
    ensure!(line.ends_with(b"\n"), "the connection ended instead of an answer");
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// A server that says `reply` to whoever connects, whatever is asked.
    pub(crate) fn parrot(reply: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                thread::spawn(move || {
                    let _ = stream.write_all(reply.as_bytes());
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                    // Closing with unread input would reset the connection.
                    let _ = stream.read_to_end(&mut Vec::new());
                });
            }
        });
        address
    }

    fn check(protocol: Protocol, reply: &'static str, expected: &str) {
        let path = if matches!(protocol, Protocol::Http) { "/plaintext" } else { "" };
        let (method, expected_bytes, certificate) = (Method::Get, None, None);
        let request = Request { protocol, method, path, expected_bytes, certificate };
        let result = verify(parrot(reply), &request);
        let said = result.err().map_or("right".to_owned(), |error| format!("{error:#}"));
        assert_eq!(said, expected);
    }

    #[test]
    fn an_answer_is_right_or_told_in_words() {
        let good = "HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\nHello, World!";
        check(Protocol::Http, good, "right");
        check(
            Protocol::Http,
            "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, Earth!",
            "GET /plaintext has the body \"Hello, Earth!\"",
        );
        check(
            Protocol::Http,
            "HTTP/1.1 500 Oh\r\n\r\n",
            "GET /plaintext was answered by \"HTTP/1.1 500 Oh\"",
        );
        check(
            Protocol::Http,
            "HTTP/1.0 200 OK\r\n\r\n",
            "GET /plaintext was answered by \"HTTP/1.0 200 OK\"; HTTP/1.1 is needed",
        );
        check(Protocol::Http, "", "the connection ended instead of an answer");
        check(
            Protocol::Echo,
            "what is sent comes home",
            "the echo came back as \"what is sent comes home\"",
        );
        check(Protocol::Ftp, "220-a\r\n220 b\r\n331 c\r\n230 d\r\n221 e\r\n", "right");
        check(
            Protocol::Ftp,
            "220 b\r\n530 no\r\n",
            "USER anonymous was answered by \"530 no\" instead of 331",
        );
    }
}
