//! Commands and their replies, and the transcripts of today's clients.

use std::fs;
use std::os::unix::ffi::OsStrExt;

use common::ftp;
use common::session::{Event, Session};

use crate::world::*;

#[test]
fn a_login_may_come_in_one_packet() {
    let mut world = World::new();
    world.tell("USER anonymous\r\nPASS x\r\nSYST\r\nPWD\r\n");
    assert_eq!(world.codes(), "220 331 230 215 257");
}

#[test]
fn little_is_allowed_before_login() {
    let mut world = World::new();
    world.tell("FEAT\r\nHELP\r\nNOOP\r\nSYST\r\nOPTS UTF8 ON\r\nAUTH TLS\r\nPBSZ 0\r\nPROT P\r\n");
    assert_eq!(world.codes(), "220 211 214 200 215 200 502 503 503");
    world.tell("PASS x\r\nPWD\r\nRETR a\r\nSTOR a\r\nPASV\r\nNONSENSE\r\nQUIT\r\n");
    assert_eq!(world.codes(), "503 530 530 530 530 500 221");
}

#[test]
fn a_read_only_server_changes_nothing() {
    let mut world = World::of(CLIENT, false).file("a", b"a");
    world.tell(LOGIN);
    world.codes();
    let commands = [
        "MKD b",
        "RMD b",
        "DELE a",
        "RNFR a",
        "STOR a",
        "APPE a",
        "STOU",
        "SITE CHMOD 0 a",
        "MFMT 20010909014640 a",
    ];
    for command in commands {
        world.tell(format!("EPSV\r\n{command}\r\n"));
        assert_eq!(world.codes(), "229 550", "{command}");
    }
    assert_eq!(world.names(), ["a"]);
}

#[test]
fn curl_downloads() {
    let mut world = World::new().file("a", b"0123456789");
    for line in ["USER anonymous", "PASS ftp@example.com", "PWD", "EPSV", "TYPE I", "SIZE a"] {
        world.tell(format!("{line}\r\n"));
    }
    world.tell("RETR a\r\n");
    assert_eq!(world.downloaded, b"0123456789");
    world.downloaded.clear();
    world.tell("EPSV\r\nREST 7\r\nRETR a\r\n");
    assert_eq!(world.downloaded, b"789");
    assert_eq!(world.tell("QUIT\r\n"), Stop::End);
    assert_eq!(world.codes(), "220 331 230 257 229 200 213 150 226 229 350 150 226 221");
}

#[test]
fn wget_lists_and_leaves_without_a_word() {
    let mut world = World::logged_in().file("a", b"0123456789");
    world.tell("SYST\r\nPWD\r\nTYPE I\r\nCWD /\r\nPASV\r\nLIST -a\r\n");
    let heard = world.heard();
    assert!(heard.contains("227 Entering passive mode (192,0,2,1,19,137)\r\n"), "{heard}");
    let listing = String::from_utf8_lossy(&world.downloaded).into_owned();
    assert!(listing.starts_with("-rw") && listing.ends_with(" a\r\n"), "{listing}");
    assert_eq!(world.tell(""), Stop::End);
}

#[test]
fn lftp_mirrors() {
    let mut world = World::new();
    world.tell("FEAT\r\nAUTH TLS\r\nOPTS UTF8 ON\r\n");
    world.tell(LOGIN);
    world.tell("OPTS MLST type;size;modify;\r\nMKD d\r\nCWD d\r\nTYPE I\r\nPASV\r\n");
    world.upload.extend(b"content");
    world.tell("STOR a\r\nMFMT 20010909014640 a\r\nSITE CHMOD 600 a\r\nEPSV\r\nMLSD\r\n");
    let codes = "220 211 502 200 331 230 200 257 250 200 227 150 226 213 200 229 150 226";
    assert_eq!(world.codes(), codes);
    assert_eq!(world.downloaded, b"type=file;size=7;modify=20010909014640; a\r\n");
    assert_eq!(world.content("d/a"), b"content");
}

