//! Architectures with other flags of their own. What a flag changes is how a connection comes to
//! its worker, or what waits for it: so the core of the suite is run on them, and not all of it,
//! which is about what happens to a connection afterwards.

use std::process::{Command, Stdio};

use crate::leaving::{leaves_no_process_when_killed, tells_idle_sessions};
use crate::support::{Dialogue, Server, pattern, read_to_end, variants};

fn on_every_variant(arguments: &[&str], check: impl Fn(Server)) {
    for variant in variants() {
        eprintln!("── {}", variant.name);
        check(Server::start(&variant, arguments));
    }
}

#[test]
fn files_go_up_and_down_from_one_client_after_the_other() {
    on_every_variant(&["--writable"], |server| {
        let bytes = pattern(300_000);
        for round in 0..6 {
            let name = format!("file{round}");
            let mut client = Dialogue::login(&server);
            let mut data = client.passive(&server);
            client.send(&format!("STOR {name}\r\n"));
            client.expect("150");
            std::io::Write::write_all(&mut data, &bytes).unwrap();
            drop(data);
            client.expect("226");
            let data = client.passive(&server);
            client.send(&format!("RETR {name}\r\n"));
            client.expect("150");
            assert!(read_to_end(data) == bytes, "{}", server.architecture.name);
            client.expect("226");
            client.send("QUIT\r\n");
            client.expect("221");
        }
        server.leave();
    });
}

#[test]
fn many_clients_at_once_are_served_where_a_worker_has_many() {
    on_every_variant(&[], |server| {
        if !server.architecture.has_one_each {
            let mut clients: Vec<_> = (0..20).map(|_| Dialogue::login(&server)).collect();
            for client in &mut clients {
                client.send("NOOP\r\n");
                client.expect("200");
            }
        }
        server.leave();
    });
}

#[test]
fn whoever_is_idle_is_told_421_and_nobody_is_left_behind() {
    on_every_variant(&[], |server| tells_idle_sessions(server, 1));
}

#[test]
fn no_worker_outlives_a_parent_that_is_killed() {
    on_every_variant(&[], leaves_no_process_when_killed);
}

#[test]
fn an_unknown_way_gets_one_line_that_names_those_there_are() {
    for variant in variants() {
        let mut command = Command::new(variant.command().get_program());
        let known = variant.arguments.iter().map(String::as_str);
        let (flags, value): (Vec<_>, Vec<_>) = known.partition(|one| one.starts_with("--"));
        let output = command.args([flags[0], "nonsense"]).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", variant.name);
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(line.lines().count(), 1, "{line:?}");
        assert!(line.contains(flags[0]) && line.contains(value[0]), "{line:?}");
    }
}

/// What the server writes at its end is what its clients have had.
#[test]
fn each_connection_and_each_command_is_counted_once() {
    let known = variants().into_iter().chain(crate::support::architectures());
    for architecture in known.filter(|known| known.has_many_workers) {
        eprintln!("── {}", architecture.name);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("workers.csv");
        let file = file.to_str().unwrap();
        let server = Server::start(&architecture, &["--workers", "3", "--report-workers", file]);
        for _ in 0..5 {
            let mut client = Dialogue::login(&server);
            client.send("NOOP\r\nQUIT\r\n");
            client.expect("200");
            client.expect("221");
            assert_eq!(client.line(), "", "the connection is closed");
        }
        server.leave();
        let written = std::fs::read_to_string(file).unwrap();
        let rows: Vec<Vec<u64>> = written
            .lines()
            .skip(1)
            .map(|line| line.split(',').map(|number| number.parse().unwrap()).collect())
            .collect();
        assert_eq!(rows.len(), 3, "{written}");
        let sum = |column: usize| rows.iter().map(|row| row[column]).sum::<u64>();
        // USER, PASS and TYPE, NOOP and QUIT.
        assert_eq!((sum(1), sum(2)), (5, 25), "{}: {written}", architecture.name);
    }
}
