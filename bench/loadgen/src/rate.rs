//! The rate of an open loop over the time of a run: constant, a ramp, or steps.
//!
//! Invariant: the number of arrivals up to an instant is a function of that instant alone, and
//! [`Profile::seconds_at`] is its inverse; so no rounding adds up, however long a run is.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// More a second no generator of this kind can send; the schedule alone would keep it busy.
const FASTEST_PER_S: f64 = 1e7;
/// Slower than one request in a quarter of an hour is taken for a mistake.
const SLOWEST_PER_S: f64 = 0.001;
const MOST_STEPS: usize = 1000;

/// Requests a second: `5000`, a ramp over the measurement `1000..5000`, or steps of equal length
/// `1000,2000,5000`. The warm-up has the first of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(into = "String")]
pub enum Rate {
    /// The same all along.
    Constant(f64),
    /// Linear from the first to the second.
    Ramp(f64, f64),
    /// One after the other.
    Steps(Vec<f64>),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |number: &str| {
            let rate = number.trim().parse::<f64>().map_err(|_| {
                format!("{number:?} is no rate: write 5000, 1000..5000 or 1000,2000,5000")
            })?;
            if (SLOWEST_PER_S..=FASTEST_PER_S).contains(&rate) {
                return Ok(rate);
            }
            Err(format!(
                "a rate of {number} a second is impossible; give {SLOWEST_PER_S} to {FASTEST_PER_S}"
            ))
        };
        if let Some((from, to)) = text.split_once("..") {
            return Ok(Self::Ramp(parse(from)?, parse(to)?));
        }
        if !text.contains(',') {
            return Ok(Self::Constant(parse(text)?));
        }
        let steps = text.split(',').map(parse).collect::<Result<Vec<_>, _>>()?;
        if steps.len() > MOST_STEPS {
            return Err(format!("at most {MOST_STEPS} steps of a rate are possible"));
        }
        Ok(Self::Steps(steps))
    }
}

/// As text, or as a plain number.
impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

/// A rate as people write it into a file.
struct Written;

impl Visitor<'_> for Written {
    type Value = Rate;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a rate: 5000, \"1000..5000\" or \"1000,2000,5000\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Rate, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, rate: i64) -> Result<Rate, E> {
        self.visit_str(&rate.to_string())
    }

    fn visit_u64<E: de::Error>(self, rate: u64) -> Result<Rate, E> {
        self.visit_str(&rate.to_string())
    }

    fn visit_f64<E: de::Error>(self, rate: f64) -> Result<Rate, E> {
        self.visit_str(&rate.to_string())
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(rate) => write!(formatter, "{rate}"),
            Self::Ramp(from, to) => write!(formatter, "{from}..{to}"),
            Self::Steps(steps) => {
                let steps: Vec<_> = steps.iter().map(f64::to_string).collect();
                formatter.write_str(&steps.join(","))
            }
        }
    }
}

impl Rate {
    /// Whether it is the same all along, so that a steady state is to be expected.
    pub fn is_constant(&self) -> bool {
        matches!(self, Self::Constant(_))
    }

    /// Whether each of its numbers is one that [`Rate::from_str`] takes.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.to_string().parse::<Self>().map(|_| ())
    }

    pub(crate) fn profile(&self, warm_up: Duration, duration: Duration) -> Profile {
        let seconds = duration.as_secs_f64();
        let pieces = match self {
            // It goes on for ever anyway.
            Self::Constant(rate) => vec![(0.0, *rate, *rate)],
            Self::Ramp(from, to) => vec![(seconds, *from, *to)],
            Self::Steps(steps) => {
                let each = seconds / steps.len() as f64;
                steps.iter().map(|rate| (each, *rate, *rate)).collect()
            }
        };
        let (first, last) = (pieces[0].1, pieces[pieces.len() - 1].2);
        let mut profile = Profile { segments: Vec::new() };
        let warm_up = if self.is_constant() { 0.0 } else { warm_up.as_secs_f64() };
        profile.push(warm_up, first, first);
        for (seconds, from, to) in pieces {
            profile.push(seconds, from, to);
        }
        // A run may last a little longer than it should.
        profile.push(f64::INFINITY, last, last);
        profile
    }
}

/// Pieces in each of which the rate is linear.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    segments: Vec<Segment>,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    begins_s: f64,
    seconds: f64,
    from: f64,
    to: f64,
    arrivals_before: f64,
    arrivals: f64,
}

impl Profile {
    fn push(&mut self, seconds: f64, from: f64, to: f64) {
        let (begins_s, arrivals_before) = self.segments.last().map_or((0.0, 0.0), |segment| {
            (segment.begins_s + segment.seconds, segment.arrivals_before + segment.arrivals)
        });
        let arrivals = seconds * f64::midpoint(from, to);
        self.segments.push(Segment { begins_s, seconds, from, to, arrivals_before, arrivals });
    }

    /// When so many arrivals have come, in seconds since the start. `from` is where to look first,
    /// and is moved on: calls ask for more and more arrivals.
    pub(crate) fn seconds_at(&self, arrivals: f64, from: &mut usize) -> f64 {
        while let Some(next) = self.segments.get(*from + 1)
            && next.arrivals_before <= arrivals
        {
            *from += 1;
        }
        let segment = self.segments[*from];
        let count = arrivals - segment.arrivals_before;
        let slope = (segment.to - segment.from) / segment.seconds;
        // The root of from·t + slope·t²/2 = count, in the form that cancels nothing.
        let root = (segment.from * segment.from + 2.0 * slope * count).max(0.0).sqrt();
        segment.begins_s + 2.0 * count / (segment.from + root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_written_as_they_are_read() {
        for text in ["5000", "0.5", "1000..5000", "1000,2000,5000"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_file_may_hold_a_rate_as_text_or_as_a_number() {
        for (written, expected) in [("5000", "5000"), ("0.5", "0.5"), ("\"1..9\"", "1..9")] {
            assert_eq!(serde_json::from_str::<Rate>(written).unwrap().to_string(), expected);
        }
        assert!(serde_json::from_str::<Rate>("-1").is_err());
    }

    #[test]
    fn impossible_rates_are_refused() {
        for text in ["0", "-1", "1e12", "NaN", "inf", "many", "", "1..0", "1,", "1,2,0"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_ramp_has_the_arrivals_below_its_line() {
        let second = Duration::from_secs(1);
        let profile = Rate::Ramp(100.0, 300.0).profile(second, second * 10);
        // 100 in the warm-up, 2000 in the ramp, of which 750 in its first half.
        for (arrivals, seconds) in
            [(0.0, 0.0), (100.0, 1.0), (850.0, 6.0), (2100.0, 11.0), (2400.0, 12.0)]
        {
            let found = profile.seconds_at(arrivals, &mut 0);
            assert!((found - seconds).abs() < 1e-9, "{arrivals}: {found}, expected {seconds}");
        }
    }

    #[test]
    fn steps_share_the_measurement() {
        let rate: Rate = "10,40".parse().unwrap();
        let profile = rate.profile(Duration::ZERO, Duration::from_secs(4));
        for (arrivals, seconds) in [(10.0, 1.0), (20.0, 2.0), (60.0, 3.0), (140.0, 5.0)] {
            assert!((profile.seconds_at(arrivals, &mut 0) - seconds).abs() < 1e-9);
        }
    }
}
