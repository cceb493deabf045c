//! Threads that take turns at one epoll set: leader/followers (Schmidt et al. 2000).
//!
//! ```text
//!   followers: wait in epoll_wait
//!   leader:    the one that the kernel wakes ──▶ works for what it found ──▶ follower again
//! ```
//!
//! Who finds a connection works for it, so that nothing is handed from thread to thread. A job
//! blocks its own thread only, and an idle connection has none. The main thread sweeps the late.
//!
//! Known weakness: arming a socket anew is a system call for each event, and a connection's data
//! follows it from core to core. `evented-workers` answers both.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use common::crew::Threads;
use common::{Wait, Workers};
use leader_followers::{Handle, HandleSet};

/// As many jobs may block at a time.
const WORKERS: usize = 64;
const SWEEP: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    common::serve(&common::architecture!(Workers::Many(WORKERS)), |server| {
        let handles = Arc::new(HandleSet::new(server)?);
        server.watch()?;
        handles.arm_listener()?;
        let own = handles.clone();
        Threads::spawn(server.workers(), move |_| {
            while let Ok(handle) = own.next() {
                work(&own, &handle);
            }
        })?;
        while server.goes_on(SWEEP) {
            // No event announces that descriptors have become free.
            handles.arm_listener()?;
            handles.sweep();
        }
        Ok(())
    })
}

fn work(handles: &HandleSet, handle: &Arc<Handle>) {
    let mut place = handle.lock();
    while let Some(conn) = &mut *place {
        match conn.advance() {
            Wait::Ready => return handles.arm(handle, conn),
            Wait::Job(job) => {
                drop(place);
                handle.run(job);
                place = handle.lock();
            }
            Wait::Turn => return handles.go_on(handle.clone()),
            Wait::End => handles.remove(handle, &mut place),
        }
    }
}
