//! Workloads: one TOML file is one question. A `Workload` that exists has been checked.

use std::path::Path;
use std::time::Duration;

use loadgen::{Arrivals, Class, FtpOperation, Load, Method, Plan, Protocol, Rate, Script};
use serde::{Deserialize, Serialize};

use crate::capacity::Bound;
use crate::catalogue::Contestant;
use crate::definition::{self, Malformed};
use crate::machine::Placement;

/// From this size on a file is counted by its bytes, not by requests.
const LARGE_FILE_BYTES: u64 = 1 << 20;

/// What our servers have a database for.
const GUESTBOOK: &str = "/guestbook";

/// One question, as its file and every record of a run hold it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "each is a key of the file, and they combine")]
pub(crate) struct Workload {
    /// The file's stem; a key of records, not of the file.
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) question: String,
    pub(crate) expectation: String,
    pub(crate) protocol: Protocol,
    /// What HTTP is asked to do with the target.
    #[serde(default, skip_serializing_if = "Method::is_get")]
    pub(crate) method: Method,
    /// Within TLS, by a whole handshake for each connection.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) tls: bool,
    /// What a connection of FTP does.
    #[serde(default)]
    pub(crate) operation: FtpOperation,
    /// What is asked for: an HTTP target or a file below the FTP root. Echo has none, nor has a
    /// login.
    #[serde(default)]
    pub(crate) path: String,
    pub(crate) connections: usize,
    /// Requests in flight on one connection.
    #[serde(default = "one")]
    pub(crate) pipeline: usize,
    /// Requests after which a connection is closed and made anew; none keeps it.
    #[serde(default)]
    pub(crate) requests_per_connection: Option<u64>,
    /// Open loop: requests a second of all connections together. Without one the loop is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<Rate>,
    /// Open loop: how arrivals follow each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) arrivals: Option<Arrivals>,
    /// Open loop: so many arrivals wait for a free connection; more are shed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) backlog: Option<usize>,
    /// Closed loop: the pause from a reply to the next request of a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) think_ms: Option<u64>,
    /// What each session does, one step after the other, instead of an operation or a path: then a
    /// whole session is a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) script: Option<Script>,
    /// The key that is varied, and its values: each makes a workload of its own, of one series.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) levels: Option<Levels>,
    /// The name that the workloads have in common that one file made; a key of records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) series: Option<String>,
    /// What is looked for is the highest rate at which the server answers within this bound; the
    /// durations are those of one trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) capacity: Option<Bound>,
    /// So many processors for the server instead of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cores: Option<usize>,
    /// Bytes of one echo request, of one file to store, or of the body of one POST.
    #[serde(default)]
    pub(crate) payload_bytes: usize,
    /// Connections made before the others that never send anything; those of FTP log in.
    #[serde(default)]
    pub(crate) idle_connections: usize,
    /// Bytes that every answer must have.
    #[serde(default)]
    pub(crate) expected_bytes: Option<u64>,
    pub(crate) warm_up_ms: u64,
    pub(crate) duration_ms: u64,
    /// Repetitions: each contestant is measured once in each block.
    pub(crate) blocks: u32,
    /// Given by `--workers` to the architectures that have many of something.
    #[serde(default)]
    pub(crate) workers: Option<usize>,
    /// Whether the floors are measured beside the architectures.
    #[serde(default)]
    pub(crate) floor: bool,
    /// The harness makes a file of this size at `path` below the root.
    #[serde(default)]
    pub(crate) file_bytes: Option<u64>,
    /// The harness starts a backend and gives its address by `--backend`.
    #[serde(default)]
    pub(crate) backend: bool,
    /// Whether it belongs to the set that runs when nothing is named.
    #[serde(default)]
    pub(crate) quick: bool,
    /// It belongs to the set of `--full`, and a cell is measured for so long there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) full_ms: Option<u64>,
    /// Other classes of clients beside those that are asked about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) beside: Vec<Class>,
    /// Whether it belongs to the set that runs beside other people's servers.
    #[serde(default)]
    pub(crate) peers: bool,
    /// Whether it is run against the variants of architectures too, and tells how connections were
    /// shared out between workers.
    #[serde(default)]
    pub(crate) variants: bool,
}

