//! What a run is to do. A [`Plan`] is plain data: it is checked once, before anything is opened.

use std::fmt;
use std::iter;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::class::{Class, LONGEST};
use crate::interval::Within;

/// More beside the first would each have too little of a thread to be told apart.
const CLASSES_MAX: usize = 100;

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

/// One measurement: which server is asked, by which clients, and for how long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The server.
    pub target: SocketAddr,
    /// The clients that are asked about.
    #[serde(flatten)]
    pub class: Class,
    /// Those that are there beside them, on the same threads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<Class>,
    /// Threads of the generator; never more than a class has connections.
    pub threads: usize,
    /// Connections that are opened first and held silently all along; those of FTP log in.
    pub idle_connections: usize,
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
            target: SocketAddr::from(([127, 0, 0, 1], 8080)),
            class: Class::default(),
            beside: Vec::new(),
            threads: 1,
            idle_connections: 0,
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
    /// The class that is asked about, then those beside it.
    pub fn classes(&self) -> impl Iterator<Item = &Class> {
        iter::once(&self.class).chain(&self.beside)
    }

    /// So many threads are there: each has a connection of some class.
    pub(crate) fn threads_used(&self) -> usize {
        let connections = self.classes().map(|class| class.connections).max();
        self.threads.min(connections.unwrap_or(0))
    }

    /// Says what makes this plan impossible.
    pub fn check(&self) -> Result<(), Error> {
        let refuse = |why: &str| Err(Error::Plan(why.to_owned()));
        if self.threads == 0 {
            return refuse("there must be at least 1 thread");
        }
        if self.target.port() == 0 {
            return refuse("a server has a port from 1 to 65535, not 0");
        }
        if self.duration.is_zero() || self.timeout.is_zero() {
            return refuse("duration and timeout must be longer than nothing");
        }
        if self.warm_up.max(self.duration).max(self.timeout) > LONGEST {
            return refuse("warm-up, duration and timeout must each be at most 30 days");
        }
        let is_constant = self.classes().all(|class| class.load.is_constant());
        if (self.until_steady || self.until_within.is_some()) && !is_constant {
            return refuse(
                "a rate that changes has no steady state: give --warm-up and --duration",
            );
        }
        if self.class.tls && self.idle_connections > 0 {
            return refuse("idle connections make no TLS handshake, which a server waits for");
        }
        if self.until_within.is_some_and(|within| !(0.001..1.0).contains(&within.share)) {
            return refuse("an interval is to be within 0.1% to 100%");
        }
        if self.beside.len() >= CLASSES_MAX {
            return refuse("a run has at most 100 classes");
        }
        for (number, class) in self.beside.iter().enumerate() {
            let is_taken = |other: &Class| other.name == class.name;
            if class.name.is_empty() || self.classes().take(1 + number).any(is_taken) {
                return refuse("each class beside the first needs a name of its own");
            }
        }
        for class in self.classes() {
            class.check().map_err(|why| {
                let of = if class.name.is_empty() { "" } else { "class " };
                let colon = if class.name.is_empty() { "" } else { ": " };
                Error::Plan(format!("{of}{}{colon}{why}", class.name))
            })?;
        }
        Ok(())
    }
}
