//! What each worker has had: connections and requests, counted where workers that are processes and
//! the one that asks can both see it.
//!
//! **Invariant:** a worker is one thread at a time, and writes to a cache line of its own, so that
//! to count costs a load and a store.

#![allow(unsafe_code, reason = "memory that forked workers share is mapped here")]

use std::cell::Cell;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};

/// What one worker has had.
#[derive(Debug)]
#[repr(align(64))]
struct Tally {
    connections: AtomicU64,
    ended: AtomicU64,
    requests: AtomicU64,
}

static TALLIES: OnceLock<&'static [Tally]> = OnceLock::new();

thread_local! {
    static OWN: Cell<Option<&'static Tally>> = const { Cell::new(None) };
}

/// Makes room for so many workers. To be called before the first of them is made.
pub(crate) fn install(workers: usize) -> io::Result<()> {
    let bytes =
        NonZeroUsize::new(workers * size_of::<Tally>()).ok_or(io::ErrorKind::InvalidInput)?;
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: nothing is mapped at an address that is in use; the pages stay for as long as the
    // process lives, begin at the start of one, and zeros are a Tally.
    let tallies = unsafe {
        let pages = mmap_anonymous(None, bytes, protection, MapFlags::MAP_SHARED)?;
        std::slice::from_raw_parts(pages.cast::<Tally>().as_ptr(), workers)
    };
    let _ = TALLIES.set(tallies);
    Ok(())
}

/// This thread is that worker from now on, counted from 0.
pub fn work_as(worker: usize) {
    OWN.set(TALLIES.get().and_then(|tallies| tallies.get(worker)));
}

/// How many connections of that worker have ended.
pub(crate) fn ended(worker: usize) -> u64 {
    TALLIES.get().map_or(0, |tallies| tallies[worker].ended.load(Relaxed))
}

/// That worker has died, and its connections have ended with it.
pub(crate) fn bury(worker: usize) {
    if let Some(tallies) = TALLIES.get() {
        let tally = &tallies[worker];
        tally.ended.store(tally.connections.load(Relaxed), Relaxed);
    }
}

/// This worker has had a connection that never became a conversation.
pub(crate) fn count_lost() {
    Share::default().count(0);
}

/// One connection's part in the counts.
#[derive(Debug, Default)]
pub(crate) struct Share {
    begun: bool,
    requests: u32,
}

impl Share {
    /// The worker that is asked has had a part of this connection, in which so many requests have
    /// begun by now.
    pub(crate) fn count(&mut self, requests: u32) {
        let Some(tally) = OWN.get() else {
            return;
        };
        if !self.begun {
            self.begun = true;
            add(&tally.connections, 1);
        }
        add(&tally.requests, u64::from(requests.wrapping_sub(self.requests)));
        self.requests = requests;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // One that ended before its first turn was given to this worker, too.
        self.count(self.requests);
        if let Some(tally) = OWN.get() {
            add(&tally.ended, 1);
        }
    }
}

/// Only its worker writes to it.
fn add(count: &AtomicU64, more: u64) {
    count.store(count.load(Relaxed) + more, Relaxed);
}

/// A line for each worker.
pub(crate) fn write(mut file: &File) -> io::Result<()> {
    let mut text = String::from("worker,connections,requests\n");
    for (worker, tally) in TALLIES.get().copied().unwrap_or_default().iter().enumerate() {
        let (connections, requests) = (&tally.connections, &tally.requests);
        let (connections, requests) = (connections.load(Relaxed), requests.load(Relaxed));
        let _ = writeln!(text, "{worker},{connections},{requests}");
    }
    file.write_all(text.as_bytes())
}
