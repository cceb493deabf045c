//! What one thread records of a class while it runs. Everything is allocated before it is needed:
//! recording a reply touches a few counters and one bucket of a histogram.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::class::{Class, Load};
use crate::steady::{WINDOWS, Window};

/// Longer durations are recorded as this one.
const LONGEST_NS: u64 = 3_600_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// A phase of a conversation that is timed apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Connect,
    /// Of TLS.
    Handshake,
    Banner,
    Login,
    Epsv,
    DataConnect,
    FirstByte,
    Transfer,
    Complete,
}

impl Operation {
    const NAMES: [&str; 9] = [
        "connect",
        "handshake",
        "banner",
        "login",
        "epsv",
        "data_connect",
        "first_byte",
        "transfer",
        "complete",
    ];
}

/// The kinds of failure that are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Refused,
    Reset,
    ClosedEarly,
    TimedOut,
    WrongStatus,
    WrongLength,
    WrongBytes,
    BadReply,
    NoPort,
    Other,
}

impl Kind {
    const NAMES: [&str; 10] = [
        "refused",
        "reset",
        "closed early",
        "timed out",
        "wrong status",
        "wrong length",
        "wrong bytes",
        "bad reply",
        "no free port",
        "other",
    ];
}

/// Why a connection was given up.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) detail: String,
}

impl Failure {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    pub(crate) fn closed_early() -> Self {
        Self::new(Kind::ClosedEarly, "the server closed the connection before it replied")
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::ConnectionRefused => Kind::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Kind::Reset,
            io::ErrorKind::AddrNotAvailable => Kind::NoPort,
            io::ErrorKind::TimedOut => Kind::TimedOut,
            _ => Kind::Other,
        };
        Self::new(kind, error.to_string())
    }
}

/// What has become of sessions that are a burden to the server.
pub(crate) struct Burdens {
    /// Connections that were opened.
    pub(crate) begun: u64,
    /// Those of them that got a whole reply.
    pub(crate) served: u64,
    /// Those that the client has left before their end.
    pub(crate) abandoned: u64,
    /// Those that the server has ended, by the kind of failure that this were elsewhere.
    cut: [u64; Kind::NAMES.len()],
    /// From the connect to that end.
    pub(crate) cut_after_ns: Histogram<u64>,
    pub(crate) first_cut: Option<String>,
}

impl Burdens {
    pub(crate) fn new() -> Self {
        Self {
            begun: 0,
            served: 0,
            abandoned: 0,
            cut: Default::default(),
            cut_after_ns: histogram(),
            first_cut: None,
        }
    }

    pub(crate) fn cut(&mut self, failure: Failure, after: Duration) {
        self.cut[failure.kind as usize] += 1;
        self.cut_after_ns.saturating_record(nanoseconds(after));
        self.first_cut.get_or_insert(failure.detail);
    }

    pub(crate) fn cuts(&self) -> BTreeMap<String, u64> {
        by_name(&self.cut)
    }

    fn merge(&mut self, other: Self) {
        self.begun += other.begun;
        self.served += other.served;
        self.abandoned += other.abandoned;
        for (mine, theirs) in self.cut.iter_mut().zip(other.cut) {
            *mine += theirs;
        }
        add(&mut self.cut_after_ns, &other.cut_after_ns);
        self.first_cut = self.first_cut.take().or(other.first_cut);
    }
}

