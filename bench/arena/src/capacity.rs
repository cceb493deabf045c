//! The highest rate at which a server answers in time: found by bracketing and bisection, confirmed
//! by a fresh run, and exceeded to see what becomes of it.
//!
//! Each trial is a server of its own under Poisson arrivals. What disturbs a trial makes it worse
//! and never better, so one that holds decides, and one that does not is tried again.

pub(crate) mod table;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use loadgen::{Arrivals, Outcome, Rate, Word};
use serde::{Deserialize, Serialize};

use crate::catalogue::Contestant;
use crate::contestant::Server;
use crate::run::Measured;
use crate::sample::Used;
use crate::stage::Stage;
use crate::workload::Workload;

pub(crate) use self::table::{CAPACITY, table};

/// The first trial asks so much of what a closed loop got.
const FIRST_SHARE: f64 = 0.8;
/// The step from one trial to the next until the capacity lies between two.
const BRACKET: f64 = 1.5;
/// It is found when what holds and what does not are so near to each other.
pub(crate) const PRECISION: f64 = 1.05;
/// More rates are not tried, in the search and in the confirmation.
const RATES_MAX: usize = 24;
const CONFIRMATIONS_MAX: usize = 6;
/// A rate that does not hold is tried so often.
const TRIALS: usize = 2;
/// Fewer arrivals than this say nothing of a 99th percentile: a trial is then longer.
pub(crate) const ARRIVALS: f64 = 1000.0;
/// But no longer than so many times.
const LONGER_AT_MOST: u64 = 4;
/// Replies within a trial for each request that was due in it; less, and requests pile up.
const ANSWERED_SHARE: f64 = 0.97;
/// What is offered beyond the capacity.
pub(crate) const BEYOND: [f64; 2] = [1.5, 2.0];
/// Parts of the trial that looks for the recovery: the first is too much, the others half of what
/// holds.
const PARTS: usize = 4;

/// What is asked of a server whose capacity is looked for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bound {
    /// The response time that 99 of 100 requests must have at most.
    pub(crate) p99_ms: f64,
}

/// The capacity of a server, as one search found it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Capacity {
    /// The highest rate that held and was confirmed; none where nothing held.
    pub(crate) held_per_s: Option<f64>,
    /// The lowest rate above it that did not hold; none where the client could ask no more.
    pub(crate) refused_per_s: Option<f64>,
    /// Every trial, in its order.
    pub(crate) trials: Vec<Trial>,
    /// What was answered beyond the capacity, as the multiples are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) beyond: Vec<Trial>,
    /// From the end of twice the capacity until replies come in time again, in steps of a twentieth
    /// of the trial; none if they did not while it lasted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) recovery_ms: Option<f64>,
}

/// One rate, tried once.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Trial {
    pub(crate) offered_per_s: f64,
    pub(crate) answered_per_s: f64,
    pub(crate) p99_us: f64,
    /// Arrivals that found neither a connection nor room to wait.
    pub(crate) shed: u64,
    /// Requests that got no answer or a wrong one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) failed: u64,
    /// Why it did not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<String>,
    /// Whether it was the client that could do no more.
    #[serde(default)]
    pub(crate) client_bound: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Rates to try, from what came out of those before.
struct Search {
    held: Option<f64>,
    refused: Option<f64>,
    first: f64,
    tried: usize,
}

impl Search {
    fn from(first: f64) -> Self {
        Self { held: None, refused: None, first, tried: 0 }
    }

    /// The next rate; none when the capacity is known as well as it can be.
    fn next(&mut self) -> Option<f64> {
        self.tried += 1;
        if self.tried > RATES_MAX {
            return None;
        }
        match (self.held, self.refused) {
            (None, None) => Some(self.first),
            (Some(held), None) => Some(held * BRACKET),
            (None, Some(refused)) => Some(refused / BRACKET).filter(|rate| *rate >= 1.0),
            (Some(held), Some(refused)) => {
                (refused / held > PRECISION).then(|| (held * refused).sqrt())
            }
        }
    }

    fn tell(&mut self, rate: f64, holds: bool) {
        if holds {
            self.held = Some(rate);
        } else {
            self.refused = Some(rate);
        }
    }
}

