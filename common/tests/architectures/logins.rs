//! Users with passwords: their homes and rights, and what a wrong password costs whom.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::thread;

use tempfile::TempDir;

use crate::support::{
    Architecture, Dialogue, Server, architectures, eventually, installed, succeed,
};

/// Of the password `secret`, at the least cost that there is.
const HASH: &str =
    "$argon2id$v=19$m=8,t=1,p=1$YSBmaXhlZCBzYWx0$ZdxW6tkjqaaRT54leQFEQD0hS+erohxgTV1gKYXeQ0U";

/// Homes of `reader` and `writer`, each with a file `mine`, and the file of users beside them.
fn homes() -> TempDir {
    let homes = TempDir::new().unwrap();
    let line = |(name, rights): (&str, &str)| {
        let home = homes.path().join(name);
        std::fs::create_dir(&home).unwrap();
        std::fs::write(home.join("mine"), name).unwrap();
        format!("{name}:{HASH}:{rights}:{}\n", home.display())
    };
    let lines: String = [("reader", "read"), ("writer", "write")].map(line).concat();
    std::fs::write(homes.path().join("users"), lines).unwrap();
    homes
}

fn server(architecture: &Architecture, homes: &TempDir) -> Server {
    let users = homes.path().join("users");
    Server::start(architecture, &["--users", users.to_str().unwrap()])
}

/// All architectures at once, since most of the time is spent waiting for what is held back.
fn on_all_at_once(check: impl Fn(&Server, &TempDir) + Sync) {
    thread::scope(|scope| {
        for architecture in architectures() {
            let check = &check;
            scope.spawn(move || {
                let homes = homes();
                let server = server(&architecture, &homes);
                check(&server, &homes);
                server.leave();
            });
        }
    });
}

#[test]
fn users_have_homes_and_rights_and_the_third_wrong_password_ends_it() {
    on_all_at_once(|server, homes| {
        let mut client = Dialogue::greeted(server);
        client.send("USER reader\r\nPASS wrong\r\nUSER reader\r\nPASS secret\r\nDELE mine\r\n");
        for code in ["331", "530", "331", "230", "550"] {
            client.expect(code);
        }
        client.send("USER writer\r\nPASS secret\r\nTYPE I\r\nSIZE /mine\r\nDELE /mine\r\n");
        for code in ["331", "230", "200", "213 6", "250"] {
            client.expect(code);
        }
        assert!(homes.path().join("reader/mine").exists());
        assert!(!homes.path().join("writer/mine").exists());
        client.send("USER nobody\r\nPASS secret\r\nUSER writer\r\nPASS Secret\r\nNOOP\r\n");
        for code in ["331", "530", "331", "530"] {
            client.expect(code);
        }
        assert_eq!(client.line(), "", "{}", server.architecture.name);
        drop(Dialogue::login(server));
    });
}

/// A server that let the others wait would answer them after the 530, every time; one that does not
/// may be late once, on a busy machine.
#[test]
fn whoever_is_held_up_for_a_wrong_password_holds_up_nobody() {
    on_all_at_once(|server, _| {
        if server.architecture.concurrent {
            eventually("another client is answered meanwhile", || {
                let mut held_up = Dialogue::greeted(server);
                held_up.send("USER reader\r\nPASS wrong\r\n");
                held_up.expect("331");
                drop(Dialogue::login(server));
                held_up.is_silent().then_some(())
            });
        }
    });
}

/// Runs `ftp-user`, and gives it this on standard input.
fn ftp_user(arguments: &[&str], input: &[u8]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_ftp-user"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that refuses its arguments reads nothing.
    let _ = program.stdin.take().unwrap().write_all(input);
    program.wait_with_output().unwrap()
}

#[test]
fn a_line_of_ftp_user_is_accepted() {
    let homes = homes();
    let home = homes.path().join("a:b");
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("file"), "content").unwrap();
    let home = home.to_str().unwrap();
    let options = ["--name", "somebody", "--rights", "write", "--home", home];
    let output = ftp_user(&options, b" pass:word \r\nand more\n");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    std::fs::write(homes.path().join("users"), &output.stdout).unwrap();
    let server = server(&architectures()[0], &homes);
    let mut client = Dialogue::greeted(&server);
    client.send("USER somebody\r\nPASS  pass:word \r\nDELE nothing\r\nMKD d\r\nQUIT\r\n");
    for code in ["331", "230", "550", "257", "221"] {
        client.expect(code);
    }
    if let Some(mut curl) = installed("curl") {
        let url = format!("ftp://127.0.0.1:{}/file", server.port());
        let user = ["--silent", "--max-time", "30", "--user", "somebody: pass:word "];
        assert_eq!(succeed(curl.args(user).arg(url)).stdout, b"content");
    }
    server.leave();
}

#[test]
fn each_mistake_with_ftp_user_gets_one_line() {
    let check = |name, home, rights, input: &[u8], named| {
        let output = ftp_user(&["--name", name, "--home", home, "--rights", rights], input);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let line = String::from_utf8(output.stderr).unwrap();
        assert!(line.lines().count() == 1 && line.contains(named), "{line:?} names {named}");
        assert!(!line.contains("secret"), "{line:?}");
    };
    check("a", "/", "read", b"", "the password is empty");
    check("a", "/", "read", b"\r\nsecret\n", "the password is empty");
    check("a", "/", "read", b"secret\0\n", "NUL");
    check("a", "/", "read", &b"secret".repeat(1000), "longer than");
    check("a", "/", "all", b"secret\n", "read, write");
    check("a", "", "read", b"secret\n", "--home");
    check("a", "a\nb", "read", b"secret\n", "--home");
    check("", "/", "read", b"secret\n", "the name is empty");
    check("a:b", "/", "read", b"secret\n", "no colon");
    check("#a", "/", "read", b"secret\n", "no #");
    check("FTP", "/", "read", b"secret\n", "choose another name");
    let output = ftp_user(&[], b"secret\n");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--name"));
}
