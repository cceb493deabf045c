//! What a run's figures are worth: a judgement on the measurement, not on the server.
//!
//! Pure: it looks at an [`Outcome`] only, so a merged one or one of last year can be judged too.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::interval::Within;
use crate::outcome::Outcome;
use crate::steady::Window;
use crate::trend::trend;

/// The share of its time from which on a thread at work may be what was measured.
pub const BUSY_MAX: f64 = 0.8;
const RATE_TOLERANCE: f64 = 0.01;
const LITTLE_TOLERANCE: f64 = 0.05;
/// Of the response time at the same percentile.
const LAG_MEDIAN_MAX: f64 = 0.1;
const LAG_P99_MAX: f64 = 0.25;
const DELAYED_MAX: f64 = 0.05;
const STOLEN_MAX: f64 = 0.05;
/// For the 99th percentile: 10 / (1 - 0.99).
const SAMPLES_MIN: u64 = 1000;
/// There is a drift only if the halves of the measurement differ by so much.
const RATE_DRIFT_MAX: f64 = 0.1;
const RESPONSE_DRIFT_MAX: f64 = 0.2;

/// Whether the figures of a run may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// They may.
    #[serde(rename = "VALID")]
    Valid,
    /// Requests failed, so the others are a selection.
    #[serde(rename = "ERRORS")]
    Errors,
    /// The generator was at its limit: it is what was measured.
    #[serde(rename = "CLIENT-BOUND")]
    ClientBound,
    /// There was no steady state that the figures could be of.
    #[serde(rename = "NON-STATIONARY")]
    NonStationary,
    /// Something else kept the generator from sending in time.
    #[serde(rename = "NOISY")]
    Noisy,
    /// There are too few replies for the 99th percentile, or none of some connections.
    #[serde(rename = "UNDER-SAMPLED")]
    UnderSampled,
}

impl fmt::Display for Word {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Valid => "VALID",
            Self::Errors => "ERRORS",
            Self::ClientBound => "CLIENT-BOUND",
            Self::NonStationary => "NON-STATIONARY",
            Self::Noisy => "NOISY",
            Self::UnderSampled => "UNDER-SAMPLED",
        })
    }
}

/// A word with the figure that decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The weightiest objection.
    pub word: Word,
    /// The figure behind it.
    pub reason: String,
    /// The other objections.
    #[serde(default)]
    pub also: Vec<String>,
}

impl Verdict {
    /// Judges an outcome.
    pub fn of(outcome: &Outcome) -> Self {
        let checks: &[fn(&Outcome) -> Objection] = if outcome.sessions.is_some() {
            // How many replies such clients get is what is asked.
            &[errors, no_sessions, client, noise]
        } else if outcome.requests == 0 {
            // Nothing else can be said of nothing.
            &[errors, silence]
        } else {
            &[errors, silence, client, warm_up, rate, little, drift, noise, samples, precision]
        };
        let mut objections = checks.iter().filter_map(|check| check(outcome));
        let Some((word, reason)) = objections.next() else {
            return Self { word: Word::Valid, reason: figures(outcome), also: Vec::new() };
        };
        let also = objections.map(|(word, reason)| format!("{word}: {reason}")).collect();
        Self { word, reason, also }
    }

    /// The figure behind this objection, if it is one of them.
    pub(crate) fn objection(&self, word: Word) -> Option<&str> {
        let begins = format!("{word}: ");
        let other = || self.also.iter().find_map(|also| also.strip_prefix(begins.as_str()));
        if self.word == word { Some(&self.reason) } else { other() }
    }

    /// Whether the figures may be used.
    pub fn is_valid(&self) -> bool {
        self.word == Word::Valid
    }
}

type Objection = Option<(Word, String)>;

fn object(is_so: bool, word: Word, reason: impl FnOnce() -> String) -> Objection {
    is_so.then(|| (word, reason()))
}

fn errors(outcome: &Outcome) -> Objection {
    let count: u64 = outcome.errors.values().sum();
    let kinds = || outcome.errors.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    object(count > 0, Word::Errors, || format!("{count} failures: {}", kinds()))
}

fn silence(outcome: &Outcome) -> Objection {
    let (never, offered) = (outcome.connections_never_served, outcome.connections_offered);
    if outcome.requests == 0 {
        return object(true, Word::UnderSampled, || "no reply arrived".to_owned());
    }
    // Few arrivals need not meet every connection.
    let is_asked = outcome.rate_intended_per_s.is_none() || outcome.sent >= 10 * offered as u64;
    object(never > 0 && is_asked, Word::UnderSampled, || {
        format!("{never} of {offered} connections got no reply, and are in no percentile")
    })
}

fn no_sessions(outcome: &Outcome) -> Objection {
    let begun = outcome.sessions.as_ref().map_or(0, |sessions| sessions.begun);
    object(begun == 0, Word::UnderSampled, || "no connection was opened".to_owned())
}

fn client(outcome: &Outcome) -> Objection {
    let busy = outcome.client_busy;
    object(busy >= BUSY_MAX, Word::ClientBound, || {
        format!("the busiest thread was at work for {:.0}% of the time", 100.0 * busy)
    })
}

