//! The table of replies, over sockets: what a client is answered that asks for what cannot be, and
//! the scenes that take more than a line.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::faults::reset;
use crate::support::{Dialogue, PATIENCE, Server, on_every_architecture, pattern, read_to_end};

/// More than the socket buffers of both ends hold, so that a transfer is still running when the
/// client says something.
const LARGE_BYTES: usize = 16 * 1024 * 1024;
/// The longest line that is taken, and more.
const OVERLONG_BYTES: usize = 100_000;
const LISTED: usize = 20_000;
/// The names of a listing alone are more than that.
const LISTING_MEMORY_KIB: u64 = 3 * 1024;

/// What is allowed before login.
const UNGUARDED: &str = "AUTH FEAT HELP NOOP OPTS PASS PBSZ PROT QUIT SYST USER";
/// What a read-only server refuses, with EPSV before it.
const WRITING: &[&str] = &[
    "APPE file",
    "DELE file",
    "MFMT 20010909014640 file",
    "MKD new",
    "RMD folder",
    "RNFR file",
    "SITE CHMOD 600 file",
    "STOR file",
    "STOU",
    "XMKD new",
    "XRMD folder",
];

/// What a client sends that has just logged in, and the codes that it is answered.
const TABLE: &[(&str, &str)] = &[
    ("PASS x", "503"),
    ("ACCT x\nSMNT x", "502 502"),
    ("REIN\nPWD", "220 530"),
    ("CWD none\nXCWD none\nCWD file\nCWD outside\nPWD", "550 550 550 550 257"),
    ("MKD folder\nMKD none/new\nMKD outside/new", "550 550 550"),
    ("RMD none\nRMD file\nRMD /\nXRMD none", "550 550 550 550"),
    ("DELE none\nDELE folder\nDELE outside/passwd", "550 550 550"),
    ("RNFR none\nRNTO new", "550 503"),
    ("RNTO new", "503"),
    ("RNFR file\nNOOP\nRNTO new", "350 200 503"),
    ("TYPE E\nTYPE L 7\nTYPE X\nTYPE\nTYPE nonsense", "504 504 504 501 501"),
    ("MODE B\nMODE\nSTRU R\nSTRU", "504 501 504 501"),
    ("EPSV 2\nEPSV 3\nEPSV x", "522 522 501"),
    ("EPSV ALL\nPASV\nPORT 127,0,0,1,8,0\nEPRT |1|127.0.0.1|2048|\nEPSV", "200 501 501 501 229"),
    ("PORT 192,0,2,1,8,0\nPORT 127,0,0,1,3,255\nPORT x\nPORT", "501 501 501 501"),
    ("EPRT |1|192.0.2.1|2048|\nEPRT |1|127.0.0.1|1023|\nEPRT x", "501 501 501"),
    ("EPRT |2|::1|2048|\nEPRT |3|x|2048|", "522 522"),
    ("RETR file\nLIST\nNLST\nMLSD", "425 425 425 425"),
    ("STOR file\nAPPE file\nSTOU", "425 425 425"),
    ("EPSV\nRETR none\nRETR folder\nRETR outside/passwd", "229 550 550 550"),
    ("EPSV\nLIST none\nNLST none\nMLSD none\nLIST outside", "229 550 550 550 550"),
    ("EPSV\nMLSD file", "229 501"),
    ("EPSV\nSTOR folder\nSTOR none/new\nSTOR outside/new\nAPPE folder", "229 550 550 550 550"),
    ("REST x\nREST -1\nREST 9223372036854775808\nREST", "501 501 501 501"),
    ("EPSV\nREST 11\nRETR file\nREST 11\nSTOR file", "229 350 554 350 554"),
    ("ABOR\nNOOP", "226 200"),
    ("SIZE none\nSIZE folder\nTYPE A\nSIZE file", "550 550 200 550"),
    ("MDTM none\nMDTM folder", "550 550"),
    ("MFMT 20010909014640 none\nMFMT x file\nMFMT 20010909014640", "550 501 501"),
    ("MLST none\nSTAT none\nMLST outside/passwd", "550 550 550"),
    ("OPTS nonsense\nOPTS\nALLO", "501 501 501"),
    ("SITE nonsense\nSITE CHMOD 600 none\nSITE CHMOD 9 file", "504 550 501"),
    ("NONSENSE\n\nPWD x\nQUIT x", "500 500 501 501"),
    ("CWD ../../..\nPWD\nRETR ../etc/passwd", "250 257 550"),
];

/// A served folder with a file, a folder, and a way out.
fn furnish(server: &Server) {
    server.file("file", 10);
    fs::create_dir(server.root.path().join("folder")).unwrap();
    std::os::unix::fs::symlink("/etc", server.root.path().join("outside")).unwrap();
}

/// The next whole reply.
fn reply(client: &mut Dialogue) -> String {
    let first = client.line();
    assert!(first.len() > 3, "a reply, not {first:?}");
    let (end, mut all) = (format!("{} ", &first[..3]), first.clone());
    let mut line = first;
    while !line.starts_with(&end) {
        line = client.line();
        assert!(!line.is_empty(), "{all:?} has an end");
        all.push_str(&line);
    }
    all
}

/// Says some lines, and returns the codes that answer them.
fn codes(client: &mut Dialogue, lines: &str) -> String {
    client.send(format!("{lines}\r\n"));
    let codes: Vec<String> = lines.split('\n').map(|_| reply(client)[..3].to_owned()).collect();
    codes.join(" ")
}

