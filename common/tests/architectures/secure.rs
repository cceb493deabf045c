//! TLS (RFC 4217 for FTP; HTTP and echo from the first byte), with real clients and against those
//! who do not keep to it, on every architecture.

use std::io::Write;
use std::process::Command;

use tempfile::TempDir;

use crate::clients::mirror;
use crate::faults::leaks_nothing;
use crate::support::{
    Dialogue, eventually, installed, names, on_every_architecture, pattern, read_to_end, succeed,
};

const FILE_BYTES: usize = 1_000_017;
const SECURE: &[&str] = &["--tls-self-signed", "--writable"];

fn script(name: &str) -> String {
    format!("{}/tests/architectures/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn curl() -> Option<Command> {
    let mut curl = installed("curl")?;
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "30", "--insecure"]);
    Some(curl)
}

/// A file to send.
fn source() -> (TempDir, std::path::PathBuf, Vec<u8>) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("source");
    let bytes = pattern(FILE_BYTES);
    std::fs::write(&path, &bytes).unwrap();
    (folder, path, bytes)
}

#[test]
fn curl_goes_up_and_down_by_both_versions_of_tls() {
    let Some(_) = curl() else { return };
    on_every_architecture(SECURE, |server| {
        let (folder, path, bytes) = source();
        let got = folder.path().join("got");
        let url = format!("ftp://127.0.0.1:{}/file", server.port());
        for version in ["1.2", "1.3"] {
            let run = |arguments: &[&std::ffi::OsStr]| {
                let mut curl = curl().unwrap();
                curl.args(["--ssl-reqd", "--tls-max", version]).args(arguments).arg(&url);
                succeed(&mut curl);
            };
            run(&["--upload-file".as_ref(), path.as_ref()]);
            assert!(server.stored("file") == bytes, "{version}");
            run(&["--output".as_ref(), got.as_ref()]);
            assert!(std::fs::read(&got).unwrap() == bytes, "{version}");
        }
    });
}

#[test]
fn lftp_mirrors_up_and_down_passive_and_active_in_private() {
    let Some(_) = installed("lftp") else { return };
    on_every_architecture(SECURE, |server| {
        for passive in ["yes", "no"] {
            let settings = format!(
                "set ssl:verify-certificate no; set ftp:ssl-force yes;
                 set ftp:ssl-protect-data yes; set ftp:passive-mode {passive};"
            );
            mirror(server, &settings, "up");
        }
        assert!(names(server.root.path()).is_empty());
    });
}

#[test]
fn ftplib_does_its_whole_work_in_private() {
    let Some(_) = installed("python3") else { return };
    on_every_architecture(SECURE, |server| {
        let (_folder, path, _) = source();
        for mode in ["passive", "active"] {
            let mut python = installed("python3").unwrap();
            python.arg(script("ftplib_session.py")).arg(server.port().to_string()).arg(&path);
            succeed(python.args(["folder", mode, "secure"]));
        }
        assert!(names(server.root.path()).is_empty());
    });
}

/// RFC 4217 §4, §8, §9, and what is wrong in each place.
#[test]
fn security_is_agreed_step_by_step_and_refused_in_words() {
    let Some(_) = installed("python3") else { return };
    let rows = [
        ("PBSZ 0", "503"),
        ("PROT P", "503"),
        ("AUTH KERBEROS", "504"),
        ("AUTH TLS", "234"),
        ("AUTH TLS", "503"),
        ("PROT P", "503"),
        ("PBSZ x", "501"),
        ("PBSZ 0", "200"),
        ("PROT S", "536"),
        ("PROT E", "536"),
        ("PROT X", "504"),
        ("PROT C", "200"),
        ("PROT P", "200"),
        ("PWD", "530"),
    ];
    on_every_architecture(SECURE, |server| {
        let mut python = installed("python3").unwrap();
        python.arg(script("tls_replies.py")).arg(server.port().to_string());
        let output = succeed(python.args(rows.map(|(command, _)| command)));
        let said = String::from_utf8(output.stdout).unwrap();
        let codes: Vec<&str> = said.lines().map(|line| &line[..3]).collect();
        assert_eq!(codes, rows.map(|(_, code)| code), "{}: {said}", server.architecture.name);
    });
}

