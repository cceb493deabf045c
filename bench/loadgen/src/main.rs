//! The command line of the load generator. What it does is in the library.

use std::fs::File;
use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use loadgen::{FtpOperation, Outcome, Plan, Protocol, Summary};

/// Drives one server over many connections, checks every reply, and says how long each took.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one measurement in a closed loop.
    ///
    /// Exit code: 0 if all replies were correct, 3 if there were errors or nothing was served,
    /// 2 if the command line or the machine does not allow the run.
    Run(Box<Run>),
}

#[derive(Args)]
struct Run {
    /// The conversation to hold.
    #[arg(long, value_enum)]
    protocol: Protocol,
    /// The server, as address and port; a name is resolved once.
    #[arg(long, value_parser = resolve)]
    target: SocketAddr,
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
    /// Size of an echo message, or of an FTP file to store.
    #[arg(long, default_value_t = 64)]
    payload_bytes: usize,
    /// Connections that work.
    #[arg(long, default_value_t = 64)]
    connections: usize,
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
    /// Load before the measurement.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    warm_up: Duration,
    /// The measurement.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// A connect or request older than this is an error.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// CPUs to pin the threads to, in turn.
    #[arg(long, value_delimiter = ',')]
    cpus: Vec<usize>,
    /// Never sleep while waiting for replies; for threads that have a processor of their own.
    #[arg(long)]
    busy_poll: bool,
    /// Write the outcome as JSON to this file, or with `-` to standard output instead of a table.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let Command::Run(arguments) = match Arguments::try_parse() {
        Ok(arguments) => arguments.command,
        Err(error) => return loadgen::usage::refuse("loadgen", &error),
    };
    match execute(*arguments) {
        Ok(outcome) if outcome.errors.is_empty() && outcome.requests > 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(3),
        Err(error) => {
            eprintln!("loadgen: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn execute(arguments: Run) -> anyhow::Result<Outcome> {
    let json = arguments.json.clone();
    let to_stdout = json.as_ref().is_some_and(|path| path.as_os_str() == "-");
    let plan = arguments.into_plan()?;
    // Opened first, so that a path that cannot be written does not cost a whole run.
    let file = match &json {
        Some(path) if !to_stdout => {
            let create = File::create(path);
            Some(create.with_context(|| format!("cannot write {}", path.display()))?)
        }
        _ => None,
    };

    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The second one ends the program at once.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let outcome = loadgen::run(&plan, &stop, &mut |_| {})?;

    let text = serde_json::to_string_pretty(&outcome)? + "\n";
    let printed = if to_stdout { text.clone() } else { table(&plan, &outcome) };
    match io::stdout().lock().write_all(printed.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    if let Some(mut file) = file {
        file.write_all(text.as_bytes()).context("cannot write the JSON file")?;
    }
    Ok(outcome)
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
        Ok(Plan {
            protocol: self.protocol,
            target: self.target,
            operation,
            user: self.user,
            password: self.password,
            path,
            payload_bytes: self.payload_bytes,
            connections: self.connections,
            threads: self.threads,
            pipeline: self.pipeline,
            requests_per_connection: self.requests_per_connection,
            idle_connections: self.idle_connections,
            expected_bytes,
            expected_crc32,
            warm_up: self.warm_up,
            duration: self.duration,
            timeout: self.timeout,
            cpus: self.cpus,
            busy_poll: self.busy_poll,
        })
    }
}

fn resolve(target: &str) -> anyhow::Result<SocketAddr> {
    match target.to_socket_addrs() {
        Ok(mut addresses) => addresses.next().context("the name has no address"),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            bail!("give a host and a port, such as 127.0.0.1:8080")
        }
        Err(error) => bail!("the name cannot be resolved ({error}); give an address"),
    }
}

/// The outcome for people.
fn table(plan: &Plan, outcome: &Outcome) -> String {
    let mut text = String::new();
    if outcome.requests == 0 {
        text.push_str("no reply arrived within the measurement\n");
        errors(&mut text, outcome);
        return text;
    }
    let mut line = |label: &str, value: String| labelled(&mut text, label, &value);
    let stopped = if outcome.stopped { ", stopped early" } else { "" };
    line("requests", format!("{} in {:.2} s{stopped}", outcome.requests, outcome.elapsed_s));
    line("rate", format!("{:.1} /s", outcome.rate_per_s));
    let megabytes = outcome.bytes_received as f64 / 1e6;
    line("received", format!("{megabytes:.1} MB, {:.1} MB/s", megabytes / outcome.elapsed_s));
    if outcome.bytes_sent > 0 {
        let megabytes = outcome.bytes_sent as f64 / 1e6;
        line("stored", format!("{megabytes:.1} MB, {:.1} MB/s", megabytes / outcome.elapsed_s));
    }
    let (served, offered) = (outcome.connections_served, outcome.connections_offered);
    line("connections", format!("{served} served of {offered}"));
    if plan.idle_connections > 0 {
        let ready = outcome.idle_ready.unwrap_or(plan.idle_connections);
        let planned = plan.idle_connections;
        line("idle", format!("{} held of {ready} opened of {planned}", outcome.idle_held));
    }
    let (cpu, busy) = (outcome.client_cpu_us_per_request, 100.0 * outcome.client_busy);
    line("client", format!("{cpu:.2} µs of CPU a request, busiest thread {busy:.0}% busy"));
    errors(&mut text, outcome);
    let mut line = |label: &str, value: String| labelled(&mut text, label, &value);
    let columns = ["p50", "p90", "p99", "p99.9", "p99.99", "max", "mean"];
    let heads = columns.map(|column| format!("{column:>11}")).concat();
    line("\nµs", format!(" {heads}"));
    line("service", row(&outcome.service_us));
    for (operation, summary) in &outcome.operations {
        line(operation, row(summary));
    }
    text
}

fn errors(text: &mut String, outcome: &Outcome) {
    for (kind, count) in &outcome.errors {
        labelled(text, "error", &format!("{count} × {kind}"));
    }
    if let Some(first) = &outcome.first_error {
        labelled(text, "first error", first);
    }
}

fn labelled(text: &mut String, label: &str, value: &str) {
    use std::fmt::Write;
    writeln!(text, "{label:<12}{value}").expect("a string takes all");
}

fn row(summary: &Summary) -> String {
    let Summary { p50, p90, p99, p999, p9999, max, mean, .. } = *summary;
    [p50, p90, p99, p999, p9999, max, mean].map(|us| format!("{us:>11.1}")).concat()
}
