//! What a run is to do. A [`Plan`] is plain data: it is checked once, before anything is opened.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::interval::Within;
use crate::rate::Rate;
use crate::schedule::Arrivals;

const LONGEST: Duration = Duration::from_hours(30 * 24);
const DEEPEST_PIPELINE: usize = 4096;
const LARGEST_PAYLOAD_BYTES: usize = 1 << 30;
const LONGEST_BACKLOG: usize = 10_000_000;

/// So many arrivals wait for a free connection where nothing else is said.
pub const BACKLOG: usize = 65_536;

/// The conversation that every connection holds with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1: GET of one target.
    Http,
    /// FTP: an [`FtpOperation`] over and over.
    Ftp,
    /// What is sent must come back.
    Echo,
}

/// What is one request of an FTP connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum FtpOperation {
    /// Connect, greeting, USER, PASS, QUIT, close.
    Login,
    /// EPSV and RETR, in a session that stays.
    #[default]
    Retrieve,
    /// EPSV and STOR, in a session that stays.
    Store,
}

/// How connections are driven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// The cheapest that there is here.
    #[default]
    Auto,
    /// Readiness.
    Epoll,
    /// Completions; from Linux 6.1 on, where it is not forbidden.
    IoUring,
}

impl fmt::Display for Engine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Auto => "auto",
            Self::Epoll => "epoll",
            Self::IoUring => "io_uring",
        })
    }
}

/// What decides when a request is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Load {
    /// The reply before: a connection sends its next request when it has one, or some time later.
    Closed {
        /// From a reply to the next request of a connection.
        #[serde(with = "humantime_serde")]
        think: Duration,
    },
    /// A schedule that knows nothing of replies.
    Open {
        /// Of all connections together.
        rate: Rate,
        /// How arrivals follow each other.
        arrivals: Arrivals,
        /// Of the random numbers.
        seed: u64,
        /// So many arrivals wait for a connection at most; the others are shed.
        backlog: usize,
    },
}

impl Load {
    /// Whether a steady state is to be expected.
    pub fn is_constant(&self) -> bool {
        match self {
            Self::Closed { .. } => true,
            Self::Open { rate, .. } => rate.is_constant(),
        }
    }
}

impl Default for Load {
    fn default() -> Self {
        Self::Closed { think: Duration::ZERO }
    }
}

/// One measurement: who is asked what, over how many connections, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The conversation.
    pub protocol: Protocol,
    /// The server.
    pub target: SocketAddr,
    /// FTP: what a connection does.
    #[serde(default)]
    pub operation: FtpOperation,
    /// FTP: who logs in.
    #[serde(default = "anonymous")]
    pub user: String,
    /// FTP: with what password.
    #[serde(default = "nobody")]
    pub password: String,
    /// The HTTP request target, or the FTP file to retrieve. What a connection stores has this
    /// name with a dot and the connection's number behind it. A login needs none.
    pub path: String,
    /// The size of an echo's message, or of what is stored.
    pub payload_bytes: usize,
    /// When requests are sent.
    #[serde(default)]
    pub load: Load,
    /// Connections that work; in an open loop the bound on what is in flight, with `pipeline`.
    pub connections: usize,
    /// Threads of the generator; never more than there are connections.
    pub threads: usize,
    /// Requests in flight on a connection.
    pub pipeline: usize,
    /// Reconnect after so many requests; `None`: keep the connection for ever.
    pub requests_per_connection: Option<u64>,
    /// Connections that are opened first and held silently all along; those of FTP log in.
    pub idle_connections: usize,
    /// The length that the body of each reply, or the file, must have.
    pub expected_bytes: Option<u64>,
    /// The CRC-32 (as in zlib) that the body of each reply, or the file, must have.
    #[serde(default)]
    pub expected_crc32: Option<u32>,
    /// Load before the measurement; at most, where a steady state ends it.
    #[serde(with = "humantime_serde")]
    pub warm_up: Duration,
    /// The measurement begins as soon as the run is found to be steady.
    #[serde(default)]
    pub until_steady: bool,
    /// The measurement; at most, where something known surely enough ends it.
    #[serde(with = "humantime_serde")]
    pub duration: Duration,
    /// The measurement ends as soon as this is known so surely.
    #[serde(default)]
    pub until_within: Option<Within>,
    /// A connect or a request older than this is the error "timed out".
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Thread `i` is pinned to `cpus[i % len]`; empty: threads are not pinned.
    pub cpus: Vec<usize>,
    /// Never sleep while waiting for replies, so that the server does not pay for waking the
    /// client. Only for threads that have a processor of their own.
    #[serde(default)]
    pub busy_poll: bool,
    /// How connections are driven.
    #[serde(default)]
    pub engine: Engine,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            protocol: Protocol::Http,
            target: SocketAddr::from(([127, 0, 0, 1], 8080)),
            operation: FtpOperation::default(),
            user: anonymous(),
            password: nobody(),
            path: "/plaintext".to_owned(),
            payload_bytes: 64,
            load: Load::default(),
            connections: 64,
            threads: 1,
            pipeline: 1,
            requests_per_connection: None,
            idle_connections: 0,
            expected_bytes: None,
            expected_crc32: None,
            warm_up: Duration::from_secs(1),
            until_steady: false,
            duration: Duration::from_secs(10),
            until_within: None,
            timeout: Duration::from_secs(10),
            cpus: Vec::new(),
            busy_poll: false,
            engine: Engine::default(),
        }
    }
}

