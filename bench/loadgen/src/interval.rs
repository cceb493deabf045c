//! How surely a percentile or the rate is known: the method of batch means (Law and Kelton,
//! *Simulation Modeling and Analysis*, §9.5.3).
//!
//! Requests of one run are not independent of each other, so an interval over requests would be
//! too narrow. Batches of the measurement that lie next to each other are joined in pairs until
//! they are no longer correlated; the interval is Student's over what is then left.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF as _, StudentsT};

use crate::steady::Window;

/// The measurement has so many batches, if none would be longer than [`LONGEST_BATCH`].
const BATCHES: u32 = 40;
/// Ten of them are the soonest that anything is known.
const LONGEST_BATCH: Duration = Duration::from_millis(250);
/// Fewer tell nothing of their spread.
const BATCHES_MIN: usize = 10;
/// More are joined in pairs, so that a long run takes no more memory than a short one.
const BATCHES_MAX: usize = 80;
/// For a quantile, a batch has so many replies beyond it at least.
const REPLIES_BEYOND: f64 = 10.0;
/// Of the normal distribution, one-sided: a chance of 1 in 20 that batches are independent.
const DEVIATIONS: f64 = 1.645;
const CONFIDENCE: f64 = 0.95;

/// What of an outcome is to be known, and how surely.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Within {
    /// Of what.
    pub measure: Measure,
    /// Half of the interval's width, over its middle.
    pub share: f64,
}

/// A figure that an interval is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// The median of the response time.
    P50,
    /// Its 90th percentile.
    P90,
    /// Its 99th percentile.
    P99,
    /// Its 99.9th percentile.
    P999,
    /// Correct replies a second.
    Rate,
}

/// A 95% confidence interval around a figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Of what.
    pub measure: Measure,
    /// The mean over the batches: of percentiles in microseconds, or of rates a second.
    pub middle: f64,
    /// In the same unit.
    pub half_width: f64,
    /// How many batches it rests on.
    pub batches: usize,
}

impl Interval {
    /// Half of its width, over its middle.
    pub fn share(&self) -> f64 {
        self.half_width / self.middle
    }
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::P50, Self::P90, Self::P99, Self::P999, Self::Rate];

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::Rate => "rate",
        }
    }

    fn quantile(self) -> Option<f64> {
        match self {
            Self::P50 => Some(0.5),
            Self::P90 => Some(0.9),
            Self::P99 => Some(0.99),
            Self::P999 => Some(0.999),
            Self::Rate => None,
        }
    }

    /// Of a batch; none of one with too few replies.
    fn of(self, batch: &Batch, length: Duration) -> Option<f64> {
        let Some(quantile) = self.quantile() else {
            return Some(batch.replies as f64 / length.as_secs_f64());
        };
        let beyond = batch.replies as f64 * (1.0 - quantile);
        (beyond >= REPLIES_BEYOND).then(|| batch.value_at_quantile(quantile) as f64 / 1e3)
    }
}

/// How long a batch of a measurement is.
pub(crate) fn batch_length(measurement: Duration) -> Duration {
    (measurement / BATCHES).min(LONGEST_BATCH)
}

/// The replies of one batch: how many took how long, in nanoseconds. A histogram has a place for
/// every time that there could be, and to look through eighty of them takes milliseconds.
#[derive(Clone, Debug, Default)]
struct Batch {
    counts: BTreeMap<u64, u64>,
    replies: u64,
}

impl Batch {
    fn of(histogram: &Histogram<u64>) -> Self {
        let recorded = histogram.iter_recorded();
        let counts = recorded.map(|it| (it.value_iterated_to(), it.count_at_value())).collect();
        Self { counts, replies: histogram.len() }
    }

    fn sum(batches: &[Self]) -> Self {
        let mut sum = Self::default();
        for batch in batches {
            sum.add(batch);
        }
        sum
    }

    fn add(&mut self, other: &Self) {
        for (value, count) in &other.counts {
            *self.counts.entry(*value).or_default() += count;
        }
        self.replies += other.replies;
    }

