//! A fixed number of workers, made ahead: threads of this process, or its children.
//!
//! **Invariant:** a worker that the machine does not let us make is missing, in words, and the
//! server goes on with those that there are.

use std::collections::BTreeSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::drain::is_draining;
use crate::process::Children;
use crate::server::back_off;
use crate::tally;

/// A worker that ends sooner than this after its birth is replaced only after as long, lest a fault
/// that ends each of them turns into an endless fork.
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

    /// The same, of work that is to last until the server leaves: what ends before, by an error or
    /// a panic, is begun anew. With it end the connections that it had.
    pub fn supervised<Work>(count: usize, work: Work) -> io::Result<Self>
    where
        Work: Fn(usize) + Clone + Send + 'static,
    {
        Self::spawn(count, move |worker| {
            while !is_draining() {
                let born = Instant::now();
                // A panic has been told by now.
                let _ = catch_unwind(AssertUnwindSafe(|| work(worker)));
                pause_after_life_since(born);
            }
        })
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
        pause_after_life_since(born);
    }
}

fn pause_after_life_since(born: Instant) {
    if !is_draining() {
        std::thread::sleep(LIFE_MIN.saturating_sub(born.elapsed()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_thread_that_panics_or_gives_up_is_followed_by_another_that_does_its_work() {
        let (begun, begins) = mpsc::channel();
        let (_leaves, leaving) = mpsc::channel::<()>();
        let leaving = std::sync::Arc::new(std::sync::Mutex::new(leaving));
        let lives = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        Threads::supervised(1, move |worker| {
            let life = lives.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let _ = begun.send((worker, life));
            match life {
                0 => panic!("its first life"),
                1 => {}
                // Until the test ends.
                _ => drop(leaving.lock().unwrap().recv()),
            }
        })
        .unwrap();
        let seen: Vec<_> = begins.iter().take(3).collect();
        assert_eq!(seen, [(0, 0), (0, 1), (0, 2)]);
    }
}
