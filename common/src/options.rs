//! The command line that every architecture has.

use std::ffi::OsString;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, ValueEnum, value_parser};

use crate::certificate::TlsOptions;
use crate::ports::PortRange;
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

/// How many workers there are that each serve many connections, if the user does not say: one for
/// each processor that the process may run on. More could only wait for each other.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
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

/// The most that `--workers` may say.
pub(crate) const WORKERS_MAX: usize = 10_000;

/// What the user asked for where there are many workers.
#[derive(Debug)]
pub(crate) struct WorkerOptions {
    pub(crate) count: usize,
    /// Where to say what each of them has had.
    pub(crate) report: Option<PathBuf>,
}

impl WorkerOptions {
    /// Before anybody is served, so that a mistake is told in time.
    pub(crate) fn open_report(&self) -> Result<Option<File>, String> {
        let open = |path: &PathBuf| {
            File::create(path).map_err(|error| {
                format!("cannot write --report-workers {}: {error}", path.display())
            })
        };
        self.report.as_ref().map(open).transpose()
    }
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
    /// Let anonymous clients store, rename and delete, and write into the guestbook; users have
    /// rights of their own
    #[arg(long)]
    pub(crate) writable: bool,
    /// Who may log in to FTP beside anonymous: lines that ftp-user has printed
    #[arg(long, value_name = "FILE")]
    pub(crate) users: Option<PathBuf>,
    /// The ports that may be opened for data connections of FTP [default: the kernel picks]
    #[arg(long, value_name = "LOW-HIGH")]
    pub(crate) passive_ports: Option<PortRange>,
    /// What PASV tells clients to connect to, for a server behind address translation [default:
    /// the address that they reached it at]
    #[arg(long, value_name = "IPV4", value_parser = host)]
    pub(crate) passive_address: Option<Ipv4Addr>,
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
    /// The SQLite database behind HTTP's /guestbook, made if it is not there
    #[arg(long, value_name = "FILE")]
    pub(crate) guestbook: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) tls: TlsOptions,
}

fn at_least_one() -> clap::builder::RangedU64ValueParser<u64> {
    value_parser!(u64).range(1..=1_000_000)
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "give an IP address and a port, such as 127.0.0.1:2121 or [::1]:2121")
}

fn host(text: &str) -> Result<Ipv4Addr, &'static str> {
    let address = text.parse().ok().filter(|address: &Ipv4Addr| !address.is_unspecified());
    address.ok_or("give the IPv4 address that clients reach this server at, such as 192.0.2.1")
}

fn seconds() -> clap::builder::RangedU64ValueParser<u64> {
    value_parser!(u64).range(1..=86_400)
}

impl Options {
    /// Reads a command line, with the flags that are the architecture's own. The error is either
    /// what the user asked to see, such as the help, or one line on what is wrong with it.
    pub(crate) fn parse<Own: Args>(
        architecture: &Architecture,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<(Self, WorkerOptions, Own), Shown> {
        let command = Command::new(architecture.name).version(env!("CARGO_PKG_VERSION"));
        let mut command = Own::augment_args(Options::augment_args(command));
        command = command.about(architecture.about).long_about(None);
        match architecture.workers {
            Workers::Uncounted => {}
            Workers::One => command = command.arg(workers_argument(1).hide(true)),
            Workers::Many(default) => {
                command = command.arg(workers_argument(default)).arg(report_argument());
            }
        }
        let matches =
            command.try_get_matches_from(arguments).map_err(|error| Shown::from(&error))?;
        let options = Options::from_arg_matches(&matches).map_err(|error| Shown::from(&error))?;
        options.refuse_foreign(&matches)?;
        let own = Own::from_arg_matches(&matches).map_err(|error| Shown::from(&error))?;
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
        let report = matches.try_get_one::<PathBuf>("report-workers").ok().flatten().cloned();
        Ok((options, WorkerOptions { count: workers, report }, own))
    }

    fn refuse_foreign(&self, matches: &ArgMatches) -> Result<(), Shown> {
        let is_given = |id: &&&str| matches.value_source(id) == Some(ValueSource::CommandLine);
        let Some(id) = self.protocol.foreign_options().iter().find(is_given) else {
            return Ok(());
        };
        let (flag, protocol) = (id.replace('_', "-"), self.protocol.to_possible_value());
        let protocol = protocol.as_ref().map_or("", PossibleValue::get_name);
        Err(Shown::Mistake(format!(
            "--{flag} means nothing to --protocol {protocol}: leave one of the two out"
        )))
    }
}

/// Why a command line starts nothing.
#[derive(Debug)]
pub enum Shown {
    /// The user asked for it: the help, the version.
    Asked(String),
    /// The user made a mistake.
    Mistake(String),
}

/// clap says what is wrong, and adds, after an empty line, a usage that would make it many.
impl From<&clap::Error> for Shown {
    fn from(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            return Shown::Asked(text);
        }
        let mistake = text.lines().take_while(|line| !line.is_empty()).map(str::trim);
        let mistake = mistake.collect::<Vec<_>>().join(" ");
        let line = mistake.trim_start_matches("error: ");
        Shown::Mistake(format!("{line}; --help shows what there is"))
    }
}

fn workers_argument(default: usize) -> Arg {
    Arg::new("workers")
        .long("workers")
        .value_name("N")
        .help("How many workers there are")
        .default_value(default.to_string())
        .value_parser(value_parser!(u64).range(1..=WORKERS_MAX as u64))
}

fn report_argument() -> Arg {
    Arg::new("report-workers")
        .long("report-workers")
        .value_name("FILE")
        .help("Where to write, at the end, how many connections and requests each worker has had")
        .value_parser(value_parser!(PathBuf))
}
