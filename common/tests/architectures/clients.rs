//! Real FTP clients, as they are, against every architecture: what they fetch and store is compared
//! byte for byte.

mod interactive;
mod resumed;

use std::path::Path;
use std::process::Command;
use std::thread;

use tempfile::TempDir;

use crate::support::{
    Server, installed, names, on_every_architecture, pattern, read_to_end, succeed,
};

const FILE_BYTES: usize = 3_000_017;
const CLIENTS: usize = 4;

/// As many clients at a time as the architecture can serve, each with a number of its own.
fn at_once(server: &Server, client: impl Fn(usize) + Sync) {
    let count = if server.architecture.concurrent { CLIENTS } else { 1 };
    thread::scope(|scope| {
        for number in 0..count {
            let client = &client;
            scope.spawn(move || client(number));
        }
    });
}

fn curl() -> Option<Command> {
    let mut curl = installed("curl")?;
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "30"]);
    Some(curl)
}

fn written(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn curl_downloads_passive_active_and_resumed() {
    let Some(_) = curl() else { return };
    on_every_architecture(&[], |server| {
        let bytes = server.file("file", FILE_BYTES);
        let url = format!("ftp://127.0.0.1:{}/file", server.port());
        at_once(server, |number| {
            let target = TempDir::new().unwrap();
            let path = target.path().join("got");
            let variants: [&[&str]; 3] = [&[], &["--ftp-port", "-"], &["--continue-at", "1000000"]];
            let variant = variants[number % variants.len()];
            for arguments in [variant, &["--range", "5-1000004"]] {
                let _ = std::fs::remove_file(&path);
                succeed(curl().unwrap().args(arguments).arg(&url).arg("--output").arg(&path));
                let expected = match arguments.first() {
                    Some(&"--continue-at") => &bytes[1_000_000..],
                    Some(&"--range") => &bytes[5..1_000_005],
                    _ => &bytes[..],
                };
                assert!(written(&path) == expected, "{arguments:?}");
            }
        });
    });
}

#[test]
fn curl_uploads_appends_renames_and_deletes() {
    let Some(_) = curl() else { return };
    on_every_architecture(&["--writable"], |server| {
        let source = TempDir::new().unwrap();
        let bytes = pattern(FILE_BYTES);
        let path = source.path().join("source");
        std::fs::write(&path, &bytes).unwrap();
        let base = format!("ftp://127.0.0.1:{}/", server.port());
        at_once(server, |number| {
            let url = format!("{base}new/folder/up{number}");
            let upload = || {
                let mut curl = curl().unwrap();
                curl.arg("--upload-file").arg(&path).arg(&url);
                curl
            };
            succeed(upload().arg("--ftp-create-dirs"));
            assert!(server.stored(&format!("new/folder/up{number}")) == bytes);
            succeed(upload().arg("--append"));
            assert_eq!(server.stored(&format!("new/folder/up{number}")).len(), 2 * FILE_BYTES);
            let from = format!("RNFR new/folder/up{number}");
            let to = format!("RNTO moved{number}");
            succeed(curl().unwrap().arg(&base).args(["--quote", &from, "--quote", &to]));
            let delete = format!("DELE moved{number}");
            succeed(curl().unwrap().arg(&base).args(["--quote", &delete]));
        });
        assert_eq!(names(server.root.path()), ["new"]);
        assert!(names(&server.root.path().join("new/folder")).is_empty());
    });
}

#[test]
fn curl_lists_and_is_refused_what_it_may_not() {
    let Some(_) = curl() else { return };
    on_every_architecture(&[], |server| {
        server.file("file", 10);
        std::os::unix::fs::symlink("/etc", server.root.path().join("outside")).unwrap();
        let base = format!("ftp://127.0.0.1:{}/", server.port());
        let listed = succeed(curl().unwrap().arg("--list-only").arg(&base)).stdout;
        assert!(String::from_utf8(listed).unwrap().lines().any(|line| line == "file"));
        let refused = |curl: &mut Command| assert!(!curl.output().unwrap().status.success());
        refused(curl().unwrap().args(["--quote", "DELE file"]).arg(&base));
        refused(curl().unwrap().arg("--upload-file").arg("Cargo.toml").arg(&base));
        refused(curl().unwrap().arg(format!("{base}outside/passwd")));
        refused(curl().unwrap().arg(format!("{base}%2e%2e/%2e%2e/etc/passwd")));
        assert_eq!(names(server.root.path()), ["file", "outside"]);
    });
}

#[test]
fn lftp_mirrors_a_tree_up_and_down() {
    let Some(_) = installed("lftp") else { return };
    on_every_architecture(&["--writable"], |server| {
        at_once(server, |number| mirror(server, "", &format!("up{number}")));
        assert!(names(server.root.path()).is_empty());
    });
}

/// Has lftp, so set, mirror a tree up to `name` and down again, compares both, and removes it.
pub(crate) fn mirror(server: &Server, settings: &str, name: &str) {
    let place = TempDir::new().unwrap();
    let (tree, back) = (place.path().join("tree"), place.path().join("back"));
    std::fs::create_dir_all(tree.join("a/deep folder")).unwrap();
    for (name, length) in [("one", 0), ("a/two", 1), ("a/deep folder/thr\u{eb}e", 400_000)] {
        std::fs::write(tree.join(name), pattern(length)).unwrap();
    }
    let script = format!(
        "set cmd:fail-exit yes; set net:timeout 20; set net:max-retries 2; {settings}
         open ftp://127.0.0.1:{}; mirror -R {} {name}; mirror {name} {};
         mv {name} moved-{name}; rm -r moved-{name}; bye",
        server.port(),
        tree.display(),
        back.display()
    );
    succeed(installed("lftp").unwrap().args(["--norc", "-c", &script]));
    succeed(Command::new("diff").arg("-r").arg(&tree).arg(&back));
}

#[test]
fn wget_downloads_a_tree() {
    let Some(_) = installed("wget") else { return };
    on_every_architecture(&[], |server| {
        std::fs::create_dir(server.root.path().join("tree")).unwrap();
        server.file("tree/one", FILE_BYTES);
        server.file("tree/two", 10);
        let url = format!("ftp://127.0.0.1:{}/tree/", server.port());
        at_once(server, |_| {
            let target = TempDir::new().unwrap();
            let mut wget = installed("wget").unwrap();
            wget.args(["--quiet", "--tries=1", "--timeout=30", "--recursive"]);
            wget.args(["--no-host-directories", "--directory-prefix"]);
            succeed(wget.arg(target.path()).arg(&url));
            let (ours, theirs) = (server.root.path().join("tree"), target.path().join("tree"));
            succeed(Command::new("diff").arg("-r").arg(ours).arg(theirs));
        });
    });
}

#[test]
fn ftplib_does_its_whole_work_passive_and_active() {
    let Some(_) = installed("python3") else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/architectures/ftplib_session.py");
    on_every_architecture(&["--writable"], |server| {
        let source = TempDir::new().unwrap();
        let path = source.path().join("source");
        std::fs::write(&path, pattern(FILE_BYTES)).unwrap();
        at_once(server, |number| {
            let name = format!("folder{number}");
            let mode = if number % 2 == 0 { "passive" } else { "active" };
            let mut python = installed("python3").unwrap();
            succeed(
                python.arg(script).arg(server.port().to_string()).arg(&path).args([&name, mode]),
            );
        });
        assert!(names(server.root.path()).is_empty());
    });
}

#[test]
fn a_hundred_megabytes_arrive_whole() {
    on_every_architecture(&[], |server| {
        let bytes = server.file("large", 100_000_000);
        let mut client = crate::support::Dialogue::login(server);
        let data = client.passive(server);
        client.send("RETR large\r\n");
        client.expect("150");
        assert!(read_to_end(data) == bytes, "{}", server.architecture.name);
        client.expect("226");
    });
}
