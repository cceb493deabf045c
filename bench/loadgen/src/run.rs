//! A run as a whole: prepares, starts the threads, announces the phases, merges what was found.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::client::{Echo, Ftp, Http, Session};
use crate::engine::{DONE, Driver, Epoll, MEASURING, Ring, WARMING, Worker};
use crate::histogram::{encode, summary};
use crate::idle::Herd;
use crate::interval::{Batches, Measure, batch_length};
use crate::outcome::Outcome;
use crate::pace::Pace;
use crate::plan::{Engine, Load, Plan, Protocol};
use crate::record::Recorder;
use crate::report::{Pulse, Report};
use crate::steady::WINDOWS;
use crate::system;
use crate::verdict::Verdict;
use crate::warm_up::{self, WarmUp};
use crate::{Error, Glimpse, Phase};

/// How often a waiting run looks whether it is to stop.
const GLANCE: Duration = Duration::from_millis(20);
/// The end of the warm-up, in which a thread catches up with what it missed while a harness looked
/// at the server, perhaps on the thread's processor.
const SETTLING: Duration = Duration::from_millis(50);
/// How long a thread may take to see that the measurement is over.
const LAST_TURN: Duration = Duration::from_millis(100);

/// Runs `plan`. Calls `on_phase` on this thread when the measurement starts and when it ends (not
/// at all if `stop` is set before). Setting `stop` ends the run early with what was measured.
pub fn run(
    plan: &Plan,
    stop: &AtomicBool,
    on_phase: &mut dyn FnMut(Phase),
) -> Result<Outcome, Error> {
    run_watched(plan, stop, on_phase, &mut |_| {})
}

/// The same, and shows `watch` every few hundredths of a second how far it is.
pub fn run_watched(
    plan: &Plan,
    stop: &AtomicBool,
    on_phase: &mut dyn FnMut(Phase),
    watch: &mut dyn FnMut(&Glimpse),
) -> Result<Outcome, Error> {
    plan.check()?;
    let (engine, no_ring) = choose(plan.engine)?;
    system::raise_descriptor_limit(plan)?;
    let mut recorder = Recorder::new();
    let herd = Herd::open(plan, stop, &mut recorder);
    let threads = Threads::start(plan, engine)?;

    let settling = SETTLING.min(plan.warm_up);
    let started = Instant::now();
    let mut warm_up = plan.until_steady.then(WarmUp::default);
    let is_warm = &mut || warm_up.as_mut().is_some_and(|it| it.is_over(threads.seen(started)));
    let is_steady = threads.wait(plan.warm_up.saturating_sub(settling), None, stop, watch, is_warm);
    let mut batches = Batches::new(threads.pulses.len(), batch_length(plan.duration));
    let mut warmed = started.elapsed();
    let mut elapsed = Duration::ZERO;
    let mut stolen = 0.0;
    if !stop.load(Ordering::Relaxed) {
        on_phase(Phase::Measuring);
        threads.wait(settling, None, stop, watch, &mut || false);
        warmed = started.elapsed();
        let before = system::stolen_and_all_ticks();
        let began = Instant::now();
        threads.announce(MEASURING)?;
        let is_known = &mut || threads.fetch(&mut batches) && is_within(plan, &batches);
        threads.wait(plan.duration, Some(began), stop, watch, is_known);
        threads.announce(DONE)?;
        elapsed = began.elapsed();
        threads.wait_for_the_end();
        threads.fetch(&mut batches);
        on_phase(Phase::Done);
        let after = system::stolen_and_all_ticks();
        stolen = per(after.0 - before.0, after.1 - before.1);
    }
    let reports = threads.finish()?;
    let mut outcome = outcome(plan, recorder, reports, elapsed);
    outcome.warm_up_s = warmed.as_secs_f64();
    outcome.warm_up_is_steady = plan.until_steady.then_some(is_steady);
    outcome.within = plan.until_within;
    outcome.intervals =
        Measure::ALL.iter().filter_map(|measure| batches.interval(*measure)).collect();
    outcome.engine = Some(engine);
    outcome.no_ring = no_ring;
    outcome.idle_ready = Some(herd.ready());
    outcome.idle_held = herd.held();
    outcome.stolen = stolen;
    outcome.stopped = stop.load(Ordering::Relaxed);
    outcome.verdict = Some(Verdict::of(&outcome));
    Ok(outcome)
}

impl Engine {
    /// Says why it is not to be had here.
    pub fn check(self) -> Result<(), Error> {
        choose(self).map(drop)
    }
}