/// The values at each of which a workload is measured.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Levels {
    Rate(Vec<Rate>),
    /// Those that the machine has not are left out.
    Cores(Vec<usize>),
}

/// More levels of one key are not asked for.
const LEVELS_MAX: usize = 32;
/// More connections of one class are not asked for.
pub(crate) const CONNECTIONS_MAX: usize = 20_000;

/// Reads every `*.toml` of a folder, in the order of the names.
pub(crate) fn load_folder(folder: &Path) -> anyhow::Result<Vec<Workload>> {
    let files = definition::read_folder(folder, "workload")?;
    let mut workloads = Vec::new();
    for (file, text) in files {
        workloads.extend(parse(&file, &text)?.at_each_level());
    }
    Ok(workloads)
}

/// Parses and checks one file; `file` gives the name and stands in messages.
pub(crate) fn parse(file: &Path, text: &str) -> Result<Workload, Malformed> {
    let mut workload: Workload = definition::parse(file, text)?;
    for prose in [&mut workload.question, &mut workload.expectation] {
        *prose = definition::unwrapped(prose);
    }
    if !workload.name.is_empty() {
        let expected = "unknown field `name`, the file's own name is the workload's";
        return Err(Malformed::new(file, text, "name", expected));
    }
    if workload.series.is_some() {
        let expected = "unknown field `series`, the file's own name is that of its levels";
        return Err(Malformed::new(file, text, "series", expected));
    }
    if workload.path.is_empty() && workload.has_path() {
        return Err(Malformed::new(file, text, "", "missing field `path`"));
    }
    match &workload.levels {
        Some(Levels::Rate(_)) if workload.rate.is_some() => {
            return Err(Malformed::new(file, text, "rate", "expected none beside levels of it"));
        }
        Some(Levels::Cores(_)) if workload.cores.is_some() => {
            return Err(Malformed::new(file, text, "cores", "expected none beside levels of it"));
        }
        Some(Levels::Rate(rates)) => workload.rate = rates.first().cloned(),
        Some(Levels::Cores(_)) | None => {}
    }
    workload.expected_bytes = workload.expected_bytes.or(workload.file_bytes);
    workload.name = definition::name_of(file);
    workload.check().map_err(|(key, expected)| {
        Malformed::new(file, text, key, format!("expected {expected}"))
    })?;
    workload.check_beside().map_err(|why| Malformed::new(file, text, "", why))?;
    Ok(workload)
}

impl Workload {
    /// One that asks nothing yet.
    pub(crate) fn new(protocol: Protocol) -> Self {
        Self {
            name: String::new(),
            title: String::new(),
            question: String::new(),
            expectation: String::new(),
            protocol,
            method: Method::default(),
            tls: false,
            operation: FtpOperation::default(),
            path: String::new(),
            connections: 1,
            pipeline: 1,
            requests_per_connection: None,
            rate: None,
            arrivals: None,
            backlog: None,
            think_ms: None,
            script: None,
            levels: None,
            series: None,
            capacity: None,
            cores: None,
            payload_bytes: 0,
            idle_connections: 0,
            expected_bytes: None,
            warm_up_ms: 0,
            duration_ms: 1000,
            blocks: 1,
            workers: None,
            floor: false,
            file_bytes: None,
            backend: false,
            full_ms: None,
            quick: false,
            beside: Vec::new(),
            peers: false,
            variants: false,
        }
    }

    /// Itself, or a workload for each of its levels.
    fn at_each_level(self) -> Vec<Self> {
        let series = Some(self.name.clone());
        let at = |level: String| {
            let name = format!("{}-{level}", self.name);
            Self { name, series: series.clone(), levels: None, ..self.clone() }
        };
        match &self.levels {
            None => vec![self],
            Some(Levels::Rate(rates)) => {
                let of = |rate: &Rate| Self { rate: Some(rate.clone()), ..at(rate.to_string()) };
                rates.iter().map(of).collect()
            }
            Some(Levels::Cores(cores)) => {
                let of = |&cores: &usize| Self { cores: Some(cores), ..at(cores.to_string()) };
                cores.iter().map(of).collect()
            }
        }
    }

    /// What it is called by who means all its levels.
    pub(crate) fn family(&self) -> &str {
        self.series.as_deref().unwrap_or(&self.name)
    }

