//! The generator measures servers whose latency is known, and compares what it finds with what
//! arithmetic says. Nothing is left out of the table: a line that fails stays in it.

mod arithmetic;
mod server;

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::class::{BACKLOG, Class, Load};
use crate::histogram::decode;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::rate::Rate;
use crate::schedule::{Arrivals, Schedule};
use crate::{Phase, run as run_plan};
use server::{Latency, Server};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// Of a sleep and of waking, on a machine that does something else too.
const SLACK_MS: f64 = 2.0;
const SEED: u64 = 1;
const LISTENING: &str = "listening on ";

/// Runs all of it and writes the table to `out`. True if all was found as it must be. `program` is
/// this program, which has the hidden command `test-server`.
pub fn run(program: &Path, stop: &AtomicBool, out: &mut dyn Write) -> anyhow::Result<bool> {
    let mut table = Table { out, all_good: true };
    table.head()?;
    let cases: [Case; 7] = [fixed, exponential, queue, stall, wrk, stopped, floor];
    for case in cases {
        case(&mut table, program, stop)?;
    }
    let summary = if table.all_good { "all as arithmetic says" } else { "NOT as arithmetic says" };
    writeln!(table.out, "{summary}")?;
    Ok(table.all_good)
}

/// Serves without a delay, for the case of a process that is stopped.
pub fn serve_until_end_of_input() -> anyhow::Result<()> {
    let server = Server::start(Latency::None)?;
    println!("{LISTENING}{}", server.address());
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    Ok(())
}

type Case = fn(&mut Table<'_>, &Path, &AtomicBool) -> anyhow::Result<()>;

struct Table<'a> {
    out: &'a mut dyn Write,
    all_good: bool,
}

impl Table<'_> {
    fn head(&mut self) -> io::Result<()> {
        writeln!(
            self.out,
            "{:<26}{:<20}{:>12}{:>12}{:>20}",
            "server and load", "figure", "arithmetic", "measured", "allowed"
        )
    }

    fn check(
        &mut self,
        case: &str,
        figure: &str,
        expected: f64,
        measured: f64,
        allowed: (f64, f64),
    ) -> io::Result<()> {
        let (low, high) = (expected - allowed.0, expected + allowed.1);
        let is_good = (low..=high).contains(&measured);
        self.all_good &= is_good;
        let word = if is_good { "ok" } else { "WRONG" };
        let allowed = format!("{low:.2} to {high:.2}");
        writeln!(
            self.out,
            "{case:<26}{figure:<20}{expected:>12.2}{measured:>12.2}{allowed:>20}  {word}"
        )
    }

    fn remark(&mut self, case: &str, text: &str) -> io::Result<()> {
        writeln!(self.out, "{case:<26}{text}")
    }
}

fn plan(
    target: SocketAddr,
    rate: f64,
    arrivals: Arrivals,
    connections: usize,
    duration: Duration,
) -> Plan {
    let rate = Rate::Constant(rate);
    Plan {
        target,
        class: Class {
            load: Load::Open { rate, arrivals, seed: SEED, backlog: BACKLOG },
            connections,
            ..Class::default()
        },
        warm_up: SECOND,
        duration,
        ..Plan::default()
    }
}

/// A run to its end: half a measurement would be compared with the arithmetic of a whole one.
fn measure(
    plan: &Plan,
    stop: &AtomicBool,
    on_phase: &mut dyn FnMut(Phase),
) -> anyhow::Result<Outcome> {
    let outcome = run_plan(plan, stop, on_phase)?;
    anyhow::ensure!(!outcome.stopped, "stopped before the end");
    Ok(outcome)
}

fn response_ms(outcome: &Outcome, quantile: f64) -> anyhow::Result<f64> {
    let blob = outcome.response_histogram.as_ref().unwrap_or(&outcome.histogram);
    let histogram = decode(blob).map_err(anyhow::Error::msg)?;
    Ok(histogram.value_at_quantile(quantile) as f64 / 1e6)
}