/// Counters and histograms of one thread, or of all after [`Recorder::merge`].
pub(crate) struct Recorder {
    /// Replies and durations count only now; failures count always.
    pub(crate) measuring: bool,
    pub(crate) requests: u64,
    /// Requests that were due within the measurement and have been sent.
    pub(crate) sent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) service_ns: Histogram<u64>,
    /// In an open loop; in a closed one it is the same as the service time.
    pub(crate) response_ns: Option<Histogram<u64>>,
    /// In an open loop: how late requests were sent for which a connection was free.
    pub(crate) lag_ns: Option<Histogram<u64>>,
    /// All replies so far, in the warm-up too.
    pub(crate) seen: Window,
    pub(crate) windows: [Window; WINDOWS],
    window: usize,
    window_ends: Instant,
    window_length: Duration,
    pub(crate) first_error: Option<String>,
    operations_ns: [Option<Histogram<u64>>; Operation::NAMES.len()],
    errors: [u64; Kind::NAMES.len()],
    /// Of a class with a script: the times of its steps, in the order of their names.
    pub(crate) steps_ns: Vec<Histogram<u64>>,
    /// Of a class that is a burden.
    pub(crate) burdens: Option<Burdens>,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self {
            measuring: false,
            requests: 0,
            bytes_received: 0,
            bytes_sent: 0,
            sent: 0,
            service_ns: histogram(),
            response_ns: None,
            lag_ns: None,
            seen: Window::default(),
            windows: Default::default(),
            window: 0,
            window_ends: Instant::now(),
            window_length: Duration::ZERO,
            first_error: None,
            operations_ns: Default::default(),
            errors: Default::default(),
            steps_ns: Vec::new(),
            burdens: None,
        }
    }

    /// For what a class can do.
    pub(crate) fn of(class: &Class) -> Self {
        let mut recorder = Self::new();
        if matches!(class.load, Load::Open { .. }) {
            recorder.is_open_loop();
        }
        let names = class.script.as_ref().map_or(0, |script| script.labels().0.len());
        recorder.steps_ns.resize_with(names, histogram);
        recorder.burdens = class.is_a_burden().then(Burdens::new);
        recorder
    }

    /// Response times and lags will be recorded too.
    fn is_open_loop(&mut self) {
        self.response_ns = Some(histogram());
        self.lag_ns = Some(histogram());
    }

    /// The measurement begins, and is to last so long.
    pub(crate) fn measure(&mut self, now: Instant, duration: Duration) {
        self.measuring = true;
        self.window_length = duration / WINDOWS as u32;
        self.window_ends = now + self.window_length;
    }

    /// A reply has come: to a request that was due at one instant and sent at another.
    pub(crate) fn reply(&mut self, due: Instant, sent: Instant, now: Instant) {
        let response_ns = nanoseconds(now - due);
        self.seen.add(Window { replies: 1, response_ns });
        if !self.measuring {
            return;
        }
        self.requests += 1;
        self.service_ns.saturating_record(nanoseconds(now - sent));
        if let Some(histogram) = &mut self.response_ns {
            histogram.saturating_record(response_ns);
        }
        while now >= self.window_ends && self.window + 1 < WINDOWS {
            self.window += 1;
            self.window_ends += self.window_length;
        }
        self.windows[self.window].add(Window { replies: 1, response_ns });
    }

    pub(crate) fn response_times(&self) -> &Histogram<u64> {
        self.response_ns.as_ref().unwrap_or(&self.service_ns)
    }

    pub(crate) fn lag(&mut self, late: Duration) {
        if let Some(histogram) = self.lag_ns.as_mut().filter(|_| self.measuring) {
            histogram.saturating_record(nanoseconds(late));
        }
    }

    pub(crate) fn phase(&mut self, operation: Operation, took: Duration) {
        if self.measuring {
            let histogram = self.operations_ns[operation as usize].get_or_insert_with(histogram);
            histogram.saturating_record(nanoseconds(took));
        }
    }

    /// A step of a script is done: the number of its name.
    pub(crate) fn step(&mut self, name: usize, took: Duration) {
        if self.measuring {
            self.steps_ns[name].saturating_record(nanoseconds(took));
        }
    }

    pub(crate) fn received(&mut self, bytes: usize) {
        if self.measuring {
            self.bytes_received += bytes as u64;
        }
    }

    /// Of an upload.
    pub(crate) fn wrote(&mut self, bytes: usize) {
        if self.measuring {
            self.bytes_sent += bytes as u64;
        }
    }

    pub(crate) fn failure(&mut self, failure: Failure) {
        self.failures(failure, 1);
    }

    /// The same failure of several connections.
    pub(crate) fn failures(&mut self, failure: Failure, count: u64) {
        self.errors[failure.kind as usize] += count;
        self.first_error.get_or_insert(failure.detail);
    }

    /// Adds another's records, bucket by bucket.
    pub(crate) fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        self.bytes_received += other.bytes_received;
        self.bytes_sent += other.bytes_sent;
        self.sent += other.sent;
        add(&mut self.service_ns, &other.service_ns);
        for (mine, theirs) in
            [(&mut self.response_ns, other.response_ns), (&mut self.lag_ns, other.lag_ns)]
        {
            if let Some(theirs) = theirs {
                add(mine.get_or_insert_with(histogram), &theirs);
            }
        }
        for (mine, theirs) in self.windows.iter_mut().zip(other.windows) {
            mine.add(theirs);
        }
        for (mine, theirs) in self.operations_ns.iter_mut().zip(other.operations_ns) {
            if let Some(theirs) = theirs {
                add(mine.get_or_insert_with(histogram), &theirs);
            }
        }
        for (mine, theirs) in self.errors.iter_mut().zip(other.errors) {
            *mine += theirs;
        }
        self.first_error = self.first_error.take().or(other.first_error);
        self.steps_ns.resize_with(self.steps_ns.len().max(other.steps_ns.len()), histogram);
        for (mine, theirs) in self.steps_ns.iter_mut().zip(&other.steps_ns) {
            add(mine, theirs);
        }
        if let Some(theirs) = other.burdens {
            self.burdens.get_or_insert_with(Burdens::new).merge(theirs);
        }
    }

    /// All failures.
    pub(crate) fn failed(&self) -> u64 {
        self.errors.iter().sum()
    }

    pub(crate) fn errors(&self) -> BTreeMap<String, u64> {
        by_name(&self.errors)
    }

    /// The phases that occurred, by name.
    pub(crate) fn operations(&self) -> impl Iterator<Item = (&'static str, &Histogram<u64>)> {
        let named = Operation::NAMES.iter().zip(&self.operations_ns);
        named.filter_map(|(name, histogram)| Some((*name, histogram.as_ref()?)))
    }
}

