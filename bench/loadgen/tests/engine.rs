//! What the command does where `io_uring` is not to be had: in a process that may not make one.

#![allow(clippy::unwrap_used, reason = "a test may panic wherever it fails")]
#![allow(unsafe_code, reason = "a filter is put between fork and exec")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

use loadgen::Outcome;
use nix::libc;
use support::{REPLY, serve};

fn http(mut stream: TcpStream) -> std::io::Result<()> {
    for line in BufReader::new(stream.try_clone()?).split(b'\n') {
        if line? == b"\r" {
            stream.write_all(REPLY)?;
        }
    }
    Ok(())
}

/// Runs the command with a filter that forbids `io_uring`, as containers have it.
fn run_without_ring(engine: &str) -> Output {
    let target = serve(http).to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["run", "--protocol", "http", "--target", &target, "--engine", engine]);
    command.args(["--warm-up", "50ms", "--duration", "100ms", "--json", "-"]);
    // SAFETY: the closure makes system calls only.
    unsafe { command.pre_exec(forbid_ring) };
    command.output().unwrap()
}

/// Lets `io_uring_setup` fail with EPERM from now on.
fn forbid_ring() -> std::io::Result<()> {
    let statement = |code, k, jf| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let number = libc::SYS_io_uring_setup as u32;
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let mut filter = [
        // The number of the system call is what a filter's data begin with.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number, 1),
        statement(libc::BPF_RET | libc::BPF_K, refuse, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program is valid while it is read.
    let results = unsafe {
        [
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
        ]
    };
    if results == [0, 0] { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[test]
fn where_io_uring_is_forbidden_epoll_is_used_and_the_record_says_why() {
    let output = run_without_ring("auto");
    let outcome: Outcome = serde_json::from_slice(&output.stdout).unwrap();
    assert!(outcome.requests > 0 && outcome.errors.is_empty());
    assert_eq!(outcome.engine, Some(loadgen::Engine::Epoll));
    assert!(outcome.no_ring.unwrap().contains("forbidden"));
}

#[test]
fn to_insist_on_io_uring_where_it_is_forbidden_is_refused_in_words() {
    let output = run_without_ring("io-uring");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("forbidden") && said.contains("--engine epoll"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
