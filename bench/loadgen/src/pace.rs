//! When a thread's requests go: the load of a class, with what is free, and the instants at which
//! something is to be done with a connection.
//!
//! Invariant: a thread sleeps until shortly before something is due and then asks again and again,
//! so that what is due goes within microseconds; it does not sleep past what a connection is free
//! for, and does not wake for what no connection is free for.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use nix::unistd::{SysconfVar, sysconf};

use crate::class::{Class, Load};
use crate::client::Channel;
use crate::plan::Plan;
use crate::schedule::{Offer, Schedule};

/// How long before something is due a thread is woken: waking takes about so long.
const AWAKE_BEFORE: Duration = Duration::from_micros(60);

/// The end of a wait may be in whole milliseconds, and rounded up; an alarm is exact.
const WAIT_LATE_MAX: Duration = Duration::from_millis(2);

pub(crate) enum Pace {
    /// A reply is followed by the next request, at once or after a pause.
    Closed { think: Duration },
    /// A schedule.
    Open { offer: Offer, free: VecDeque<usize> },
}

impl Pace {
    /// For one thread of `threads` that have connections of the class; this one has so many.
    pub(crate) fn new(
        plan: &Plan,
        class: &Class,
        thread: usize,
        threads: usize,
        connections: usize,
    ) -> Self {
        match &class.load {
            Load::Closed { think } => Self::Closed { think: *think },
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

    /// When an arrival is due that there is a connection for; `epoch` is the start.
    pub(crate) fn due(&self, epoch: Instant) -> Option<Instant> {
        match self {
            Self::Open { offer, free } if !free.is_empty() => {
                epoch.checked_add(Duration::from_nanos(offer.next_ns()))
            }
            Self::Closed { .. } | Self::Open { .. } => None,
        }
    }
}

/// What is to be done with a connection at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Errand {
    /// Open it.
    Open,
    /// Its next request may go: a pause for thought is over.
    Request,
    /// Its script goes on: a pause for thought is over.
    Resume,
    /// A slow reader takes something again.
    Receive(Channel),
    /// A slow sender gives something again.
    Send,
}

impl Errand {
    /// Whether it is to be done to the microsecond.
    fn is_exact(self) -> bool {
        matches!(self, Self::Request | Self::Resume)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Appointment {
    at: Instant,
    index: usize,
    generation: u32,
    errand: Errand,
}

/// What is to be done later, the next first.
#[derive(Default)]
pub(crate) struct Calendar {
    appointments: BinaryHeap<Reverse<Appointment>>,
}

impl Calendar {
    /// The connection may be another by then: `generation` tells.
    pub(crate) fn add(&mut self, at: Instant, index: usize, generation: u32, errand: Errand) {
        self.appointments.push(Reverse(Appointment { at, index, generation, errand }));
    }

    /// What is due by now: the connection, its generation, and what is to be done with it.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(usize, u32, Errand)> {
        let Reverse(next) = self.appointments.peek()?;
        if next.at > now {
            return None;
        }
        let Reverse(next) = self.appointments.pop()?;
        Some((next.index, next.generation, next.errand))
    }

    /// When the next is due, less `awake_before` if that is to be exact.
    pub(crate) fn awake_at(&self, awake_before: Duration) -> Option<Instant> {
        let Reverse(next) = self.appointments.peek()?;
        if next.errand.is_exact() { next.at.checked_sub(awake_before) } else { Some(next.at) }
    }
}

/// How long to wait for events, of `wait` at most, and when to be awake without one, for what is
/// due then. Zero while something is due soon.
pub(crate) fn rest(
    awake_at: Option<Instant>,
    now: Instant,
    wait: Duration,
) -> (Duration, Option<Instant>) {
    match awake_at {
        Some(alarm) if alarm <= now => (Duration::ZERO, None),
        Some(alarm) if alarm - now < wait + WAIT_LATE_MAX => (wait, Some(alarm)),
        Some(_) | None => (wait, None),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appointments_come_in_the_order_of_their_times() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut calendar = Calendar::default();
        calendar.add(at(3), 7, 0, Errand::Send);
        calendar.add(at(1), 8, 4, Errand::Request);
        calendar.add(at(2), 9, 0, Errand::Open);
        assert_eq!(calendar.pop(start), None);
        // An exact one wakes the thread before its time, and is still not due before it.
        assert_eq!(calendar.awake_at(Duration::from_micros(60)), at(1).checked_sub(AWAKE_BEFORE));
        assert_eq!(calendar.pop(at(2)), Some((8, 4, Errand::Request)));
        assert_eq!(calendar.awake_at(Duration::from_micros(60)), Some(at(2)));
        assert_eq!(calendar.pop(at(2)), Some((9, 0, Errand::Open)));
        assert_eq!((calendar.pop(at(2)), calendar.pop(at(3))), (None, Some((7, 0, Errand::Send))));
    }

    #[test]
    fn a_thread_sleeps_until_the_alarm_and_then_no_more() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(rest(None, now, second), (second, None));
        assert_eq!(rest(Some(now), now, second), (Duration::ZERO, None));
        assert_eq!(rest(Some(now + second), now, second), (second, Some(now + second)));
        assert_eq!(rest(Some(now + 2 * second), now, second), (second, None));
    }
}