fn fixed(table: &mut Table<'_>, _: &Path, stop: &AtomicBool) -> anyhow::Result<()> {
    let case = "20 ms fixed, 500/s";
    let server = Server::start(Latency::Fixed(20 * MILLISECOND))?;
    let plan = plan(server.address(), 500.0, Arrivals::Constant, 64, 3 * SECOND);
    let outcome = measure(&plan, stop, &mut |_| {})?;
    table.check(case, "requests/s", 500.0, outcome.rate_per_s, (5.0, 5.0))?;
    table.check(case, "response p50 ms", 20.0, response_ms(&outcome, 0.5)?, (0.02, SLACK_MS))?;
    table.check(case, "response p99 ms", 20.0, response_ms(&outcome, 0.99)?, (0.02, 10.0))?;
    // By Little's law: 500 a second, each for 20 ms.
    table.check(case, "in the system", 10.0, outcome.in_system, (0.1, 1.0))?;
    Ok(())
}

fn exponential(table: &mut Table<'_>, _: &Path, stop: &AtomicBool) -> anyhow::Result<()> {
    let case = "10 ms exponential, 300/s";
    let server = Server::start(Latency::Exponential(10 * MILLISECOND))?;
    let plan = plan(server.address(), 300.0, Arrivals::Poisson, 128, 5 * SECOND);
    let outcome = measure(&plan, stop, &mut |_| {})?;
    for (name, quantile) in
        [("response p50 ms", 0.5), ("response p90 ms", 0.9), ("response p99 ms", 0.99)]
    {
        let expected = arithmetic::exponential(quantile, 10.0);
        let allowed = 0.05 * expected;
        let measured = response_ms(&outcome, quantile)?;
        table.check(case, name, expected, measured, (allowed, allowed + SLACK_MS))?;
    }
    table.check(case, "mean ms", 10.0, outcome.response_us.mean / 1e3, (0.3, 0.3 + SLACK_MS))?;
    Ok(())
}

/// Requests wait for the one connection, as the recursion says for these very arrivals.
fn queue(table: &mut Table<'_>, _: &Path, stop: &AtomicBool) -> anyhow::Result<()> {
    let case = "5 ms, 1 conn., 100/s";
    let server = Server::start(Latency::Fixed(5 * MILLISECOND))?;
    let plan = plan(server.address(), 100.0, Arrivals::Poisson, 1, 5 * SECOND);
    let outcome = measure(&plan, stop, &mut |_| {})?;
    let profile = Rate::Constant(100.0).profile(SECOND, 5 * SECOND);
    let schedule = Schedule::new(profile, Arrivals::Poisson, SEED, 0, 1);
    // Service as it was: what a sleep is longer than it should be, waiting multiplies.
    let service_s = outcome.service_us.mean / 1e6;
    let expected = arithmetic::queue(schedule, service_s, 1.0, 6.0);
    let mean = 1e3 * expected.iter().sum::<f64>() / expected.len() as f64;
    let p90 = 1e3 * expected[expected.len() * 9 / 10];
    let measured = outcome.response_us.mean / 1e3;
    table.check(case, "mean ms", mean, measured, (0.1 * mean, 0.1 * mean))?;
    let measured = response_ms(&outcome, 0.9)?;
    table.check(case, "response p90 ms", p90, measured, (0.1 * p90, 0.1 * p90))?;
    Ok(())
}

/// One second in ten it does not answer. The measurement has ten, of which it is the fifth.
const STALL: Latency = Latency::Stall {
    period: Duration::from_secs(10),
    begins: Duration::from_secs(5),
    lasts: SECOND,
};

fn stall(table: &mut Table<'_>, _: &Path, stop: &AtomicBool) -> anyhow::Result<()> {
    let case = "1 s of 10 silent, 1000/s";
    let server = Server::start(STALL)?;
    let (rate, connections) = (1000.0, 64);
    let plan = plan(server.address(), rate, Arrivals::Constant, connections, 10 * SECOND);
    let outcome = measure(&plan, stop, &mut |_| {})?;
    table.check(case, "requests", 10_000.0, outcome.requests as f64, (20.0, 20.0))?;
    table.check(case, "shed", 0.0, outcome.shed as f64, (0.0, 0.0))?;
    // What has waited must be sent, one request after the other: for so long others wait too.
    for (name, quantile) in [
        ("response p90 ms", 0.9),
        ("response p95 ms", 0.95),
        ("response p99 ms", 0.99),
        ("response max ms", 1.0),
    ] {
        let expected = 1e3 * arithmetic::stalled(quantile, rate, 10.0, 1.0);
        table.check(case, name, expected, response_ms(&outcome, quantile)?, (10.0, 100.0))?;
    }
    let hidden = 1e3 * arithmetic::stalled_service(0.99, rate, 10.0, 1.0, connections as f64);
    let measured = outcome.service_us.p99 / 1e3;
    table.check(case, "service p99 ms", hidden, measured, (0.0, 100.0))?;
    Ok(())
}

