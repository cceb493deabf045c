//! Debian's tnftp and inetutils-ftp, given their commands on standard input: what they fetch, store
//! and resume is compared byte for byte.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::{FILE_BYTES, at_once, written};
use crate::support::{Server, installed, names, on_every_architecture, pattern};

/// What both understand, with the client's own folder on its side of it.
const SCRIPT: &str = "\
user anonymous nobody@example.com
binary
size /old
modtime /old
mkdir FOLDER
cd FOLDER
put up one
append tail one
rename one two
get two whole
reget two half
mput a.many b.many
lcd back
mget *.many
lcd ..
ascii
put text
get text text.back
delete two
mdelete a.many b.many
mkdir gone
rmdir gone
dir
bye
";

/// A text as Unix keeps it. Clients and server convert it, twice each way, and all of it is there.
const TEXT: &[u8] = b"one line\nanother\n\nand no end";

const HALF_BYTES: usize = 1_000_000;

/// 2001-09-09 01:46:40 UTC, which both clients print with this time of day.
const MODIFIED: Duration = Duration::from_secs(1_000_000_000);
const TIME_OF_DAY: &str = "01:46:40";

#[test]
fn tnftp_does_its_whole_work_passive_and_active() {
    do_the_whole_work("tnftp");
}

#[test]
fn inetutils_ftp_does_its_whole_work_passive_and_active() {
    do_the_whole_work("inetutils-ftp");
}

fn do_the_whole_work(program: &str) {
    let Some(_) = installed(program) else { return };
    on_every_architecture(&["--writable"], |server| {
        server.file("old", 1_234_567);
        let old = File::options().write(true).open(server.root.path().join("old")).unwrap();
        old.set_modified(SystemTime::UNIX_EPOCH + MODIFIED).unwrap();
        at_once(server, |number| {
            for way in ["-p", "-A"] {
                converse(program, way, &format!("folder{number}{way}"), server);
            }
        });
    });
}

/// One client's session, and what it leaves on both sides.
fn converse(program: &str, way: &str, folder: &str, server: &Server) {
    let place = TempDir::new().unwrap();
    let here = |name: &str| place.path().join(name);
    let bytes = pattern(FILE_BYTES);
    let (up, tail) = bytes.split_at(FILE_BYTES - 1000);
    let begun = vec![b'h'; HALF_BYTES];
    let (first, second) = (pattern(1000), pattern(70_000));
    let files: [(&str, &[u8]); 6] = [
        ("up", up),
        ("tail", tail),
        ("half", &begun),
        ("a.many", &first),
        ("b.many", &second),
        ("text", TEXT),
    ];
    for (name, content) in files {
        fs::write(here(name), content).unwrap();
    }
    fs::create_dir(here("back")).unwrap();
    let said = run(program, way, &SCRIPT.replace("FOLDER", folder), place.path(), server);
    for fact in ["1234567", TIME_OF_DAY] {
        assert!(said.contains(fact), "{program} {way} was told {fact}:\n{said}");
    }
    assert!(written(&here("whole")) == bytes, "{program} {way}: whole\n{said}");
    // What was there is of other bytes, so that going on is told from beginning anew.
    let half = [&begun, &bytes[HALF_BYTES..]].concat();
    assert!(written(&here("half")) == half, "{program} {way}: half\n{said}");
    for (name, content) in [("back/a.many", &first), ("back/b.many", &second)] {
        assert!(written(&here(name)) == *content, "{program} {way}: {name}\n{said}");
    }
    let stored = server.root.path().join(folder);
    assert_eq!(names(&stored), ["text"], "{program} {way}\n{said}");
    for text in [stored.join("text"), here("text.back")] {
        assert_eq!(written(&text).escape_ascii().to_string(), TEXT.escape_ascii().to_string());
    }
}

/// Runs a client in a folder of its own, which is its home as well, and returns what it has said.
fn run(program: &str, way: &str, script: &str, place: &Path, server: &Server) -> String {
    let mut client = installed(program).unwrap();
    client.args(["-n", "-i", "-v", way, "127.0.0.1", &server.port().to_string()]);
    client.current_dir(place).env("HOME", place);
    client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut client = client.spawn().unwrap();
    client.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = client.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}
