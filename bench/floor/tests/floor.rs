//! The floor as a harness sees it: one line when it is ready, one reply for each read, a clean end.

#![allow(clippy::unwrap_used, reason = "a test may panic wherever it fails")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

struct Floor {
    process: Child,
    address: String,
}

impl Floor {
    fn start(model: &str, reply: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_floor"))
            .args(["--model", model, "--reply", reply, "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on ").unwrap().to_owned();
        Self { process, address }
    }

    /// Signals it, and answers what else it has printed and how it ended.
    fn end(mut self, signal: Signal) -> (String, Option<i32>) {
        kill(Pid::from_raw(self.process.id() as i32), signal).unwrap();
        let mut rest = String::new();
        self.process.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
        (rest, self.process.wait().unwrap().code())
    }
}

#[test]
fn every_model_replies_on_many_connections_and_ends_at_a_signal() {
    for (model, signal) in
        [("threads", Signal::SIGTERM), ("processes", Signal::SIGTERM), ("epoll", Signal::SIGINT)]
    {
        let floor = Floor::start(model, "http");
        let connect = |_| TcpStream::connect(&floor.address).unwrap();
        let streams: Vec<_> = (0..20).map(connect).collect();
        for mut stream in streams.iter().rev().cycle().take(60) {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: floor\r\n\r\n").unwrap();
            let mut reply = vec![0; 1000];
            let count = stream.read(&mut reply).unwrap();
            let reply = std::str::from_utf8(&reply[..count]).unwrap();
            assert!(reply.starts_with("HTTP/1.1 200 OK\r\nContent-Length: 13\r\n"), "{reply}");
            assert!(reply.ends_with("\r\n\r\nHello, World!"), "{reply}");
        }
        assert_eq!(floor.end(signal), (String::new(), Some(0)), "{model}");
    }
}

#[test]
fn every_model_echoes_and_outlives_clients_that_leave() {
    for model in ["threads", "processes", "epoll"] {
        let floor = Floor::start(model, "echo");
        for _ in 0..10 {
            let mut stream = TcpStream::connect(&floor.address).unwrap();
            stream.write_all(b"hello").unwrap();
            let mut reply = [0; 5];
            stream.read_exact(&mut reply).unwrap();
            assert_eq!(&reply, b"hello");
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let rest = stream.read_to_end(&mut Vec::new()).unwrap();
            assert_eq!(rest, 0, "{model} closes in its turn");
        }
        assert_eq!(floor.end(Signal::SIGTERM).1, Some(0));
    }
}

#[test]
fn every_model_takes_a_login_of_ftp_and_says_goodbye() {
    for model in ["threads", "processes", "epoll"] {
        let floor = Floor::start(model, "ftp");
        let mut stream = TcpStream::connect(&floor.address).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut code = || lines.next().map(|line| line.unwrap()[..3].to_owned());
        assert_eq!(code().as_deref(), Some("220"));
        for (command, expected) in [("USER a", "331"), ("PASS b", "230"), ("QUIT", "221")] {
            stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
            assert_eq!(code().as_deref(), Some(expected), "{model}");
        }
        assert_eq!(code(), None, "{model} closes after its farewell");
        assert_eq!(floor.end(Signal::SIGTERM).1, Some(0));
    }
}

fn refused(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_floor")).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    assert!(output.stdout.is_empty());
    output
}

#[test]
fn a_mistake_is_said_and_ends_with_code_2() {
    refused(&["--model", "carrier-pigeon"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = refused(&["--model", "epoll", "--listen", &address]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains(&address) && message.lines().count() == 1, "{message}");
}
