//! A user's mistakes: one line that says what to do, exit code 2.

use std::net::TcpListener;
use std::process::Stdio;

use crate::support::{Architecture, architectures};

/// Starts a server in vain, and returns the one line that it says.
fn refusal(architecture: &Architecture, arguments: &[&str]) -> String {
    let output = architecture.command().args(arguments).stdin(Stdio::null()).output().unwrap();
    let name = &architecture.name;
    assert_eq!(output.status.code(), Some(2), "{name} {arguments:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{name} is not ready");
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(line.lines().count(), 1, "{name} {arguments:?}: one line, not {line:?}");
    line
}

#[test]
fn each_mistake_gets_one_line_that_names_it() {
    let cases: [(&[&str], &str); 20] = [
        (&["--no-such-flag"], "--no-such-flag"),
        (&["--protocol", "gopher"], "ftp, http"),
        (&["--listen", "localhost:2121"], "such as 127.0.0.1:2121"),
        (&["--root", "/no/such/folder"], "/no/such/folder"),
        (&["--max-connections", "0"], "--max-connections"),
        (&["--idle-timeout", "soon"], "--idle-timeout"),
        (&["--listen", "192.0.2.1:0"], "192.0.2.1:0"),
        (&["--tls-cert", "x"], "--tls-cert needs --tls-key"),
        (&["--tls-key", "x"], "--tls-key needs --tls-cert"),
        (&["--tls-cert", "x", "--tls-key", "x", "--tls-self-signed"], "either"),
        (&["--tls-cert", "/no/such", "--tls-key", "x"], "--tls-cert /no/such"),
        (&["--tls-cert", "/dev/null", "--tls-key", "x"], "no certificate"),
        (&["--users", "/no/such/file"], "/no/such/file"),
        (&["--passive-ports", "20001-20000"], "the lower one first, such as 20000-20100"),
        (&["--passive-ports", "0-50000"], "--passive-ports"),
        (&["--passive-address", "::1"], "such as 192.0.2.1"),
        (&["--protocol", "http", "--users", "x"], "--users means nothing to --protocol http"),
        (&["--protocol", "echo", "--writable"], "--writable means nothing to --protocol echo"),
        (&["--guestbook", "x"], "--guestbook means nothing to --protocol ftp"),
        // Its first line is no user.
        (&["--users", "Cargo.toml"], "--users Cargo.toml, line 1: "),
    ];
    for architecture in architectures() {
        for (arguments, named) in cases {
            let line = refusal(&architecture, arguments);
            assert!(line.contains(named), "{}: {line:?} names {named}", architecture.name);
        }
    }
}

#[test]
fn a_taken_port_is_named_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for architecture in architectures() {
        let line = refusal(&architecture, &["--listen", &address]);
        assert!(line.contains(&address) && line.contains("--listen"), "{line}");
    }
}

#[test]
fn workers_are_counted_only_where_there_are_many() {
    for architecture in architectures().iter().filter(|known| !known.has_many_workers) {
        let line = refusal(architecture, &["--workers", "2"]);
        assert!(line.contains("--workers"), "{line}");
    }
}

#[test]
fn help_names_every_flag() {
    for architecture in architectures() {
        let output = architecture.command().arg("--help").output().unwrap();
        assert!(output.status.success());
        let help = String::from_utf8(output.stdout).unwrap();
        let flags = "protocol listen root max-connections max-per-ip idle-timeout grace backlog \
                     backend writable users passive-ports passive-address tls-cert tls-key \
                     tls-self-signed";
        for flag in flags.split_whitespace() {
            assert!(help.contains(&format!("--{flag}")), "{}: --{flag}", architecture.name);
        }
        assert_eq!(help.contains("--workers"), architecture.has_many_workers);
        assert!(help.starts_with(&architecture.about), "{help}");
    }
}