#[test]
fn ftplib_lists_under_type_a() {
    let mut world = World::logged_in().file("a", b"").file("b", b"");
    world.tell("TYPE A\r\nEPSV\r\nNLST\r\n");
    let mut lines: Vec<_> = world.downloaded.split_inclusive(|&byte| byte == b'\n').collect();
    lines.sort();
    assert_eq!(lines, [b"a\r\n", b"b\r\n"]);
}

#[test]
fn nothing_outside_the_root_is_reached() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), b"secret").unwrap();
    let mut world = World::logged_in();
    std::os::unix::fs::symlink(outside.path(), world.folder.path().join("link")).unwrap();
    let secret = outside.path().join("secret");
    std::os::unix::fs::symlink(&secret, world.folder.path().join("file")).unwrap();
    let commands = [
        "RETR link/secret",
        "RETR file",
        "RETR ../secret",
        "STOR link/new",
        "STOR file",
        "APPE file",
        "LIST link",
        "CWD link",
        "DELE link/secret",
        "MKD link/d",
        "RNFR link/secret",
        "MLST file",
        "SITE CHMOD 777 file",
    ];
    for command in commands {
        world.tell(format!("EPSV\r\n{command}\r\n"));
        assert_eq!(world.codes(), "229 550", "{command}");
    }
    world.tell("CWD ../../..\r\nPWD\r\n");
    assert!(world.heard().contains("257 \"/\" "));
    assert_eq!(fs::read(secret).unwrap(), b"secret");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn names_are_bytes_and_quotes_are_doubled() {
    let mut world = World::logged_in();
    world.tell(b"MKD a\"b\xfe\xff\xff \r\nCWD a\"b\xfe\xff\xff \r\nPWD\r\n");
    let path = b"257 \"/a\"\"b\xfe\xff \" ";
    let said = std::mem::take(&mut world.said);
    assert_eq!(said.windows(path.len()).filter(|part| part == path).count(), 2);
    let name = std::ffi::OsStr::from_bytes(b"a\"b\xfe\xff ");
    assert!(world.folder.path().join(name).is_dir());
}

#[test]
fn a_bad_line_gets_one_500_and_the_session_lives() {
    let mut world = World::logged_in();
    for _ in 0..100 {
        assert_eq!(world.tell([b'x'; 1000]), Stop::Command);
    }
    world.tell("\r\nNOOP\r\nCWD a\0b\r\nNOOP\r\n");
    assert_eq!(world.codes(), "500 200 500 200");
}

#[test]
fn a_full_queue_wants_no_more_input() {
    let mut world = World::logged_in().file("a", &[b'a'; 5000]);
    world.data_actions = 1;
    world.tell("EPSV\r\nRETR a\r\n");
    assert!(world.session.accepts_control());
    world.tell("NOOP\r\n".repeat(2000));
    assert!(!world.session.accepts_control());
    world.data_actions = usize::MAX;
    world.run();
    assert_eq!(world.codes().split(' ').filter(|&code| code == "200").count(), 2000);
    assert!(world.session.accepts_control());
}

#[test]
fn silence_ends_a_session_and_pieces_of_a_line_do_not_help() {
    let mut world = World::logged_in();
    let deadline = world.session.deadline();
    world.tell("NO");
    assert_eq!(world.session.deadline(), deadline);
    world.tell("OP\r\nPA");
    assert_ne!(world.session.deadline().phase, deadline.phase);
    assert_eq!(world.answer(Event::TimedOut), Stop::End);
    assert_eq!(world.codes(), "200 421");
}

#[test]
fn a_server_that_leaves_says_so() {
    let mut world = World::logged_in();
    assert_eq!(world.answer(Event::Drain), Stop::End);
    assert_eq!(world.codes(), "421");
}

#[test]
fn an_idle_session_is_small() {
    assert!(size_of::<ftp::Session>() <= 512, "{}", size_of::<ftp::Session>());
}