/// Which engine it is to be, and why it cannot be the one that would have been chosen.
fn choose(engine: Engine) -> Result<(Engine, Option<String>), Error> {
    match (engine, Ring::check()) {
        (Engine::Epoll, _) => Ok((engine, None)),
        (_, Ok(())) => Ok((Engine::IoUring, None)),
        (Engine::Auto, Err(why)) => Ok((Engine::Epoll, Some(why))),
        (Engine::IoUring, Err(why)) => Err(Error::NoRing(why)),
    }
}

/// Whether what was to be known is known so surely.
fn is_within(plan: &Plan, batches: &Batches) -> bool {
    plan.until_within.is_some_and(|within| {
        let found = batches.interval(within.measure);
        found.is_some_and(|interval| interval.share() <= within.share)
    })
}

/// What all threads found together.
fn outcome(
    plan: &Plan,
    mut recorder: Recorder,
    reports: Vec<Report>,
    elapsed: Duration,
) -> Outcome {
    let is_open = matches!(plan.load, Load::Open { .. });
    let seconds = elapsed.as_secs_f64();
    let mut outcome = Outcome {
        load: Some(plan.load.clone()),
        elapsed_s: seconds,
        connections_offered: plan.connections,
        ..Outcome::default()
    };
    let mut cpu_time = Duration::ZERO;
    let mut squares = 0.0;
    for report in reports {
        outcome.arrivals += report.arrivals;
        outcome.shed += report.shed;
        outcome.unfinished += report.unfinished;
        outcome.in_system += report.in_system;
        outcome.connections_served += report.served.connections;
        outcome.client_busy = outcome.client_busy.max(report.used.busy);
        outcome.client_delayed = outcome.client_delayed.max(report.used.delayed);
        squares += report.served.sum_of_squares;
        cpu_time += report.used.cpu_time;
        recorder.merge(report.recorder);
    }
    let requests = recorder.requests as f64;
    let blobs = recorder.operations().map(|(name, histogram)| (name.to_owned(), encode(histogram)));
    outcome.operation_histograms = blobs.collect();
    let phases =
        recorder.operations().map(|(name, histogram)| (name.to_owned(), summary(histogram)));
    outcome.operations = phases.collect();
    outcome.requests = recorder.requests;
    outcome.sent = recorder.sent;
    outcome.errors = recorder.errors();
    outcome.rate_per_s = per(requests, seconds);
    outcome.rate_intended_per_s = is_open.then(|| per(outcome.arrivals as f64, seconds));
    outcome.bytes_received = recorder.bytes_received;
    outcome.bytes_sent = recorder.bytes_sent;
    outcome.connections_never_served = plan.connections - outcome.connections_served;
    outcome.jain = per(requests * requests, plan.connections as f64 * squares);
    outcome.service_us = summary(&recorder.service_ns);
    outcome.response_us = summary(recorder.response_times());
    outcome.schedule_lag_us = recorder.lag_ns.as_ref().map(summary);
    outcome.histogram = encode(&recorder.service_ns);
    outcome.response_histogram = recorder.response_ns.as_ref().map(encode);
    outcome.schedule_lag_histogram = recorder.lag_ns.as_ref().map(encode);
    // Of a run that was stopped, those that are whole.
    let whole = WINDOWS as f64 * per(seconds, plan.duration.as_secs_f64());
    outcome.windows = recorder.windows[..WINDOWS.min(whole as usize)].to_vec();
    outcome.client_cpu_us_per_request = per(cpu_time.as_secs_f64() * 1e6, requests);
    outcome.first_error = recorder.first_error;
    outcome
}

/// A share of nothing is nothing.
fn per(total: f64, count: f64) -> f64 {
    if count > 0.0 { total / count } else { 0.0 }
}

/// The threads of the generator. They end when this is dropped, if not before.
struct Threads {
    phase: Arc<AtomicU8>,
    wakers: Vec<Arc<EventFd>>,
    handles: Vec<JoinHandle<Result<Report, Error>>>,
    pulses: Vec<Arc<Pulse>>,
}

impl Threads {
    fn start(plan: &Plan, engine: Engine) -> Result<Self, Error> {
        match engine {
            Engine::IoUring => Self::start_on::<Ring>(plan),
            Engine::Auto | Engine::Epoll => Self::start_on::<Epoll>(plan),
        }
    }

    fn start_on<D: Driver>(plan: &Plan) -> Result<Self, Error> {
        match plan.protocol {
            Protocol::Http => Self::start_with::<D, _>(plan, &Http::new(plan)),
            Protocol::Ftp => Self::start_with::<D, _>(plan, &Ftp::new(plan)),
            Protocol::Echo => Self::start_with::<D, _>(plan, &Echo::new(plan)),
        }
    }

