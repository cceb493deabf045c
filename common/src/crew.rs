//! A fixed number of workers, made ahead: threads of this process, or its children.
//!
//! **Invariant:** a worker that the machine does not let us make is missing, in words, and the
//! server goes on with those that there are.

use std::collections::BTreeSet;
use std::io;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::drain::is_draining;
use crate::process::Children;
use crate::server::back_off;
use crate::tally;

/// A child that dies sooner than this after its birth is replaced only after as long, lest a fault
/// that kills each of them turns into an endless fork.
const LIFE_MIN: Duration = Duration::from_millis(100);

/// Threads, each of which does its work and ends.
#[derive(Debug)]
pub struct Threads(Vec<JoinHandle<()>>);

impl Threads {
    /// Makes so many, each of which does `work` with its number. Without a single one there is no
    /// server.
    pub fn spawn<Work>(count: usize, work: Work) -> io::Result<Self>
    where
        Work: Fn(usize) + Clone + Send + 'static,
    {
        let mut threads = Vec::new();
        for worker in 0..count {
            let work = work.clone();
            let spawned = Builder::new().spawn(move || {
                tally::work_as(worker);
                work(worker);
            });
            match spawned {
                Ok(thread) => threads.push(thread),
                Err(error) if threads.is_empty() => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "there are {worker} workers instead of {count}");
                    break;
                }
            }
        }
        Ok(Threads(threads))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Waits until all have ended.
    pub fn join(self) {
        for thread in self.0 {
            // One that has panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Children, each of which does `Work` with its number, and is replaced when it dies.
#[derive(Debug)]
pub struct Crew<Work> {
    children: Children<(usize, Instant)>,
    missing: BTreeSet<usize>,
    work: Work,
}

impl<Work: Fn(usize)> Crew<Work> {
    /// So many, of whom none is there yet.
    pub fn new(count: usize, work: Work) -> io::Result<Self> {
        Ok(Crew { children: Children::new()?, missing: (0..count).collect(), work })
    }

    /// Makes whoever is missing, as far as the machine lets it, without waiting for anybody's end;
    /// who is missing still.
    pub fn tend(&mut self) -> &BTreeSet<usize> {
        while let Some(ended) = self.children.next_ended() {
            self.miss(ended);
        }
        while let Some(worker) = self.missing.first().copied().filter(|_| !is_draining()) {
            let work = |()| {
                tally::work_as(worker);
                (self.work)(worker);
            };
            if let Err(error) = self.children.fork((), work, |()| (worker, Instant::now())) {
                back_off(&error);
                break;
            }
            self.missing.remove(&worker);
        }
        &self.missing
    }

    /// Replaces whoever dies, until the server leaves.
    pub fn supervise(mut self) {
        while !is_draining() {
            self.tend();
            if self.missing.is_empty()
                && let Some(ended) = self.children.wait_next()
            {
                self.miss(ended);
            }
        }
        self.wait_all();
    }

    /// Waits until all have left.
    pub fn wait_all(mut self) {
        self.children.wait_all();
    }

    fn miss(&mut self, (worker, born): (usize, Instant)) {
        tally::bury(worker);
        self.missing.insert(worker);
        if !is_draining() {
            std::thread::sleep(LIFE_MIN.saturating_sub(born.elapsed()));
        }
    }
}
