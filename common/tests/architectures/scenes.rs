//! Scenes of a conversation that take more than a line: what overtakes a transfer, who may use a
//! data port, and what bytes a line is made of.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::ffi::OsStrExt;

use socket2::{Domain, Socket, Type};

use crate::faults::reset;
use crate::replies::{codes, reply};
use crate::support::{Dialogue, PATIENCE, Server, on_every_architecture, pattern, read_to_end};

/// More than the socket buffers of both ends hold, so that a transfer is still running when the
/// client says something.
const LARGE_BYTES: usize = 16 * 1024 * 1024;
/// The longest line that is taken, and more.
const OVERLONG_BYTES: usize = 100_000;

#[test]
fn a_login_in_one_packet_is_answered_in_order() {
    on_every_architecture(&[], |server| {
        let mut client = Dialogue::greeted(server);
        let lines = "USER anonymous\nPASS x\nSYST\nPWD\nTYPE I\nNONSENSE\nQUIT";
        assert_eq!(codes(&mut client, lines), "331 230 215 257 200 500 221");
        assert_eq!(client.line(), "", "the connection is closed");
    });
}

/// A download that stands still in its midst, because the client has read only its first byte.
fn download(server: &Server) -> (Dialogue, TcpStream, Vec<u8>) {
    let bytes = server.file("large", LARGE_BYTES);
    let mut client = Dialogue::login(server);
    let mut data = client.passive(server);
    client.send("RETR large\r\n");
    client.expect("150");
    let mut first = [0];
    data.read_exact(&mut first).unwrap();
    assert_eq!(first[0], bytes[0]);
    (client, data, bytes)
}

/// RFC 959 §4.1.3: Interrupt Process, then the Synch, whose last byte is urgent, then ABOR.
#[test]
fn abor_as_urgent_data_cuts_a_download() {
    on_every_architecture(&[], |server| {
        let (mut client, data, bytes) = download(server);
        client.send_bytes(b"\xff\xf4");
        client.send_urgent(b"\xff\xf2");
        client.send("ABOR\r\n");
        client.expect("426");
        client.expect("226");
        assert!(read_to_end(data).len() < bytes.len() - 1);
        assert_eq!(codes(&mut client, "NOOP\nQUIT"), "200 221");
    });
}

#[test]
fn stat_overtakes_a_transfer_and_other_commands_do_not() {
    on_every_architecture(&[], |server| {
        let (mut client, data, bytes) = download(server);
        client.send("STAT\r\n");
        assert!(reply(&mut client).starts_with("211-"));
        client.send("NOOP\r\nPWD\r\n");
        assert!(read_to_end(data) == bytes[1..]);
        for code in ["226", "200", "257"] {
            client.expect(code);
        }
    });
}

#[test]
fn quit_waits_for_the_transfer() {
    on_every_architecture(&["--writable"], |server| {
        let (mut client, data, bytes) = download(server);
        client.send("QUIT\r\n");
        assert!(read_to_end(data) == bytes[1..]);
        client.expect("226");
        client.expect("221");
        assert_eq!(client.line(), "", "the connection is closed");

        let mut client = Dialogue::login(server);
        let mut data = client.passive(server);
        client.send("STOR new\r\nQUIT\r\n");
        client.expect("150");
        data.write_all(&bytes).unwrap();
        drop(data);
        client.expect("226");
        client.expect("221");
        assert!(server.stored("new") == bytes);
    });
}

#[test]
fn a_transfer_that_breaks_is_426_and_never_226() {
    on_every_architecture(&["--writable"], |server| {
        let (mut client, data, _) = download(server);
        reset(&data);
        drop(data);
        client.expect("426");

        let mut data = client.passive(server);
        client.send("STOR new\r\n");
        client.expect("150");
        data.write_all(&pattern(100_000)).unwrap();
        reset(&data);
        drop(data);
        client.expect("426");
        assert!(!server.root.path().join("new").exists());
    });
}

