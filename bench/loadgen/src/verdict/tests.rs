//! Each word from an outcome that is good but for one thing.

use super::*;
use crate::class::Load;
use crate::interval::{Interval, Measure};
use crate::outcome::{Sessions, Summary};
use crate::rate::Rate;
use crate::schedule::Arrivals;
use crate::steady::WINDOWS;

fn good() -> Outcome {
    let same = |us| Summary { count: 10_000, p50: us, p99: us, mean: us, ..Summary::default() };
    Outcome {
        requests: 10_000,
        sent: 10_000,
        arrivals: 10_000,
        elapsed_s: 10.0,
        rate_per_s: 1000.0,
        rate_intended_per_s: Some(1000.0),
        connections_offered: 64,
        connections_served: 64,
        response_us: same(2000.0),
        service_us: same(2000.0),
        schedule_lag_us: Some(same(10.0)),
        in_system: 2.0,
        client_busy: 0.2,
        windows: vec![Window { replies: 500, response_ns: 1_000_000_000 }; WINDOWS],
        ..Outcome::default()
    }
}

fn check(word: Word, figure: &str, change: impl FnOnce(&mut Outcome)) {
    let mut outcome = good();
    change(&mut outcome);
    let verdict = Verdict::of(&outcome);
    assert_eq!(verdict.word, word, "{verdict:?}");
    assert!(verdict.reason.contains(figure), "{verdict:?} names {figure}");
}

/// The windows, each with a rate and a mean response time that depend on its number.
fn windows(outcome: &mut Outcome, replies: impl Fn(u64) -> u64, us: impl Fn(u64) -> u64) {
    for (window, number) in outcome.windows.iter_mut().zip(0..) {
        window.replies = replies(number);
        window.response_ns = replies(number) * us(number) * 1000;
    }
}

#[test]
fn a_good_run_is_valid() {
    check(Word::Valid, "10000 replies", |_| {});
}

#[test]
fn each_fault_has_its_word_and_its_figure() {
    check(Word::Errors, "3 failures: reset", |outcome| {
        outcome.errors.insert("reset".to_owned(), 3);
    });
    check(Word::ClientBound, "80%", |outcome| outcome.client_busy = 0.8);
    check(Word::NonStationary, "1.1% of 1000.0", |outcome| outcome.sent = 9890);
    check(Word::NonStationary, "2.20 requests", |outcome| outcome.in_system = 2.2);
    check(Word::Noisy, "250.0 µs late at the median", |outcome| {
        outcome.schedule_lag_us = Some(Summary { p50: 250.0, ..Summary::default() });
    });
    check(Word::Noisy, "600.0 µs late at the 99th", |outcome| {
        outcome.schedule_lag_us = Some(Summary { p99: 600.0, ..Summary::default() });
    });
    check(Word::Noisy, "6.0%", |outcome| outcome.client_delayed = 0.06);
    check(Word::Noisy, "7.0%", |outcome| outcome.stolen = 0.07);
    check(Word::UnderSampled, "999 replies", |outcome| {
        outcome.requests = 999;
        outcome.rate_per_s = 1000.0;
    });
    check(Word::UnderSampled, "no reply", |outcome| outcome.requests = 0);
    check(Word::NonStationary, "warm-up of 30 s", |outcome| {
        (outcome.warm_up_s, outcome.warm_up_is_steady) = (30.0, Some(false));
    });
    let within = Within { measure: Measure::P99, share: 0.05 };
    let known =
        |half_width| Interval { measure: within.measure, middle: 100.0, half_width, batches: 10 };
    check(Word::UnderSampled, "p99 is not known", |outcome| outcome.within = Some(within));
    check(Word::UnderSampled, "p99 is known to 6.0%", |outcome| {
        (outcome.within, outcome.intervals) = (Some(within), vec![known(6.0)]);
    });
    check(Word::Valid, "", |outcome| {
        (outcome.within, outcome.intervals) = (Some(within), vec![known(5.0)]);
    });
    check(Word::UnderSampled, "63 of 64", |outcome| outcome.connections_never_served = 63);
}

#[test]
fn the_limits_themselves_are_allowed() {
    check(Word::Valid, "", |outcome| {
        outcome.client_busy = 0.79;
        outcome.sent = 9900;
        outcome.in_system = 2.09;
        outcome.requests = 10_000;
    });
}

#[test]
fn a_trend_that_matters_is_told() {
    check(Word::NonStationary, "response time drifted: +", |outcome| {
        windows(outcome, |_| 500, |number| 1000 + 50 * number);
    });
    check(Word::NonStationary, "rate drifted: -", |outcome| {
        windows(outcome, |number| 500 - 10 * number, |_| 2000);
    });
}

#[test]
fn what_only_goes_up_and_down_is_no_trend() {
    check(Word::Valid, "", |outcome| {
        windows(outcome, |number| 400 + 200 * (number % 2), |number| 1000 + 900 * (number % 3));
    });
    // A single window of ten times the others: a stall, which the percentiles show.
    check(Word::Valid, "", |outcome| {
        windows(outcome, |_| 500, |number| if number == 19 { 20_000 } else { 2000 });
    });
}

#[test]
fn a_trend_too_small_to_matter_is_none() {
    check(Word::Valid, "", |outcome| windows(outcome, |n| 500 + n, |n| 2000 + n));
}

#[test]
fn a_ramp_is_meant_to_drift() {
    check(Word::Valid, "", |outcome| {
        windows(outcome, |number| 100 + 50 * number, |number| 1000 + 100 * number);
        let (arrivals, rate) = (Arrivals::Constant, Rate::Ramp(100.0, 1000.0));
        outcome.load = Some(Load::Open { rate, arrivals, seed: 1, backlog: 1 });
    });
}

#[test]
fn the_weightiest_objection_is_the_verdict_and_the_others_are_kept() {
    let mut outcome = good();
    outcome.client_busy = 0.95;
    outcome.stolen = 0.5;
    let verdict = Verdict::of(&outcome);
    assert_eq!(verdict.word, Word::ClientBound);
    assert_eq!(verdict.also.len(), 1);
    assert!(verdict.also[0].starts_with("NOISY"));
    assert!(verdict.objection(Word::Noisy).unwrap().starts_with("the hypervisor"));
    assert_eq!(verdict.objection(Word::ClientBound), Some(verdict.reason.as_str()));
    assert_eq!(verdict.objection(Word::Errors), None);
}

#[test]
fn of_clients_that_are_a_burden_no_replies_are_asked() {
    let sessions = |begun| Some(Sessions { begun, ..Sessions::default() });
    check(Word::Valid, "8 sessions", |outcome| {
        outcome.requests = 0;
        outcome.connections_never_served = 64;
        outcome.sessions = sessions(8);
    });
    check(Word::UnderSampled, "no connection", |outcome| outcome.sessions = sessions(0));
}