    fn has_path(&self) -> bool {
        match self.protocol {
            _ if self.script.is_some() => false,
            Protocol::Http => true,
            Protocol::Ftp => self.operation != FtpOperation::Login,
            Protocol::Echo => false,
        }
    }

    /// The path as it is asked for. By FTP from the folder in which a login begins, which is the
    /// root; for what has no rights to confine its users, `/` is another place.
    pub(crate) fn request_path(&self) -> &str {
        match self.protocol {
            Protocol::Ftp => self.path.trim_start_matches('/'),
            Protocol::Http | Protocol::Echo => &self.path,
        }
    }

    /// Whether it is run against a contestant.
    pub(crate) fn is_for(&self, contestant: &Contestant) -> bool {
        let is_as_secure = !contestant.is_peer() || contestant.tls == self.tls;
        contestant.speaks(self.protocol)
            && (self.floor || !contestant.floor)
            && (self.variants || !contestant.variant)
            && is_as_secure
    }

    /// Whether requests come by a schedule, whatever becomes of those before.
    pub(crate) fn is_open(&self) -> bool {
        self.rate.is_some()
    }

    /// What decides when a request is sent; `seed` is that of Poisson arrivals.
    pub(crate) fn load(&self, seed: u64) -> Load {
        match &self.rate {
            Some(rate) => Load::Open {
                rate: rate.clone(),
                arrivals: self.arrivals.unwrap_or_default(),
                seed,
                backlog: self.backlog.unwrap_or(loadgen::BACKLOG),
            },
            None => Load::Closed { think: Duration::from_millis(self.think_ms.unwrap_or(0)) },
        }
    }

    /// The clients that are asked about.
    pub(crate) fn class(&self, seed: u64) -> Class {
        let mut script = self.script.clone();
        if let Some(script) = &mut script {
            script.seed ^= seed;
        }
        Class {
            script,
            protocol: self.protocol,
            method: self.method,
            tls: self.tls,
            operation: self.operation,
            path: self.request_path().to_owned(),
            payload_bytes: self.payload_bytes,
            load: self.load(seed),
            connections: self.connections,
            pipeline: self.pipeline,
            requests_per_connection: self.requests_per_connection,
            // A script has its own for each step.
            expected_bytes: self.expected_bytes.filter(|_| self.script.is_none()),
            ..Class::default()
        }
    }

    /// Those beside them, whose random numbers depend on `seed`, too.
    pub(crate) fn classes_beside(&self, seed: u64) -> Vec<Class> {
        let seeded = |mut class: Class| {
            if let Load::Open { seed: own, .. } = &mut class.load {
                *own ^= seed;
            }
            if let Some(script) = &mut class.script {
                script.seed ^= seed;
            }
            class
        };
        self.beside.iter().cloned().map(seeded).collect()
    }

    /// Says what is wrong with the classes beside the first.
    fn check_beside(&self) -> Result<(), String> {
        for class in &self.beside {
            let refuse = |why: &str| Err(format!("class {}: {why}", class.name));
            if class.protocol != self.protocol {
                return refuse("expected the protocol of the workload, which the server speaks");
            }
            if class.tls != self.tls {
                return refuse("expected tls as it is of the workload, which the server speaks");
            }
            if class.stores() {
                return refuse("expected nothing that is stored: that is for the workload itself");
            }
            if class.connections > CONNECTIONS_MAX {
                return refuse("expected 1 to 20000 connections");
            }
        }
        if self.beside.is_empty() && self.script.is_none() {
            return Ok(());
        }
        let (class, beside) = (self.class(0), self.beside.clone());
        let plan = Plan { class, beside, ..Plan::default() };
        plan.check().map_err(|error| error.to_string())
    }

    /// Whether the client has a processor for itself and so asks again and again instead of
    /// sleeping. A backend runs on the client's processor, and is to have its share of it.
    pub(crate) fn client_never_sleeps(&self, placement: &Placement) -> bool {
        placement.client.is_some() && !self.backend && !placement.is_shared_at(self.cores)
    }

    /// Whether files are stored.
    pub(crate) fn stores(&self) -> bool {
        self.class(0).stores()
    }

