//! A run as a whole: prepares, starts the threads, announces the phases, merges what was found.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::class::{Class, Load};
use crate::client::{Client, Session as _};
use crate::engine::{DONE, Driver, Epoll, MEASURING, Ring, Share, WARMING, Worker};
use crate::histogram::{encode, summary};
use crate::idle::Herd;
use crate::interval::{Batches, Measure, batch_length};
use crate::outcome::{Outcome, Sessions, StepTimes};
use crate::pace::Pace;
use crate::plan::{Engine, Plan};
use crate::record::{Burdens, Recorder};
use crate::report::{OfClass, Pulse, Report};
use crate::steady::WINDOWS;
use crate::system;
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
    let mut outcomes = outcomes(plan, recorder, reports, elapsed);
    for outcome in &mut outcomes {
        outcome.warm_up_s = warmed.as_secs_f64();
        outcome.engine = Some(engine);
        outcome.no_ring.clone_from(&no_ring);
        outcome.stolen = stolen;
        outcome.stopped = stop.load(Ordering::Relaxed);
    }
    // It is the first class whose steady state is awaited.
    let mut outcome = outcomes.remove(0);
    outcome.beside = outcomes;
    outcome.warm_up_is_steady = plan.until_steady.then_some(is_steady);
    outcome.warm_up_objection = warm_up.filter(|_| !is_steady).and_then(|it| it.objection());
    outcome.within = plan.until_within;
    if plan.until_within.is_some() {
        outcome.windows = batches.windows();
    }
    outcome.intervals =
        Measure::ALL.iter().filter_map(|measure| batches.interval(*measure)).collect();
    outcome.idle_ready = Some(herd.ready());
    outcome.idle_held = herd.held();
    outcome.judge();
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

/// What all threads found together, of each class. The recorder has what came before.
fn outcomes(
    plan: &Plan,
    recorder: Recorder,
    reports: Vec<Report>,
    elapsed: Duration,
) -> Vec<Outcome> {
    let mut cpu_time = Duration::ZERO;
    let (mut busy, mut delayed) = (0.0, 0.0);
    let mut of_classes: Vec<Vec<OfClass>> = plan.classes().map(|_| Vec::new()).collect();
    for report in reports {
        cpu_time += report.used.cpu_time;
        busy = f64::max(busy, report.used.busy);
        delayed = f64::max(delayed, report.used.delayed);
        for (all, of_class) in of_classes.iter_mut().zip(report.classes) {
            all.push(of_class);
        }
    }
    let mut recorders = Some(recorder).into_iter();
    let classes = plan.classes().zip(of_classes).map(|(class, shares)| {
        let recorder = recorders.next().unwrap_or_else(Recorder::new);
        outcome(plan, class, recorder, shares, elapsed)
    });
    let mut outcomes: Vec<Outcome> = classes.collect();
    let requests: u64 = outcomes.iter().map(|outcome| outcome.requests).sum();
    for outcome in &mut outcomes {
        outcome.client_busy = busy;
        outcome.client_delayed = delayed;
        outcome.client_cpu_us_per_request = per(cpu_time.as_secs_f64() * 1e6, requests as f64);
    }
    outcomes
}

/// What the shares of a class are together.
fn outcome(
    plan: &Plan,
    class: &Class,
    mut recorder: Recorder,
    shares: Vec<OfClass>,
    elapsed: Duration,
) -> Outcome {
    let is_open = matches!(class.load, Load::Open { .. });
    let seconds = elapsed.as_secs_f64();
    let mut outcome = Outcome {
        name: class.name.clone(),
        load: Some(class.load.clone()),
        elapsed_s: seconds,
        connections_offered: class.connections,
        ..Outcome::default()
    };
    let mut squares = 0.0;
    for share in shares {
        outcome.arrivals += share.arrivals;
        outcome.shed += share.shed;
        outcome.unfinished += share.unfinished;
        outcome.in_system += share.in_system;
        outcome.connections_served += share.served.connections;
        squares += share.served.sum_of_squares;
        recorder.merge(share.recorder);
    }
    let requests = recorder.requests as f64;
    outcome.requests = recorder.requests;
    outcome.sent = recorder.sent;
    outcome.errors = recorder.errors();
    outcome.rate_per_s = per(requests, seconds);
    outcome.rate_intended_per_s = is_open.then(|| per(outcome.arrivals as f64, seconds));
    outcome.bytes_received = recorder.bytes_received;
    outcome.bytes_sent = recorder.bytes_sent;
    outcome.connections_never_served = class.connections - outcome.connections_served;
    outcome.jain = per(requests * requests, class.connections as f64 * squares);
    // Of a run that was stopped, those that are whole.
    let whole = WINDOWS as f64 * per(seconds, plan.duration.as_secs_f64());
    outcome.windows = recorder.windows[..WINDOWS.min(whole as usize)].to_vec();
    outcome.sessions = recorder.burdens.as_ref().map(Sessions::of);
    times(&mut outcome, class, &recorder);
    outcome.first_error = recorder.first_error;
    outcome
}

