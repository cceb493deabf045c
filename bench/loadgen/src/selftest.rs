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
use serde::{Deserialize, Serialize};

use crate::class::{BACKLOG, Class, Load};
use crate::histogram::decode;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::rate::Rate;
use crate::schedule::{Arrivals, Schedule};
use crate::{Phase, Word, run as run_plan};
use server::{Latency, Server};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// Of a sleep and of waking, on a machine that does something else too.
const SLACK_MS: f64 = 2.0;
const SEED: u64 = 1;
const LISTENING: &str = "listening on ";

/// A figure that arithmetic knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// The server and its load.
    pub case: String,
    /// What is looked at, with its unit.
    pub figure: String,
    /// What arithmetic says.
    pub expected: f64,
    /// What was found.
    pub measured: f64,
    /// The least that is allowed.
    pub low: f64,
    /// The most that is allowed.
    pub high: f64,
}

impl Check {
    /// Whether it is as it must be.
    pub fn is_good(&self) -> bool {
        (self.low..=self.high).contains(&self.measured)
    }
}

/// What another generator says of a server whose latency is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Beside {
    /// The other generator.
    pub client: String,
    /// The server and its load.
    pub case: String,
    /// What it says, with its unit, as it is named in a [`Check`].
    pub figure: String,
    /// What it found.
    pub measured: f64,
}

/// All that the self-test found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// What was compared with arithmetic.
    pub checks: Vec<Check>,
    /// What others say of the same servers.
    pub beside: Vec<Beside>,
}

impl Findings {
    /// Whether all is as it must be.
    pub fn are_good(&self) -> bool {
        self.checks.iter().all(Check::is_good)
    }
}

/// Runs all of it and writes the table to `out`. `program` is this program, which has the hidden
/// command `test-server`.
pub fn run(program: &Path, stop: &AtomicBool, out: &mut dyn Write) -> anyhow::Result<Findings> {
    let mut table = Table { out, found: Findings::default(), noise: None };
    table.head()?;
    fixed(&mut table, stop)?;
    fixed_closed(&mut table, stop)?;
    exponential(&mut table, stop)?;
    queue(&mut table, stop)?;
    for arrivals in [Arrivals::Constant, Arrivals::Poisson] {
        stall(&mut table, arrivals, stop)?;
    }
    stall_closed(&mut table, stop)?;
    wrk(&mut table, stop)?;
    for arrivals in [Arrivals::Constant, Arrivals::Poisson] {
        stopped(&mut table, arrivals, program, stop)?;
    }
    floor(&mut table, stop)?;
    if table.found.are_good() {
        writeln!(table.out, "all as arithmetic says")?;
    } else {
        let noise = table.noise.map(|noise| format!("; the machine was busy: {noise}"));
        writeln!(table.out, "NOT as arithmetic says{}", noise.unwrap_or_default())?;
    }
    Ok(table.found)
}

/// Serves without a delay, for the case of a process that is stopped.
pub fn serve_until_end_of_input() -> anyhow::Result<()> {
    let server = Server::start(Latency::None)?;
    println!("{LISTENING}{}", server.address());
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    Ok(())
}