    /// Whether the server needs a guestbook.
    pub(crate) fn signs(&self) -> bool {
        let is_book = |path: &str| path == GUESTBOOK;
        is_book(&self.path) || self.beside.iter().any(|class| is_book(&class.path))
    }

    fn posts(&self) -> bool {
        !self.method.is_get()
    }

    /// Whether a request retrieves a large file: then bytes are what is counted, for the requests
    /// are few.
    pub(crate) fn retrieves_large_file(&self) -> bool {
        self.file_bytes.is_some_and(|bytes| bytes >= LARGE_FILE_BYTES)
    }

    /// Whether the idle connections are sessions that have logged in.
    pub(crate) fn idle_ones_log_in(&self) -> bool {
        self.protocol == Protocol::Ftp && self.idle_connections > 0
    }

    /// What the files of the workload take at most: an upload is there twice while it replaces the
    /// one before.
    pub(crate) fn room_bytes(&self) -> u64 {
        let each = match &self.script {
            Some(script) => script.steps.iter().filter_map(|step| step.payload_bytes).max(),
            None => self.stores().then_some(self.payload_bytes as u64),
        };
        let stored = 2 * each.unwrap_or(0) * self.connections as u64;
        self.file_bytes.unwrap_or(0) + stored
    }

    /// The limits that keep a run bounded: the key at fault and what was expected of it.
    fn check_numbers(&self) -> Result<(), (&'static str, &'static str)> {
        let in_range = [
            ((1..=CONNECTIONS_MAX).contains(&self.connections), "connections", "1 to 20000"),
            (self.idle_connections <= CONNECTIONS_MAX, "idle_connections", "0 to 20000"),
            (self.pipeline >= 1 && self.pipeline <= 1024, "pipeline", "1 to 1024"),
            (self.requests_per_connection != Some(0), "requests_per_connection", "at least 1"),
            (self.backlog.is_none_or(|n| n <= 10_000_000), "backlog", "at most 10000000"),
            (self.think_ms.is_none_or(|n| n <= 600_000), "think_ms", "at most 600000"),
            (self.payload_bytes <= 1 << 31, "payload_bytes", "at most 2147483648"),
            (self.warm_up_ms <= 600_000, "warm_up_ms", "at most 600000"),
            (
                self.duration_ms >= 100 && self.duration_ms <= 600_000,
                "duration_ms",
                "100 to 600000",
            ),
            (self.full_ms.is_none_or(|n| (100..=600_000).contains(&n)), "full_ms", "100 to 600000"),
            (self.blocks >= 1 && self.blocks <= 100, "blocks", "1 to 100"),
            (self.workers.is_none_or(|n| (1..=4096).contains(&n)), "workers", "1 to 4096"),
            (self.file_bytes.is_none_or(|n| n <= 1 << 31), "file_bytes", "at most 2147483648"),
            (
                self.capacity.is_none_or(|bound| (0.01..=10_000.0).contains(&bound.p99_ms)),
                "capacity",
                "a p99_ms of 0.01 to 10000",
            ),
            (self.cores.is_none_or(|n| (1..=1024).contains(&n)), "cores", "1 to 1024"),
            (self.levels.as_ref().is_none_or(Levels::are_good), "levels", "1 to 32 good ones"),
        ];
        if let Some((_, key, expected)) = in_range.iter().find(|(good, _, _)| !good) {
            return Err((key, expected));
        }
        let of_the_other_loop = [
            (self.is_open() && self.think_ms.is_some(), "think_ms", "none beside a rate"),
            (self.is_open() && self.capacity.is_some(), "rate", "none beside capacity"),
            (
                self.think_ms.is_some() && self.capacity.is_some(),
                "think_ms",
                "none beside capacity",
            ),
            (!self.is_open() && self.arrivals.is_some(), "arrivals", "a rate beside it"),
            (!self.is_open() && self.backlog.is_some(), "backlog", "a rate beside it"),
        ];
        if let Some((_, key, expected)) = of_the_other_loop.iter().find(|(bad, _, _)| *bad) {
            return Err((key, expected));
        }
        Ok(())
    }

