//! How a server leaves: on SIGTERM or SIGINT it stops accepting, ends the waiting of idle
//! connections, passes the signal on to its children and lets the rest finish within the grace
//! period. A second signal ends it at once.
//!
//! All of it happens in the signal handler, so that no architecture has a thread or a poll for it:
//! the handler sets a flag, shuts each listening socket down (which wakes every thread in
//! `accept`), and shuts the reading side of each connection that waits for a request (which wakes
//! whoever waits there).
//!
//! **Invariant:** the handler calls only what is async-signal-safe (signal-safety(7)): atomics,
//! `shutdown`, `kill`, `alarm`, `_exit`. A descriptor is shut down only while its [`Live`] says
//! that it is idle, and stays open for so long.

#![allow(unsafe_code, reason = "signal handlers are installed and run here")]

use std::io;
use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicUsize};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// The most children that a server forks.
pub(crate) const CHILDREN_MAX: usize = 32_768;

static DRAINING: AtomicBool = AtomicBool::new(false);
/// A signal to leave has come.
static SIGNALLED: AtomicBool = AtomicBool::new(false);
static GRACE_S: AtomicU32 = AtomicU32::new(0);
/// One slot for each descriptor that this process can have.
static SLOTS: OnceLock<Box<[Slot]>> = OnceLock::new();
/// No slot from here on was ever used.
static SLOTS_USED: AtomicUsize = AtomicUsize::new(0);
/// How many connections there are.
static LIVE: AtomicUsize = AtomicUsize::new(0);
static CHILDREN: OnceLock<Box<[AtomicI32]>> = OnceLock::new();
/// In a child: its parent, whose children the table has. 0 in a process that is no child.
static PARENT: AtomicI32 = AtomicI32::new(0);

/// On a cache line of its own, since it changes with every request: cores must not share it.
#[repr(align(64))]
struct Slot(AtomicU8);

const VACANT: u8 = 0;
/// Something runs, which shall finish.
const BUSY: u8 = 1;
/// It waits for a request.
const IDLE: u8 = 2;
/// The handler is about to shut it down: its descriptor must stay open.
const SHUTTING: u8 = 3;
/// It is a listening socket, which stays open for as long as the process lives.
const LISTENING: u8 = 4;

/// A connection as the signal handler knows it. Dropping it must come before its descriptor is
/// closed.
#[derive(Debug)]
pub struct Live(RawFd);

impl Live {
    pub(crate) fn new(descriptor: RawFd) -> Self {
        let live = Live(descriptor);
        live.slot().store(BUSY, SeqCst);
        SLOTS_USED.fetch_max(descriptor as usize + 1, SeqCst);
        LIVE.fetch_add(1, SeqCst);
        live
    }

    /// From now on a signal ends the reading side of this connection. Whoever calls this must look
    /// at [`is_draining`] afterwards: a signal that came before has not.
    pub fn idle(&self) {
        self.change(BUSY, IDLE);
    }

    /// From now on a signal leaves this connection alone.
    pub fn busy(&self) {
        self.change(IDLE, BUSY);
    }

    /// Waits out a handler that has this descriptor in its hands, which takes one system call.
    fn change(&self, from: u8, to: u8) {
        while self.slot().compare_exchange(from, to, SeqCst, SeqCst) == Err(SHUTTING) {
            std::hint::spin_loop();
        }
    }

    fn slot(&self) -> &'static AtomicU8 {
        let slots = SLOTS.get().expect("install comes before the first connection");
        &slots[self.0 as usize].0
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.busy();
        self.slot().store(VACANT, SeqCst);
        LIVE.fetch_sub(1, SeqCst);
    }
}

/// Whether the server is leaving.
pub fn is_draining() -> bool {
    DRAINING.load(SeqCst)
}

/// How many connections this process has.
pub(crate) fn live() -> usize {
    LIVE.load(SeqCst)
}

/// The listening socket has been shut down, by this process or by the one it shares the socket
/// with.
pub(crate) fn listener_is_shut() {
    DRAINING.store(true, SeqCst);
}

/// Waits for the last connection of this process to end. The grace period's alarm bounds it.
pub(crate) fn wait_for_connections() {
    while live() > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Takes over SIGTERM, SIGINT and SIGALRM.
pub(crate) fn install(descriptors_max: usize, grace: Duration) -> io::Result<()> {
    GRACE_S.store(grace.as_secs() as u32, SeqCst);
    // SAFETY: a Slot of zeros is VACANT. Zeroed pages are not touched before they are used.
    SLOTS.get_or_init(|| unsafe { Box::new_zeroed_slice(descriptors_max).assume_init() });
    handle(Signal::SIGTERM, on_leave, SaFlags::SA_RESTART)?;
    handle(Signal::SIGINT, on_leave, SaFlags::SA_RESTART)?;
    handle(Signal::SIGALRM, on_alarm, SaFlags::SA_RESTART)
}

/// From now on a signal shuts this listening socket down, which is never closed.
pub(crate) fn add_listener(descriptor: RawFd) {
    let slots = SLOTS.get().expect("install comes before the first listener");
    slots[descriptor as usize].0.store(LISTENING, SeqCst);
    SLOTS_USED.fetch_max(descriptor as usize + 1, SeqCst);
}

/// Makes room for children, which the signal is passed on to, and lets their ends interrupt a
/// blocking call.
pub(crate) fn install_for_children() -> io::Result<()> {
    // SAFETY: an AtomicI32 of zeros is 0, which is no child.
    CHILDREN.get_or_init(|| unsafe { Box::new_zeroed_slice(CHILDREN_MAX).assume_init() });
    handle(Signal::SIGCHLD, on_child, SaFlags::empty())
}

/// In a child, whose siblings are not its children: the signal reaches it through its parent, so
/// that the SIGINT of a terminal, which goes to both, does not count twice.
pub(crate) fn become_child(parent: i32) -> io::Result<()> {
    PARENT.store(parent, SeqCst);
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: nothing is run on an ignored signal.
    unsafe { sigaction(Signal::SIGINT, &ignore) }?;
    Ok(())
}

/// The signals to leave. Whoever forks holds them back meanwhile, so that each child gets one, and
/// only one: as a member of the table, or by inheriting that the server is leaving.
pub(crate) fn signals() -> SigSet {
    SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT])
}

