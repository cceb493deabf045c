//! The load generator: drives one server over many connections, checks every reply, and says how
//! long each took.
//!
//! [`run`] does what a [`Plan`] says and returns an [`Outcome`], within its deadlines whatever the
//! server does. What a connection says and expects is in `client`, apart from I/O; how
//! connections are driven is in `engine`, a run as a whole in `run`.

mod class;
mod client;
mod connection;
pub mod definition;
mod engine;
mod histogram;
mod idle;
mod interval;
mod merge;
mod outcome;
mod pace;
mod plan;
mod rate;
mod record;
mod report;
mod run;
mod schedule;
mod script;
pub mod selftest;
mod steady;
mod system;
mod trend;
mod trickle;
pub mod usage;
mod verdict;
mod warm_up;

use std::io;
use std::time::Duration;

pub use class::{BACKLOG, Class, FtpOperation, Load, Manner, Method, Protocol};
pub use histogram::{decode, hgrm};
pub use interval::{Interval, Measure, Within};
pub use outcome::{Outcome, Sessions, StepTimes, Summary};
pub use plan::{Engine, Plan};
pub use rate::Rate;
pub use run::{run, run_watched};
pub use schedule::Arrivals;
pub use script::{Action, Script, ScriptStep, Think};
pub use steady::Window;
pub use verdict::{BUSY_MAX, Verdict, Word};

/// Why a run could not be made. What the server does wrong is no `Error`: it is in the [`Outcome`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The plan contradicts itself.
    #[error("{0}")]
    Plan(String),
    /// The hard limit on descriptors is too low for the connections of the plan.
    #[error(
        "{needed} descriptors are needed but the hard limit is {limit}: \
         raise it with `ulimit -Hn {needed}` as root, or use fewer connections"
    )]
    Descriptors {
        /// What the plan needs.
        needed: u64,
        /// What the system allows.
        limit: u64,
    },
    /// A thread could not be pinned.
    #[error("cannot pin a thread to CPU {cpu}: {cause}; name CPUs that this machine has")]
    Pin {
        /// The CPU asked for.
        cpu: usize,
        /// What the system said.
        cause: io::Error,
    },
    /// There is no `io_uring` here, and the plan asks for it.
    #[error("{0}: use --engine epoll, or auto")]
    NoRing(String),
    /// The system refused something that a run needs.
    #[error("{what}: {cause}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        cause: io::Error,
    },
}

/// An instant at which a harness may want to look at the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The measurement starts in a few hundredths of a second, so that what is done here disturbs
    /// the end of the warm-up and not the measurement.
    Measuring,
    /// It has ended. The connections are still open, and silent, until the callback returns.
    Done,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Glimpse {
    /// How long it has measured; `None` while it warms up.
    pub measured: Option<Duration>,
    /// Correct replies so far, those of the warm-up too.
    pub requests: u64,
    /// Failures so far.
    pub errors: u64,
    /// Open loop: what was shed within the measurement so far.
    pub shed: u64,
    /// Open loop: arrivals that wait for a connection.
    pub waiting: u64,
}