    fn value_at_quantile(&self, quantile: f64) -> u64 {
        let rank = (quantile * self.replies as f64).ceil() as u64;
        let mut passed = 0;
        let found = self.counts.iter().find(|(_, count)| {
            passed += **count;
            passed >= rank
        });
        found.map_or(0, |(value, _)| *value)
    }

    fn window(&self) -> Window {
        let sum = self.counts.iter().map(|(value, count)| value.saturating_mul(*count));
        Window { replies: self.replies, response_ns: sum.fold(0, u64::saturating_add) }
    }
}

/// The batches of all threads together, as they come in.
pub(crate) struct Batches {
    length: Duration,
    /// Of each thread what it had recorded by the end of each batch, and is not added up yet.
    threads: Vec<VecDeque<Histogram<u64>>>,
    /// What all had recorded by the end of the last batch.
    before: Option<Histogram<u64>>,
    whole: Vec<Batch>,
    /// How many of the threads' batches make one of `whole`, and how many are in its last.
    joined: usize,
    in_last: usize,
}

impl Batches {
    pub(crate) fn new(threads: usize, length: Duration) -> Self {
        Self {
            length,
            threads: vec![VecDeque::new(); threads],
            before: None,
            whole: Vec::new(),
            joined: 1,
            in_last: 1,
        }
    }

    /// A thread has recorded all this by the end of a batch.
    pub(crate) fn add(&mut self, thread: usize, recorded: Histogram<u64>) {
        self.threads[thread].push_back(recorded);
        while self.threads.iter().all(|recorded| !recorded.is_empty()) {
            let mut parts = self.threads.iter_mut().filter_map(VecDeque::pop_front);
            let Some(mut recorded) = parts.next() else { return };
            parts.for_each(|part| recorded += part);
            let mut batch = recorded.clone();
            if let Some(before) = self.before.replace(recorded) {
                batch.subtract(&before).expect("a thread forgets nothing that it has recorded");
            }
            self.append(Batch::of(&batch));
        }
    }

    fn append(&mut self, batch: Batch) {
        if self.in_last < self.joined {
            self.in_last += 1;
            self.whole.last_mut().expect("the last is not whole").add(&batch);
            return;
        }
        if self.whole.len() == BATCHES_MAX {
            self.whole = self.whole.chunks(2).map(Batch::sum).collect();
            self.joined *= 2;
        }
        self.whole.push(batch);
        self.in_last = 1;
    }

    fn whole(&self) -> &[Batch] {
        let is_whole = self.in_last == self.joined;
        &self.whole[..self.whole.len() - usize::from(!is_whole)]
    }

    /// What a drift is looked for in, of a measurement that ended when enough was known.
    pub(crate) fn windows(&self) -> Vec<Window> {
        self.whole().iter().map(Batch::window).collect()
    }

    /// The interval, if the batches tell one.
    pub(crate) fn interval(&self, measure: Measure) -> Option<Interval> {
        let whole = self.whole();
        let length = self.length * self.joined as u32;
        let mut joined = 1;
        while whole.len() / joined >= BATCHES_MIN {
            let batches = whole.chunks_exact(joined);
            let values =
                batches.map(|batch| measure.of(&Batch::sum(batch), length * joined as u32));
            let values: Option<Vec<f64>> = values.collect();
            if let Some(values) = values.filter(|values| !are_correlated(values)) {
                return Some(interval(measure, &values));
            }
            joined *= 2;
        }
        None
    }
}

/// Whether each value tells something of the next.
fn are_correlated(values: &[f64]) -> bool {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let products: f64 = values.windows(2).map(|two| (two[0] - mean) * (two[1] - mean)).sum();
    squares > 0.0 && products / squares > DEVIATIONS / count.sqrt()
}

