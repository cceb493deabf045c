//! The command line that every architecture has.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::error::{ContextKind, ErrorKind};
use clap::{Arg, Args, Command, FromArgMatches, value_parser};

use crate::certificate::TlsOptions;
use crate::protocol::Protocol;

/// An architecture, as its command line shows it. Made by [`architecture!`](crate::architecture).
#[derive(Clone, Copy, Debug)]
pub struct Architecture {
    /// The name of its folder and of its binary.
    pub name: &'static str,
    /// In a few words, what it is.
    pub about: &'static str,
    /// What it has many of.
    pub workers: Workers,
}

/// What `--workers` means to an architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// There are none to count, and no such flag: it makes one for each connection.
    Uncounted,
    /// There is one by its nature.
    One,
    /// As many as the user says; this many otherwise.
    Many(usize),
}

/// Describes the architecture whose crate this is used in.
#[macro_export]
macro_rules! architecture {
    ($workers:expr) => {
        $crate::Architecture {
            name: env!("CARGO_PKG_NAME"),
            about: env!("CARGO_PKG_DESCRIPTION"),
            workers: $workers,
        }
    };
}

/// What the user asked for.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// What is spoken
    #[arg(long, value_enum, default_value = "ftp")]
    pub(crate) protocol: Protocol,
    /// Where to listen; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:2121",
          value_parser = address)]
    pub(crate) listen: SocketAddr,
    /// The folder that is served
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) root: PathBuf,
    /// Let clients store, rename and delete
    #[arg(long)]
    pub(crate) writable: bool,
    /// The most connections at a time [default: what the descriptor limit allows]
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    pub(crate) max_connections: Option<u64>,
    /// The most connections at a time from one address [default: as many as there may be]
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    pub(crate) max_per_ip: Option<u64>,
    /// How long a client may be silent, or a transfer stand still
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = seconds())]
    pub(crate) idle_timeout: u64,
    /// How long running requests and transfers may go on after SIGTERM or SIGINT; a second signal
    /// ends it at once
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = seconds())]
    pub(crate) grace: u64,
    /// The most connections that wait to be accepted
    #[arg(long, value_name = "N", default_value_t = 4096,
          value_parser = value_parser!(i32).range(1..=65_535))]
    pub(crate) backlog: i32,
    /// The server that HTTP's /backend/MILLISECONDS calls
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
    pub(crate) backend: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) tls: TlsOptions,
}

fn at_least_one() -> clap::builder::RangedU64ValueParser<u64> {
    value_parser!(u64).range(1..=1_000_000)
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "give an IP address and a port, such as 127.0.0.1:2121 or [::1]:2121")
}

fn seconds() -> clap::builder::RangedU64ValueParser<u64> {
    value_parser!(u64).range(1..=86_400)
}

impl Options {
    /// Reads a command line. The error is either what the user asked to see, such as the help, or
    /// one line on what is wrong with it.
    pub(crate) fn parse(
        architecture: &Architecture,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<(Self, usize), Shown> {
        let command = Command::new(architecture.name).version(env!("CARGO_PKG_VERSION"));
        let mut command = Options::augment_args(command).about(architecture.about);
        if architecture.workers != Workers::Uncounted {
            command = command.arg(workers_argument(architecture.workers));
        }
        let matches = command.try_get_matches_from(arguments).map_err(|error| shown(&error))?;
        let options = Options::from_arg_matches(&matches).map_err(|error| shown(&error))?;
        let workers = match architecture.workers {
            Workers::Uncounted => 1,
            _ => *matches.get_one::<u64>("workers").expect("it has a default") as usize,
        };
        if architecture.workers == Workers::One && workers != 1 {
            return Err(Shown::Mistake(String::from(
                "one worker is all there is here: leave --workers out, or choose an architecture \
                 that has many",
            )));
        }
        Ok((options, workers))
    }
}

/// Why a command line does not start a server.
#[derive(Debug)]
pub(crate) enum Shown {
    /// The user asked for it: the help, the version.
    Asked(String),
    /// The user made a mistake.
    Mistake(String),
}

fn workers_argument(workers: Workers) -> Arg {
    let default = if let Workers::Many(default) = workers { default } else { 1 };
    Arg::new("workers")
        .long("workers")
        .value_name("N")
        .help("How many workers there are")
        .default_value(default.to_string())
        .value_parser(value_parser!(u64).range(1..=10_000))
        .hide(workers == Workers::One)
}

/// clap says what is wrong in its first line, and adds a usage that would make it many.
fn shown(error: &clap::Error) -> Shown {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return Shown::Asked(error.render().to_string());
    }
    let text = error.render().to_string();
    let first = text.lines().next().unwrap_or_default();
    let line = first.trim_start_matches("error: ");
    let valid = match error.get(ContextKind::ValidValue) {
        Some(valid) if !valid.to_string().is_empty() => format!(" (one of: {valid})"),
        _ => String::new(),
    };
    Shown::Mistake(format!("{line}{valid}; --help shows what there is"))
}