/// Another generator, in a closed loop, if it is installed: to show what it does not see.
fn wrk(table: &mut Table<'_>, _: &Path, stop: &AtomicBool) -> anyhow::Result<()> {
    let case = "the same, by wrk";
    anyhow::ensure!(!stop.load(Ordering::Relaxed), "stopped before the end");
    let server = Server::start(STALL)?;
    let url = format!("http://{}/", server.address());
    let output = Command::new("wrk")
        .args(["--threads", "1", "--connections", "64", "--duration", "10s", "--latency", &url])
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        table.remark(case, "not installed")?;
        return Ok(());
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = text.lines().map(str::trim).filter(|line| {
        ["50%", "90%", "99%"].iter().any(|percent| line.starts_with(percent))
            || line.contains("requests in")
    });
    for line in told {
        let words = line.split_whitespace().collect::<Vec<_>>().join(" ");
        table.remark(case, &words)?;
    }
    table.remark(case, "(after it has filled in what it takes to be missing)")?;
    Ok(())
}

/// A process that is killed, stopped or not, when this is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn stopped(table: &mut Table<'_>, program: &Path, stop: &AtomicBool) -> anyhow::Result<()> {
    let case = "0.5 s SIGSTOP, 1000/s";
    let mut command = Command::new(program);
    command.arg("test-server").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process(command.spawn()?);
    let stdout = process.0.stdout.take().ok_or_else(|| anyhow::anyhow!("no standard output"))?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let target = line.trim().trim_start_matches(LISTENING).parse()?;
    let pid = Pid::from_raw(process.0.id() as i32);

    let (rate, seconds) = (1000.0, 5.0);
    let plan = plan(target, rate, Arrivals::Constant, 16, Duration::from_secs_f64(seconds));
    let mut pause = None;
    let outcome = measure(&plan, stop, &mut |phase| {
        if phase == Phase::Measuring {
            pause = Some(thread::spawn(move || {
                thread::sleep(2 * SECOND);
                let began = Instant::now();
                kill(pid, Signal::SIGSTOP)?;
                thread::sleep(500 * MILLISECOND);
                kill(pid, Signal::SIGCONT)?;
                Ok::<_, nix::Error>(began.elapsed())
            }));
        }
    })?;
    let Some(Ok(paused)) = pause.map(thread::JoinHandle::join) else {
        return Ok(());
    };
    let paused_s = paused?.as_secs_f64();
    for (name, quantile) in
        [("response p95 ms", 0.95), ("response p99 ms", 0.99), ("response max ms", 1.0)]
    {
        let expected = 1e3 * arithmetic::stalled(quantile, rate, seconds, paused_s);
        table.check(case, name, expected, response_ms(&outcome, quantile)?, (10.0, 50.0))?;
    }
    Ok(())
}

/// What the generator itself adds.
fn floor(table: &mut Table<'_>, _: &Path, stop: &AtomicBool) -> anyhow::Result<()> {
    let case = "no delay, 2000/s";
    let server = Server::start(Latency::None)?;
    let plan = plan(server.address(), 2000.0, Arrivals::Poisson, 16, 3 * SECOND);
    let outcome = measure(&plan, stop, &mut |_| {})?;
    let lag = outcome.schedule_lag_us.unwrap_or_default();
    let arrivals = outcome.arrivals as f64;
    table.check(case, "sent of what was due", arrivals, outcome.sent as f64, (0.0, 0.0))?;
    table.check(case, "response p50 µs", 0.0, outcome.response_us.p50, (0.0, 500.0))?;
    table.check(case, "sent late p50 µs", 0.0, lag.p50, (0.0, 50.0))?;
    let cpu = outcome.client_cpu_us_per_request;
    table.remark(case, &format!("the generator's processor time: {cpu:.1} µs a request"))?;
    Ok(())
}
