//! What is kept in order to tell afterwards whether a run was in a steady state: how many requests
//! were in the system, and what each part of the measurement was like. Sums only.

use serde::{Deserialize, Serialize};

/// Into so many windows of equal length the measurement is divided.
pub(crate) const WINDOWS: usize = 20;

/// The number of requests in the system, integrated over time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flow {
    inside: i64,
    /// Of the instants at which they left, less those at which they came.
    sum_ns: i128,
}

impl Flow {
    pub(crate) fn enter(&mut self, now_ns: u64) {
        self.inside += 1;
        self.sum_ns -= i128::from(now_ns);
    }

    pub(crate) fn leave(&mut self, now_ns: u64) {
        self.inside -= 1;
        self.sum_ns += i128::from(now_ns);
    }

    pub(crate) fn inside(&self) -> usize {
        usize::try_from(self.inside).unwrap_or(0)
    }

    /// Nanoseconds that requests have spent in the system up to now, all together.
    pub(crate) fn area_ns(&self, now_ns: u64) -> i128 {
        self.sum_ns + i128::from(self.inside) * i128::from(now_ns)
    }
}

/// One part of the measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Correct replies in it.
    pub replies: u64,
    /// The sum of their response times, in nanoseconds.
    pub response_ns: u64,
}

impl Window {
    pub(crate) fn add(&mut self, other: Self) {
        self.replies += other.replies;
        self.response_ns = self.response_ns.saturating_add(other.response_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_is_the_number_inside_times_the_time() {
        let mut flow = Flow::default();
        flow.enter(10);
        flow.enter(20);
        assert_eq!((flow.area_ns(30), flow.inside()), (20 + 10, 2));
        flow.leave(40);
        assert_eq!(flow.area_ns(50) - flow.area_ns(40), 10);
        flow.leave(60);
        assert_eq!((flow.area_ns(1000), flow.inside()), (40 + 40 - 10, 0));
    }
}
