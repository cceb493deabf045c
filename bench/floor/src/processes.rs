//! Blocking: a process for each connection.
//!
//! ```text
//!  accept ─► child: read ─► write ─┐
//!                    ▲─────────────┘
//! ```

#![allow(unsafe_code, reason = "fork is unsafe where threads are")]

use std::net::TcpListener;
use std::time::Duration;

use nix::libc;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use crate::Reply;
use crate::threads::converse;

pub(crate) fn serve(listener: &TcpListener, reply: Reply) {
    loop {
        // Not by ignoring SIGCHLD: of children that nobody waits for, the CPU time is lost.
        while waitpid(None, Some(WaitPidFlag::WNOHANG))
            .is_ok_and(|status| status != WaitStatus::StillAlive)
        {}
        let Ok((stream, _)) = listener.accept() else {
            // Out of descriptors or memory: connections that end give some back.
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        // SAFETY: the only other thread waits for a signal, and holds no lock. A connection that
        // gets no process is closed.
        if let Ok(ForkResult::Child) = unsafe { fork() } {
            // The parent may already be gone, which the client will notice.
            if set_pdeathsig(Signal::SIGKILL).is_ok() {
                converse(stream, reply);
            }
            // SAFETY: _exit does not return.
            unsafe { libc::_exit(0) };
        }
    }
}
