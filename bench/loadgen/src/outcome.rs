//! What a run found: plain data, complete without the run that made it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A distribution of durations in microseconds, read off a histogram of three significant digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many were recorded.
    pub count: u64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// 99.99th percentile.
    pub p9999: f64,
    /// Largest.
    pub max: f64,
    /// Mean.
    pub mean: f64,
}

/// The result of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Correct replies that arrived within the measurement.
    pub requests: u64,
    /// Failures by kind, in the warm-up and the measurement.
    pub errors: BTreeMap<String, u64>,
    /// What exactly the first failure was.
    #[serde(default)]
    pub first_error: Option<String>,
    /// The length of the measurement, in seconds.
    pub elapsed_s: f64,
    /// `requests` over `elapsed_s`.
    pub rate_per_s: f64,
    /// Everything received within the measurement, headers and FTP replies too.
    pub bytes_received: u64,
    /// What was sent of uploads within the measurement.
    #[serde(default)]
    pub bytes_sent: u64,
    /// Connections that tried to work.
    pub connections_offered: usize,
    /// Connections that got at least one correct reply within the measurement.
    pub connections_served: usize,
    /// Idle connections that were opened, and for FTP logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ready: Option<usize>,
    /// Of those, the ones still open at the end.
    #[serde(default)]
    pub idle_held: usize,
    /// From the actual send of a request to the last byte of its reply.
    pub service_us: Summary,
    /// The same by phase of a conversation: `connect`, and for FTP `banner`, `login`, `epsv` (or
    /// PASV), `data_connect`, `first_byte`, `transfer`, `complete`.
    pub operations: BTreeMap<String, Summary>,
    /// Service time in nanoseconds: an HDR histogram, V2 deflated, base64.
    pub histogram: String,
    /// CPU time of the generator's threads for each correct reply, in microseconds.
    pub client_cpu_us_per_request: f64,
    /// The share of its time that the busiest thread spent on a CPU, 0 to 1.
    pub client_busy: f64,
    /// Whether the run was told to stop before its time.
    pub stopped: bool,
}
