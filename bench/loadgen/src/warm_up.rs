//! Finds from the data when a run is warm.
//!
//! Two series are watched, the rate and the mean response time of short windows. The run is warm
//! when for each the truncation point by MSER-5 (White 1997; White, Cobb and Spratt 2000) lies in
//! the first half of what was seen, and what follows it has no trend. Pure: it knows no clock.

use std::time::Duration;

use crate::trend::trend;

/// Windows that make one value of MSER-5.
const WINDOWS_PER_VALUE: usize = 5;
/// Fewer values say nothing: of half of them a trend must still be told.
const VALUES_MIN: usize = 20;
/// Only what differs by more is a trend.
const TREND_MAX: f64 = 0.1;

/// What has been seen of a warm-up.
#[derive(Debug, Default)]
pub(crate) struct WarmUp {
    rates: Series,
    response_times: Series,
    before: Window,
}

/// Everything up to an instant.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Window {
    pub(crate) elapsed: Duration,
    pub(crate) replies: u64,
    pub(crate) response_ns: u64,
}

#[derive(Debug, Default)]
struct Series {
    values: Vec<f64>,
    /// The windows of the next value.
    windows: Vec<f64>,
}

impl WarmUp {
    /// Takes what there is up to now, and says whether the run is warm. A window lasts until there
    /// is a reply in it.
    pub(crate) fn is_over(&mut self, now: Window) -> bool {
        let replies = now.replies - self.before.replies;
        let seconds = now.elapsed.saturating_sub(self.before.elapsed).as_secs_f64();
        if replies == 0 || seconds <= 0.0 {
            return false;
        }
        let response_ns = now.response_ns - self.before.response_ns;
        self.before = now;
        let has_new_value = self.rates.push(replies as f64 / seconds);
        self.response_times.push(response_ns as f64 / replies as f64);
        has_new_value && self.objection().is_none()
    }

    /// Why the run is not warm.
    pub(crate) fn objection(&self) -> Option<String> {
        let of_rate = self.rates.objection().map(|why| format!("the rate {why}"));
        let of_response =
            || self.response_times.objection().map(|why| format!("the response time {why}"));
        of_rate.or_else(of_response)
    }
}

impl Series {
    /// True if the window has completed a value.
    fn push(&mut self, window: f64) -> bool {
        self.windows.push(window);
        let is_complete = self.windows.len() == WINDOWS_PER_VALUE;
        if is_complete {
            self.values.push(self.windows.iter().sum::<f64>() / WINDOWS_PER_VALUE as f64);
            self.windows.clear();
        }
        is_complete
    }

    fn objection(&self) -> Option<String> {
        let count = self.values.len();
        if count < VALUES_MIN {
            return Some("is that of too few replies".to_owned());
        }
        let cut = truncation(&self.values);
        if 2 * cut >= count {
            let share = 100 * cut / count;
            return Some(format!("had a transient that lasted for {share}% of it"));
        }
        let by = trend(&self.values[cut..], TREND_MAX)?;
        Some(format!("still drifted by {:+.0}%", 100.0 * by))
    }
}

/// How many values to leave out at the beginning so that the standard error of the mean of the
/// others is least. The last few are never what is left: of few values it is small by chance.
fn truncation(values: &[f64]) -> usize {
    let count = values.len();
    let error = |cut: usize| {
        let kept = &values[cut..];
        let mean = kept.iter().sum::<f64>() / kept.len() as f64;
        let squares: f64 = kept.iter().map(|value| (value - mean).powi(2)).sum();
        squares / (kept.len() as f64).powi(2)
    };
    let cuts = 0..count.saturating_sub(WINDOWS_PER_VALUE - 1);
    cuts.min_by(|a, b| error(*a).total_cmp(&error(*b))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers from 0 to 1 by the generator of Numerical Recipes, which any language makes alike.
    fn noise(seed: u32) -> impl Iterator<Item = f64> {
        std::iter::successors(Some(seed), |state| {
            Some(state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223))
        })
        .skip(1)
        .map(|state| f64::from(state) / f64::from(u32::MAX))
    }

    const FIXTURES: [(f64, f64, u32, usize); 5] = [
        (0.0, 1.0, 1, 0),
        (5.0, 4.0, 2, 11),
        (50.0, 4.0, 3, 18),
        (5.0, 15.0, 4, 35),
        (100.0, 2.0, 5, 10),
    ];
    const AUTOREGRESSIVE: usize = 6;

    /// Expected values: the same series in `NumPy`, where for each `cut` the error is
    /// `np.var(values[cut:]) / len(values[cut:])`, and `argmin` over `cut <= len(values) - 5`.
    #[test]
    fn the_transient_is_cut_off_where_numpy_finds_it() {
        let decaying = |height: f64, length: f64, seed: u32| -> Vec<f64> {
            let decay = (0..100).map(|number| height * (-f64::from(number) / length).exp());
            decay.zip(noise(seed)).map(|(decay, noise)| 10.0 + decay + noise).collect()
        };
        for (height, length, seed, expected) in FIXTURES {
            assert_eq!(truncation(&decaying(height, length, seed)), expected, "{height} {length}");
        }
    }

    #[test]
    fn correlated_values_are_cut_where_numpy_finds_it() {
        let mut state = 5.0;
        let values: Vec<f64> = noise(9)
            .take(100)
            .map(|noise| {
                state = 0.8 * state + noise - 0.5;
                10.0 + state
            })
            .collect();
        assert_eq!(truncation(&values), AUTOREGRESSIVE);
    }

    fn warm_after(rate: impl Fn(f64) -> f64, longest_s: f64) -> Option<f64> {
        let mut warm_up = WarmUp::default();
        let (mut seconds, mut replies) = (0.0, 0.0);
        while seconds < longest_s {
            seconds += 0.02;
            replies += 0.02 * rate(seconds);
            let now = Window {
                elapsed: Duration::from_secs_f64(seconds),
                replies: replies as u64,
                response_ns: (replies * 1e6) as u64,
            };
            if warm_up.is_over(now) {
                return Some(seconds);
            }
        }
        None
    }

    #[test]
    fn a_rate_that_is_steady_at_once_is_warm_after_the_least_time() {
        let seconds = warm_after(|_| 10_000.0, 30.0).unwrap();
        assert!((1.99..2.2).contains(&seconds), "{seconds}");
    }

    #[test]
    fn a_rate_that_rises_for_three_seconds_is_warm_some_seconds_later() {
        let seconds = warm_after(|at| 10_000.0 * (at / 3.0).min(1.0), 30.0).unwrap();
        assert!((3.0..12.0).contains(&seconds), "{seconds}");
    }

    #[test]
    fn a_rate_that_never_stops_rising_is_never_warm() {
        assert_eq!(warm_after(|at| 1_000.0 * at, 30.0), None);
    }

    #[test]
    fn what_is_not_steady_is_named_with_its_figure() {
        let check = |value: fn(u32) -> f64, expected: &str| {
            let values = (0..100).map(value).collect();
            let found = Series { values, windows: Vec::new() }.objection().unwrap();
            assert!(found.contains(expected), "{found}");
        };
        check(|number| if number < 70 { f64::from(number) } else { 70.0 }, "70%");
        // Slow and small: it is not worth cutting anything off.
        check(
            |number| 1000.0 + 4.0 * f64::from(number) + 500.0 * f64::from(number % 2),
            "drifted by +1",
        );
        assert!(Series::default().objection().unwrap().contains("too few"));
    }
}
