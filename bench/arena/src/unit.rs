//! What a workload's numbers count: replies, logins, or bytes where a reply is a whole file.
//!
//! Bytes are counted as they go, so that the file under way when the measuring ends is in the
//! number as far as it went.

use loadgen::{FtpOperation, Outcome, Protocol};

use crate::sample::Used;
use crate::workload::Workload;

/// More than the replies of a conversation that moves no file.
const A_FEW_BYTES: u64 = 64 * 1024;

#[derive(Clone, Copy)]
pub(crate) enum Unit {
    Request,
    Login,
    /// A whole session of a script.
    Session,
    /// Received, or sent.
    Received,
    Stored,
}

impl Unit {
    pub(crate) fn of(workload: &Workload) -> Self {
        let logs_in = workload.operation == FtpOperation::Login;
        match workload.protocol {
            _ if workload.script.is_some() => Self::Session,
            Protocol::Ftp if logs_in => Self::Login,
            _ if workload.stores() => Self::Stored,
            _ if workload.retrieves_large_file() => Self::Received,
            _ => Self::Request,
        }
    }

    pub(crate) fn cost_column(self) -> &'static str {
        match self {
            Self::Request => "CPU µs/request",
            Self::Login => "CPU µs/login",
            Self::Session => "CPU µs/session",
            Self::Received | Self::Stored => "CPU ms/GB",
        }
    }

    pub(crate) fn speed_column(self) -> &'static str {
        match self {
            Self::Request => "requests/s",
            Self::Login => "logins/s",
            Self::Session => "sessions/s",
            Self::Received | Self::Stored => "MB/s",
        }
    }

    pub(crate) fn syscalls_column(self) -> &'static str {
        match self {
            Self::Request => "syscalls/request",
            Self::Login => "syscalls/login",
            Self::Session => "syscalls/session",
            Self::Received | Self::Stored => "syscalls/MB",
        }
    }

    /// What stands behind a number of the cost column.
    pub(crate) fn cost(self) -> &'static str {
        match self {
            Self::Request | Self::Login | Self::Session => "µs",
            Self::Received | Self::Stored => "ms/GB",
        }
    }

    /// Processor time for each, in the unit of the cost column. Both are rates over their own
    /// window, as the clocks cannot be read in the very instant in which the measuring begins.
    pub(crate) fn cost_of(self, outcome: &Outcome, used: &Used) -> Option<f64> {
        let share = used.cpu_s / used.cpu_window_s;
        let cost = match self {
            Self::Request | Self::Login | Self::Session => share * 1e6 / outcome.rate_per_s,
            Self::Received | Self::Stored => share * 1e6 / self.speed_of(outcome)?,
        };
        cost.is_finite().then_some(cost)
    }

    /// Whether any part of a file was moved, where files are what is counted.
    pub(crate) fn moved_any(self, outcome: &Outcome) -> bool {
        match self {
            Self::Request | Self::Login | Self::Session => false,
            Self::Received => outcome.bytes_received > A_FEW_BYTES,
            Self::Stored => outcome.bytes_sent > A_FEW_BYTES,
        }
    }

    /// So many a second, in the unit of the speed column.
    pub(crate) fn speed_of(self, outcome: &Outcome) -> Option<f64> {
        let megabytes = |bytes: u64| bytes as f64 / 1e6 / outcome.elapsed_s;
        let speed = match self {
            Self::Request | Self::Login | Self::Session => outcome.rate_per_s,
            Self::Received => megabytes(outcome.bytes_received),
            Self::Stored => megabytes(outcome.bytes_sent),
        };
        speed.is_finite().then_some(speed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_half_through_counts_by_half() {
        let outcome = Outcome { bytes_sent: 500_000_000, elapsed_s: 2.0, ..Outcome::default() };
        let used = Used { cpu_s: 1.0, cpu_window_s: 2.0, ..Used::default() };
        assert_eq!(Unit::Stored.speed_of(&outcome), Some(250.0));
        assert_eq!(Unit::Stored.cost_of(&outcome, &used), Some(2000.0));
        assert!(Unit::Stored.moved_any(&outcome));
        assert_eq!(Unit::Request.cost_of(&outcome, &used), None);
        assert!(!Unit::Request.moved_any(&outcome));
    }
}
