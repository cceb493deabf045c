//! Peers that send rubbish, half a request, or vanish, and workers that die: the others are served,
//! and nothing leaks.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socket2::SockRef;
use std::time::Duration;

use crate::support::{
    Architecture, Dialogue, Server, architectures, eventually, names, on_every_architecture,
    pattern, read_to_end, variants,
};

/// Closes with a reset, as a client that crashes does.
pub(crate) fn reset(stream: &TcpStream) {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// After the peers are gone the server is as it was before them.
pub(crate) fn leaks_nothing(server: &mut Server, abuse: impl Fn(&Server)) {
    let visit = |server: &Server| drop(Dialogue::login(server));
    visit(server);
    let before = eventually("the first client is gone", || settled(server));
    for _ in 0..3 {
        abuse(server);
    }
    visit(server);
    eventually(&format!("{} is as before: {before:?}", server.architecture.name), || {
        (server.footprint() == before).then_some(())
    });
}

/// The footprint, once two looks at it agree.
fn settled(server: &Server) -> Option<(usize, usize)> {
    let first = server.footprint();
    std::thread::sleep(Duration::from_millis(50));
    (server.footprint() == first).then_some(first)
}

#[test]
fn rubbish_half_commands_and_resets_end_only_their_own_session() {
    on_every_architecture(&[], |server| {
        leaks_nothing(server, |server| {
            let mut client = server.connect();
            let _ = client.write_all(&pattern(100_000));
            reset(&client);
            drop(client);
            let mut client = Dialogue::login(server);
            client.send("RETR half a comm");
        });
    });
}

#[test]
fn a_client_that_vanishes_in_a_download_leaves_nothing_behind() {
    on_every_architecture(&[], |server| {
        server.file("large", 32 * 1024 * 1024);
        leaks_nothing(server, |server| {
            let mut client = Dialogue::login(server);
            let data = client.passive(server);
            client.send("RETR large\r\n");
            client.expect("150");
            reset(&data);
        });
    });
}

#[test]
fn an_upload_that_breaks_off_is_not_mistaken_for_a_whole_file() {
    on_every_architecture(&["--writable"], |server| {
        leaks_nothing(server, |server| {
            let mut client = Dialogue::login(server);
            let mut data = client.passive(server);
            client.send("STOR upload\r\n");
            client.expect("150");
            data.write_all(&pattern(1_000_000)).unwrap();
            reset(&data);
        });
        eventually("no half file is left", || names(server.root.path()).is_empty().then_some(()));
    });
}

#[test]
fn a_passive_port_that_nobody_uses_is_closed_with_its_session() {
    on_every_architecture(&[], |server| {
        leaks_nothing(server, |server| {
            let mut client = Dialogue::login(server);
            for _ in 0..20 {
                client.send("EPSV\r\n");
                client.expect("229");
            }
            client.send("QUIT\r\n");
            client.expect("221");
        });
    });
}

#[test]
fn half_closed_clients_still_get_their_answers() {
    on_every_architecture(&["--protocol", "http"], |server| {
        let mut client = server.connect();
        client.write_all(b"GET /plaintext HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let reply = String::from_utf8(read_to_end(client)).unwrap();
        assert!(reply.ends_with("Hello, World!"), "{}: {reply:?}", server.architecture.name);
    });
}

#[test]
fn silence_ends_a_session_after_the_idle_timeout() {
    on_every_architecture(&["--idle-timeout", "1"], |server| {
        let mut client = Dialogue::login(server);
        client.send("NO");
        client.expect("421");
        assert_eq!(client.line(), "");
    });
}

/// As a shell's job control and a pause of the machine do (signal(7)).
#[test]
fn whoever_is_idle_or_in_a_request_is_served_after_the_server_was_stopped() {
    for architecture in architectures().into_iter().chain(variants()) {
        eprintln!("── {}", architecture.name);
        let server = Server::start(&architecture, &[]);
        let mut asking = Dialogue::login(&server);
        asking.send("NO");
        // Where workers have one each, another may wait for one that somebody has.
        let has_room = architecture.concurrent && !architecture.has_one_each;
        let beside = has_room.then(|| Dialogue::login(&server));
        for _ in 0..3 {
            server.while_stopped(|| {});
        }
        asking.send("OP\r\n");
        asking.expect("200");
        drop(asking);
        let mut idle = beside.unwrap_or_else(|| Dialogue::login(&server));
        server.while_stopped(|| {});
        idle.send("NOOP\r\n");
        idle.expect("200");
        drop(idle);
        drop(Dialogue::login(&server));
        server.leave();
    }
}

#[test]
fn interruptions_buy_no_time() {
    on_every_architecture(&["--idle-timeout", "1"], |server| {
        let mut client = Dialogue::login(server);
        client.send("NO");
        eventually("the timeout ends the session", || {
            server.while_stopped(|| {});
            (!client.is_silent()).then_some(())
        });
        client.expect("421");
    });
}

#[test]
fn a_running_transfer_is_not_idle() {
    on_every_architecture(&["--idle-timeout", "1", "--writable"], |server| {
        let mut client = Dialogue::login(server);
        let mut data = client.passive(server);
        client.send("STOR slow\r\n");
        client.expect("150");
        for _ in 0..10 {
            data.write_all(b"piece").unwrap();
            std::thread::sleep(Duration::from_millis(250));
        }
        drop(data);
        client.expect("226");
        assert_eq!(server.stored("slow").len(), 50, "{}", server.architecture.name);
    });
}

#[test]
fn a_client_above_the_limit_is_told_so() {
    for architecture in architectures() {
        // Who has one process or thread for each connection counts them; a pool of workers has its
        // own limit.
        if architecture.has_one_each || !architecture.concurrent {
            continue;
        }
        let server = Server::start(&architecture, &["--max-connections", "1"]);
        let first = Dialogue::login(&server);
        let reply = String::from_utf8(read_to_end(server.connect())).unwrap();
        assert!(reply.starts_with("421 "), "{}: {reply:?}", architecture.name);
        drop(first);
        eventually("there is room again", || {
            let mut stream = server.connect();
            let mut first = [0; 3];
            std::io::Read::read_exact(&mut stream, &mut first).ok()?;
            (&first == b"220").then_some(())
        });
        server.leave();
    }
}

/// Those on select(2), which knows no descriptor above 1023.
fn variants_on_select() -> impl Iterator<Item = Architecture> {
    variants().into_iter().filter(|one| one.arguments.iter().any(|argument| argument == "select"))
}

#[test]
fn more_clients_than_select_knows_descriptors_are_told_so_and_the_others_served() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    for architecture in variants_on_select().filter(|one| !one.has_one_each) {
        let server = Server::start(&architecture, &[]);
        let bytes = server.file("file", 10_000);
        let mut greeted = Vec::new();
        let mut refused = 0;
        for _ in 0..1100 {
            let mut client = Dialogue::connect(&server);
            match &*client.line() {
                line if line.starts_with("220 ") => greeted.push(client),
                line => {
                    assert!(line.starts_with("421 "), "{}: {line:?}", architecture.name);
                    refused += 1;
                }
            }
        }
        assert!(refused > 0 && greeted.len() > 500, "{} are greeted", greeted.len());
        let client = greeted.last_mut().unwrap();
        client.send("USER anonymous\r\nPASS x\r\nTYPE I\r\n");
        for code in ["331", "230", "200"] {
            client.expect(code);
        }
        let data = client.passive(&server);
        client.send("RETR file\r\n");
        client.expect("150");
        assert!(read_to_end(data) == bytes);
        client.expect("226");
        drop(greeted);
        server.leave();
    }
}

#[test]
fn a_server_on_select_that_has_no_descriptor_below_1024_says_so() {
    for architecture in variants_on_select() {
        let mut shell = Command::new("timeout");
        let many = "ulimit -n 2048 && exec 3<&0 4<&0 5<&0 6<&0 7<&0 8<&0 9<&0; \
                    for i in {1..1100}; do exec {fd}<&0; done; \"$@\"";
        shell.args(["30", "bash", "-c", many, "bash"]).arg(architecture.command().get_program());
        let output = shell.args(architecture.arguments).stdin(Stdio::null()).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), told.lines().count()), (Some(2), 1), "{told}");
        assert!(told.contains("fewer open descriptors"), "{told}");
    }
}

