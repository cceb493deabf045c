//! The guestbook over sockets, on every architecture: a library that blocks, and what it promised
//! to a client whose server was killed.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rusqlite::Connection;

use crate::support::{Server, architectures, eventually, read_some};

/// How many entries are acknowledged before the server is killed.
const ENTRIES_BEFORE: usize = 20;

/// Signs again and again, on one connection, until the server is no more; the entries that it has
/// acknowledged.
fn sign(server: &Server, guest: usize, all: &AtomicUsize) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let mut client = server.connect();
    loop {
        let entry = format!("{guest}-{}", acknowledged.len());
        let length = entry.len();
        let request = format!(
            "POST /guestbook HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{entry}"
        );
        let mut reply = [0; 512];
        let sent = client.write_all(request.as_bytes());
        let Ok(count @ 1..) = sent.and_then(|()| read_some(&mut client, &mut reply)) else {
            return acknowledged;
        };
        assert!(reply[..count].starts_with(b"HTTP/1.1 201 "), "one packet has the whole head");
        acknowledged.push(entry);
        all.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn an_acknowledged_entry_outlives_a_server_that_is_killed() {
    for architecture in architectures() {
        eprintln!("── {}", architecture.name);
        let folder = tempfile::tempdir().unwrap();
        let book = folder.path().join("book");
        let arguments = ["--protocol", "http", "--writable", "--guestbook", book.to_str().unwrap()];
        let server = Server::start(&architecture, &arguments);
        let guests = if architecture.concurrent { 4 } else { 1 };
        let all = AtomicUsize::new(0);
        let acknowledged = thread::scope(|scope| {
            let signing: Vec<_> = (0..guests)
                .map(|guest| {
                    let (server, all) = (&server, &all);
                    scope.spawn(move || sign(server, guest, all))
                })
                .collect();
            eventually("some entries", || {
                (all.load(Ordering::SeqCst) >= ENTRIES_BEFORE).then_some(())
            });
            killpg(Pid::from_raw(server.pid()), Signal::SIGKILL).unwrap();
            let entries = signing.into_iter().map(|guest| guest.join().unwrap());
            entries.collect::<Vec<_>>().concat()
        });
        assert!(acknowledged.len() >= ENTRIES_BEFORE);
        drop(server);
        let server = Server::start(&architecture, &arguments);
        let database = Connection::open(&book).unwrap();
        for entry in acknowledged {
            let found = "SELECT count(*) FROM entries WHERE text = ?1";
            let count: i64 = database.query_row(found, [&entry], |row| row.get(0)).unwrap();
            assert_eq!(count, 1, "{}: {entry}", architecture.name);
        }
        server.leave();
    }
}