impl Trial {
    fn of(outcome: &Outcome, bound: Bound) -> Self {
        let client_bound =
            outcome.verdict.as_ref().is_some_and(|verdict| verdict.word == Word::ClientBound);
        Self {
            offered_per_s: outcome.rate_intended_per_s.unwrap_or(0.0),
            answered_per_s: outcome.rate_per_s,
            p99_us: outcome.response_us.p99,
            shed: outcome.shed,
            failed: outcome.errors.values().sum(),
            refused: objection(outcome, bound),
            client_bound,
        }
    }
}

/// Why a rate does not hold, if it does not.
pub(crate) fn objection(outcome: &Outcome, bound: Bound) -> Option<String> {
    let failed: u64 = outcome.errors.values().sum();
    let arrivals = outcome.arrivals as f64;
    // What has arrived within the bound before the end may still be under way, and in time.
    let under_way = outcome.rate_intended_per_s.unwrap_or(0.0) * bound.p99_ms / 1e3;
    let expected = (arrivals * ANSWERED_SHARE).min(arrivals - under_way);
    if failed > 0 {
        let first = outcome.first_error.as_deref().unwrap_or("not told");
        return Some(format!("{failed} requests failed, the first: {first}"));
    }
    if outcome.connections_never_served > 0 && outcome.arrivals >= 2 * connections(outcome) {
        return Some(format!("{} connections never served", outcome.connections_never_served));
    }
    if outcome.requests == 0 {
        return Some("nothing was answered".to_owned());
    }
    if outcome.shed > 0 || (outcome.requests as f64) < expected {
        return Some(format!("{} of {} answered", outcome.requests, outcome.arrivals));
    }
    let p99_ms = outcome.response_us.p99 / 1000.0;
    (p99_ms > bound.p99_ms).then(|| format!("response p99 {p99_ms:.1} ms"))
}

/// Whether a server answered what was due: its replies are all arrivals, but for as many as are
/// under way, which by Little's law is how many arrive while one is answered on average.
pub(crate) fn keeps_up(outcome: &Outcome) -> bool {
    let rate = outcome.rate_intended_per_s.unwrap_or(0.0);
    let under_way = rate * outcome.response_us.mean / 1e6;
    let accounted = outcome.requests as f64 + under_way;
    outcome.shed == 0 && accounted >= outcome.arrivals as f64 * ANSWERED_SHARE
}

fn connections(outcome: &Outcome) -> u64 {
    outcome.connections_offered as u64
}

/// When replies came in time again, in milliseconds after the end of the first part; none if they
/// did not until the end.
fn recovery_ms(outcome: &Outcome, bound: Bound) -> Option<f64> {
    let windows = &outcome.windows;
    let first = windows.len() / PARTS;
    let late = windows.iter().skip(first).rposition(|window| {
        let mean_ms = window.response_ns as f64 / 1e6 / window.replies as f64;
        window.replies == 0 || mean_ms > bound.p99_ms
    });
    let until = late.map_or(0, |last| last + 1);
    let each_ms = outcome.elapsed_s * 1000.0 / windows.len() as f64;
    (until < windows.len() - first).then_some(until as f64 * each_ms)
}

