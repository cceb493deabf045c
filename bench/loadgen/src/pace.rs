//! When a thread's requests go: the load of the plan, with a clock and with what is free.
//!
//! Invariant: a thread sleeps until shortly before something is due and then asks again and again,
//! so that what is due goes within microseconds; it does not sleep past what a connection is free
//! for, and does not wake for what no connection is free for.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::{SysconfVar, sysconf};

use crate::plan::{Load, Plan};
use crate::schedule::{Offer, Schedule};

/// The token of the timer.
pub(crate) const TIMER: Token = Token(usize::MAX - 1);

/// How long before something is due a thread is woken: waking takes about so long.
const AWAKE_BEFORE: Duration = Duration::from_micros(60);

/// A poll's own timeout is in whole milliseconds, and rounded up.
const POLL_LATE_MAX: Duration = Duration::from_millis(2);

pub(crate) enum Pace {
    /// A reply is followed by the next request.
    Closed,
    /// A reply is followed by a pause.
    Thinking { think: Duration, until: VecDeque<Thought>, timer: Timer },
    /// A schedule.
    Open { offer: Offer, free: VecDeque<usize>, timer: Timer },
}

/// The pause of one place in flight: of which connection, in which generation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thought {
    pub(crate) until: Instant,
    pub(crate) index: usize,
    pub(crate) generation: u32,
}

impl Pace {
    /// For one thread of `threads`, which has so many connections.
    pub(crate) fn new(
        plan: &Plan,
        thread: usize,
        threads: usize,
        connections: usize,
        registry: &Registry,
    ) -> io::Result<Self> {
        match &plan.load {
            Load::Closed { think } if think.is_zero() => Ok(Self::Closed),
            Load::Closed { think } => Ok(Self::Thinking {
                think: *think,
                until: VecDeque::with_capacity(connections.saturating_mul(plan.pipeline)),
                timer: Timer::new(registry)?,
            }),
            Load::Open { rate, arrivals, seed, backlog } => {
                let profile = rate.profile(plan.warm_up, plan.duration);
                let schedule = Schedule::new(profile, *arrivals, *seed, thread, threads);
                let share = backlog / threads + usize::from(thread < backlog % threads);
                Ok(Self::Open {
                    offer: Offer::new(schedule, share),
                    free: VecDeque::with_capacity(connections),
                    timer: Timer::new(registry)?,
                })
            }
        }
    }

    /// When something is due that can be done then; `epoch` is the start.
    pub(crate) fn due(&self, epoch: Instant) -> Option<Instant> {
        match self {
            Self::Closed => None,
            Self::Thinking { until, .. } => until.front().map(|thought| thought.until),
            Self::Open { free, .. } if free.is_empty() => None,
            Self::Open { offer, .. } => epoch.checked_add(Duration::from_nanos(offer.next_ns())),
        }
    }

    /// How long to wait for events, of `wait` at most. Zero while something is due soon.
    pub(crate) fn rest(&mut self, epoch: Instant, now: Instant, wait: Duration) -> Duration {
        let Some(due) = self.due(epoch) else {
            return wait;
        };
        let until_due = due.saturating_duration_since(now);
        if until_due >= wait + POLL_LATE_MAX {
            return wait;
        }
        let (Self::Thinking { timer, .. } | Self::Open { timer, .. }) = self else {
            return wait;
        };
        match until_due.checked_sub(timer.awake_before).filter(|sleep| !sleep.is_zero()) {
            // The timer wakes it; a timer that cannot be set must not make it late.
            Some(sleep) if timer.set(due, sleep).is_ok() => wait,
            _ => Duration::ZERO,
        }
    }
}

/// Wakes a poll to the microsecond, where its own timeout has milliseconds.
pub(crate) struct Timer {
    descriptor: TimerFd,
    /// For what it is set already; it never goes off before its time.
    set_for: Option<Instant>,
    awake_before: Duration,
}

impl Timer {
    fn new(registry: &Registry) -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let descriptor = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let raw = descriptor.as_fd().as_raw_fd();
        registry.register(&mut SourceFd(&raw), TIMER, Interest::READABLE)?;
        // On a machine with one processor the server would wait for it. What counts is the machine:
        // a thread that is confined to one of several has that one to itself.
        let processors = sysconf(SysconfVar::_NPROCESSORS_ONLN);
        let is_alone = processors.is_ok_and(|count| count == Some(1));
        Ok(Self {
            descriptor,
            set_for: None,
            awake_before: if is_alone { Duration::ZERO } else { AWAKE_BEFORE },
        })
    }

    fn set(&mut self, due: Instant, sleep: Duration) -> nix::Result<()> {
        if self.set_for == Some(due) {
            return Ok(());
        }
        let once = Expiration::OneShot(TimeSpec::from_duration(sleep));
        self.descriptor.set(once, TimerSetTimeFlags::empty())?;
        self.set_for = Some(due);
        Ok(())
    }
}
