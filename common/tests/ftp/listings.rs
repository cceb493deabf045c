//! Listings: what is in them, and names of any bytes.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::world::*;

/// The lines of a listing, in order.
fn lines(world: &mut World, command: &str) -> Vec<String> {
    let listing = String::from_utf8(world.fetch(command)).unwrap();
    let mut lines: Vec<String> = listing.split_terminator("\r\n").map(str::to_owned).collect();
    lines.sort();
    lines
}

/// What follows the date, or the facts, of each line.
fn listed(world: &mut World, command: &str) -> Vec<String> {
    let last = |line: String| line.rsplit(' ').next().unwrap().to_owned();
    let mut names: Vec<String> = lines(world, command).into_iter().map(last).collect();
    names.sort();
    names
}

#[test]
fn hidden_names_are_shown_to_those_who_ask() {
    let mut world =
        World::logged_in().file("a", b"").file(".a", b"").folder(".d").file(".d/.b", b"");
    for command in ["LIST", "NLST", "LIST -l", "LIST -lR .", "NLST *"] {
        assert_eq!(listed(&mut world, command), ["a"], "{command}");
    }
    for command in ["LIST -a", "LIST -la /", "NLST -A", "MLSD", "NLST -R -a"] {
        assert_eq!(listed(&mut world, command), [".a", ".d", "a"], "{command}");
    }
    assert_eq!(listed(&mut world, "LIST .a"), [".a"]);
    assert_eq!(listed(&mut world, "NLST .*"), [".a", ".d"]);
    assert_eq!(listed(&mut world, "LIST .d"), Vec::<String>::new());
    assert_eq!(listed(&mut world, "LIST -a .d"), [".b"]);
    world.codes();
    world.tell("STAT /\r\n");
    assert!(!world.heard().contains(" .a\r\n"));
    world.tell("STAT -a /\r\nSTAT .a\r\n");
    assert_eq!(world.heard().matches(" .a\r\n").count(), 2);
}

#[test]
fn a_link_is_shown_as_a_link_and_not_followed() {
    let mut world = World::logged_in().file("a", b"content").folder("d").file("d/b", b"");
    let place = world.folder.path().to_owned();
    for (target, name) in [("a", "in"), ("/etc/passwd", "out"), ("gone", "dangling"), ("d", "to-d")]
    {
        symlink(target, place.join(name)).unwrap();
    }
    let forged = OsStr::from_bytes(b"x\r\n-rw-r--r--    1 0        0 \xff");
    symlink(forged, place.join("forged")).unwrap();
    let listing = world.fetch("LIST");
    let line = |end: &[u8]| {
        let mut lines = listing.split_inclusive(|&byte| byte == b'\n');
        lines.any(|line| line.starts_with(b"lrwxrwxrwx ") && line.ends_with(end))
    };
    assert!(line(b" in -> a\r\n") && line(b" out -> /etc/passwd\r\n"));
    assert!(line(b" dangling -> gone\r\n") && line(b" to-d -> d\r\n"));
    assert!(line(b" forged -> x??-rw-r--r--    1 0        0 \xff\r\n"));
    assert_eq!(listing.split_inclusive(|&byte| byte == b'\n').count(), 7);
    assert_eq!(lines(&mut world, "LIST in").len(), 1);
    assert!(lines(&mut world, "LIST in")[0].ends_with(" in -> a"));
    assert_eq!(listed(&mut world, "LIST to-d"), ["b"]);
    assert_eq!(listed(&mut world, "NLST in"), ["in"]);
    let facts = String::from_utf8(world.fetch("MLSD")).unwrap();
    let pointing = facts.lines().find(|line| line.starts_with("type=OS.unix=slink:a;"));
    assert!(pointing.unwrap().ends_with("; in"));
    assert!(
        facts.lines().any(|line| {
            line.starts_with("type=OS.unix=symlink;") && line.ends_with("; forged")
        })
    );
    world.codes();
    world.tell("EPSV\r\nLIST out\r\nLIST dangling\r\n");
    assert_eq!(world.codes(), "229 550 550");
    world.tell("RNFR dangling\r\nRNTO moved\r\nRNFR out\r\nRNTO d/out\r\nDELE moved\r\n");
    assert_eq!(world.codes(), "350 250 350 250 250");
    assert_eq!(fs::read_link(place.join("d/out")).unwrap().to_str(), Some("/etc/passwd"));
}

