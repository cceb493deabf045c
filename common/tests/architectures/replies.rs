//! The table of replies, over sockets: what a client is answered that asks for what cannot be.

use std::fs;

use crate::support::{Dialogue, Server, on_every_architecture};

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
    ("AUTH TLS\nAUTH\nPBSZ 0\nPROT P\nPROT C", "502 501 503 503 503"),
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
pub(crate) fn reply(client: &mut Dialogue) -> String {
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
pub(crate) fn codes(client: &mut Dialogue, lines: &str) -> String {
    client.send(&format!("{lines}\r\n"));
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
