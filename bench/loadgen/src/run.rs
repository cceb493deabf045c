//! A run as a whole: prepares, starts the threads, announces the phases, merges what was found.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use mio::{Poll, Waker};

use crate::client::{Echo, Ftp, Http, Session};
use crate::engine::{DONE, MEASURING, Report, WAKE, WARMING, Worker};
use crate::idle::Herd;
use crate::outcome::{Outcome, Summary};
use crate::plan::{Plan, Protocol};
use crate::record::Recorder;
use crate::system;
use crate::{Error, Phase};

/// How often a waiting run looks whether it is to stop.
const GLANCE: Duration = Duration::from_millis(20);

/// Runs `plan`. Calls `on_phase` on this thread when the measurement starts and when it ends (not
/// at all if `stop` is set before). Setting `stop` ends the run early with what was measured.
pub fn run(
    plan: &Plan,
    stop: &AtomicBool,
    on_phase: &mut dyn FnMut(Phase),
) -> Result<Outcome, Error> {
    plan.check()?;
    system::raise_descriptor_limit(plan)?;
    let mut recorder = Recorder::new();
    let herd = Herd::open(plan, stop, &mut recorder);
    let threads = Threads::start(plan)?;

    threads.wait(plan.warm_up, stop);
    let mut elapsed = Duration::ZERO;
    if !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        threads.announce(MEASURING)?;
        on_phase(Phase::Measuring);
        threads.wait(plan.duration.saturating_sub(began.elapsed()), stop);
        threads.announce(DONE)?;
        elapsed = began.elapsed();
        on_phase(Phase::Done);
    }
    let reports = threads.finish()?;
    let idle_held = herd.held();

    let served = reports.iter().map(|report| report.served).sum();
    let cpu_time: Duration = reports.iter().map(|report| report.cpu_time).sum();
    let busy = reports.iter().map(|report| report.busy).fold(0.0, f64::max);
    for report in reports {
        recorder.merge(report.recorder);
    }
    let per = |total: f64, count: f64| if count > 0.0 { total / count } else { 0.0 };
    let requests = recorder.requests;
    Ok(Outcome {
        requests,
        errors: recorder.errors(),
        elapsed_s: elapsed.as_secs_f64(),
        rate_per_s: per(requests as f64, elapsed.as_secs_f64()),
        bytes_received: recorder.bytes_received,
        bytes_sent: recorder.bytes_sent,
        connections_offered: plan.connections,
        connections_served: served,
        idle_ready: Some(herd.ready()),
        idle_held,
        service_us: summary(&recorder.service_ns),
        operations: recorder.operations().map(|(name, h)| (name.to_owned(), summary(h))).collect(),
        histogram: encode(&recorder.service_ns),
        client_cpu_us_per_request: per(cpu_time.as_secs_f64() * 1e6, requests as f64),
        client_busy: busy,
        stopped: stop.load(Ordering::Relaxed),
        first_error: recorder.first_error,
    })
}

/// The threads of the generator. They end when this is dropped, if not before.
struct Threads {
    phase: Arc<AtomicU8>,
    wakers: Vec<Waker>,
    handles: Vec<JoinHandle<Result<Report, Error>>>,
}

impl Threads {
    fn start(plan: &Plan) -> Result<Self, Error> {
        match plan.protocol {
            Protocol::Http => Self::start_with(plan, &Http::new(plan)),
            Protocol::Ftp => Self::start_with(plan, &Ftp::new(plan)),
            Protocol::Echo => Self::start_with(plan, &Echo::new(plan)),
        }
    }

    /// Every connection gets a clone of `session`; what is large in it is shared.
    fn start_with<S>(plan: &Plan, session: &S) -> Result<Self, Error>
    where
        S: Session + Clone + Send + 'static,
    {
        let mut threads = Self {
            phase: Arc::new(AtomicU8::new(WARMING)),
            wakers: Vec::new(),
            handles: Vec::new(),
        };
        let plan = Arc::new(plan.clone());
        let mut number = 0..;
        let count = plan.threads.min(plan.connections);
        for thread in 0..count {
            let poll = Poll::new().map_err(cannot_start)?;
            threads.wakers.push(Waker::new(poll.registry(), WAKE).map_err(cannot_start)?);
            let share = plan.connections / count + usize::from(thread < plan.connections % count);
            let mut sessions = vec![session.clone(); share];
            for (session, number) in sessions.iter_mut().zip(&mut number) {
                session.number(number);
            }
            let worker = Worker::new(poll, Arc::clone(&plan), sessions);
            let phase = Arc::clone(&threads.phase);
            let cpu = plan.cpus.get(thread % plan.cpus.len().max(1)).copied();
            let handle = thread::Builder::new().name(format!("load-{thread}")).spawn(move || {
                cpu.map_or(Ok(()), system::pin_thread)?;
                worker.run(&phase)
            });
            threads.handles.push(handle.map_err(cannot_start)?);
        }
        Ok(threads)
    }

    /// Waits, unless it is told to stop or a thread has ended before its time.
    fn wait(&self, duration: Duration, stop: &AtomicBool) {
        let deadline = Instant::now() + duration;
        while !stop.load(Ordering::Relaxed) && !self.handles.iter().any(JoinHandle::is_finished) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(GLANCE));
        }
    }

    fn announce(&self, phase: u8) -> Result<(), Error> {
        self.phase.store(phase, Ordering::Relaxed);
        self.wakers.iter().try_for_each(Waker::wake).map_err(cannot_start)
    }

    fn finish(mut self) -> Result<Vec<Report>, Error> {
        self.announce(DONE)?;
        let join = |handle: JoinHandle<_>| match handle.join() {
            Ok(report) => report,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        std::mem::take(&mut self.handles).into_iter().map(join).collect()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let _ = self.announce(DONE);
    }
}

fn cannot_start(cause: io::Error) -> Error {
    Error::System { what: "cannot drive the threads of the generator", cause }
}

fn summary(nanoseconds: &Histogram<u64>) -> Summary {
    let us = |nanoseconds: u64| nanoseconds as f64 / 1e3;
    let at = |quantile| us(nanoseconds.value_at_quantile(quantile));
    Summary {
        count: nanoseconds.len(),
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        p9999: at(0.9999),
        max: us(nanoseconds.max()),
        mean: nanoseconds.mean() / 1e3,
    }
}

fn encode(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(histogram, &mut bytes)
        .expect("a vector takes all, and the counts fit");
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
