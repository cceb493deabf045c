//! The command line of the load generator. What it does is in the library.

mod show;

use std::fs::File;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use loadgen::{
    Arrivals, Class, Engine, FtpOperation, Load, Manner, Measure, Method, Outcome, Plan, Protocol,
    Rate, Script, Within, definition, selftest,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Drives one server over many connections, checks every reply, and says how long each took.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one measurement: in a closed loop, or with `--rate` in an open one.
    ///
    /// Exit code: 0 if the verdict is VALID, 3 if it is another, 2 if the command line or the
    /// machine does not allow the run.
    Run(Box<Run>),
    /// Merges the outcomes of several generators that loaded a server together, without loss.
    ///
    /// Exit code: as of a run.
    Merge(Merge),
    /// Measures servers whose latency is known, and compares what it finds with what it must be.
    ///
    /// Exit code: 0 if all is found, 3 if not.
    Selftest {
        /// Write what it found as JSON to this file.
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Serves the self-test: tells its address, then answers until standard input ends.
    #[command(hide = true)]
    TestServer,
}

#[derive(Args)]
struct Output {
    /// Write the outcome as JSON to this file, or with `-` to standard output instead of a table.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the percentiles of the response time to this file, as tools of `HdrHistogram` read
    /// them, in microseconds.
    #[arg(long)]
    hgrm: Option<PathBuf>,
    /// The same of the service time.
    #[arg(long)]
    hgrm_service: Option<PathBuf>,
}

#[derive(Args)]
struct Merge {
    /// What `run --json` wrote.
    #[arg(required = true)]
    outcomes: Vec<PathBuf>,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
struct Run {
    /// The conversation to hold.
    #[arg(long, value_enum)]
    protocol: Protocol,
    /// The server, as address and port; a name is resolved once.
    #[arg(long, value_parser = resolve)]
    target: SocketAddr,
    /// What HTTP is asked to do with the target: `post` sends a body of `--payload-bytes`.
    #[arg(long, value_enum, default_value_t, conflicts_with = "script")]
    method: Method,
    /// Within TLS from the first byte. Each connection makes a whole handshake, and takes any
    /// certificate.
    #[arg(long)]
    tls: bool,
    /// What an FTP connection does over and over [default: retrieve if there is a path, else
    /// login].
    #[arg(long, value_enum)]
    operation: Option<FtpOperation>,
    /// Who logs in by FTP.
    #[arg(long, default_value = "anonymous")]
    user: String,
    /// With what password.
    #[arg(long, default_value = "loadgen@")]
    password: String,
    /// The HTTP target (default /plaintext), or the FTP file; what a connection stores gets a dot
    /// and the connection's number behind it.
    #[arg(long)]
    path: Option<String>,
    /// Size of an echo message, of an FTP file to store, or of the body of a POST.
    #[arg(long, default_value_t = 64)]
    payload_bytes: usize,
    /// Connections that work; in an open loop the bound on them.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Open loop: requests a second, such as 5000, a ramp 1000..5000 or steps 1000,2000,5000.
    #[arg(long)]
    rate: Option<Rate>,
    /// Open loop: how arrivals follow each other.
    #[arg(long, value_enum, default_value_t, requires = "rate")]
    arrivals: Arrivals,
    /// Open loop: seed of Poisson arrivals.
    #[arg(long, default_value_t = 1, requires = "rate")]
    seed: u64,
    /// Open loop: so many arrivals wait for a free connection; more are shed.
    #[arg(long, default_value_t = loadgen::BACKLOG, requires = "rate")]
    backlog: usize,
    /// Closed loop: the pause from a reply to the next request of a connection.
    #[arg(long, value_parser = humantime::parse_duration, conflicts_with = "rate")]
    think: Option<Duration>,
    /// What each session does, one step after the other: a TOML file. The session as a whole is
    /// the request, and each step is timed.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["operation", "path"])]
    script: Option<PathBuf>,
    /// Other classes of clients beside this one: a TOML file with a [[class]] for each, each with
    /// figures of its own.
    #[arg(long, value_name = "FILE")]
    beside: Option<PathBuf>,
    /// So many connections are opened a second at the beginning (default: all at once).
    #[arg(long, value_name = "PER_S")]
    connect_rate: Option<f64>,
    /// How a client ends what it has begun.
    #[arg(long, value_enum, default_value_t)]
    manner: Manner,
    /// A slow reader: take so much of a reply, or of what is retrieved, with a small buffer.
    #[arg(long, value_name = "BYTES")]
    receive_bytes_per_s: Option<u64>,
    /// A slow sender: give so much of a request, or of what is stored.
    #[arg(long, value_name = "BYTES")]
    send_bytes_per_s: Option<u64>,
    /// Threads of the generator.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Requests in flight on a connection.
    #[arg(long, default_value_t = 1)]
    pipeline: usize,
    /// Reconnect after so many requests (default: never).
    #[arg(long)]
    requests_per_connection: Option<u64>,
    /// Connections to hold silently beside the others; those of FTP log in.
    #[arg(long, default_value_t = 0)]
    idle_connections: usize,
    /// The length that each reply's body must have.
    #[arg(long)]
    expected_bytes: Option<u64>,
    /// A file with what each reply's body must be; its length and CRC-32 are compared.
    #[arg(long, conflicts_with = "expected_bytes")]
    expected_file: Option<PathBuf>,
    /// Load before the measurement, such as 1s; with `auto` until the run is found to be steady, 30
    /// seconds at most.
    #[arg(long, default_value = "1s", value_parser = warm_up)]
    warm_up: WarmUp,
    /// The measurement.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// End the measurement, after the duration at the latest, as soon as `--of` is known to so
    /// much, such as 5%.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    until_within: Option<f64>,
    /// What is to be known.
    #[arg(long, value_enum, default_value_t = Measure::P99, requires = "until_within")]
    of: Measure,
    /// A connect or request older than this is an error.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// CPUs to pin the threads to, in turn.
    #[arg(long, value_delimiter = ',')]
    cpus: Vec<usize>,
    /// Never sleep while waiting for replies; for threads that have a processor of their own.
    #[arg(long)]
    busy_poll: bool,
    /// How connections are driven.
    #[arg(long, value_enum, default_value_t)]
    engine: Engine,
    #[command(flatten)]
    output: Output,
}

fn main() -> ExitCode {
    let command = match Arguments::try_parse() {
        Ok(arguments) => arguments.command,
        Err(error) => return loadgen::usage::refuse("loadgen", &error),
    };
    let is_good = match command {
        Command::Run(arguments) => run(*arguments),
        Command::Merge(arguments) => merge(&arguments),
        Command::Selftest { json } => self_test(json.as_deref()),
        Command::TestServer => selftest::serve_until_end_of_input().map(|()| true),
    };
    match is_good {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            eprintln!("loadgen: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// True if the outcome is valid.
fn run(arguments: Run) -> anyhow::Result<bool> {
    // Opened first, so that a path that cannot be written does not cost a whole run.
    let files = Files::create(&arguments.output)?;
    let plan = arguments.into_plan()?;
    let stop = stop_on_signals()?;
    let mut line = show::Live::new(&plan);
    let outcome =
        loadgen::run_watched(&plan, &stop, &mut |_| {}, &mut |glimpse| line.show(glimpse));
    line.clear();
    finish(&outcome?, Some(&plan), files)
}

fn merge(arguments: &Merge) -> anyhow::Result<bool> {
    let files = Files::create(&arguments.output)?;
    let mut merged: Option<Outcome> = None;
    for path in &arguments.outcomes {
        let name = || format!("cannot merge {}", path.display());
        let text = std::fs::read_to_string(path).with_context(name)?;
        let outcome: Outcome = serde_json::from_str(&text).with_context(name)?;
        match &mut merged {
            None => merged = Some(outcome),
            Some(merged) => {
                merged.merge(&outcome).map_err(anyhow::Error::msg).with_context(name)?;
            }
        }
    }
    finish(&merged.context("there is nothing to merge")?, None, files)
}

fn self_test(json: Option<&Path>) -> anyhow::Result<bool> {
    let cannot_write = || format!("cannot write {}", json.unwrap_or(Path::new("")).display());
    let file = json.map(File::create).transpose().with_context(cannot_write)?;
    let stop = stop_on_signals()?;
    let program = std::env::current_exe().context("this program cannot be found")?;
    let found = selftest::run(&program, &stop, &mut io::stdout())?;
    if let Some(mut file) = file {
        let text = serde_json::to_string_pretty(&found)? + "\n";
        file.write_all(text.as_bytes()).with_context(cannot_write)?;
    }
    Ok(found.are_good())
}

fn stop_on_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The second one ends the program at once.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// Where an outcome goes beside the terminal.
struct Files {
    json_to_stdout: bool,
    json: Option<File>,
    hgrm: Option<File>,
    hgrm_service: Option<File>,
}

impl Files {
    fn create(output: &Output) -> anyhow::Result<Self> {
        let create = |path: &Option<PathBuf>| {
            let create = |path: &PathBuf| {
                File::create(path).with_context(|| format!("cannot write {}", path.display()))
            };
            path.as_ref().map(create).transpose()
        };
        let is_stdout = |path: &PathBuf| path.as_os_str() == "-";
        let json_to_stdout = output.json.as_ref().is_some_and(is_stdout);
        Ok(Self {
            json_to_stdout,
            json: create(&output.json.clone().filter(|path| !is_stdout(path)))?,
            hgrm: create(&output.hgrm)?,
            hgrm_service: create(&output.hgrm_service)?,
        })
    }
}

/// Puts an outcome everywhere that it is to go. True if it is valid.
fn finish(outcome: &Outcome, plan: Option<&Plan>, files: Files) -> anyhow::Result<bool> {
    let json = serde_json::to_string_pretty(outcome)? + "\n";
    let printed = if files.json_to_stdout { json.clone() } else { show::table(plan, outcome) };
    match io::stdout().lock().write_all(printed.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    if let Some(mut file) = files.json {
        file.write_all(json.as_bytes()).context("cannot write the JSON file")?;
    }
    let response = outcome.response_histogram.as_ref().unwrap_or(&outcome.histogram);
    for (file, blob) in [(files.hgrm, response), (files.hgrm_service, &outcome.histogram)] {
        if let Some(mut file) = file {
            let histogram = loadgen::decode(blob).map_err(anyhow::Error::msg)?;
            file.write_all(loadgen::hgrm(&histogram).as_bytes())
                .context("cannot write the .hgrm file")?;
        }
    }
    Ok(outcome.is_valid())
}

impl Run {
    fn into_plan(self) -> anyhow::Result<Plan> {
        let (expected_bytes, expected_crc32) = match &self.expected_file {
            None => (self.expected_bytes, None),
            Some(path) => {
                let body = std::fs::read(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                (Some(body.len() as u64), Some(crc32fast::hash(&body)))
            }
        };
        let operation = match (self.operation, self.protocol, &self.path) {
            (Some(_), Protocol::Http | Protocol::Echo, _) => {
                bail!("--operation is for --protocol ftp only")
            }
            (Some(operation), ..) => operation,
            (None, _, Some(_)) => FtpOperation::Retrieve,
            (None, _, None) => FtpOperation::Login,
        };
        let path = match (self.path, self.protocol) {
            (Some(path), _) => path,
            (None, Protocol::Http) => "/plaintext".to_owned(),
            (None, Protocol::Ftp | Protocol::Echo) => String::new(),
        };
        let load = match self.rate {
            Some(rate) => {
                Load::Open { rate, arrivals: self.arrivals, seed: self.seed, backlog: self.backlog }
            }
            None => Load::Closed { think: self.think.unwrap_or_default() },
        };
        let beside: Option<Beside> = self.beside.as_deref().map(read).transpose()?;
        let script: Option<Script> = self.script.as_deref().map(read).transpose()?;
        let class = Class {
            name: String::new(),
            protocol: self.protocol,
            method: self.method,
            tls: self.tls,
            operation,
            script,
            user: self.user,
            password: self.password,
            path,
            payload_bytes: self.payload_bytes,
            load,
            connections: self.connections,
            connect_rate: self.connect_rate,
            pipeline: self.pipeline,
            requests_per_connection: self.requests_per_connection,
            expected_bytes,
            expected_crc32,
            manner: self.manner,
            receive_bytes_per_s: self.receive_bytes_per_s,
            send_bytes_per_s: self.send_bytes_per_s,
        };
        Ok(Plan {
            target: self.target,
            class,
            beside: beside.map_or_else(Vec::new, |beside| beside.class),
            threads: self.threads,
            idle_connections: self.idle_connections,
            warm_up: self.warm_up.at_most,
            until_steady: self.warm_up.until_steady,
            duration: self.duration,
            until_within: self.until_within.map(|share| Within { measure: self.of, share }),
            timeout: self.timeout,
            cpus: self.cpus,
            busy_poll: self.busy_poll,
            engine: self.engine,
        })
    }
}

/// The file of `--beside`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Beside {
    class: Vec<Class>,
}

fn read<T: DeserializeOwned>(file: &Path) -> anyhow::Result<T> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(definition::parse(file, &text)?)
}

/// The longest warm-up that waits for a steady state.
const LONGEST_WARM_UP: Duration = Duration::from_secs(30);

#[derive(Clone, Copy)]
struct WarmUp {
    at_most: Duration,
    until_steady: bool,
}

fn warm_up(text: &str) -> anyhow::Result<WarmUp> {
    if text == "auto" {
        return Ok(WarmUp { at_most: LONGEST_WARM_UP, until_steady: true });
    }
    let at_most = humantime::parse_duration(text).context("give auto, or a time such as 1s")?;
    Ok(WarmUp { at_most, until_steady: false })
}

/// As a share of 1.
fn percent(text: &str) -> anyhow::Result<f64> {
    let number = text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>();
    let number = number.ok().filter(|number| number.is_finite());
    Ok(number.context("give a percentage, such as 5%")? / 100.0)
}

/// How long one of several addresses of a name may take to answer.
const RESOLVE_PATIENCE: Duration = Duration::from_secs(2);

fn resolve(target: &str) -> anyhow::Result<SocketAddr> {
    match target.to_socket_addrs() {
        Ok(addresses) => {
            let addresses: Vec<SocketAddr> = addresses.collect();
            first_that_answers(&addresses).context("the name has no address")
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            bail!("give a host and a port, such as 127.0.0.1:8080")
        }
        Err(error) => bail!("the name cannot be resolved ({error}); give an address"),
    }
}

/// Where a name has several addresses, as localhost has, the server may listen on one of them. If
/// none answers it is the first, and the run says why.
fn first_that_answers(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let answers =
        |address: &&SocketAddr| TcpStream::connect_timeout(address, RESOLVE_PATIENCE).is_ok();
    let found = if addresses.len() > 1 { addresses.iter().find(answers) } else { None };
    found.or(addresses.first()).copied()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn of_several_addresses_it_is_the_first_that_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let answers = listener.local_addr().unwrap();
        // Nobody gets this port, for it is no port.
        let refuses = SocketAddr::from(([127, 0, 0, 1], 0));
        for (addresses, expected) in [
            (vec![refuses, answers], Some(answers)),
            (vec![answers, refuses], Some(answers)),
            (vec![refuses, refuses], Some(refuses)),
            (vec![refuses], Some(refuses)),
            (vec![], None),
        ] {
            assert_eq!(first_that_answers(&addresses), expected, "{addresses:?}");
        }
    }
}