impl Stage {
    /// Looks for the capacity of a contestant; the outcome is that of the run that confirmed it.
    pub(crate) fn capacity(
        &self,
        workload: &Workload,
        contestant: &Contestant,
        bound: Bound,
        seed: u64,
        faults: &mut Vec<String>,
        stop: &AtomicBool,
    ) -> anyhow::Result<(Capacity, Measured)> {
        let mut hunt = Hunt { stage: self, workload, contestant, bound, seed, faults, stop };
        let closed = hunt.load(workload)?.0;
        if let Some(error) = closed.first_error {
            anyhow::bail!("in a closed loop: {error}");
        }
        let mut found = Capacity::default();
        let mut search = Search::from((closed.rate_per_s * FIRST_SHARE).max(1.0));
        let mut client_is_the_end = false;
        while let Some(rate) = search.next() {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            let (trial, _) = hunt.tried(rate, &mut found.trials)?;
            if trial.refused.is_some() {
                client_is_the_end = trial.client_bound;
            }
            search.tell(rate, trial.refused.is_none());
        }
        let mut confirmed: Measured = (None, None);
        let mut rate = search.held;
        for _ in 0..CONFIRMATIONS_MAX {
            let Some(held) = rate.filter(|_| !stop.load(Ordering::SeqCst)) else {
                break;
            };
            let (trial, (outcome, used)) = hunt.tried(held, &mut found.trials)?;
            if trial.refused.is_none() {
                found.held_per_s = Some(held);
                confirmed = (Some(outcome), used);
                break;
            }
            search.refused = Some(held);
            client_is_the_end = trial.client_bound;
            rate = Some(held / PRECISION);
        }
        found.refused_per_s = search.refused.filter(|_| !client_is_the_end);
        if let Some(held) = found.held_per_s {
            hunt.go_beyond(held, &mut found)?;
        }
        Ok((found, confirmed))
    }
}

/// The trials of one search.
struct Hunt<'a> {
    stage: &'a Stage,
    workload: &'a Workload,
    contestant: &'a Contestant,
    bound: Bound,
    seed: u64,
    faults: &'a mut Vec<String>,
    stop: &'a AtomicBool,
}

impl Hunt<'_> {
    /// Tries a rate, and once more if it does not hold; what decided.
    fn tried(
        &mut self,
        rate: f64,
        trials: &mut Vec<Trial>,
    ) -> anyhow::Result<(Trial, (Outcome, Option<Used>))> {
        let workload = self.at(Rate::Constant(rate), None);
        for trial in 1.. {
            let (outcome, used) = self.load(&workload)?;
            let tried = Trial::of(&outcome, self.bound);
            trials.push(tried.clone());
            if tried.refused.is_none() || trial == TRIALS || self.stop.load(Ordering::SeqCst) {
                return Ok((tried, (outcome, used)));
            }
        }
        unreachable!("the loop ends with the last trial")
    }

    /// Offers more than holds, and then less again.
    fn go_beyond(&mut self, held: f64, found: &mut Capacity) -> anyhow::Result<()> {
        // Users who wait for their turn at the client would keep it busy long after the end.
        let backlog = Some(self.workload.connections);
        for times in BEYOND {
            let workload = self.at(Rate::Constant(held * times), backlog);
            let (outcome, _) = self.load(&workload)?;
            found.beyond.push(Trial::of(&outcome, self.bound));
        }
        let rates = [2.0 * held, held / 2.0, held / 2.0, held / 2.0].map(|rate| rate.to_string());
        let rate = rates.join(",").parse::<Rate>().map_err(anyhow::Error::msg)?;
        let mut workload = self.at(rate, backlog);
        workload.duration_ms *= 2;
        let (outcome, _) = self.load(&workload)?;
        found.recovery_ms = recovery_ms(&outcome, self.bound);
        Ok(())
    }

    /// The workload at a rate, for as long as that needs.
    fn at(&self, rate: Rate, backlog: Option<usize>) -> Workload {
        let mut workload = self.workload.clone();
        if let Rate::Constant(rate) = rate {
            let enough_ms = (ARRIVALS / rate * 1000.0) as u64;
            let at_most_ms = workload.duration_ms * LONGER_AT_MOST;
            workload.duration_ms = enough_ms.clamp(workload.duration_ms, at_most_ms);
        }
        (workload.rate, workload.arrivals) = (Some(rate), Some(Arrivals::Poisson));
        workload.backlog = backlog;
        workload
    }

    fn load(&mut self, workload: &Workload) -> anyhow::Result<(Outcome, Option<Used>)> {
        // The next trial meets other arrivals.
        self.seed = self.seed.wrapping_add(1 << 32);
        let mut faults = Vec::new();
        let (stage, seed, stop) = (self.stage, self.seed, self.stop);
        let act = |server: &Server| stage.load(workload, server, seed, stop);
        let loaded = stage.with_server(workload, self.contestant, &mut faults, act);
        for fault in faults {
            if !self.faults.contains(&fault) {
                self.faults.push(fault);
            }
        }
        loaded.with_context(|| match &workload.rate {
            Some(rate) => format!("at {rate} a second"),
            None => "in a closed loop".to_owned(),
        })
    }
}