#[test]
fn what_cannot_be_is_answered_as_the_table_says() {
    on_every_architecture(&["--writable"], |server| {
        furnish(server);
        for (lines, expected) in TABLE {
            let mut client = Dialogue::login(server);
            assert_eq!(codes(&mut client, lines), *expected, "{lines:?}");
        }
        let mut client = Dialogue::login(server);
        let lines = format!("EPSV\nSTOR {0}\nMKD {0}", "x".repeat(256));
        assert_eq!(codes(&mut client, &lines), "229 553 553");
    });
}

#[test]
fn a_read_only_server_refuses_each_change() {
    on_every_architecture(&[], |server| {
        furnish(server);
        for line in WRITING {
            let mut client = Dialogue::login(server);
            assert_eq!(codes(&mut client, &format!("EPSV\n{line}")), "229 550", "{line}");
        }
    });
}

#[test]
fn whatever_is_not_allowed_before_login_is_530() {
    on_every_architecture(&["--writable"], |server| {
        let mut client = Dialogue::greeted(server);
        client.send("HELP\r\n");
        let help = reply(&mut client);
        let known =
            help.lines().filter(|line| line.starts_with(' ')).flat_map(str::split_whitespace);
        let guarded: Vec<&str> =
            known.filter(|name| !UNGUARDED.split(' ').any(|other| other == *name)).collect();
        assert!(guarded.len() > 30, "HELP names every command: {help}");
        for name in guarded {
            assert_eq!(codes(&mut client, name), "530", "{name}");
        }
        let allowed = "PASS x\nFEAT\nHELP\nNOOP\nSYST\nOPTS UTF8 ON\nPBSZ 0\nPROT P\nQUIT";
        assert_eq!(codes(&mut client, allowed), "503 211 214 200 215 200 503 503 221");
    });
}

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
        client.send(b"\xff\xf4");
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
fn a_transfer_that_breaks_is_426_and_one_that_loses_its_file_is_451() {
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
        drop(client);

        let (mut client, data, bytes) = download(server);
        let file = File::options().write(true).open(server.root.path().join("large")).unwrap();
        file.set_len(1).unwrap();
        assert!(read_to_end(data).len() < bytes.len() - 1);
        client.expect("451");
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
        let outcome = stranger.read(&mut [0]);
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
    on_every_architecture(&["--idle-timeout", "1"], |server| {
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

/// A server's processes: itself and its children.
fn processes(server: &Server) -> Vec<String> {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", server.pid()));
    let children = children.unwrap();
    let own = server.pid().to_string();
    children.split_whitespace().map(str::to_owned).chain([own]).collect()
}

/// How many ports a server's processes listen on, each of which may be open in many of them.
fn listening(server: &Server) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let sockets: HashSet<String> = rows
        .filter(|fields| fields[3] == "0A")
        .map(|fields| format!("socket:[{}]", fields[9]))
        .collect();
    let open = |pid: String| fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
    let links = processes(server).into_iter().flat_map(open);
    let links = links.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let held: HashSet<PathBuf> =
        links.filter(|link| sockets.contains(link.to_string_lossy().as_ref())).collect();
    held.len()
}

/// The most memory that each process has had, in KiB.
fn peak_memory_kib(server: &Server) -> HashMap<String, u64> {
    let peak = |pid: String| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak = line.trim().trim_end_matches(" kB").parse().unwrap();
        (pid, peak)
    };
    processes(server).into_iter().map(peak).collect()
}

/// The folder is made once, and moves from server to server.
#[test]
fn a_listing_of_twenty_thousand_names_streams_at_flat_memory() {
    let place = TempDir::new().unwrap();
    let folder = place.path().join("folder");
    fs::create_dir(&folder).unwrap();
    for number in 0..LISTED {
        File::create(folder.join(format!("{number:0>200}"))).unwrap();
    }
    on_every_architecture(&[], |server| {
        let mut client = Dialogue::login(server);
        let listed = |client: &mut Dialogue| {
            let data = client.passive(server);
            client.send("LIST\r\n");
            client.expect("150");
            let listing = read_to_end(data);
            client.expect("226");
            listing.split(|&byte| byte == b'\n').count() - 1
        };
        assert_eq!(listed(&mut client), 0);
        let before = peak_memory_kib(server);
        let here = server.root.path().join("folder");
        fs::rename(&folder, &here).unwrap();
        client.send("CWD folder\r\n");
        client.expect("250");
        assert_eq!(listed(&mut client), LISTED, "{}", server.architecture.name);
        fs::rename(&here, &folder).unwrap();
        let after = peak_memory_kib(server);
        for (pid, before) in before {
            let grown = after[&pid] - before;
            assert!(grown < LISTING_MEMORY_KIB, "{}: {grown} KiB", server.architecture.name);
        }
    });
}

#[test]
fn lines_may_come_in_pieces_too_long_with_a_nul_or_with_telnet_sequences() {
    on_every_architecture(&[], |server| {
        let mut client = Dialogue::login(server);
        for byte in b"NOOP\r\nNOOP\n" {
            client.send([*byte]);
        }
        client.send(vec![b'x'; OVERLONG_BYTES]);
        client.send("\r\nNOOP\r\nCWD a\0b\r\nNOOP\r\n");
        client.send(b"\xff\xfb\x18NO\xff\xf1OP\r\n");
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
            client.send([verb.as_bytes(), path, b"\r\n"].concat());
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