fn warm_up(outcome: &Outcome) -> Objection {
    object(outcome.warm_up_is_steady == Some(false), Word::NonStationary, || {
        let why = outcome.warm_up_objection.iter().map(|why| format!(": {why}"));
        let why = why.collect::<String>();
        format!("no steady state was found in a warm-up of {:.0} s{why}", outcome.warm_up_s)
    })
}

fn rate(outcome: &Outcome) -> Objection {
    let intended = outcome.rate_intended_per_s.filter(|rate| *rate > 0.0)?;
    let arrivals = outcome.arrivals as f64;
    let missed = (arrivals - outcome.sent as f64) / arrivals;
    object(missed > RATE_TOLERANCE, Word::NonStationary, || {
        format!(
            "the server did not keep up: {:.1}% of {intended:.1} requests/s were not sent for \
             want of a free connection, {} of them shed",
            100.0 * missed,
            outcome.shed
        )
    })
}

/// The law of Little: what is in the system is what comes a second times how long it stays. It
/// holds of any steady state; where it does not, what stayed longest has not been counted.
fn little(outcome: &Outcome) -> Objection {
    let product = outcome.rate_per_s * outcome.response_us.mean / 1e6;
    let inside = outcome.in_system;
    // Those that are inside at the beginning and the end may be counted with a part of their time.
    let tolerance = LITTLE_TOLERANCE + inside / outcome.requests.max(1) as f64;
    let is_off = inside > 0.0 && (product - inside).abs() > tolerance * inside;
    object(is_off, Word::NonStationary, || {
        format!(
            "{inside:.2} requests were in the system on average, but rate × mean response time \
             is {product:.2}; {} had no reply at the end",
            outcome.unfinished
        )
    })
}

fn drift(outcome: &Outcome) -> Objection {
    if outcome.load.as_ref().is_some_and(|load| !load.is_constant()) {
        return None;
    }
    let windows = &outcome.windows;
    let rates: Vec<f64> = windows.iter().map(|window| window.replies as f64).collect();
    let has_replies = windows.iter().filter(|window| window.replies > 0);
    let response = |window: &Window| window.response_ns as f64 / window.replies as f64;
    let responses: Vec<f64> = has_replies.map(response).collect();
    let of_rate = trend(&rates, RATE_DRIFT_MAX).map(|by| ("rate", by));
    let of_response = || trend(&responses, RESPONSE_DRIFT_MAX).map(|by| ("response time", by));
    let (what, by) = of_rate.or_else(of_response)?;
    object(true, Word::NonStationary, || {
        format!(
            "the {what} drifted: {:+.0}% from the first half of the measurement to the second",
            100.0 * by
        )
    })
}

fn noise(outcome: &Outcome) -> Objection {
    let (delayed, stolen) = (outcome.client_delayed, outcome.stolen);
    let late = outcome.schedule_lag_us.and_then(|lag| {
        let response = &outcome.response_us;
        let late = |word, lag: f64, response: f64, most: f64| {
            object(lag > most * response, Word::Noisy, || {
                format!(
                    "requests were sent {lag:.1} µs late at the {word}, where the response time \
                     is {response:.1} µs"
                )
            })
        };
        late("median", lag.p50, response.p50, LAG_MEDIAN_MAX)
            .or_else(|| late("99th percentile", lag.p99, response.p99, LAG_P99_MAX))
    });
    let waited = || {
        object(delayed > DELAYED_MAX, Word::Noisy, || {
            format!("a thread waited for a processor for {:.1}% of the time", 100.0 * delayed)
        })
    };
    let robbed = || {
        object(stolen > STOLEN_MAX, Word::Noisy, || {
            format!("the hypervisor took {:.1}% of the machine", 100.0 * stolen)
        })
    };
    late.or_else(waited).or_else(robbed)
}

fn samples(outcome: &Outcome) -> Objection {
    object(outcome.requests < SAMPLES_MIN, Word::UnderSampled, || {
        format!("{} replies; a 99th percentile needs {SAMPLES_MIN}", outcome.requests)
    })
}

fn precision(outcome: &Outcome) -> Objection {
    let Within { measure, share } = outcome.within?;
    let found = outcome.intervals.iter().find(|interval| interval.measure == measure);
    let is_met = found.is_some_and(|interval| interval.share() <= share);
    object(!is_met && !outcome.stopped, Word::UnderSampled, || {
        let reached = found.map_or("is not known how surely".to_owned(), |interval| {
            format!("is known to {:.1}%", 100.0 * interval.share())
        });
        format!("{} {reached}, and was to be within {:.1}%", measure.name(), 100.0 * share)
    })
}

/// What a valid run rests on.
fn figures(outcome: &Outcome) -> String {
    let late = outcome
        .schedule_lag_us
        .map_or(String::new(), |lag| format!(", requests {:.1} µs late at p99", lag.p99));
    let busy = 100.0 * outcome.client_busy;
    if let Some(sessions) = &outcome.sessions {
        return format!("{} sessions, busiest thread {busy:.0}% at work{late}", sessions.begun);
    }
    format!("{} replies, busiest thread {busy:.0}% at work{late}", outcome.requests)
}

#[cfg(test)]
mod tests;
