//! What a run found: plain data, complete without the run that made it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::class::Load;
use crate::interval::{Interval, Within};
use crate::plan::Engine;
use crate::steady::Window;
use crate::verdict::Verdict;

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

/// What has become of the sessions of clients that are slow, or leave before their time. It is
/// counted from the beginning of the warm-up on, for such sessions may last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sessions {
    /// Connections that were opened.
    pub begun: u64,
    /// Those of them that got a whole reply.
    pub served: u64,
    /// Those that the client left within a request or a reply.
    pub abandoned: u64,
    /// Those that the server ended, by how: these are no errors of the run.
    pub cut: BTreeMap<String, u64>,
    /// What exactly the first of these was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_cut: Option<String>,
    /// From the connect to that end.
    pub cut_after_us: Summary,
    /// The same in nanoseconds: an HDR histogram, V2 deflated, base64.
    pub cut_after_histogram: String,
}

/// How long a step of a script took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepTimes {
    /// What is done, and with what.
    pub name: String,
    /// From the end of the step before, or of a pause.
    pub service_us: Summary,
    /// The same in nanoseconds: an HDR histogram, V2 deflated, base64.
    pub histogram: String,
}

/// The result of one run, or of several that [`Outcome::merge`] made one. Fields that have defaults
/// are of later versions than the oldest records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The class that it is of.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What the figures are worth.
    #[serde(default)]
    pub verdict: Option<Verdict>,
    /// When requests were sent; of merged outcomes, one whose rate changes if there is one.
    #[serde(default)]
    pub load: Option<Load>,
    /// How connections were driven; of merged outcomes, those of the first.
    #[serde(default)]
    pub engine: Option<Engine>,
    /// Why it could not be the `io_uring` that would have been chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_ring: Option<String>,
    /// Correct replies that arrived within the measurement.
    pub requests: u64,
    /// Failures by kind, in the warm-up and the measurement.
    pub errors: BTreeMap<String, u64>,
    /// What exactly the first failure was.
    #[serde(default)]
    pub first_error: Option<String>,
    /// How long load went before the measurement, in seconds.
    #[serde(default)]
    pub warm_up_s: f64,
    /// Where a steady state was awaited, whether it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up_is_steady: Option<bool>,
    /// Where it did not come, what kept it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up_objection: Option<String>,
    /// The length of the measurement, in seconds.
    pub elapsed_s: f64,
    /// `requests` over `elapsed_s`.
    pub rate_per_s: f64,
    /// Open loop: `arrivals` over `elapsed_s`.
    #[serde(default)]
    pub rate_intended_per_s: Option<f64>,
    /// Open loop: requests that were due within the measurement.
    #[serde(default)]
    pub arrivals: u64,
    /// Open loop: those of them that were sent by its end.
    #[serde(default)]
    pub sent: u64,
    /// Open loop: those that found neither a free connection nor room in the backlog.
    #[serde(default)]
    pub shed: u64,
    /// Requests that had no reply yet at the end, those in the backlog too.
    #[serde(default)]
    pub unfinished: usize,
    /// Requests in flight and in the backlog: the mean over the measurement.
    #[serde(default)]
    pub in_system: f64,
    /// Everything received within the measurement, headers and FTP replies too.
    pub bytes_received: u64,
    /// What was sent of uploads within the measurement.
    #[serde(default)]
    pub bytes_sent: u64,
    /// Connections that tried to work.
    pub connections_offered: usize,
    /// Connections that got at least one correct reply within the measurement.
    pub connections_served: usize,
    /// The others.
    #[serde(default)]
    pub connections_never_served: usize,
    /// Jain's index of how evenly replies were spread over connections: 1 if each got as many as
    /// every other, 1/n if one of n got all.
    #[serde(default)]
    pub jain: f64,
    /// Idle connections that were opened, and for FTP logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ready: Option<usize>,
    /// Of those, the ones still open at the end.
    #[serde(default)]
    pub idle_held: usize,
    /// From the instant at which a request was to be sent to the last byte of its reply. In a
    /// closed loop the service time.
    #[serde(default)]
    pub response_us: Summary,
    /// From the actual send of a request to the last byte of its reply.
    pub service_us: Summary,
    /// Open loop: from the instant at which a request was to be sent, and a connection was free
    /// for it, to its actual send.
    #[serde(default)]
    pub schedule_lag_us: Option<Summary>,
    /// Service time by phase of a conversation: `connect`, the `handshake` of TLS, and for FTP
    /// `banner`, `login`, `epsv` (or PASV), `data_connect`, `first_byte`, `transfer`, `complete`.
    pub operations: BTreeMap<String, Summary>,
    /// Service time in nanoseconds: an HDR histogram, V2 deflated, base64.
    pub histogram: String,
    /// Open loop: the same of response times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_histogram: Option<String>,
    /// Open loop: the same of schedule lags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_lag_histogram: Option<String>,
    /// The same of each phase.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub operation_histograms: BTreeMap<String, String>,
    /// Of a script: its steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepTimes>,
    /// Of clients that are slow, or leave before their time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Sessions>,
    /// What is known to how much, as far as the batches of the measurement tell; of merged outcomes
    /// nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intervals: Vec<Interval>,
    /// What was to be known, and to how much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Within>,
    /// The parts of the measurement, of equal length; of a run that was stopped, the whole ones.
    #[serde(default)]
    pub windows: Vec<Window>,
    /// CPU time of the generator's threads for each correct reply, of all classes, in microseconds.
    pub client_cpu_us_per_request: f64,
    /// The share of its time that the busiest thread was at work, 0 to 1; asking again and again
    /// whether there is something is no work.
    pub client_busy: f64,
    /// The share of the time in which a thread had something to do but no processor.
    #[serde(default)]
    pub client_delayed: f64,
    /// The share of the machine's processor time that its hypervisor gave to others.
    #[serde(default)]
    pub stolen: f64,
    /// Whether the run was told to stop before its time.
    pub stopped: bool,
    /// The classes that were there beside it, each judged for itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<Outcome>,
}

impl Outcome {
    /// This class, and those beside it.
    pub fn classes(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.beside)
    }

    /// Judges every class.
    pub(crate) fn judge(&mut self) {
        self.verdict = Some(Verdict::of(self));
        self.beside.iter_mut().for_each(Self::judge);
    }

    /// Whether the figures of every class may be used.
    pub fn is_valid(&self) -> bool {
        self.classes().all(|class| class.verdict.as_ref().is_some_and(Verdict::is_valid))
    }
}
