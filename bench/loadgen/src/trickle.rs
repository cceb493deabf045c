//! So many bytes a second: a token bucket, without a clock of its own.
//!
//! Invariant: over any time no more passes than the rate allows in it, and two pieces.

use std::time::Duration;

/// So often a second something passes, where the rate allows as many bytes.
const PIECES_PER_S: u64 = 10;

/// What a slow reader takes, or a slow sender gives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trickle {
    bytes_per_s: u64,
    /// When the next piece may pass, in nanoseconds since the start.
    next_ns: u64,
}

impl Trickle {
    pub(crate) fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s, next_ns: 0 }
    }

    /// How much may pass now.
    pub(crate) fn allowance(&self, now_ns: u64) -> usize {
        if now_ns < self.next_ns { 0 } else { self.piece() as usize }
    }

    /// So much has passed.
    pub(crate) fn passed(&mut self, bytes: usize, now_ns: u64) {
        // Whoever is late may make up for one piece.
        let earliest = now_ns.saturating_sub(self.time_of(self.piece()));
        self.next_ns = self.next_ns.max(earliest) + self.time_of(bytes as u64);
    }

    /// When something may pass again, in nanoseconds since the start.
    pub(crate) fn next_ns(&self) -> u64 {
        self.next_ns
    }

    fn piece(&self) -> u64 {
        (self.bytes_per_s / PIECES_PER_S).max(1)
    }

    fn time_of(&self, bytes: u64) -> u64 {
        let nanoseconds =
            u128::from(bytes) * Duration::from_secs(1).as_nanos() / u128::from(self.bytes_per_s);
        u64::try_from(nanoseconds).unwrap_or(u64::MAX / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    /// How much passes in ten seconds, if it is looked after every so many nanoseconds.
    fn passed(bytes_per_s: u64, every_ns: u64) -> u64 {
        let mut trickle = Trickle::new(bytes_per_s);
        let mut total = 0;
        let mut now_ns = 5 * SECOND_NS;
        while now_ns < 15 * SECOND_NS {
            let bytes = trickle.allowance(now_ns);
            trickle.passed(bytes, now_ns);
            total += bytes as u64;
            now_ns += every_ns;
        }
        total
    }

    #[test]
    fn what_passes_has_the_rate_however_often_it_is_looked_at() {
        for bytes_per_s in [1, 3, 10, 999, 1_000_000] {
            let piece = (bytes_per_s / PIECES_PER_S).max(1);
            for every_ns in [1_000_000, 7_000_000, SECOND_NS / 25] {
                let total = passed(bytes_per_s, every_ns);
                let expected = 10 * bytes_per_s;
                assert!(total.abs_diff(expected) <= 2 * piece, "{total} of {expected}");
            }
        }
    }

    #[test]
    fn the_next_piece_waits_for_the_one_before() {
        let mut trickle = Trickle::new(100);
        assert_eq!(trickle.allowance(0), 10);
        trickle.passed(10, 0);
        assert_eq!((trickle.allowance(SECOND_NS / 10 - 1), trickle.next_ns()), (0, SECOND_NS / 10));
        assert_eq!(trickle.allowance(SECOND_NS / 10), 10);
    }

    #[test]
    fn a_long_silence_earns_no_more_than_a_piece() {
        let mut trickle = Trickle::new(100);
        trickle.passed(10, 1000 * SECOND_NS);
        assert_eq!(trickle.allowance(1000 * SECOND_NS), 10);
        trickle.passed(10, 1000 * SECOND_NS);
        assert_eq!(trickle.allowance(1000 * SECOND_NS), 0);
    }
}