struct Table<'a> {
    out: &'a mut dyn Write,
    found: Findings,
    /// What a run said of the machine that it shared.
    noise: Option<String>,
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
        let (case, figure) = (case.to_owned(), figure.to_owned());
        let check = Check { case, figure, expected, measured, low, high };
        let word = if check.is_good() { "ok" } else { "WRONG" };
        let allowed = format!("{low:.2} to {high:.2}");
        let Check { case, figure, .. } = &check;
        writeln!(
            self.out,
            "{case:<26}{figure:<20}{expected:>12.2}{measured:>12.2}{allowed:>20}  {word}"
        )?;
        self.found.checks.push(check);
        Ok(())
    }

    fn beside(&mut self, client: &str, case: &str, figure: &str, measured: f64) -> io::Result<()> {
        writeln!(self.out, "{case:<26}{figure:<20}{client:>12}{measured:>12.2}")?;
        let [client, case, figure] = [client, case, figure].map(str::to_owned);
        self.found.beside.push(Beside { client, case, figure, measured });
        Ok(())
    }

    /// A run to its end: half a measurement would be compared with the arithmetic of a whole one.
    fn measure(
        &mut self,
        plan: &Plan,
        stop: &AtomicBool,
        on_phase: &mut dyn FnMut(Phase),
    ) -> anyhow::Result<Outcome> {
        let outcome = run_plan(plan, stop, on_phase)?;
        anyhow::ensure!(!outcome.stopped, "stopped before the end");
        let noise = outcome.verdict.as_ref().and_then(|verdict| verdict.objection(Word::Noisy));
        self.noise = self.noise.take().or(noise.map(str::to_owned));
        Ok(outcome)
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

fn response_ms(outcome: &Outcome, quantile: f64) -> anyhow::Result<f64> {
    let blob = outcome.response_histogram.as_ref().unwrap_or(&outcome.histogram);
    let histogram = decode(blob).map_err(anyhow::Error::msg)?;
    Ok(histogram.value_at_quantile(quantile) as f64 / 1e6)
}

fn fixed(table: &mut Table<'_>, stop: &AtomicBool) -> anyhow::Result<()> {
    let case = "20 ms fixed, 500/s";
    let server = Server::start(Latency::Fixed(20 * MILLISECOND))?;
    let plan = plan(server.address(), 500.0, Arrivals::Constant, 64, 3 * SECOND);
    let outcome = table.measure(&plan, stop, &mut |_| {})?;
    table.check(case, "requests/s", 500.0, outcome.rate_per_s, (5.0, 5.0))?;
    table.check(case, "response p50 ms", 20.0, response_ms(&outcome, 0.5)?, (0.02, SLACK_MS))?;
    table.check(case, "response p99 ms", 20.0, response_ms(&outcome, 0.99)?, (0.02, 10.0))?;
    // By Little's law: 500 a second, each for 20 ms.
    table.check(case, "in the system", 10.0, outcome.in_system, (0.1, 1.0))?;
    Ok(())
}

/// Nobody waits for anybody: each connection gets its replies one after the other.
fn fixed_closed(table: &mut Table<'_>, stop: &AtomicBool) -> anyhow::Result<()> {
    let case = "20 ms fixed, 16 closed";
    let server = Server::start(Latency::Fixed(20 * MILLISECOND))?;
    let mut plan = plan(server.address(), 0.0, Arrivals::Constant, 16, 3 * SECOND);
    plan.class.load = Load::Closed { think: Duration::ZERO };
    let outcome = table.measure(&plan, stop, &mut |_| {})?;
    table.check(case, "requests/s", 800.0, outcome.rate_per_s, (80.0, 8.0))?;
    table.check(case, "response p50 ms", 20.0, response_ms(&outcome, 0.5)?, (0.02, SLACK_MS))?;
    table.check(case, "in the system", 16.0, outcome.in_system, (0.5, 0.1))?;
    Ok(())
}

fn exponential(table: &mut Table<'_>, stop: &AtomicBool) -> anyhow::Result<()> {
    let case = "10 ms exponential, 300/s";
    let server = Server::start(Latency::Exponential(10 * MILLISECOND))?;
    let plan = plan(server.address(), 300.0, Arrivals::Poisson, 128, 5 * SECOND);
    let outcome = table.measure(&plan, stop, &mut |_| {})?;
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
fn queue(table: &mut Table<'_>, stop: &AtomicBool) -> anyhow::Result<()> {
    let case = "5 ms, 1 conn., 100/s";
    let server = Server::start(Latency::Fixed(5 * MILLISECOND))?;
    let plan = plan(server.address(), 100.0, Arrivals::Poisson, 1, 5 * SECOND);
    let outcome = table.measure(&plan, stop, &mut |_| {})?;
    let profile = Rate::Constant(100.0).profile(SECOND, 5 * SECOND);
    let schedule = Schedule::new(profile, Arrivals::Poisson, SEED, 0, 1);
    // Service as it was, one after the other: a sleep that is too long makes all that wait longer.
    let served_s: Vec<f64> = server.served().iter().map(Duration::as_secs_f64).collect();
    let served_mean_s = served_s.iter().sum::<f64>() / served_s.len() as f64;
    let way_s = outcome.service_us.mean / 1e6 - served_mean_s;
    let services_s = served_s.iter().map(|served_s| served_s + way_s);
    let expected = arithmetic::queue(schedule, services_s, 1.0, 6.0);
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

const STALL_CASE: &str = "1 s of 10 silent, 1000/s";
const STALL_CONNECTIONS: usize = 64;
const STALL_RATE: f64 = 1000.0;

fn stall(table: &mut Table<'_>, arrivals: Arrivals, stop: &AtomicBool) -> anyhow::Result<()> {
    let case = match arrivals {
        Arrivals::Constant => STALL_CASE,
        Arrivals::Poisson => "1 s of 10, Poisson 1000/s",
    };
    let server = Server::start(STALL)?;
    let plan = plan(server.address(), STALL_RATE, arrivals, STALL_CONNECTIONS, 10 * SECOND);
    let outcome = table.measure(&plan, stop, &mut |_| {})?;
    let profile = Rate::Constant(STALL_RATE).profile(SECOND, 10 * SECOND);
    let schedule = Schedule::new(profile, arrivals, SEED, 0, 1);
    let expected = arithmetic::stalled_arrivals(schedule, (5.0, 6.0), (1.0, 11.0));
    let requests = expected.len() as f64;
    table.check(case, "requests", requests, outcome.requests as f64, (20.0, 20.0))?;
    table.check(case, "shed", 0.0, outcome.shed as f64, (0.0, 0.0))?;
    // What has waited must be sent, one request after the other: for so long others wait too.
    let quantiles = [0.5, 0.9, 0.95, 0.99, 1.0];
    quantiles_of_responses(table, case, &outcome, &expected, &quantiles, 100.0)?;
    let connections = STALL_CONNECTIONS as f64;
    for (name, quantile, measured) in [
        ("service p99 ms", 0.99, outcome.service_us.p99),
        ("service max ms", 1.0, outcome.service_us.max),
    ] {
        let hidden =
            1e3 * arithmetic::stalled_service(quantile, STALL_RATE, 10.0, 1.0, connections);
        table.check(case, name, hidden, measured / 1e3, (10.0, 100.0))?;
    }
    Ok(())
}

/// At about the same rate, but whoever waits asks nothing meanwhile: one request of each connection
/// meets the stall, and the others are never made. That is why users are not asked to wait.
fn stall_closed(table: &mut Table<'_>, stop: &AtomicBool) -> anyhow::Result<()> {
    let case = "1 s of 10, closed loop";
    let server = Server::start(STALL)?;
    let connections = STALL_CONNECTIONS as f64;
    let think_s = connections / STALL_RATE;
    let address = server.address();
    let mut plan = plan(address, STALL_RATE, Arrivals::Constant, STALL_CONNECTIONS, 10 * SECOND);
    plan.class.load = Load::Closed { think: Duration::from_secs_f64(think_s) };
    let outcome = table.measure(&plan, stop, &mut |_| {})?;
    let expected = connections * (10.0 - 1.0) / think_s;
    let allowed = (0.1 * expected, 2.0 * connections);
    table.check(case, "requests", expected, outcome.requests as f64, allowed)?;
    let hidden = 1e3 * arithmetic::stalled_service(0.99, expected / 10.0, 10.0, 1.0, connections);
    table.check(case, "response p99 ms", hidden, response_ms(&outcome, 0.99)?, (0.0, 50.0))?;
    // Who has just asked when the stall begins waits for all of it, but perhaps nobody has.
    let (least, most) = (1e3 * think_s + 10.0, 100.0);
    table.check(case, "response max ms", 1e3, response_ms(&outcome, 1.0)?, (least, most))?;
    Ok(())
}

/// Compares percentiles of the response time with those of the times in `expected`, which are in
/// seconds and in order.
fn quantiles_of_responses(
    table: &mut Table<'_>,
    case: &str,
    outcome: &Outcome,
    expected: &[f64],
    quantiles: &[f64],
    slack_ms: f64,
) -> anyhow::Result<()> {
    for quantile in quantiles {
        let rank = (quantile * expected.len() as f64).ceil() as usize;
        let expected_ms = 1e3 * expected[rank.clamp(1, expected.len()) - 1];
        let measured_ms = response_ms(outcome, *quantile)?;
        let figure = match *quantile {
            1.0 => "response max ms".to_owned(),
            quantile => format!("response p{:.0} ms", 100.0 * quantile),
        };
        table.check(case, &figure, expected_ms, measured_ms, (10.0, slack_ms))?;
    }
    Ok(())
}

/// Another generator, in a closed loop, if it is installed: to show what it does not see. It fills
/// in afterwards what it takes to be missing.
fn wrk(table: &mut Table<'_>, stop: &AtomicBool) -> anyhow::Result<()> {
    anyhow::ensure!(!stop.load(Ordering::Relaxed), "stopped before the end");
    let server = Server::start(STALL)?;
    let url = format!("http://{}/", server.address());
    let connections = STALL_CONNECTIONS.to_string();
    let output = Command::new("wrk")
        .args(["--threads", "1", "--connections", &connections, "--duration", "10s", "--latency"])
        .arg(&url)
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        table.remark(STALL_CASE, "wrk is not installed")?;
        return Ok(());
    };
    for (figure, measured_ms) in told_by_wrk(&String::from_utf8_lossy(&output.stdout)) {
        table.beside("wrk", STALL_CASE, figure, measured_ms)?;
    }
    Ok(())
}

/// The percentiles and the maximum, in milliseconds.
fn told_by_wrk(text: &str) -> Vec<(&'static str, f64)> {
    let mut told = Vec::new();
    let mut max = None;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let figure = match words.as_slice() {
            ["Latency", _, _, longest, _] => {
                max = milliseconds(longest);
                continue;
            }
            ["50%", _] => "response p50 ms",
            ["90%", _] => "response p90 ms",
            ["99%", _] => "response p99 ms",
            _ => continue,
        };
        told.extend(milliseconds(words[1]).map(|measured_ms| (figure, measured_ms)));
    }
    told.extend(max.map(|max| ("response max ms", max)));
    told
}

/// Wrk writes `12.34us`, `5.60ms`, `1.20s` and `1.00m`.
fn milliseconds(text: &str) -> Option<f64> {
    let unit = text.find(|char: char| char.is_ascii_alphabetic())?;
    let factor = match &text[unit..] {
        "us" => 1e-3,
        "ms" => 1.0,
        "s" => 1e3,
        "m" => 6e4,
        _ => return None,
    };
    Some(text[..unit].parse::<f64>().ok()? * factor)
}

/// A process that is killed, stopped or not, when this is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn stopped(
    table: &mut Table<'_>,
    arrivals: Arrivals,
    program: &Path,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let case = match arrivals {
        Arrivals::Constant => "0.5 s SIGSTOP, 1000/s",
        Arrivals::Poisson => "0.5 s SIGSTOP, Poisson",
    };
    let mut command = Command::new(program);
    command.arg("test-server").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process(command.spawn()?);
    let stdout = process.0.stdout.take().ok_or_else(|| anyhow::anyhow!("no standard output"))?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let target = line.trim().trim_start_matches(LISTENING).parse()?;
    let pid = Pid::from_raw(process.0.id() as i32);

    let (rate, seconds) = (1000.0, 5.0);
    let plan = plan(target, rate, arrivals, 16, Duration::from_secs_f64(seconds));
    let mut pause = None;
    let started = Instant::now();
    let outcome = table.measure(&plan, stop, &mut |phase| {
        if phase == Phase::Measuring {
            pause = Some(thread::spawn(move || {
                thread::sleep(2 * SECOND);
                let began_s = started.elapsed().as_secs_f64();
                kill(pid, Signal::SIGSTOP)?;
                thread::sleep(500 * MILLISECOND);
                kill(pid, Signal::SIGCONT)?;
                Ok::<_, nix::Error>((began_s, started.elapsed().as_secs_f64()))
            }));
        }
    })?;
    let paused = pause.ok_or_else(|| anyhow::anyhow!("the measurement never began"))?;
    let paused = paused.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    let warm_up_s = plan.warm_up.as_secs_f64();
    let schedule = Schedule::new(
        Rate::Constant(rate).profile(plan.warm_up, plan.duration),
        arrivals,
        SEED,
        0,
        1,
    );
    let measured_s = (warm_up_s, warm_up_s + seconds);
    let expected = arithmetic::stalled_arrivals(schedule, paused, measured_s);
    quantiles_of_responses(table, case, &outcome, &expected, &[0.9, 0.95, 0.99, 1.0], 50.0)
}

