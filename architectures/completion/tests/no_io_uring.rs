//! Where `io_uring` is forbidden, as in most containers.

#![allow(unsafe_code, reason = "what a child does between fork and exec has no safe form")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::libc;

/// Has this process and its children get `EPERM` for `io_uring_setup(2)`, by seccomp(2).
fn forbid_io_uring() -> io::Result<()> {
    let statement = |code, k, jt, jf| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        // The number of the system call.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            libc::SYS_io_uring_setup as u32,
            0,
            1,
        ),
        statement(libc::BPF_RET, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0, 0),
        statement(libc::BPF_RET, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: two system calls, the second with a program that lives as long as it.
    let result = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            | libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[test]
fn without_io_uring_one_line_says_so_and_what_to_do() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_completion"));
    // SAFETY: two system calls, and nothing is allocated.
    unsafe { command.pre_exec(forbid_io_uring) };
    let output = command.args(["--listen", "127.0.0.1:0"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(output.stdout, b"", "it is not ready");
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.contains("kernel.io_uring_disabled") && line.contains("seccomp"), "{line}");
}