    /// Every connection gets a clone of `session`; what is large in it is shared.
    fn start_with<D, S>(plan: &Plan, session: &S) -> Result<Self, Error>
    where
        D: Driver,
        S: Session + Clone + Send + 'static,
    {
        let mut threads = Self {
            phase: Arc::new(AtomicU8::new(WARMING)),
            wakers: Vec::new(),
            handles: Vec::new(),
            pulses: Vec::new(),
        };
        let epoch = Instant::now();
        let plan = Arc::new(plan.clone());
        let mut number = 0..;
        let count = plan.threads.min(plan.connections);
        for thread in 0..count {
            let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
            let waker = EventFd::from_flags(flags).map_err(|error| cannot_start(error.into()))?;
            let waker = Arc::new(waker);
            threads.wakers.push(Arc::clone(&waker));
            let share = plan.connections / count + usize::from(thread < plan.connections % count);
            let mut sessions = vec![session.clone(); share];
            for (session, number) in sessions.iter_mut().zip(&mut number) {
                session.number(number);
            }
            let pace = Pace::new(&plan, thread, count, share);
            let pulse = Arc::new(Pulse::default());
            threads.pulses.push(Arc::clone(&pulse));
            let phase = Arc::clone(&threads.phase);
            let plan = Arc::clone(&plan);
            let handle = thread::Builder::new().name(format!("load-{thread}")).spawn(move || {
                let cpu = plan.cpus.get(thread % plan.cpus.len().max(1)).copied();
                cpu.map_or(Ok(()), system::pin_thread)?;
                let (driver, inbox) = D::new(&waker, share).map_err(cannot_start)?;
                Worker::new(driver, plan, sessions, pace, epoch).run(inbox, &phase, &pulse)
            });
            threads.handles.push(handle.map_err(cannot_start)?);
        }
        Ok(threads)
    }

    /// Waits, unless it is told to stop or a thread has ended before its time; true if it was
    /// `enough` before the time was over.
    fn wait(
        &self,
        duration: Duration,
        measuring_since: Option<Instant>,
        stop: &AtomicBool,
        watch: &mut dyn FnMut(&Glimpse),
        enough: &mut dyn FnMut() -> bool,
    ) -> bool {
        let deadline = Instant::now() + duration;
        while !stop.load(Ordering::Relaxed) && !self.handles.iter().any(JoinHandle::is_finished) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            thread::sleep(left.min(GLANCE));
            watch(&self.glimpse(measuring_since));
            if enough() {
                return true;
            }
        }
        false
    }

    /// Everything since the threads began.
    fn seen(&self, begun: Instant) -> warm_up::Window {
        warm_up::Window {
            elapsed: begun.elapsed(),
            replies: self.sum(|pulse| &pulse.seen_replies),
            response_ns: self.sum(|pulse| &pulse.seen_response_ns),
        }
    }

    /// Fetches the batches that have ended; true if there were any.
    fn fetch(&self, batches: &mut Batches) -> bool {
        let mut are_new = false;
        for (thread, pulse) in self.pulses.iter().enumerate() {
            for recorded in std::mem::take(&mut *pulse.batches()) {
                batches.add(thread, recorded);
                are_new = true;
            }
        }
        are_new
    }

    fn sum(&self, of: fn(&Pulse) -> &AtomicU64) -> u64 {
        self.pulses.iter().map(|pulse| of(pulse).load(Ordering::Relaxed)).sum()
    }

    /// A harness that went on at once would take the processor of a thread that has yet to look.
    fn wait_for_the_end(&self) {
        let deadline = Instant::now() + LAST_TURN;
        while Instant::now() < deadline && !self.handles.iter().all(JoinHandle::is_finished) {
            thread::sleep(Duration::from_micros(100));
        }
    }

    fn glimpse(&self, measuring_since: Option<Instant>) -> Glimpse {
        Glimpse {
            measured: measuring_since.map(|since| since.elapsed()),
            requests: self.sum(|pulse| &pulse.requests),
            errors: self.sum(|pulse| &pulse.errors),
            shed: self.sum(|pulse| &pulse.shed),
            waiting: self.sum(|pulse| &pulse.waiting),
        }
    }

    fn announce(&self, phase: u8) -> Result<(), Error> {
        self.phase.store(phase, Ordering::Relaxed);
        let wake = |waker: &Arc<EventFd>| waker.write(1).map(drop);
        self.wakers.iter().try_for_each(wake).map_err(|error| cannot_start(error.into()))
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