/// Remembers a child for the signal handler.
pub(crate) fn add_child(pid: i32) {
    let slots = CHILDREN.get().expect("install_for_children comes before the first fork");
    let start = pid as usize % CHILDREN_MAX;
    let free = |slot: &&AtomicI32| slot.compare_exchange(0, pid, SeqCst, SeqCst).is_ok();
    slots[start..].iter().chain(&slots[..start]).find(free).expect("children have a limit");
}

/// Forgets a child before it is reaped, since its number may belong to somebody else afterwards.
/// Whom this process has inherited, from what was there before `exec` or as process 1, is not in
/// the table.
pub(crate) fn remove_child(pid: i32) {
    let slots = CHILDREN.get().expect("install_for_children comes before the first fork");
    let start = pid as usize % CHILDREN_MAX;
    let found = |slot: &&AtomicI32| slot.compare_exchange(pid, 0, SeqCst, SeqCst).is_ok();
    let _ = slots[start..].iter().chain(&slots[..start]).find(found);
}

fn occupied() -> impl Iterator<Item = &'static AtomicI32> {
    let slots = if PARENT.load(SeqCst) == 0 { CHILDREN.get() } else { None };
    slots.into_iter().flatten().filter(|slot| slot.load(SeqCst) > 0)
}

fn handle(signal: Signal, handler: extern "C" fn(i32), flags: SaFlags) -> io::Result<()> {
    let action = SigAction::new(SigHandler::Handler(handler), flags, SigSet::empty());
    // SAFETY: the handlers below do only what is async-signal-safe.
    unsafe { sigaction(signal, &action) }?;
    Ok(())
}

/// Whether this is a child whose parent is there. Such a child may get the signal more than once,
/// from its parent and from whoever signals the whole group, so that only the parent's death counts
/// as the second; and the listening socket, which it shares with the parent, is not its to shut.
fn has_parent() -> bool {
    let parent = PARENT.load(SeqCst);
    // SAFETY: getppid is async-signal-safe and cannot fail.
    parent != 0 && unsafe { libc::getppid() } == parent
}

extern "C" fn on_leave(_signal: i32) {
    let errno = Errno::last_raw();
    let has_parent = has_parent();
    DRAINING.store(true, SeqCst);
    if SIGNALLED.swap(true, SeqCst) {
        if has_parent {
            return;
        }
        // SAFETY: _exit is async-signal-safe and does not return.
        unsafe { libc::_exit(1) };
    }
    // SAFETY: alarm is async-signal-safe.
    unsafe { libc::alarm(GRACE_S.load(SeqCst).max(1)) };
    if let Some(slots) = SLOTS.get() {
        for (descriptor, slot) in slots.iter().enumerate().take(SLOTS_USED.load(SeqCst)) {
            if slot.0.compare_exchange(IDLE, SHUTTING, SeqCst, SeqCst).is_ok() {
                // SAFETY: shutdown is async-signal-safe; a slot that was idle has its descriptor
                // open while it is SHUTTING.
                unsafe { libc::shutdown(descriptor as RawFd, libc::SHUT_RD) };
                slot.0.store(IDLE, SeqCst);
            } else if slot.0.load(SeqCst) == LISTENING && !has_parent {
                // SAFETY: as above; a listening socket stays open.
                unsafe { libc::shutdown(descriptor as RawFd, libc::SHUT_RDWR) };
            }
        }
    }
    for child in occupied() {
        // SAFETY: kill is async-signal-safe. A child is removed from the table before it is reaped.
        unsafe { libc::kill(child.load(SeqCst), libc::SIGTERM) };
    }
    Errno::set_raw(errno);
}

/// The grace period is over: what still runs is cut.
extern "C" fn on_alarm(_signal: i32) {
    let line = b"the grace period is over: what was still running is cut\n";
    // SAFETY: write and _exit are async-signal-safe; the line is as long as it says.
    unsafe {
        libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len());
        libc::_exit(0);
    }
}

/// Nothing: that a blocking call returns with `EINTR` is all that is wanted.
extern "C" fn on_child(_signal: i32) {}