impl Plan {
    /// Says what makes this plan impossible.
    pub fn check(&self) -> Result<(), Error> {
        let refuse = |why: &str| Err(Error::Plan(why.to_owned()));
        if self.connections == 0 || self.threads == 0 || self.pipeline == 0 {
            return refuse("connections, threads and pipeline must each be at least 1");
        }
        if self.requests_per_connection == Some(0) {
            return refuse("requests per connection must be at least 1");
        }
        if self.duration.is_zero() || self.timeout.is_zero() {
            return refuse("duration and timeout must be longer than nothing");
        }
        if self.warm_up.max(self.duration).max(self.timeout) > LONGEST {
            return refuse("warm-up, duration and timeout must each be at most 30 days");
        }
        if (self.until_steady || self.until_within.is_some()) && !self.load.is_constant() {
            return refuse(
                "a rate that changes has no steady state: give --warm-up and --duration",
            );
        }
        if self.until_within.is_some_and(|within| !(0.001..1.0).contains(&within.share)) {
            return refuse("an interval is to be within 0.1% to 100%");
        }
        if self.pipeline > DEEPEST_PIPELINE {
            return refuse("a pipeline holds at most 4096 requests");
        }
        match &self.load {
            Load::Closed { think } if *think > LONGEST => {
                return refuse("a pause for thought is at most 30 days");
            }
            Load::Open { backlog, .. } if *backlog > LONGEST_BACKLOG => {
                return refuse("at most 10000000 arrivals wait in the backlog");
            }
            Load::Open { rate, .. } => rate.check().map_err(Error::Plan)?,
            Load::Closed { .. } => {}
        }
        let breaks_a_line = |byte: u8| byte.is_ascii_control();
        let words = [&self.path, &self.user, &self.password];
        if words.iter().any(|word| word.bytes().any(breaks_a_line)) {
            return refuse("path, user and password must not contain control characters");
        }
        match self.protocol {
            Protocol::Http if !self.path.starts_with('/') || self.path.contains(' ') => {
                refuse("an HTTP path starts with a slash and has no spaces (write %20)")
            }
            Protocol::Ftp if self.pipeline != 1 => {
                refuse("FTP has one transfer at a time: its pipeline must be 1")
            }
            Protocol::Ftp if self.user.is_empty() => refuse("FTP needs a user"),
            Protocol::Ftp if self.operation != FtpOperation::Login && self.path.is_empty() => {
                refuse("to retrieve or store, FTP needs the path of a file")
            }
            Protocol::Ftp if self.operation == FtpOperation::Store && self.payload_bytes == 0 => {
                refuse("what is stored has at least 1 byte")
            }
            Protocol::Echo if !(1..=LARGEST_PAYLOAD_BYTES).contains(&self.payload_bytes) => {
                refuse("an echo needs a payload of 1 byte to 1 GiB")
            }
            Protocol::Http | Protocol::Ftp | Protocol::Echo => Ok(()),
        }
    }
}

fn anonymous() -> String {
    "anonymous".to_owned()
}

/// What a program gives for the address that an anonymous user is asked for.
fn nobody() -> String {
    "loadgen@".to_owned()
}
