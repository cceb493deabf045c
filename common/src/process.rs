//! Processes as workers: forking them, and reaping those that ended.
//!
//! **Invariant:** a child gets the signal to leave through its parent, does not outlive it, and
//! never returns into its parent's code.

#![allow(unsafe_code, reason = "fork is unsafe where threads are; the servers that fork have none")]

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};

use crate::drain;

/// The children of this process, each with something that is kept for as long as it lives.
#[derive(Debug)]
pub struct Children<T> {
    kept: HashMap<Pid, T>,
}

impl<T> Children<T> {
    /// None yet.
    pub fn new() -> io::Result<Self> {
        drain::install_for_children()?;
        // Whoever asks first which instructions the processor has asks for all of this process and
        // its children. On a virtual machine the answer takes tens of microseconds.
        #[cfg(target_arch = "x86_64")]
        std::hint::black_box(std::arch::is_x86_feature_detected!("avx2"));
        Ok(Children { kept: HashMap::new() })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Forks a child that does `work` with `theirs` and ends; `ours` makes of it what the parent
    /// keeps. On an error there is no child, and `theirs` is gone.
    pub fn fork<U>(
        &mut self,
        theirs: U,
        work: impl FnOnce(U),
        ours: impl FnOnce(U) -> T,
    ) -> io::Result<()> {
        if self.kept.len() + 1 >= drain::CHILDREN_MAX {
            return Err(io::Error::other("too many child processes"));
        }
        let parent = getpid();
        let signals = drain::signals();
        signals.thread_block()?;
        // SAFETY: this process has a single thread, so that the child finds no lock held by one it
        // does not have.
        match unsafe { fork() } {
            Ok(ForkResult::Parent { child }) => {
                drain::add_child(child.as_raw());
                signals.thread_unblock()?;
                self.kept.insert(child, ours(theirs));
                Ok(())
            }
            Err(error) => {
                signals.thread_unblock()?;
                Err(error.into())
            }
            Ok(ForkResult::Child) => {
                let result = catch_unwind(AssertUnwindSafe(|| {
                    live_with(parent);
                    if signals.thread_unblock().is_ok() {
                        work(theirs);
                    }
                }));
                // SAFETY: _exit does not return. It leaves out what the parent has registered for
                // its own end.
                unsafe { libc::_exit(if result.is_ok() { 0 } else { 101 }) }
            }
        }
    }

    /// Reaps whoever has ended, without waiting.
    pub fn reap(&mut self) {
        while self.next_ended().is_some() {}
    }

    /// Reaps one that has ended, if there is one.
    pub fn next_ended(&mut self) -> Option<T> {
        if self.is_empty() { None } else { self.reap_next(WaitPidFlag::WNOHANG) }
    }

    /// Waits until a child ends, and reaps it; `None` when there are none, or when a signal came
    /// first.
    pub fn wait_next(&mut self) -> Option<T> {
        self.reap_next(WaitPidFlag::empty())
    }

    /// Waits until all have ended.
    pub fn wait_all(&mut self) {
        while !self.is_empty() {
            self.wait_next();
        }
    }

    /// Looks first and reaps afterwards, so that the signal handler never knows a number that is no
    /// longer a child's.
    fn reap_next(&mut self, flags: WaitPidFlag) -> Option<T> {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | flags;
        loop {
            let pid = match waitid(Id::All, look) {
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => return None,
                Ok(status) => status.pid()?,
                Err(error) => {
                    tracing::error!(%error, "cannot wait for children");
                    self.kept.clear();
                    return None;
                }
            };
            drain::remove_child(pid.as_raw());
            if let Ok(WaitStatus::Signaled(_, signal, _)) = waitpid(pid, None) {
                tracing::warn!(%pid, %signal, "a child was killed");
            }
            // A child that was never ours to keep (inherited by exec, or adopted) is only reaped.
            if let Some(kept) = self.kept.remove(&pid) {
                return Some(kept);
            }
        }
    }
}

/// In the child: leaves when its parent does, however that ends.
fn live_with(parent: Pid) {
    let armed =
        drain::become_child(parent.as_raw()).and_then(|()| Ok(set_pdeathsig(Signal::SIGTERM)?));
    if armed.is_err() || getppid() != parent {
        // SAFETY: as in `fork`.
        unsafe { libc::_exit(1) }
    }
}