fn interval(measure: Measure, values: &[f64]) -> Interval {
    let count = values.len() as f64;
    let middle = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - middle).powi(2)).sum::<f64>() / (count - 1.0);
    let student = StudentsT::new(0.0, 1.0, count - 1.0).expect("there are several batches");
    let deviations = student.inverse_cdf(f64::midpoint(1.0, CONFIDENCE));
    let half_width = deviations * (variance / count).sqrt();
    Interval { measure, middle, half_width, batches: values.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: `scipy.stats.t.interval(0.95, 9, np.mean(v), scipy.stats.sem(v))`.
    #[test]
    fn an_interval_is_students() {
        let values = [10.0, 12.0, 11.0, 9.0, 10.5, 11.5, 10.0, 9.5, 12.5, 11.0];
        let found = interval(Measure::P99, &values);
        assert!((found.middle - 10.7).abs() < 1e-9, "{found:?}");
        assert!((found.half_width - 0.794_443_5).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn values_that_follow_each_other_are_correlated_and_others_are_not() {
        let rising: Vec<f64> = (0..20).map(f64::from).collect();
        assert!(are_correlated(&rising));
        let mut random = fastrand::Rng::with_seed(1);
        let independent: Vec<f64> = (0..20).map(|_| random.f64()).collect();
        assert!(!are_correlated(&independent));
        assert!(!are_correlated(&[1.0; 20]));
    }

    fn recorded(batches: u64, per_batch: u64) -> Vec<Histogram<u64>> {
        let mut histogram = Histogram::new_with_bounds(1, 1_000_000_000, 3).unwrap();
        let mut random = fastrand::Rng::with_seed(7);
        let mut batch = |_| {
            (0..per_batch).for_each(|_| histogram.record(random.u64(1..1_000_000)).unwrap());
            histogram.clone()
        };
        (0..batches).map(&mut batch).collect()
    }

    #[test]
    fn a_batch_has_the_percentiles_of_its_histogram() {
        let histogram = recorded(1, 5000).remove(0);
        let batch = Batch::of(&histogram);
        for quantile in [0.5, 0.9, 0.99, 0.999, 1.0] {
            let expected = histogram.value_at_quantile(quantile);
            assert_eq!(batch.value_at_quantile(quantile), expected, "{quantile}");
        }
        let Window { replies, response_ns } = batch.window();
        assert_eq!(replies, 5000);
        assert!((response_ns as f64 / 5000.0 / histogram.mean() - 1.0).abs() < 0.001);
    }

    #[test]
    fn batches_of_threads_that_end_at_different_times_are_added_up() {
        let mut batches = Batches::new(2, Duration::from_secs(1));
        for recorded in recorded(20, 2000) {
            batches.add(0, recorded);
        }
        assert_eq!(batches.interval(Measure::Rate), None);
        for recorded in recorded(20, 3000) {
            batches.add(1, recorded);
        }
        let rate = batches.interval(Measure::Rate).unwrap();
        assert_eq!((rate.middle, rate.half_width, rate.batches), (5000.0, 0.0, 20));
        let median = batches.interval(Measure::P50).unwrap();
        assert!((median.middle - 500.0).abs() < 2.0 * median.half_width, "{median:?}");
        assert!(median.share() < 0.02, "{median:?}");
    }

    #[test]
    fn a_long_run_has_fewer_longer_batches_and_the_same_rate() {
        let mut batches = Batches::new(1, Duration::from_secs(1));
        for recorded in recorded(2 * BATCHES_MAX as u64 + 1, 1000) {
            batches.add(0, recorded);
        }
        assert!(batches.whole.len() <= BATCHES_MAX);
        let rate = batches.interval(Measure::Rate).unwrap();
        assert_eq!((rate.middle, rate.half_width), (1000.0, 0.0));
        // Joined twice, to four each; the last is a first part of the next, which is no window.
        assert!(batches.windows().iter().all(|window| window.replies == 4000));
        assert_eq!(batches.windows().len(), BATCHES_MAX / 2);
    }

    #[test]
    fn batches_with_too_few_replies_are_joined_or_tell_nothing() {
        let mut batches = Batches::new(1, Duration::from_secs(1));
        for recorded in recorded(40, 300) {
            batches.add(0, recorded);
        }
        // 300 replies have 3 beyond their 99th percentile, 1200 have 12.
        assert_eq!(batches.interval(Measure::P99).unwrap().batches, 10);
        assert_eq!(batches.interval(Measure::P999), None);
    }
}
