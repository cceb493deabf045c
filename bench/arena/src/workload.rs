//! Workloads: one TOML file is one question. A `Workload` that exists has been checked.

mod check;

use std::path::Path;
use std::time::Duration;

use loadgen::{Arrivals, Class, FtpOperation, Load, Method, Protocol, Rate, Script};
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
    #[serde(default = "not_told")]
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

/// What a record has and a file has not.
const KEYS_OF_RECORDS: [&str; 2] = ["name", "series"];

/// The values at each of which a workload is measured.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Levels {
    Rate(Vec<Rate>),
    /// Those that the machine has not are left out.
    Cores(Vec<usize>),
    Connections(Vec<usize>),
}

/// What a workload's levels differ in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Varied {
    Rate,
    Cores,
    Connections,
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
    let mut workload: Workload = definition::parse_without(&KEYS_OF_RECORDS, file, text)?;
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
        Some(Levels::Connections(_)) if workload.connections != not_told() => {
            let expected = "expected none beside levels of it";
            return Err(Malformed::new(file, text, "connections", expected));
        }
        Some(Levels::Rate(rates)) => workload.rate = rates.first().cloned(),
        Some(Levels::Connections(connections)) => {
            workload.connections = connections.first().copied().unwrap_or(0);
        }
        Some(Levels::Cores(_)) | None => {}
    }
    if workload.connections == not_told() {
        return Err(Malformed::new(file, text, "", "missing field `connections`"));
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
            Some(Levels::Connections(all)) => {
                let of = |&connections: &usize| Self { connections, ..at(connections.to_string()) };
                all.iter().map(of).collect()
            }
        }
    }

    /// What the levels of its series differ in; none of one that stands alone.
    pub(crate) fn varied(&self) -> Option<Varied> {
        self.series.as_ref()?;
        Some(match (&self.rate, self.cores) {
            (Some(_), _) => Varied::Rate,
            (None, Some(_)) => Varied::Cores,
            (None, None) => Varied::Connections,
        })
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
        contestant.speaks(self.protocol)
            && (!contestant.is_peer() || contestant.tls == self.tls)
            && (self.floor || !contestant.floor)
            && (self.variants || !contestant.variant)
    }

    /// The workers that a contestant is told to have. Where it is asked how they share, all that
    /// count theirs have as many.
    pub(crate) fn workers_of(&self, contestant: &Contestant) -> Option<usize> {
        let shares = self.variants && contestant.counts_workers;
        self.workers.filter(|_| contestant.many_workers || shares)
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
}

fn one() -> usize {
    1
}

/// Instead of a number that a file must have, but where levels have it.
fn not_told() -> usize {
    usize::MAX
}

#[cfg(test)]
mod tests;
