//! An acceptor that passes connections on, whose workers die or hang: nobody waits for them who
//! need not, and the end of a conversation is seen.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Architecture, Dialogue, Server, architectures, eventually, variants};

/// More than wait in an inbox.
const CLIENTS: usize = 60;

fn all() -> impl Iterator<Item = Architecture> {
    architectures().into_iter().chain(variants()).filter(|one| one.has_many_workers)
}

/// With so many workers, if they are processes, of which one is stopped while clients connect.
fn with_one_stopped(
    architecture: &Architecture,
    count: &str,
) -> Option<(Server, Pid, Vec<Dialogue>)> {
    let server = Server::start(architecture, &["--workers", count]);
    drop(Dialogue::login(&server));
    let stopped = Pid::from_raw(*server.children().first()?);
    eprintln!("── {}", architecture.name);
    kill(stopped, Signal::SIGSTOP).unwrap();
    // Until it is told, it may still accept somebody, who would die with it.
    eventually("it has stopped", || {
        let stat = std::fs::read_to_string(format!("/proc/{stopped}/stat")).unwrap();
        stat.contains(") T ").then_some(())
    });
    let clients = (0..CLIENTS).map(|_| Dialogue::connect(&server)).collect();
    Some((server, stopped, clients))
}

fn quit(mut client: Dialogue) {
    client.send("QUIT\r\n");
    client.expect("221");
    assert_eq!(client.line(), "", "the connection is closed");
}

/// A process that is forked meanwhile must not have a connection of the acceptor's, which would
/// stay open for as long as the process lives.
#[test]
fn whoever_waited_for_a_worker_that_was_killed_is_served_and_sees_the_end() {
    for architecture in all() {
        let Some((server, worker, clients)) = with_one_stopped(&architecture, "1") else {
            continue;
        };
        // As many as have room are passed on; the wait is no condition for passing, but for
        // testing.
        std::thread::sleep(Duration::from_millis(100));
        kill(worker, Signal::SIGKILL).unwrap();
        for mut client in clients {
            client.expect("220");
            quit(client);
        }
        server.leave();
    }
}

#[test]
fn a_worker_that_hangs_holds_up_only_those_that_it_was_given() {
    let passes = |one: &Architecture| {
        one.arguments.iter().any(|argument| argument == "round-robin" || argument == "least")
    };
    for architecture in all().filter(passes) {
        let (server, worker, clients) = with_one_stopped(&architecture, "2").unwrap();
        eventually("most are served", || {
            let greeted = clients.iter().filter(|client| !client.is_silent()).count();
            (greeted > CLIENTS / 2).then_some(())
        });
        kill(worker, Signal::SIGCONT).unwrap();
        for mut client in clients {
            client.expect("220");
            quit(client);
        }
        server.leave();
    }
}
