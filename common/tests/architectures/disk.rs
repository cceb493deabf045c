//! A served folder that fills up, shrinks, vanishes, is closed to the server, or is very large: the
//! client is told the truth, and is served on.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::{
    Architecture, Dialogue, Server, architectures, names, on_every_architecture, pattern,
    read_to_end,
};

/// A small disk, mounted in a served folder for as long as this lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    const BYTES: usize = 1024 * 1024;

    /// `None`, in words, where this may not be done. In CI it must be.
    fn mount(place: &Path) -> Option<Self> {
        fs::create_dir(place).unwrap();
        let mut mount = Command::new("mount");
        let size = format!("size={}", Self::BYTES);
        let output = mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(place).output().unwrap();
        let reason = String::from_utf8_lossy(&output.stderr).into_owned();
        skip_unless(output.status.success(), &format!("no tmpfs can be mounted: {reason}"))?;
        Some(SmallDisk(place.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// `None`, with the reason said, unless a test can be done on this machine. In CI it must be.
pub(crate) fn skip_unless(possible: bool, reason: &str) -> Option<()> {
    assert!(possible || std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{reason}");
    if !possible {
        eprintln!("SKIPPED: {reason}");
    }
    possible.then_some(())
}

/// A command, and the first line of its reply.
fn ask(client: &mut Dialogue, command: &str, code: &str) -> String {
    client.send(&format!("{command}\r\n"));
    client.expect(code)
}

#[test]
fn a_disk_that_fills_up_is_452_and_keeps_nothing_of_the_upload() {
    for kind in ["TYPE I", "TYPE A"] {
        on_every_architecture(&["--writable"], |server| {
            let disk = server.root.path().join("disk");
            let Some(_disk) = SmallDisk::mount(&disk) else { return };
            let mut client = Dialogue::login(server);
            ask(&mut client, kind, "200");
            let mut data = client.passive(server);
            ask(&mut client, "STOR disk/large", "150");
            // The server may close the connection before all is sent.
            let _ = data.write_all(&pattern(2 * SmallDisk::BYTES));
            drop(data);
            client.expect("452");
            assert!(names(&disk).is_empty(), "{}", server.architecture.name);
            // What was taken is free again.
            let mut data = client.passive(server);
            ask(&mut client, "STOR disk/small", "150");
            data.write_all(&pattern(SmallDisk::BYTES / 2)).unwrap();
            drop(data);
            client.expect("226");
            assert_eq!(names(&disk), ["small"]);
        });
    }
}

#[test]
fn a_file_that_shrinks_meanwhile_is_451_and_the_session_lives() {
    for kind in ["TYPE I", "TYPE A"] {
        on_every_architecture(&[], |server| {
            // More than all the buffers on the way hold, so that the server cannot be done before.
            let file = File::create(server.root.path().join("large")).unwrap();
            file.set_len(256 * 1024 * 1024).unwrap();
            let mut client = Dialogue::login(server);
            ask(&mut client, kind, "200");
            let data = client.passive(server);
            ask(&mut client, "RETR large", "150");
            file.set_len(1).unwrap();
            read_to_end(data);
            client.expect("451");
            let data = client.passive(server);
            ask(&mut client, "RETR large", "150");
            assert_eq!(read_to_end(data), [0]);
            client.expect("226");
        });
    }
}

#[test]
fn a_folder_that_vanishes_under_its_client_is_550_until_it_goes_elsewhere() {
    on_every_architecture(&["--writable"], |server| {
        let folder = server.root.path().join("folder");
        fs::create_dir(&folder).unwrap();
        server.file("folder/file", 10);
        let mut client = Dialogue::login(server);
        ask(&mut client, "CWD folder", "250");
        fs::remove_dir_all(&folder).unwrap();
        let _data = client.passive(server);
        for command in ["LIST", "NLST", "MLSD", "STOR new", "STOU", "RETR file", "SIZE file"] {
            ask(&mut client, command, "550");
        }
        for command in ["MKD new", "MLST", "STAT .", "CWD .", "RNFR file", "DELE file"] {
            ask(&mut client, command, "550");
        }
        // The name is still where the client is; another may make such a folder again.
        let reply = ask(&mut client, "PWD", "257");
        assert!(reply.starts_with("257 \"/folder\""), "{reply}");
        ask(&mut client, "CWD /", "250");
        ask(&mut client, "MLST", "250-");
    });
}

/// What its mode forbids is forbidden to root as well, without these capabilities.
const UNPRIVILEGED: &str = "--bounding-set=-dac_override,-dac_read_search";

/// A server that has to respect the modes of files.
fn unprivileged(architecture: &Architecture) -> Option<Server> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return Some(Server::start(architecture, &["--writable"]));
    }
    let tried = Command::new("setpriv").args([UNPRIVILEGED, "true"]).output();
    let possible = tried.is_ok_and(|output| output.status.success());
    skip_unless(possible, "setpriv cannot drop the capabilities of root")?;
    let mut command = Command::new("setpriv");
    command.arg(UNPRIVILEGED).arg(architecture.command().get_program());
    Some(Server::start_with(command, architecture, &["--writable"]))
}

#[test]
fn a_file_that_may_not_be_read_or_written_is_550() {
    for architecture in architectures() {
        eprintln!("── {}", architecture.name);
        let Some(server) = unprivileged(&architecture) else { return };
        let mode = |name: &str, mode| {
            let permissions = fs::Permissions::from_mode(mode);
            fs::set_permissions(server.root.path().join(name), permissions).unwrap();
        };
        server.file("closed", 10);
        let bytes = server.file("readable", 10);
        mode("closed", 0o000);
        mode("readable", 0o444);
        let mut client = Dialogue::login(&server);
        let _data = client.passive(&server);
        for command in ["RETR closed", "STOR closed", "STOR readable", "APPE readable"] {
            ask(&mut client, command, "550");
        }
        fs::create_dir(server.root.path().join("folder")).unwrap();
        mode("folder", 0o000);
        for command in
            ["LIST folder", "CWD folder", "STOR folder/new", "MKD folder/new", "RETR folder/x"]
        {
            ask(&mut client, command, "550");
        }
        mode("folder", 0o700);
        let data = client.passive(&server);
        ask(&mut client, "RETR readable", "150");
        assert!(read_to_end(data) == bytes);
        client.expect("226");
        drop(client);
        server.leave();
    }
}

#[test]
fn a_fifo_is_refused_and_never_waited_for() {
    on_every_architecture(&["--writable"], |server| {
        let path = server.root.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        let mut client = Dialogue::login(server);
        let _data = client.passive(server);
        for command in ["RETR fifo", "STOR fifo", "APPE fifo", "MFMT 20010909014640 fifo"] {
            ask(&mut client, command, "550");
        }
        ask(&mut client, "NOOP", "200");
    });
}

const MANY: usize = 100_000;
/// What a listing of many names may add to the largest size that a server has had, in all its
/// threads: less than the names alone would take, let alone their lines.
const GROWTH_KIB: u64 = 3072;

#[test]
fn a_hundred_thousand_names_are_listed_at_flat_memory() {
    // In memory where there is such a place: a disk takes its time to make so many.
    let many = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    fs::create_dir(many.path().join("few")).unwrap();
    let folder = many.path().join("many");
    fs::create_dir(&folder).unwrap();
    for number in 0..MANY {
        File::create(folder.join(format!("{number:040}"))).unwrap();
    }
    for architecture in architectures() {
        eprintln!("── {}", architecture.name);
        let server = Server::start_in(many.path(), &architecture);
        let mut client = Dialogue::login(&server);
        // All that is needed for the first time is needed here.
        list(&server, &mut client, "few");
        let before = server.largest_size_kib();
        assert_eq!(list(&server, &mut client, "many"), (MANY, MANY + 2));
        let growth = server.largest_size_kib().saturating_sub(before);
        assert!(growth <= GROWTH_KIB, "{} grows by {growth} KiB", architecture.name);
        drop(client);
        server.leave();
    }
}

/// How many lines a folder has over the data connection, and over the control connection.
fn list(server: &Server, client: &mut Dialogue, folder: &str) -> (usize, usize) {
    let data = client.passive(server);
    ask(client, &format!("LIST {folder}"), "150");
    let lines = BufReader::new(data).lines().count();
    client.expect("226");
    ask(client, &format!("STAT {folder}"), "213-");
    let mut replied = 1;
    while !client.line().starts_with("213 ") {
        replied += 1;
    }
    (lines, replied + 1)
}