/// What the generator itself adds.
fn floor(table: &mut Table<'_>, stop: &AtomicBool) -> anyhow::Result<()> {
    let case = "no delay, 2000/s";
    let server = Server::start(Latency::None)?;
    let plan = plan(server.address(), 2000.0, Arrivals::Poisson, 16, 3 * SECOND);
    let outcome = table.measure(&plan, stop, &mut |_| {})?;
    let lag = outcome.schedule_lag_us.unwrap_or_default();
    let arrivals = outcome.arrivals as f64;
    // What is due at the very end may find all connections busy.
    let unsent = 0.01 * arrivals;
    table.check(case, "sent of what was due", arrivals, outcome.sent as f64, (unsent, 0.0))?;
    table.check(case, "response p50 µs", 0.0, outcome.response_us.p50, (0.0, 500.0))?;
    table.check(case, "sent late p50 µs", 0.0, lag.p50, (0.0, 50.0))?;
    let cpu = outcome.client_cpu_us_per_request;
    table.remark(case, &format!("the generator's processor time: {cpu:.1} µs a request"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_tells_is_read_in_milliseconds() {
        let text = "  Thread Stats   Avg      Stdev     Max   +/- Stdev\n    \
                    Latency    58.30ms  193.55ms   1.02s    91.51%\n    \
                    Req/Sec    16.80k     3.73k   20.96k    88.24%\n  Latency Distribution\n     \
                    50%  612.00us\n     75%    0.90ms\n     90%    1.40ms\n     99%    0.97s\n";
        let found = told_by_wrk(text);
        let expected = [0.612, 1.4, 970.0, 1020.0];
        assert_eq!(found.len(), expected.len());
        for ((figure, found), expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-9, "{figure}: {found}");
        }
        assert_eq!(milliseconds("1.00m"), Some(60_000.0));
    }
}
