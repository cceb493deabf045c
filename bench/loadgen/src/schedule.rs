//! When requests are to be sent in an open loop, and which of them wait: arithmetic on nanoseconds
//! since the start, without a clock.
//!
//! Invariant: when an arrival is due follows from its number, never from when another was sent;
//! whoever is late sends what has become due meanwhile, and the rate is what it was to be.

use std::collections::VecDeque;
#[cfg(test)]
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::rate::Profile;
#[cfg(test)]
use crate::rate::Rate;

/// How arrivals follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// At equal distances.
    #[default]
    Constant,
    /// As from very many users who know nothing of each other: exponential gaps.
    Poisson,
}

/// The due times of one thread's arrivals.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    profile: Profile,
    segment: usize,
    arrivals: Arrivals,
    random: fastrand::Rng,
    threads: f64,
    /// How many arrivals of all threads there are before the next of this one: whole for constant
    /// arrivals, and for Poisson's the sum of gaps of mean 1, which the profile then stretches.
    position: f64,
    next_ns: u64,
}

impl Schedule {
    /// Of `threads` threads, of which this is number `thread`. Constant arrivals are dealt out in
    /// turn. Of Poisson arrivals each thread has its own: together they are one Poisson process.
    pub(crate) fn new(
        profile: Profile,
        arrivals: Arrivals,
        seed: u64,
        thread: usize,
        threads: usize,
    ) -> Self {
        let mut seeds = fastrand::Rng::with_seed(seed);
        let seed = (0..=thread).map(|_| seeds.u64(..)).last().unwrap_or(seed);
        let mut schedule = Self {
            profile,
            segment: 0,
            arrivals,
            random: fastrand::Rng::with_seed(seed),
            threads: threads as f64,
            position: 0.0,
            next_ns: 0,
        };
        let first = match arrivals {
            Arrivals::Constant => thread as f64,
            Arrivals::Poisson => schedule.gap(),
        };
        schedule.advance(first);
        schedule
    }

    pub(crate) fn next_ns(&self) -> u64 {
        self.next_ns
    }

    /// Goes on to the next arrival; this one is due then.
    pub(crate) fn pass(&mut self) -> u64 {
        let due = self.next_ns;
        let by = match self.arrivals {
            Arrivals::Constant => self.threads,
            Arrivals::Poisson => self.gap(),
        };
        self.advance(by);
        due
    }

    fn advance(&mut self, by: f64) {
        self.position += by;
        let seconds = self.profile.seconds_at(self.position, &mut self.segment);
        self.next_ns = (seconds * 1e9).round() as u64;
    }

    fn gap(&mut self) -> f64 {
        // 1 - u is never 0.
        -(1.0 - self.random.f64()).ln() * self.threads
    }
}

/// What is offered to the connections of one thread: arrivals that are due, the oldest first. Those
/// that find every connection busy wait; when too many wait, they are shed.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    schedule: Schedule,
    waiting: VecDeque<u64>,
    waiting_max: usize,
    /// What was due earlier is not counted.
    counted_from_ns: u64,
    arrivals: u64,
    shed: u64,
}

impl Offer {
    pub(crate) fn new(schedule: Schedule, waiting_max: usize) -> Self {
        Self {
            schedule,
            waiting: VecDeque::with_capacity(waiting_max),
            waiting_max,
            counted_from_ns: u64::MAX,
            arrivals: 0,
            shed: 0,
        }
    }

    pub(crate) fn count_from(&mut self, now_ns: u64) {
        self.counted_from_ns = now_ns;
    }

    pub(crate) fn is_counted(&self, due_ns: u64) -> bool {
        due_ns >= self.counted_from_ns
    }

    /// A connection is free: the arrival that it is to serve, if one is due.
    pub(crate) fn take(&mut self, now_ns: u64) -> Option<u64> {
        self.waiting.pop_front().or_else(|| (self.next_ns() <= now_ns).then(|| self.arrive()))
    }

    /// No connection is free: what is due waits.
    pub(crate) fn wait(&mut self, now_ns: u64) {
        while self.next_ns() <= now_ns {
            let due = self.arrive();
            if self.waiting.len() < self.waiting_max {
                self.waiting.push_back(due);
            } else {
                self.shed += u64::from(self.is_counted(due));
            }
        }
    }

    fn arrive(&mut self) -> u64 {
        let due = self.schedule.pass();
        self.arrivals += u64::from(self.is_counted(due));
        due
    }

    /// When the next arrival is due that does not wait already.
    pub(crate) fn next_ns(&self) -> u64 {
        self.schedule.next_ns()
    }

    pub(crate) fn arrivals(&self) -> u64 {
        self.arrivals
    }

    pub(crate) fn shed(&self) -> u64 {
        self.shed
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How long those that wait have waited, all together.
    pub(crate) fn waited_ns(&self, now_ns: u64) -> i128 {
        self.waiting.iter().map(|due| i128::from(now_ns) - i128::from(*due)).sum()
    }
}

/// The schedule of a constant load from the start, for one thread.
#[cfg(test)]
pub(crate) fn steady(rate: &Rate, arrivals: Arrivals, seed: u64) -> Schedule {
    let profile = rate.profile(Duration::ZERO, Duration::from_secs(1));
    Schedule::new(profile, arrivals, seed, 0, 1)
}

#[cfg(test)]
mod tests;
