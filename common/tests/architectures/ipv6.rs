//! IPv6 (RFC 2428), on machines that have it.

use std::net::TcpListener;

use tempfile::TempDir;

use crate::support::{Dialogue, installed, on_every_architecture, pattern, succeed};

const LISTEN: &[&str] = &["--listen", "[::1]:0", "--writable"];

fn is_there() -> bool {
    let there = TcpListener::bind("[::1]:0").is_ok();
    if !there {
        eprintln!("SKIPPED: this machine has no IPv6");
    }
    there
}

#[test]
fn curl_goes_up_and_down_passive_and_active() {
    let (Some(_), true) = (installed("curl"), is_there()) else { return };
    on_every_architecture(LISTEN, |server| {
        let place = TempDir::new().unwrap();
        let (source, got) = (place.path().join("source"), place.path().join("got"));
        let bytes = pattern(300_017);
        std::fs::write(&source, &bytes).unwrap();
        let url = format!("ftp://{}/file", server.address);
        let modes: [&[&str]; 2] = [&[], &["--ftp-port", "-"]];
        for mode in modes {
            let curl = || {
                let mut curl = installed("curl").unwrap();
                curl.args(["--globoff", "--silent", "--show-error", "--max-time", "30"]);
                curl.args(mode).arg(&url);
                curl
            };
            succeed(curl().arg("--upload-file").arg(&source));
            assert!(server.stored("file") == bytes, "{mode:?}");
            succeed(curl().arg("--output").arg(&got));
            assert!(std::fs::read(&got).unwrap() == bytes, "{mode:?}");
        }
    });
}

#[test]
fn what_is_for_ipv4_only_is_refused() {
    if !is_there() {
        return;
    }
    on_every_architecture(LISTEN, |server| {
        let mut client = Dialogue::login(server);
        client.send("PASV\r\nEPSV 1\r\nEPRT |1|127.0.0.1|2048|\r\nEPRT |2|::2|2048|\r\nEPSV 2\r\n");
        for code in ["425", "522", "522", "501", "229"] {
            client.expect(code);
        }
    });
}