/// What a search takes, roughly.
pub(crate) fn planned_ms(trial_ms: u64) -> u64 {
    const TRIALS_PLANNED: u64 = 20;
    TRIALS_PLANNED * trial_ms
}

/// How exactly a recovery is known.
pub(crate) fn recovery_step(workload: &Workload) -> Duration {
    Duration::from_millis(workload.duration_ms * 2 / 20)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use loadgen::{Summary, Window};

    use super::*;

    /// Searches a server that holds everything up to its capacity.
    fn search(first: f64, capacity: f64) -> (Search, Vec<f64>) {
        let (mut search, mut rates) = (Search::from(first), Vec::new());
        while let Some(rate) = search.next() {
            rates.push(rate);
            search.tell(rate, rate <= capacity);
        }
        (search, rates)
    }

    #[test]
    fn the_capacity_lies_between_two_rates_that_are_near_wherever_the_search_begins() {
        for first in [10.0, 900.0, 1000.0, 40_000.0] {
            let (search, rates) = search(first, 1000.0);
            let (held, refused) = (search.held.unwrap(), search.refused.unwrap());
            assert!(held <= 1000.0 && 1000.0 < refused, "{held} {refused}");
            assert!(refused / held <= PRECISION, "{rates:?}");
        }
        let (_, rates) = search(800.0, 1000.0);
        assert!(rates.len() <= 7, "{rates:?}");
    }

    #[test]
    fn a_search_ends_where_nothing_holds_and_where_everything_does() {
        let (nothing, rates) = search(500.0, 0.0);
        assert_eq!(nothing.held, None);
        assert!(rates.iter().all(|rate| *rate >= 1.0));
        let (everything, rates) = search(500.0, f64::INFINITY);
        assert_eq!((everything.refused, rates.len()), (None, RATES_MAX));
    }

    const BOUND: Bound = Bound { p99_ms: 10.0 };

    fn outcome() -> Outcome {
        let response_us = Summary { p99: 9000.0, ..Summary::default() };
        let (arrivals, requests) = (1000, 995);
        Outcome { arrivals, requests, response_us, connections_offered: 8, ..Outcome::default() }
    }

    #[test]
    fn a_rate_holds_if_all_are_served_in_time_and_nothing_fails() {
        let check = |outcome: Outcome, expected: Option<&str>| {
            assert_eq!(objection(&outcome, BOUND).as_deref(), expected);
        };
        check(outcome(), None);
        let late = Summary { p99: 10_100.0, ..Summary::default() };
        check(Outcome { response_us: late, ..outcome() }, Some("response p99 10.1 ms"));
        check(Outcome { requests: 900, ..outcome() }, Some("900 of 1000 answered"));
        check(Outcome { shed: 1, ..outcome() }, Some("995 of 1000 answered"));
        let starving = Outcome { connections_never_served: 7, ..outcome() };
        check(starving, Some("7 connections never served"));
        let errors = BTreeMap::from([("reset".to_owned(), 2)]);
        let failing = Outcome { errors, first_error: Some("reset".to_owned()), ..outcome() };
        check(failing, Some("2 requests failed, the first: reset"));
    }

    #[test]
    fn the_recovery_is_over_with_the_last_window_that_is_late_or_empty() {
        let good = Window { replies: 10, response_ns: 10_000_000 };
        let late = Window { replies: 1, response_ns: 20_000_000 };
        let of = |windows: [Window; 8]| {
            recovery_ms(&Outcome { windows: windows.into(), elapsed_s: 0.8, ..outcome() }, BOUND)
        };
        let none = Window::default();
        let check = |windows, expected: Option<f64>| {
            let found = of(windows).map(f64::round);
            assert_eq!(found, expected);
        };
        check([late, late, good, good, good, good, good, good], Some(0.0));
        check([late, late, late, good, none, good, good, good], Some(300.0));
        check([late, late, good, good, good, good, good, late], None);
    }
}
