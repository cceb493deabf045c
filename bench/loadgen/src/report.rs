//! What a thread has found, and what it publishes while it runs.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::record::Recorder;
use crate::system::{thread_cpu_time, thread_run_delay};

/// What a thread has found.
pub(crate) struct Report {
    /// In the order of the plan.
    pub(crate) classes: Vec<OfClass>,
    pub(crate) used: Used,
    /// The sockets, still open: a harness may want to look at the server before they close.
    pub(crate) _open: Box<dyn Send>,
}

/// What a thread has found of one class.
pub(crate) struct OfClass {
    pub(crate) recorder: Recorder,
    pub(crate) served: Served,
    /// Requests in the system, those that waited too: the mean over the measurement.
    pub(crate) in_system: f64,
    /// Requests that had no reply yet when the measurement ended, those that waited too.
    pub(crate) unfinished: usize,
    /// Requests that were due within the measurement, and those of them that were shed.
    pub(crate) arrivals: u64,
    pub(crate) shed: u64,
}

/// How the replies were spread over connections.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Served {
    /// Connections with at least one.
    pub(crate) connections: usize,
    pub(crate) sum_of_squares: f64,
}

impl Served {
    pub(crate) fn add(&mut self, replies: u64) {
        self.connections += usize::from(replies > 0);
        self.sum_of_squares += (replies as f64).powi(2);
    }
}

/// What the measurement took of the processor.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    pub(crate) cpu_time: Duration,
    /// The share of the measurement that this thread was at work.
    pub(crate) busy: f64,
    /// The share in which it had something to do, but no processor.
    pub(crate) delayed: f64,
}

/// The instant at which the measurement began, for one thread.
pub(crate) struct Began {
    at: Instant,
    /// Time that requests had spent in the system until then, for each class.
    areas_ns: Vec<i128>,
    cpu_time: Duration,
    run_delay: Duration,
}

impl Began {
    pub(crate) fn new(at: Instant, areas_ns: Vec<i128>) -> io::Result<Self> {
        let (cpu_time, run_delay) = (thread_cpu_time()?, thread_run_delay());
        Ok(Self { at, areas_ns, cpu_time, run_delay })
    }

    /// What was used until `now`, but for the time in which there was nothing to do.
    pub(crate) fn used(&self, now: Instant, spun: Duration) -> io::Result<Used> {
        let cpu_time = thread_cpu_time()?.saturating_sub(self.cpu_time + spun);
        let delay = thread_run_delay().saturating_sub(self.run_delay);
        let share = |time: Duration| time.as_secs_f64() / (now - self.at).as_secs_f64();
        Ok(Used { cpu_time, busy: share(cpu_time), delayed: share(delay) })
    }

    pub(crate) fn in_system(&self, class: usize, now: Instant, area_ns: i128) -> f64 {
        (area_ns - self.areas_ns[class]) as f64 / (now - self.at).as_nanos() as f64
    }
}

/// What everybody may see of a thread while it runs.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    pub(crate) errors: AtomicU64,
    pub(crate) shed: AtomicU64,
    pub(crate) waiting: AtomicU64,
    /// Replies and the sum of their response times, in the warm-up too.
    pub(crate) seen_replies: AtomicU64,
    pub(crate) seen_response_ns: AtomicU64,
    /// What was recorded by the end of each batch of the measurement, until it is fetched.
    pub(crate) batches: Mutex<Vec<Histogram<u64>>>,
}

impl Pulse {
    /// Of the class that is asked about; `errors` are those of the others.
    pub(crate) fn publish(&self, recorder: &Recorder, errors: u64) {
        self.errors.store(recorder.failed() + errors, Ordering::Relaxed);
        self.seen_replies.store(recorder.seen.replies, Ordering::Relaxed);
        self.seen_response_ns.store(recorder.seen.response_ns, Ordering::Relaxed);
    }

    /// Nobody panics with the lock held.
    pub(crate) fn batches(&self) -> MutexGuard<'_, Vec<Histogram<u64>>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