/// The same fields in the same order as GNU `ls` has them in the C locale; only the widths of the
/// columns differ, which `ls` fits to the directory.
#[test]
fn a_listing_reads_as_that_of_ls() {
    let mut world = World::logged_in().file("a", &[0; 4321]).folder("d").file("s t", b"");
    world.set_mode("a", 0o6751);
    world.set_mode("d", 0o1777);
    symlink("a", world.folder.path().join("l")).unwrap();
    // Long ago for `ls`, and in the future here, where the time stands still at 1970: both have the
    // year shown.
    let mut touch = Command::new("touch");
    touch.args(["-h", "-d", "2001-09-09T01:46:40Z", "a", "d", "s t", "l"]);
    assert!(touch.current_dir(world.folder.path()).status().unwrap().success());
    let mut ls = Command::new("ls");
    let ls = ls.arg("-ln").arg(world.folder.path()).env("LC_ALL", "C").env("TZ", "UTC0");
    let expected = String::from_utf8(ls.output().unwrap().stdout).unwrap();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut expected: Vec<String> = expected.lines().skip(1).map(words).collect();
    expected.sort();
    let mut ours: Vec<String> = lines(&mut world, "LIST").iter().map(|line| words(line)).collect();
    ours.sort();
    assert_eq!(ours, expected);
    assert_eq!(ours.len(), 4);
}

#[test]
fn an_upload_that_is_not_whole_is_nobodys_file() {
    let mut world = World::logged_in();
    world.upload.extend([b'n'; 2500]);
    world.data_actions = 2;
    assert_eq!(world.tell("EPSV\r\nSTOR a\r\n"), Stop::Data);
    let partial = world.names().remove(0);
    assert!(partial.starts_with(".upload-"), "{partial}");
    let mut other = world.another();
    for command in ["LIST -a", "NLST -a", "MLSD", "NLST .*"] {
        assert_eq!(other.fetch(command), b"", "{command}");
    }
    other.tell("STAT -a /\r\n");
    assert!(!other.heard().contains(".upload-"));
    for command in ["RETR", "STOR", "APPE", "DELE", "RNFR", "SIZE", "MDTM", "MLST", "LIST", "STAT"]
    {
        other.tell(format!("EPSV\r\n{command} {partial}\r\n"));
        assert_eq!(other.codes(), "229 550", "{command}");
    }
    other.tell(format!("SITE CHMOD 777 {partial}\r\nMFMT 20010909014640 /d/../{partial}\r\n"));
    assert_eq!(other.codes(), "550 550");
    world.data_actions = usize::MAX;
    world.run();
    assert_eq!(world.codes(), "229 150 226");
    assert_eq!(world.content("a"), [b'n'; 2500]);
}

#[test]
fn names_of_any_bytes_make_the_round_trip() {
    for name in
        [&b"\xfe\x80\xc3("[..], b" a ", b"\x01\x1b[31m\x7f", b"a\"\"b", b"-a", "ä→".as_bytes()]
    {
        let mut world = World::logged_in();
        let say = |world: &mut World, command: &str, prefix: &[u8]| {
            let line = [b"EPSV\r\n", command.as_bytes(), b" ", prefix, name, b"\r\n"].concat();
            world.tell(line);
        };
        world.upload.extend(b"content");
        say(&mut world, "STOR", b"");
        assert_eq!(
            fs::read(world.folder.path().join(OsStr::from_bytes(name))).unwrap(),
            b"content"
        );
        say(&mut world, "RETR", b"");
        assert_eq!(std::mem::take(&mut world.downloaded), b"content");
        let line = [name, b"\r\n"].concat();
        assert_eq!(world.fetch("NLST"), line);
        assert!(world.fetch("LIST").ends_with(&[b" ", line.as_slice()].concat()));
        assert!(world.fetch("MLSD").ends_with(&[b"; ", line.as_slice()].concat()));
        say(&mut world, "RNFR", b"");
        world.tell("RNTO plain\r\nRNFR plain\r\n");
        say(&mut world, "MKD", b"");
        world.tell([b"RNFR plain\r\nRNTO ", name, b"/", name, b"\r\n"].concat());
        say(&mut world, "NLST", b"./");
        assert_eq!(std::mem::take(&mut world.downloaded), line);
        say(&mut world, "CWD", b"");
        let codes = world.codes();
        assert!(!codes.split(' ').any(|code| code.starts_with(['4', '5'])), "{codes}");
        say(&mut world, "MLST", b"");
        let path = [b"; /", name, b"/", line.as_slice()].concat();
        assert!(world.said.windows(path.len()).any(|part| part == path));
    }
}

#[test]
fn a_newline_in_a_name_forges_no_line() {
    let mut world = World::logged_in().file("a\r\n226 b", b"").file("c\n-rw d", b"");
    for command in ["LIST", "NLST", "MLSD", "NLST *"] {
        assert_eq!(lines(&mut world, command).len(), 2, "{command}");
    }
    world.codes();
    world.tell("STAT /\r\n");
    assert_eq!(world.heard().lines().count(), 4);
    assert_eq!(world.fetch("NLST c?-rw?d"), b"c?-rw d\r\n");
}

#[test]
fn what_is_no_file_is_listed_by_the_letter_that_ls_has_for_it() {
    let mut world = World::logged_in();
    let permissions = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::unistd::mkfifo(&world.folder.path().join("fifo"), permissions).unwrap();
    world.tell("EPSV\r\nLIST\r\n");
    assert_eq!(world.codes(), "229 150 226");
    let listed = String::from_utf8(world.downloaded).unwrap();
    assert!(listed.starts_with("prw------- ") && listed.ends_with(" fifo\r\n"), "{listed:?}");
}