#[test]
fn curl_loads_files_by_https() {
    let Some(_) = curl() else { return };
    on_every_architecture(&["--protocol", "http", "--tls-self-signed"], |server| {
        let bytes = server.file("file", FILE_BYTES);
        let base = format!("https://127.0.0.1:{}", server.port());
        let urls = ["plaintext", "file", "json"].map(|name| format!("{base}/{name}"));
        let got = succeed(curl().unwrap().args(urls)).stdout;
        let expected = [b"Hello, World!", &bytes[..], b"{\"message\":\"Hello, World!\"}"].concat();
        assert!(got == expected, "{}", server.architecture.name);
    });
}

/// TLS says when a stream has ended, which TCP does not: a client that is killed, or somebody on
/// the way who cuts the connection, cannot make half a file pass for a whole one.
#[test]
fn an_upload_that_is_cut_is_not_mistaken_for_a_whole_file() {
    let Some(_) = installed("python3") else { return };
    on_every_architecture(SECURE, |server| {
        let mut python = installed("python3").unwrap();
        let output =
            succeed(python.arg(script("tls_cut.py")).arg(server.port().to_string()).arg("upload"));
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.starts_with("426 "), "{}: {said}", server.architecture.name);
        eventually("no half file is left", || names(server.root.path()).is_empty().then_some(()));
    });
}

#[test]
fn a_client_that_does_not_shake_hands_holds_up_nobody_and_leaves_nothing() {
    on_every_architecture(SECURE, |server| {
        leaks_nothing(server, |server| {
            let mut stalled = Dialogue::greeted(server);
            stalled.send("AUTH TLS\r\n");
            stalled.expect("234");
            if server.architecture.concurrent {
                drop(Dialogue::login(server));
            }
            drop(stalled);
            let mut rude = Dialogue::greeted(server);
            rude.send("AUTH TLS\r\n");
            rude.expect("234");
            rude.send("USER anonymous\r\nPASS x\r\nMKD made-in-clear\r\n");
            let rest = rude.rest();
            // What is said to it is an alert (RFC 8446 §6), and nothing in clear.
            assert!(rest.is_empty() || rest[0] == 21, "{rest:?}");
        });
        assert!(names(server.root.path()).is_empty());
    });
}

#[test]
fn a_server_that_is_secured_from_the_first_byte_serves_others_after_rubbish() {
    let Some(_) = curl() else { return };
    on_every_architecture(&["--protocol", "http", "--tls-self-signed"], |server| {
        let mut client = server.connect();
        client.write_all(b"GET /plaintext HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let reply = read_to_end(client);
        assert!(!reply.starts_with(b"HTTP"), "{reply:?}");
        let url = format!("https://127.0.0.1:{}/plaintext", server.port());
        assert_eq!(succeed(curl().unwrap().arg(url)).stdout, b"Hello, World!");
    });
}

#[test]
fn a_certificate_from_files_is_shown_and_verified() {
    let (Some(_), Some(mut openssl)) = (curl(), installed("openssl")) else { return };
    let place = TempDir::new().unwrap();
    let path = |name: &str| place.path().join(name).display().to_string();
    let (certificate, key) = (path("certificate.pem"), path("key.pem"));
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]);
    succeed(openssl.args(["-keyout", &key, "-out", &certificate]));
    let arguments = ["--protocol", "http", "--tls-cert", &certificate, "--tls-key", &key];
    on_every_architecture(&arguments, |server| {
        let url = format!("https://127.0.0.1:{}/plaintext", server.port());
        let mut curl = installed("curl").unwrap();
        curl.args(["--silent", "--show-error", "--max-time", "30", "--cacert", &certificate]);
        assert_eq!(succeed(curl.arg(url)).stdout, b"Hello, World!");
    });
    for architecture in crate::support::architectures() {
        let mut command = architecture.command();
        command.args(["--tls-cert", &key, "--tls-key", &certificate]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let line = String::from_utf8(output.stderr).unwrap();
        assert!(line.contains("no certificate") && line.lines().count() == 1, "{line}");
    }
}
