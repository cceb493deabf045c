//! SIGTERM: what runs is finished, who is idle is told, nothing is left behind.

use std::io::{Read, Write};
use std::thread;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::support::{Dialogue, Server, architectures, eventually, pattern, read_to_end};

/// More than the socket buffers of both ends hold, so that the transfer is still running when the
/// signal comes.
const FILE_BYTES: usize = 32 * 1024 * 1024;

/// Every architecture, and what is done to each of them.
fn each(arguments: &[&str], check: impl Fn(Server)) {
    for architecture in architectures() {
        eprintln!("── {}", architecture.name);
        check(Server::start(&architecture, arguments));
    }
}

#[test]
fn a_running_download_arrives_whole() {
    download_while_leaving(|server| server.signal(Signal::SIGTERM));
}

/// A service manager and a terminal signal all processes at once.
#[test]
fn a_signal_to_the_whole_group_counts_once() {
    download_while_leaving(|server| {
        killpg(Pid::from_raw(server.pid()), Signal::SIGTERM).unwrap();
    });
}

fn download_while_leaving(signal: impl Fn(&Server)) {
    each(&[], |mut server| {
        let bytes = server.file("large", FILE_BYTES);
        let mut client = Dialogue::login(&server);
        let mut data = client.passive(&server);
        client.send("RETR large\r\n");
        client.expect("150");
        let mut first = [0; 1];
        data.read_exact(&mut first).unwrap();
        signal(&server);
        eventually("no further client is accepted", || {
            std::net::TcpStream::connect(server.address).is_err().then_some(())
        });
        let rest = read_to_end(data);
        assert!(first[0] == bytes[0] && rest == bytes[1..], "{}", server.architecture.name);
        client.expect("226");
        client.expect("421");
        server.assert_left();
    });
}

#[test]
fn a_running_upload_is_kept_whole() {
    each(&["--writable"], |mut server| {
        let bytes = pattern(FILE_BYTES);
        let mut client = Dialogue::login(&server);
        let mut data = client.passive(&server);
        client.send("STOR large\r\n");
        client.expect("150");
        data.write_all(&bytes[..FILE_BYTES / 2]).unwrap();
        server.signal(Signal::SIGTERM);
        data.write_all(&bytes[FILE_BYTES / 2..]).unwrap();
        drop(data);
        client.expect("226");
        client.expect("421");
        server.assert_left();
        assert!(server.stored("large") == bytes, "{}", server.architecture.name);
    });
}

#[test]
fn idle_sessions_are_told_421() {
    each(&[], |server| {
        let count = if server.architecture.concurrent { 5 } else { 1 };
        tells_idle_sessions(server, count);
    });
}

pub(crate) fn tells_idle_sessions(mut server: Server, count: usize) {
    let mut clients: Vec<_> = (0..count).map(|_| Dialogue::login(&server)).collect();
    server.signal(Signal::SIGTERM);
    for client in &mut clients {
        client.expect("421");
        assert_eq!(client.line(), "", "the connection is closed");
    }
    server.assert_left();
}

/// The grace period is longer than anybody is patient here.
#[test]
fn a_client_that_does_not_shake_hands_holds_up_no_leaving() {
    each(&["--tls-self-signed", "--grace", "600"], |mut server| {
        let mut client = Dialogue::greeted(&server);
        client.send("AUTH TLS\r\n");
        client.expect("234");
        server.signal(Signal::SIGTERM);
        assert_eq!(client.line(), "");
        server.assert_left();
    });
}

#[test]
fn a_request_that_runs_is_answered() {
    each(&["--protocol", "http"], |mut server| {
        let mut client = server.connect();
        client.write_all(b"GET /block/300 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        // Only a server that has begun on it owes an answer; the wait is no condition for passing,
        // but for testing.
        thread::sleep(std::time::Duration::from_millis(100));
        server.signal(Signal::SIGTERM);
        let reply = String::from_utf8(read_to_end(client)).unwrap();
        assert!(reply.starts_with("HTTP/1.1 200"), "{}: {reply:?}", server.architecture.name);
        server.assert_left();
    });
}

#[test]
fn a_second_signal_ends_it_at_once() {
    each(&[], |mut server| {
        server.file("large", FILE_BYTES);
        let mut client = Dialogue::login(&server);
        let data = client.passive(&server);
        client.send("RETR large\r\n");
        client.expect("150");
        server.signal(Signal::SIGTERM);
        // A signal that is still pending swallows its double.
        eventually("the first signal is handled", || {
            std::net::TcpStream::connect(server.address).is_err().then_some(())
        });
        server.signal(Signal::SIGTERM);
        assert_eq!(server.wait().code(), Some(1), "{}", server.architecture.name);
        drop(data);
    });
}

#[test]
fn the_grace_period_bounds_a_transfer_that_does_not_move() {
    each(&["--grace", "1"], |mut server| {
        server.file("large", FILE_BYTES);
        let mut client = Dialogue::login(&server);
        let data = client.passive(&server);
        client.send("RETR large\r\n");
        client.expect("150");
        server.signal(Signal::SIGTERM);
        server.assert_left();
        drop(data);
    });
}

#[test]
fn children_do_not_outlive_a_parent_that_is_killed() {
    each(&[], leaves_no_process_when_killed);
}

pub(crate) fn leaves_no_process_when_killed(mut server: Server) {
    let client = Dialogue::login(&server);
    server.signal(Signal::SIGKILL);
    server.wait();
    let group = Pid::from_raw(server.pid());
    eventually("no process is left", || killpg(group, None).is_err().then_some(()));
    drop(client);
}

#[test]
fn a_body_that_is_being_sent_is_stored_whole() {
    each(&["--protocol", "http", "--writable"], |mut server| {
        let bytes = pattern(FILE_BYTES);
        let mut client = server.connect();
        let head = format!("PUT /upload/a HTTP/1.1\r\nHost: a\r\nContent-Length: {FILE_BYTES}\r\n");
        write!(client, "{head}Expect: 100-continue\r\n\r\n").unwrap();
        client.read_exact(&mut [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()]).unwrap();
        client.write_all(&bytes[..FILE_BYTES / 2]).unwrap();
        server.signal(Signal::SIGTERM);
        eventually("no further client is accepted", || {
            std::net::TcpStream::connect(server.address).is_err().then_some(())
        });
        client.write_all(&bytes[FILE_BYTES / 2..]).unwrap();
        let reply = String::from_utf8(read_to_end(client)).unwrap();
        assert!(reply.starts_with("HTTP/1.1 201 "), "{}: {reply}", server.architecture.name);
        assert!(server.stored("upload/a") == bytes, "{}", server.architecture.name);
        server.assert_left();
    });
}
