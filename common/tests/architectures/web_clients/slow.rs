//! slowhttptest, whose clients speak or listen as slowly as they can. Whoever has a worker left for
//! others serves them meanwhile; serial serves them when it is over.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::process::{Child, Stdio};
use std::thread;

use crate::support::{Server, architectures, established, eventually, installed};

/// Fewer than any pool has workers.
const ATTACKERS: usize = 20;

/// What is done slowly: a head, a body, the reading of a reply.
const HEAD: &[&str] = &["-H"];
const BODY: &[&str] = &["-B", "-s", "8192"];
const READING: &[&str] = &["-X", "-w", "10", "-y", "20", "-n", "1", "-z", "5"];

fn path(slow: &[&str]) -> &'static str {
    match slow[0] {
        "-H" => "/plaintext",
        "-B" => "/echo",
        _ => "/bytes/100000000",
    }
}

/// An attack that ends with the test, at the latest.
struct Attack {
    child: Child,
    said: File,
}

impl Attack {
    fn begin(server: &Server, slow: &[&str], connections: usize) -> Self {
        let mut said = tempfile::tempfile().unwrap();
        let mut command = installed("slowhttptest").unwrap();
        command.args(slow).args(["-c", &connections.to_string(), "-r", "200", "-i", "1"]);
        command.args(["-l", "240", "-u"]).arg(super::url(server, path(slow)));
        let child = command.stdin(Stdio::null()).stdout(said.try_clone().unwrap()).spawn().unwrap();
        said.rewind().unwrap();
        Attack { child, said }
    }

    fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    fn said(&mut self) -> String {
        let mut said = Vec::new();
        self.said.rewind().unwrap();
        self.said.read_to_end(&mut said).unwrap();
        String::from_utf8_lossy(&said).into_owned()
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Attacks a server of every architecture, of all at the same time, for they mostly wait.
fn on_every_architecture_at_once(arguments: &[&str], check: impl Fn(&Server) + Sync) {
    thread::scope(|scope| {
        for architecture in architectures() {
            let check = &check;
            scope.spawn(move || {
                let server = Server::start(&architecture, arguments);
                check(&server);
                server.leave();
            });
        }
    });
}

#[test]
fn others_are_served_beside_slow_clients() {
    let Some(_) = installed("slowhttptest") else { return };
    for slow in [HEAD, BODY, READING] {
        on_every_architecture_at_once(&["--protocol", "http"], |server| {
            let name = &server.architecture.name;
            let mut attack = Attack::begin(server, slow, ATTACKERS);
            eventually(&format!("{slow:?} of {name}"), || {
                (established(server) >= ATTACKERS).then_some(())
            });
            let mut other = server.connect();
            other.write_all(b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            let mut reply = [0; 15];
            if server.architecture.concurrent {
                other.read_exact(&mut reply).unwrap();
                assert!(!attack.is_over(), "{name}, {slow:?}: {}", attack.said());
                drop(attack);
            } else {
                drop(attack);
                other.read_exact(&mut reply).unwrap();
            }
            assert_eq!(&reply, b"HTTP/1.1 200 OK", "{name}, {slow:?}");
        });
    }
}

#[test]
fn slow_heads_and_bodies_end_at_their_deadline() {
    let Some(_) = installed("slowhttptest") else { return };
    for slow in [HEAD, BODY] {
        on_every_architecture_at_once(&["--protocol", "http", "--idle-timeout", "1"], |server| {
            // Serial waits for one after the other.
            let attackers = if server.architecture.concurrent { ATTACKERS } else { 3 };
            let mut attack = Attack::begin(server, slow, attackers);
            eventually("the end of the attack", || attack.is_over().then_some(()));
            let (name, said) = (&server.architecture.name, attack.said());
            assert!(said.contains("No open connections left"), "{name}, {slow:?}: {said}");
            super::curl(&[], &super::url(server, "/plaintext"));
        });
    }
}
