//! Threads for the jobs that the ring has no operation for.
//!
//! **Invariant:** there are at most [`THREADS_MAX`], made when there is a job and all are busy, and
//! one job at most for each conversation.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use common::job::{Done, Job};
use crossbeam::channel::{self, Receiver, Sender};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Jobs beyond that wait for one to be done.
const THREADS_MAX: usize = 512;

pub(crate) type Outcome = (usize, io::Result<Done>);

pub(crate) struct Threads {
    jobs: Sender<(usize, Job)>,
    done: Receiver<Outcome>,
    worker: Worker,
    count: usize,
}

#[derive(Clone)]
struct Worker {
    jobs: Receiver<(usize, Job)>,
    done: Sender<Outcome>,
    wake: Arc<EventFd>,
    /// Jobs that wait or are done now.
    under_way: Arc<AtomicUsize>,
}

impl Threads {
    /// None yet.
    pub(crate) fn new() -> io::Result<Self> {
        let (jobs, to_do) = channel::unbounded();
        let (finished, done) = channel::unbounded();
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?);
        let under_way = Arc::new(AtomicUsize::new(0));
        let worker = Worker { jobs: to_do, done: finished, wake, under_way };
        Ok(Threads { jobs, done, worker, count: 0 })
    }

    /// Counts up when a job has been done.
    pub(crate) fn wake(&self) -> &EventFd {
        &self.worker.wake
    }

    /// Has a job done for a conversation.
    pub(crate) fn run(&mut self, key: usize, job: Job) {
        let under_way = self.worker.under_way.fetch_add(1, SeqCst) + 1;
        self.jobs.send((key, job)).expect("we hold a receiver ourselves");
        if under_way > self.count && self.count < THREADS_MAX {
            let worker = self.worker.clone();
            match thread::Builder::new().spawn(move || worker.work()) {
                Ok(_) => self.count += 1,
                // Without any thread the job is done here.
                Err(error) if self.count == 0 => {
                    tracing::warn!(%error, "no thread can be made for the moment");
                    self.worker.jobs.try_iter().for_each(|job| self.worker.run(job));
                }
                Err(_) => {}
            }
        }
    }

    /// What has been done since this was last asked.
    pub(crate) fn done(&self) -> impl Iterator<Item = Outcome> + use<> {
        self.done.clone().into_iter().take(self.done.len())
    }
}

impl Worker {
    fn work(&self) {
        self.jobs.iter().for_each(|job| self.run(job));
    }

    fn run(&self, (key, job): (usize, Job)) {
        let panicked = |_| Err(io::Error::other("a job panicked"));
        let done = std::panic::catch_unwind(|| job.run()).unwrap_or_else(panicked);
        self.under_way.fetch_sub(1, SeqCst);
        // Who asked for it is gone only with the process.
        let _ = self.done.send((key, done));
        let _ = self.wake.write(1);
    }
}