/// Whoever has workers that are processes has children before there is a client.
#[test]
fn a_worker_process_that_is_killed_is_replaced_and_takes_only_its_own_connections() {
    for architecture in architectures().into_iter().chain(variants()) {
        if !architecture.has_many_workers {
            continue;
        }
        let server = Server::start(&architecture, &["--workers", "4"]);
        let workers = || server.children();
        let all_there = || {
            let workers = workers();
            (workers.len() == 4 || workers.is_empty()).then_some(workers)
        };
        // A server of threads has none; one of processes makes them before it takes anybody.
        drop(Dialogue::login(&server));
        if eventually("four workers are there", all_there).is_empty() {
            continue;
        }
        eprintln!("── {}", architecture.name);
        for signal in [Signal::SIGKILL, Signal::SIGTERM] {
            // Of those that have one each, others may wait for a worker that somebody has.
            let count = if architecture.has_one_each { 1 } else { 3 };
            let clients: Vec<_> = (0..count).map(|_| Dialogue::login(&server)).collect();
            let victim = workers()[0];
            let own = connections(victim, server.port());
            kill(Pid::from_raw(victim), signal).unwrap();
            eventually("the worker is replaced", || {
                // One that waits for its turn leaves when that comes.
                if architecture.has_many_workers && signal == Signal::SIGTERM {
                    drop(std::net::TcpStream::connect(server.address));
                }
                (workers().len() == 4 && !workers().contains(&victim)).then_some(())
            });
            let lost = clients.iter().filter(|client| !client.is_silent()).count();
            assert_eq!(lost, own, "{}: as many are lost as it had", architecture.name);
            for mut client in clients.into_iter().filter(Dialogue::is_silent) {
                client.send("NOOP\r\n");
                client.expect("200");
            }
            for _ in 0..8 {
                drop(Dialogue::login(&server));
            }
        }
        server.leave();
    }
}

/// How many clients of that port a process has.
fn connections(pid: i32, port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let port = format!(":{port:04X}");
    let sockets: Vec<String> = rows
        .filter(|fields| fields[1].ends_with(&port) && fields[3] == "01")
        .map(|fields| format!("socket:[{}]", fields[9]))
        .collect();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links.filter(|link| sockets.iter().any(|socket| link.as_os_str() == &**socket)).count()
}