fn by_name(counts: &[u64; Kind::NAMES.len()]) -> BTreeMap<String, u64> {
    let named = Kind::NAMES.iter().zip(counts);
    named.filter(|(_, count)| **count > 0).map(|(name, count)| ((*name).into(), *count)).collect()
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, SIGNIFICANT_DIGITS).expect("the bounds are constant")
}

fn add(mine: &mut Histogram<u64>, theirs: &Histogram<u64>) {
    mine.add(theirs).expect("all histograms have the same bounds");
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_loses_nothing() {
        let mut all = Recorder::new();
        for thread in 1..=3_u64 {
            let mut recorder = Recorder::new();
            let start = Instant::now();
            recorder.measure(start, Duration::from_secs(1));
            for micros in 1..=1000 {
                recorder.reply(start, start, start + Duration::from_micros(micros * thread));
                recorder.phase(Operation::Banner, Duration::from_micros(micros));
            }
            recorder.received(10);
            recorder.wrote(20);
            recorder.failure(Failure::closed_early());
            all.merge(recorder);
        }
        assert_eq!((all.requests, all.service_ns.len(), all.bytes_received), (3000, 3000, 30));
        assert_eq!(all.bytes_sent, 60);
        assert_eq!(all.errors(), BTreeMap::from([("closed early".to_owned(), 3)]));
        let banner = all.operations().map(|(name, histogram)| (name, histogram.len()));
        assert_eq!(banner.collect::<Vec<_>>(), [("banner", 3000)]);
    }

    #[test]
    fn each_reply_is_in_the_window_in_which_it_came() {
        let mut recorder = Recorder::new();
        recorder.is_open_loop();
        let start = Instant::now();
        recorder.measure(start, Duration::from_millis(20));
        for millis in [0, 1, 1, 7, 25] {
            let now = start + Duration::from_millis(millis);
            recorder.reply(start, now, now);
        }
        let replies = recorder.windows.map(|window| window.replies);
        assert_eq!((replies[0], replies[1], replies[7], replies[19]), (1, 2, 1, 1));
        assert_eq!(recorder.windows[7].response_ns, 7_000_000);
        assert_eq!(recorder.service_ns.max(), 0);
    }

    #[test]
    fn replies_before_the_measurement_do_not_count_but_failures_do() {
        let mut recorder = Recorder::new();
        let now = Instant::now();
        recorder.reply(now, now, now);
        recorder.received(1);
        recorder.failure(Failure::closed_early());
        assert_eq!((recorder.requests, recorder.bytes_received), (0, 0));
        assert_eq!(recorder.errors().len(), 1);
    }
}
