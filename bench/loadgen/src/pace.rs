//! When a thread's requests go: the load of the plan, with a clock and with what is free.
//!
//! Invariant: a thread sleeps until shortly before something is due and then asks again and again,
//! so that what is due goes within microseconds; it does not sleep past what a connection is free
//! for, and does not wake for what no connection is free for.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use nix::unistd::{SysconfVar, sysconf};

use crate::plan::{Load, Plan};
use crate::schedule::{Offer, Schedule};

/// How long before something is due a thread is woken: waking takes about so long.
const AWAKE_BEFORE: Duration = Duration::from_micros(60);

/// The end of a wait may be in whole milliseconds, and rounded up; an alarm is exact.
const WAIT_LATE_MAX: Duration = Duration::from_millis(2);

pub(crate) enum Pace {
    /// A reply is followed by the next request.
    Closed,
    /// A reply is followed by a pause.
    Thinking { think: Duration, until: VecDeque<Thought> },
    /// A schedule.
    Open { offer: Offer, free: VecDeque<usize> },
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
    pub(crate) fn new(plan: &Plan, thread: usize, threads: usize, connections: usize) -> Self {
        match &plan.load {
            Load::Closed { think } if think.is_zero() => Self::Closed,
            Load::Closed { think } => Self::Thinking {
                think: *think,
                until: VecDeque::with_capacity(connections.saturating_mul(plan.pipeline)),
            },
            Load::Open { rate, arrivals, seed, backlog } => {
                let profile = rate.profile(plan.warm_up, plan.duration);
                let schedule = Schedule::new(profile, *arrivals, *seed, thread, threads);
                let share = backlog / threads + usize::from(thread < backlog % threads);
                Self::Open {
                    offer: Offer::new(schedule, share),
                    free: VecDeque::with_capacity(connections),
                }
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

    /// How long to wait for events, of `wait` at most, and when to be awake without one, which is
    /// `awake_before` what is due. Zero while something is due soon.
    pub(crate) fn rest(
        &self,
        epoch: Instant,
        now: Instant,
        wait: Duration,
        awake_before: Duration,
    ) -> (Duration, Option<Instant>) {
        let Some(due) = self.due(epoch) else {
            return (wait, None);
        };
        let until_due = due.saturating_duration_since(now);
        if until_due >= wait + WAIT_LATE_MAX {
            return (wait, None);
        }
        match until_due.checked_sub(awake_before).filter(|sleep| !sleep.is_zero()) {
            Some(sleep) => (wait, Some(now + sleep)),
            None => (Duration::ZERO, None),
        }
    }
}

/// How long before something is due a thread must be awake.
pub(crate) fn awake_before() -> Duration {
    // On a machine with one processor the server would wait for it. What counts is the machine:
    // a thread that is confined to one of several has that one to itself.
    let processors = sysconf(SysconfVar::_NPROCESSORS_ONLN);
    let is_alone = processors.is_ok_and(|count| count == Some(1));
    if is_alone { Duration::ZERO } else { AWAKE_BEFORE }
}