/// All distributions.
fn times(outcome: &mut Outcome, class: &Class, recorder: &Recorder) {
    for (name, histogram) in recorder.operations() {
        outcome.operation_histograms.insert(name.to_owned(), encode(histogram));
        outcome.operations.insert(name.to_owned(), summary(histogram));
    }
    outcome.service_us = summary(&recorder.service_ns);
    outcome.response_us = summary(recorder.response_times());
    outcome.schedule_lag_us = recorder.lag_ns.as_ref().map(summary);
    outcome.histogram = encode(&recorder.service_ns);
    outcome.response_histogram = recorder.response_ns.as_ref().map(encode);
    outcome.schedule_lag_histogram = recorder.lag_ns.as_ref().map(encode);
    let names = class.script.as_ref().map_or_else(Vec::new, |script| script.labels().0);
    let steps = names.into_iter().zip(&recorder.steps_ns).map(|(name, histogram)| StepTimes {
        name,
        service_us: summary(histogram),
        histogram: encode(histogram),
    });
    outcome.steps = steps.collect();
}

impl Sessions {
    fn of(burdens: &Burdens) -> Self {
        Self {
            begun: burdens.begun,
            served: burdens.served,
            abandoned: burdens.abandoned,
            cut: burdens.cuts(),
            first_cut: burdens.first_cut.clone(),
            cut_after_us: summary(&burdens.cut_after_ns),
            cut_after_histogram: encode(&burdens.cut_after_ns),
        }
    }
}

/// A share of nothing is nothing.
fn per(total: f64, count: f64) -> f64 {
    if count > 0.0 { total / count } else { 0.0 }
}

/// What one thread of `threads` does of a class: its sessions, each with a number of its own in the
/// run, and when they are to be opened first.
fn share(
    plan: &Plan,
    class: &Class,
    thread: usize,
    threads: usize,
    numbers: &mut impl Iterator<Item = usize>,
) -> (Share, Vec<(Client, Duration)>) {
    // No arrival falls to a thread that has no connection for it.
    let threads = threads.min(class.connections);
    let (each, rest) = (class.connections / threads, class.connections % threads);
    let count = if thread < threads { each + usize::from(thread < rest) } else { 0 };
    let pace = match count {
        0 => Pace::Closed { think: Duration::ZERO },
        _ => Pace::new(plan, class, thread, threads, count),
    };
    let first = thread * each + thread.min(rest);
    let client = Client::new(class, plan.target);
    let sessions = (first..first + count).zip(numbers).map(|(place, number)| {
        let mut session = client.clone();
        session.number(number);
        let after = class.connect_rate.map_or(0.0, |rate| place as f64 / rate);
        (session, Duration::from_secs_f64(after))
    });
    (Share::new(class, pace), sessions.collect())
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
        let mut threads = Self {
            phase: Arc::new(AtomicU8::new(WARMING)),
            wakers: Vec::new(),
            handles: Vec::new(),
            pulses: Vec::new(),
        };
        let epoch = Instant::now();
        let plan = Arc::new(plan.clone());
        let mut numbers = 0..;
        let count = plan.threads_used();
        for thread in 0..count {
            let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
            let waker = EventFd::from_flags(flags).map_err(|error| cannot_start(error.into()))?;
            let waker = Arc::new(waker);
            threads.wakers.push(Arc::clone(&waker));
            let shares: Vec<_> = plan
                .classes()
                .map(|class| share(&plan, class, thread, count, &mut numbers))
                .collect();
            let connections = shares.iter().map(|(_, sessions)| sessions.len()).sum();
            let pulse = Arc::new(Pulse::default());
            threads.pulses.push(Arc::clone(&pulse));
            let phase = Arc::clone(&threads.phase);
            let plan = Arc::clone(&plan);
            let handle = thread::Builder::new().name(format!("load-{thread}")).spawn(move || {
                let cpu = plan.cpus.get(thread % plan.cpus.len().max(1)).copied();
                cpu.map_or(Ok(()), system::pin_thread)?;
                let (driver, inbox) = D::new(&waker, connections).map_err(cannot_start)?;
                Worker::new(driver, plan, shares, epoch).run(inbox, &phase, &pulse)
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
            requests: self.sum(|pulse| &pulse.seen_replies),
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