    /// Whether the keys go together: the one at fault and what was expected of it.
    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        self.check_numbers()?;
        match self.protocol {
            Protocol::Ftp if self.tls => Err(("tls", "false, it is for HTTP and echo")),
            _ if self.tls && self.idle_connections > 0 => {
                Err(("idle_connections", "0 within TLS, they would make no handshake"))
            }
            _ if self.tls && self.floor => Err(("floor", "false, the floors know no TLS")),
            Protocol::Ftp | Protocol::Echo if self.posts() => {
                Err(("method", "none, only HTTP has one"))
            }
            Protocol::Http if self.posts() && self.payload_bytes == 0 => {
                Err(("payload_bytes", "at least 1 to post"))
            }
            Protocol::Http | Protocol::Echo if self.operation != FtpOperation::default() => {
                Err(("operation", "none, only FTP has one"))
            }
            _ if self.script.is_some() && self.operation != FtpOperation::default() => {
                Err(("operation", "none, a script says what is done"))
            }
            _ if self.script.is_some() && self.file_bytes.is_none() && !self.path.is_empty() => {
                Err(("path", "none but that of file_bytes, a script says what is asked for"))
            }
            _ if self.script.is_some() && self.payload_bytes > 0 => {
                Err(("payload_bytes", "none, a script says what is stored"))
            }
            _ if self.script.is_some()
                && self.file_bytes.is_some()
                && self.path.matches('/').count() != 1 =>
            {
                Err(("path", "a file directly below the root, as file_bytes makes it"))
            }
            _ if self.script.is_some() => Ok(()),
            Protocol::Echo | Protocol::Http if self.payload_bytes > 1 << 20 => {
                Err(("payload_bytes", "at most 1048576 but for FTP"))
            }
            Protocol::Echo if !self.path.is_empty() => Err(("path", "none, echo has no paths")),
            Protocol::Echo if self.payload_bytes == 0 => {
                Err(("payload_bytes", "at least 1 for echo"))
            }
            Protocol::Ftp if self.stores() && self.payload_bytes == 0 => {
                Err(("payload_bytes", "at least 1 to store"))
            }
            Protocol::Http | Protocol::Ftp
                if !self.stores() && !self.posts() && self.payload_bytes > 0 =>
            {
                Err(("payload_bytes", "none, only an echo, a POST and what is stored have a size"))
            }
            Protocol::Ftp if self.pipeline > 1 => {
                Err(("pipeline", "1, FTP has one transfer at a time"))
            }
            Protocol::Ftp if !self.has_path() && !self.path.is_empty() => {
                Err(("path", "none, a login has no path"))
            }
            Protocol::Http if self.path.starts_with("/backend/") && !self.backend => {
                Err(("path", "backend = true beside /backend/"))
            }
            Protocol::Http | Protocol::Ftp if self.has_path() && !self.path.starts_with('/') => {
                Err(("path", "one that begins with /"))
            }
            Protocol::Ftp if self.floor && self.operation != FtpOperation::Login => {
                Err(("floor", "false, of FTP the floors know logins only"))
            }
            Protocol::Ftp if self.floor && self.idle_connections > 0 => {
                Err(("idle_connections", "0 beside floor = true, floors hold no sessions"))
            }
            _ if self.stores() && self.path.matches('/').count() != 1 => {
                Err(("path", "a file directly below the root"))
            }
            _ if self.file_bytes.is_some() && (self.stores() || !self.has_path()) => {
                Err(("file_bytes", "none, nothing is retrieved"))
            }
            _ if self.file_bytes.is_some() && self.path.matches('/').count() != 1 => {
                Err(("path", "a file directly below the root, as file_bytes makes it"))
            }
            _ if self.file_bytes.is_some() && self.expected_bytes != self.file_bytes => {
                Err(("expected_bytes", "the same as file_bytes"))
            }
            _ => Ok(()),
        }
    }
}

impl Levels {
    fn are_good(&self) -> bool {
        let (number, good) = match self {
            Self::Rate(rates) => (rates.len(), rates.iter().all(Rate::is_constant)),
            Self::Cores(cores) => (cores.len(), cores.iter().all(|n| (1..=1024).contains(n))),
        };
        good && (1..=LEVELS_MAX).contains(&number)
    }
}

