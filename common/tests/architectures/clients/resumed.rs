//! Transfers that go on where others have stopped, passive and active, down and up.
//!
//! What is there already is of other bytes than the source, so that a client which begins anew is
//! told from one that goes on.

use std::fs::{self, File};
use std::path::Path;
use std::time::SystemTime;

use tempfile::TempDir;

use super::{FILE_BYTES, at_once, curl, written};
use crate::support::{installed, on_every_architecture, succeed};

const BEGUN_BYTES: usize = 1_000_000;

/// Writes the part of a file that is there already.
fn begin(path: &Path) {
    fs::write(path, vec![b'b'; BEGUN_BYTES]).unwrap();
}

/// What such a file is when its transfer has gone on to the end.
fn ended(source: &[u8]) -> Vec<u8> {
    [&vec![b'b'; BEGUN_BYTES][..], &source[BEGUN_BYTES..]].concat()
}

#[test]
fn curl_resumes_downloads_and_uploads() {
    let Some(_) = curl() else { return };
    on_every_architecture(&["--writable"], |server| {
        let bytes = server.file("file", FILE_BYTES);
        let source = server.root.path().join("file");
        let base = format!("ftp://127.0.0.1:{}/", server.port());
        at_once(server, |number| {
            let place = TempDir::new().unwrap();
            let path = place.path().join("got");
            let up = format!("up{number}");
            for way in [&[][..], &["--ftp-port", "-"], &["--disable-epsv"]] {
                let resume = |name: &str| {
                    let mut curl = curl().unwrap();
                    curl.args(way).args(["--continue-at", "-"]).arg(format!("{base}{name}"));
                    curl
                };
                begin(&path);
                succeed(resume("file").arg("--output").arg(&path));
                assert!(written(&path) == ended(&bytes), "{way:?}");
                begin(&server.root.path().join(&up));
                succeed(resume(&up).arg("--upload-file").arg(&source));
                assert!(server.stored(&up) == ended(&bytes), "{way:?}");
            }
        });
    });
}

#[test]
fn lftp_resumes_files_and_mirrors() {
    let Some(_) = installed("lftp") else { return };
    on_every_architecture(&["--writable"], |server| {
        fs::create_dir(server.root.path().join("tree")).unwrap();
        let bytes = server.file("tree/file", FILE_BYTES);
        let tree = server.root.path().join("tree");
        // A mirror goes on only with a file that is newer than its source.
        let file = File::options().write(true).open(tree.join("file")).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        at_once(server, |number| {
            for passive in ["on", "off"] {
                let place = TempDir::new().unwrap();
                let there = format!("{number}{passive}");
                let folders = [place.path().join("tree"), server.root.path().join(&there)];
                for folder in &folders {
                    fs::create_dir(folder).unwrap();
                    begin(&folder.join("alone"));
                    begin(&folder.join("file"));
                }
                let script = format!(
                    "set cmd:fail-exit yes; set net:timeout 20; set net:max-retries 2;
                     set ftp:passive-mode {passive}; open ftp://127.0.0.1:{port};
                     get -c tree/file -o tree/alone; put -c {tree}/file -o {there}/alone;
                     mirror -c tree tree; mirror -c -R {tree} {there}; bye",
                    port = server.port(),
                    tree = tree.display(),
                );
                let mut lftp = installed("lftp").unwrap();
                succeed(lftp.current_dir(place.path()).args(["--norc", "-c", &script]));
                for folder in &folders {
                    for name in ["alone", "file"] {
                        let path = folder.join(name);
                        assert!(written(&path) == ended(&bytes), "{passive}: {}", path.display());
                    }
                }
            }
        });
    });
}

#[test]
fn wget_resumes_downloads() {
    let Some(_) = installed("wget") else { return };
    on_every_architecture(&[], |server| {
        let bytes = server.file("file", FILE_BYTES);
        let url = format!("ftp://127.0.0.1:{}/file", server.port());
        at_once(server, |_| {
            for way in ["--passive-ftp", "--no-passive-ftp"] {
                let target = TempDir::new().unwrap();
                let path = target.path().join("file");
                begin(&path);
                let mut wget = installed("wget").unwrap();
                wget.args(["--quiet", "--tries=1", "--timeout=30", "--continue", way]);
                succeed(wget.arg(&url).current_dir(target.path()));
                assert!(written(&path) == ended(&bytes), "{way}");
            }
        });
    });
}