#[test]
fn a_stranger_on_the_passive_port_is_dropped_and_the_owner_served() {
    on_every_architecture(&[], |server| {
        let bytes = server.file("file", 10);
        let mut client = Dialogue::login(server);
        let port = client.passive_port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0)).into()).unwrap();
        // Whoever has connected is in the queue before the owner.
        socket.connect(&address.into()).unwrap();
        let owner = TcpStream::connect(address).unwrap();
        client.send("RETR file\r\n");
        client.expect("150");
        assert!(read_to_end(owner) == bytes);
        client.expect("226");
        let mut stranger = TcpStream::from(socket);
        stranger.set_read_timeout(Some(PATIENCE)).unwrap();
        let outcome = stranger.read_to_end(&mut Vec::new());
        let dropped = matches!(outcome, Ok(0)) || is(&outcome, ErrorKind::ConnectionReset);
        assert!(dropped, "{}: {outcome:?}", server.architecture.name);
    });
}

fn is<T>(result: &io::Result<T>, kind: ErrorKind) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == kind)
}

/// NOOP is sent beforehand, so that it does not matter how long the client takes afterwards.
#[test]
fn a_passive_port_that_nobody_connects_to_is_425_in_time_and_holds_up_nobody() {
    on_every_architecture(&["--idle-timeout", "2"], |server| {
        server.file("file", 10);
        let mut client = Dialogue::login(server);
        client.passive_port();
        client.send("RETR file\r\nNOOP\r\n");
        client.expect("150");
        if server.architecture.concurrent {
            drop(Dialogue::login(server));
        }
        client.expect("425");
        client.expect("200");
    });
}

#[test]
fn passive_ports_are_closed_by_the_next_one_and_not_foreseeable() {
    on_every_architecture(&[], |server| {
        let mut client = Dialogue::login(server);
        let ports: Vec<u16> = (0..20).map(|_| client.passive_port()).collect();
        // Where clients come in, and the last of these.
        assert_eq!(listening(server), 2, "{}", server.architecture.name);
        let steps: HashSet<u16> =
            ports.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
        assert!(steps.len() > 2, "{}: {ports:?}", server.architecture.name);
    });
}

/// How many ports a server's processes listen on, each of which may be open in many of them, and
/// have many sockets.
fn listening(server: &Server) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ports: HashMap<String, String> = rows
        .filter(|fields| fields[3] == "0A")
        .map(|fields| (format!("socket:[{}]", fields[9]), fields[1].to_owned()))
        .collect();
    let open = |pid: i32| fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
    let links = server.processes().into_iter().flat_map(open);
    let links = links.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let held: HashSet<&String> =
        links.filter_map(|link| ports.get(link.to_string_lossy().as_ref())).collect();
    held.len()
}

#[test]
fn lines_may_come_in_pieces_too_long_with_a_nul_or_with_telnet_sequences() {
    on_every_architecture(&[], |server| {
        let mut client = Dialogue::login(server);
        for byte in b"NOOP\r\nNOOP\n" {
            client.send_bytes(&[*byte]);
        }
        client.send_bytes(&vec![b'x'; OVERLONG_BYTES]);
        client.send("\r\nNOOP\r\nCWD a\0b\r\nNOOP\r\n");
        client.send_bytes(b"\xff\xfb\x18NO\xff\xf1OP\r\n");
        for code in ["200", "200", "500", "200", "500", "200", "200"] {
            client.expect(code);
        }
    });
}

#[test]
fn names_are_bytes_and_forge_nothing() {
    on_every_architecture(&["--writable"], |server| {
        let name = OsStr::from_bytes(b"a\"b \xfe\xff");
        // On the control connection, the byte 255 is doubled.
        let path = b"a\"b \xfe\xff\xff";
        let mut client = Dialogue::login(server);
        for verb in ["MKD ", "CWD "] {
            client.send_bytes(&[verb.as_bytes(), path, b"\r\n"].concat());
        }
        client.send("PWD\r\n");
        let shown: &[u8] = b"257 \"/a\"\"b \xfe\xff\" ";
        assert!(client.line_bytes().starts_with(shown), "{}", server.architecture.name);
        client.expect("250");
        assert!(client.line_bytes().starts_with(shown), "{}", server.architecture.name);
        let folder = server.root.path().join(name);
        fs::write(folder.join(OsStr::from_bytes(b"c\r\n226 \xfd")), b"").unwrap();
        let data = client.passive(server);
        client.send("NLST\r\nSTAT .\r\n");
        client.expect("150");
        assert_eq!(read_to_end(data).escape_ascii().to_string(), "c??226 \\xfd\\r\\n");
        client.expect("226");
        let lines = [(); 3].map(|()| client.line_bytes());
        assert!(lines[1].ends_with(b" c??226 \xfd\r\n") && lines[2].starts_with(b"213 "));
    });
}