fn one() -> usize {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"title = "T"
question = "Q"
expectation = "E"
protocol = "http"
path = "/plaintext"
connections = 64
warm_up_ms = 100
duration_ms = 500
blocks = 5
"#;

    fn check(text: &str, expected: &str) {
        let error = parse(Path::new("w/sample.toml"), text).expect_err(text);
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_file_gives_its_name_to_the_workload() {
        let workload = parse(Path::new("w/sample.toml"), GOOD).unwrap();
        assert_eq!(workload.name, "sample");
        assert_eq!(workload.pipeline, 1);
    }

    #[test]
    fn a_file_that_is_made_has_the_size_that_is_expected() {
        let workload = parse(Path::new("f.toml"), &format!("{GOOD}file_bytes = 7\n")).unwrap();
        assert_eq!(workload.expected_bytes, Some(7));
    }

    #[test]
    fn a_rate_opens_the_loop_and_without_one_it_is_closed() {
        let keys = "rate = \"100..500\"\narrivals = \"poisson\"\nbacklog = 7\n";
        let open = parse(Path::new("f.toml"), &format!("{GOOD}{keys}")).unwrap();
        let (rate, arrivals) = (Rate::Ramp(100.0, 500.0), Arrivals::Poisson);
        assert_eq!(open.load(9), Load::Open { rate, arrivals, seed: 9, backlog: 7 });
        let closed = parse(Path::new("f.toml"), &format!("{GOOD}think_ms = 20\n")).unwrap();
        assert_eq!(closed.load(9), Load::Closed { think: Duration::from_millis(20) });
    }

    const BESIDE: &str = r#"[[beside]]
name = "slow"
protocol = "http"
path = "/bytes/1000"
connections = 3
receive_bytes_per_s = 100
load = { open = { rate = 5 } }
"#;

    #[test]
    fn classes_beside_the_first_are_those_of_the_load_generator() {
        let workload = parse(Path::new("f.toml"), &format!("{GOOD}{BESIDE}")).unwrap();
        let [slow] = workload.classes_beside(6).try_into().unwrap();
        assert_eq!((slow.connections, slow.receive_bytes_per_s), (3, Some(100)));
        let Load::Open { seed, .. } = slow.load else { panic!("{:?}", slow.load) };
        assert_eq!(seed, 1 ^ 6, "each cell has arrivals of its own");
        let text = format!("{GOOD}{BESIDE}");
        let refused = |from: &str, to: &str, why: &str| {
            check(&text.replace(from, to), &format!("w/sample.toml:{why}"));
        };
        let protocol = "1: class slow: expected the protocol of the workload, \
                        which the server speaks";
        refused("\"http\"\npath = \"/bytes", "\"echo\"\npath = \"/bytes", protocol);
        let many = "1: class slow: expected 1 to 20000 connections";
        refused("connections = 3", "connections = 20001", many);
        let unnamed = "1: each class beside the first needs a name of its own";
        refused("name = \"slow\"", "name = \"\"", unnamed);
        let still = "1: class slow: a slow reader or sender moves at least 1 byte a second";
        refused("per_s = 100", "per_s = 0", still);
    }

    #[test]
    fn only_large_files_are_counted_by_bytes() {
        for (bytes, by_bytes) in [(LARGE_FILE_BYTES, true), (LARGE_FILE_BYTES - 1, false)] {
            let text = format!("{GOOD}file_bytes = {bytes}\n");
            assert_eq!(parse(Path::new("f.toml"), &text).unwrap().retrieves_large_file(), by_bytes);
        }
    }

    #[test]
    fn a_login_needs_no_path_and_an_upload_room_for_two() {
        let login = GOOD.replace("http", "ftp").replace("path = \"/plaintext\"\n", "");
        let login = parse(Path::new("f.toml"), &(login + "operation = \"login\"\n")).unwrap();
        assert_eq!((login.room_bytes(), login.retrieves_large_file()), (0, false));
        let store = GOOD.replace("http", "ftp").replace("= 64", "= 3");
        let keys = "operation = \"store\"\npayload_bytes = 10\n";
        let store = parse(Path::new("f.toml"), &(store + keys)).unwrap();
        assert_eq!((store.room_bytes(), store.retrieves_large_file()), (60, false));
    }

    #[test]
    fn a_malformed_file_is_told_by_file_line_key_and_what_was_expected() {
        check(
            &GOOD.replace("= 64", "= \"many\""),
            "w/sample.toml:6: connections: invalid type: string \"many\", expected usize",
        );
        check(
            &GOOD.replace("\"http\"", "\"gopher\""),
            "w/sample.toml:4: protocol: unknown variant `gopher`, expected one of `http`, `ftp`, \
             `echo`",
        );
        check(
            &GOOD.replace("connections = 64\n", ""),
            "w/sample.toml:1: missing field `connections`",
        );
        check(&GOOD.replace("= 64", "= 0"), "w/sample.toml:6: connections: expected 1 to 20000");
        check(
            &GOOD.replace("= 500", "= 5"),
            "w/sample.toml:8: duration_ms: expected 100 to 600000",
        );
        check(
            &GOOD.replace("/plaintext", "plaintext"),
            "w/sample.toml:5: path: expected one that begins with /",
        );
        check(
            &GOOD.replace("path = \"/plaintext\"\n", ""),
            "w/sample.toml:1: missing field `path`",
        );
        check(
            &GOOD.replace("/plaintext", "/backend/5"),
            "w/sample.toml:5: path: expected backend = true beside /backend/",
        );
        check(
            &format!("{GOOD}payload_bytes = 7\n"),
            "w/sample.toml:10: payload_bytes: expected none, only an echo, a POST and what is \
             stored have a size",
        );
        check(
            &format!("{GOOD}file_bytes = 7\nexpected_bytes = 8\n"),
            "w/sample.toml:11: expected_bytes: expected the same as file_bytes",
        );
        check(
            &format!("{GOOD}name = \"mine\"\n"),
            "w/sample.toml:10: name: unknown field `name`, the file's own name is the workload's",
        );
        let secure = format!("{GOOD}tls = true\nfloor = true\n");
        check(&secure, "w/sample.toml:11: floor: expected false, the floors know no TLS");
        let post = format!("{GOOD}method = \"post\"\n");
        check(&post, "w/sample.toml:1: payload_bytes: expected at least 1 to post");
        check(
            &post.replace("\"http\"", "\"ftp\""),
            "w/sample.toml:10: method: expected none, only HTTP has one",
        );
        let store = GOOD.replace("http", "ftp") + "operation = \"store\"\n";
        check(&store, "w/sample.toml:1: payload_bytes: expected at least 1 to store");
        check(
            &(GOOD.replace("http", "ftp") + "floor = true\n"),
            "w/sample.toml:10: floor: expected false, of FTP the floors know logins only",
        );
        let login = store.replace("store", "login");
        check(&login, "w/sample.toml:5: path: expected none, a login has no path");
        check(
            &format!("{GOOD}operation = \"login\"\n"),
            "w/sample.toml:10: operation: expected none, only FTP has one",
        );
        let unknown = parse(Path::new("w/x.toml"), &format!("{GOOD}color = 1\n")).unwrap_err();
        let text = unknown.to_string();
        assert!(text.starts_with("w/x.toml:10: color: unknown field `color`, expected"), "{text}");
        let broken = parse(Path::new("w/x.toml"), "title = \n").unwrap_err().to_string();
        assert!(broken.starts_with("w/x.toml:1: title: "), "{broken}");
    }

    #[test]
    fn a_key_of_the_other_loop_is_a_mistake() {
        check(
            &format!("{GOOD}rate = \"1000..0\"\n"),
            "w/sample.toml:10: rate: a rate of 0 a second is impossible; give 0.001 to 10000000",
        );
        check(
            &format!("{GOOD}rate = true\n"),
            "w/sample.toml:10: rate: invalid type: boolean `true`, expected a rate: 5000, \
             \"1000..5000\" or \"1000,2000,5000\"",
        );
        check(
            &format!("{GOOD}rate = 5\nthink_ms = 1\n"),
            "w/sample.toml:11: think_ms: expected none beside a rate",
        );
        check(
            &format!("{GOOD}arrivals = \"poisson\"\n"),
            "w/sample.toml:10: arrivals: expected a rate beside it",
        );
    }

    #[test]
    fn every_workload_of_the_project_is_well_formed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads");
        let workloads = load_folder(&folder).unwrap();
        assert!(workloads.iter().any(|workload| workload.quick));
    }
}
