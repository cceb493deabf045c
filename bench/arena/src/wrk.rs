//! wrk, the load generator of other people: what it can be asked, how it is told, and what it says.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use loadgen::{Outcome, Protocol, Summary};

use crate::Usage;
use crate::workload::Workload;

/// What is said where it is wanted and not here.
pub(crate) const GET: &str = "wrk is not here; get it by: apt-get install wrk";

/// What wrk is to ask.
pub(crate) struct Order<'a> {
    pub(crate) path: &'a str,
    pub(crate) connections: usize,
    /// Whether each connection makes one request.
    pub(crate) reconnect: bool,
    pub(crate) duration_s: u64,
    /// Its script, in Lua.
    pub(crate) script: Option<&'a Path>,
}

/// What it said of itself.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Said {
    /// Replies, from its start to its end.
    pub(crate) requests: u64,
    pub(crate) rate_per_s: f64,
    elapsed_s: f64,
    pub(crate) bytes_read: f64,
    pub(crate) errors: BTreeMap<String, u64>,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
}

/// What wrk says of itself: its first line, up to where it tells whose it is. None: it is not here.
pub(crate) fn version() -> Option<String> {
    let said = Command::new("wrk").arg("--version").stdin(Stdio::null()).output().ok()?;
    Some(version_of(&said.stdout))
}

fn version_of(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let line = said.lines().next().unwrap_or_default();
    line.split(" Copyright").next().unwrap_or_default().trim().to_owned()
}

/// Whether wrk can ask this. It has closed loops of GET without pauses; it takes up the TLS session
/// of the connection before, which ours never do.
pub(crate) fn can_ask(workload: &Workload) -> bool {
    let is_plain = workload.protocol == Protocol::Http && workload.method.is_get() && !workload.tls;
    let is_closed = !workload.is_open() && workload.capacity.is_none();
    let is_alone = workload.beside.is_empty() && workload.idle_connections == 0;
    let stays_or_leaves = matches!(workload.requests_per_connection, None | Some(1));
    let is_simple = workload.think_ms.unwrap_or(0) == 0 && workload.script.is_none();
    is_plain && is_closed && is_alone && stays_or_leaves && is_simple
}

/// Its version, if it is here.
pub(crate) fn insist() -> Result<String, Usage> {
    version().ok_or_else(|| Usage(GET.to_owned()))
}

/// Leaves those that wrk can ask. Where they were named, it must be able to ask each.
pub(crate) fn keep_what_it_can_ask(
    workloads: &mut Vec<Workload>,
    all: &[Workload],
    were_named: bool,
) -> Result<(), Usage> {
    let cannot = workloads.iter().find(|one| !can_ask(one)).map(|one| one.name.clone());
    workloads.retain(can_ask);
    match cannot {
        Some(name) if were_named || workloads.is_empty() => {
            let can = all.iter().filter(|one| can_ask(one));
            let mut can: Vec<&str> = can.map(Workload::family).collect();
            can.dedup();
            let can = can.join(", ");
            Err(Usage(format!("wrk cannot ask what {name} asks; it can: {can}")))
        }
        _ => Ok(()),
    }
}

/// wrk measures whole seconds.
pub(crate) fn duration_s(workload: &Workload) -> u64 {
    workload.duration_ms.div_ceil(1000)
}

/// The script by which so many requests are sent at once, if it takes one.
pub(crate) fn script(pipeline: usize, folder: &Path) -> anyhow::Result<Option<std::path::PathBuf>> {
    if pipeline == 1 {
        return Ok(None);
    }
    let file = folder.join("pipeline.lua");
    let text = format!(
        "init = function(args)\n  local all = {{}}\n  \
         for i = 1, {pipeline} do all[i] = wrk.format() end\n  requests = table.concat(all)\n\
         end\nrequest = function() return requests end\n"
    );
    fs::write(&file, text).with_context(|| file.display().to_string())?;
    Ok(Some(file))
}

/// What wrk is told.
pub(crate) fn command(target: SocketAddr, order: &Order<'_>) -> Command {
    let mut command = Command::new("wrk");
    command.args(["--threads", "1", "--connections", &order.connections.to_string()]);
    command.args(["--duration", &format!("{}s", order.duration_s), "--timeout", "10s"]);
    command.arg("--latency");
    if order.reconnect {
        command.args(["--header", "Connection: close"]);
    }
    if let Some(script) = order.script {
        command.arg("--script").arg(script);
    }
    command.arg(format!("http://{target}{}", order.path));
    command
}

impl Said {
    /// What wrk says for people.
    pub(crate) fn read(text: &str) -> anyhow::Result<Self> {
        let mut said = Self::default();
        for line in text.lines().map(str::trim) {
            if let Some((requests, rest)) = line.split_once(" requests in ") {
                said.requests = requests.parse().with_context(|| line.to_owned())?;
                let (time, read) = rest.split_once(", ").with_context(|| line.to_owned())?;
                let read = read.strip_suffix(" read").and_then(|read| scaled(read, &BYTES));
                said.bytes_read = read.with_context(|| line.to_owned())?;
                let time = scaled(time, &MICROSECONDS).with_context(|| line.to_owned())?;
                said.elapsed_s = time / 1e6;
            }
            if let Some(rate) = line.strip_prefix("Requests/sec:") {
                said.rate_per_s = rate.trim().parse().with_context(|| line.to_owned())?;
            }
            for (start, place) in
                [("50%", &mut said.p50_us), ("90%", &mut said.p90_us), ("99%", &mut said.p99_us)]
            {
                if let Some(time) = line.strip_prefix(start) {
                    *place = scaled(time, &MICROSECONDS).with_context(|| line.to_owned())?;
                }
            }
            if let Some(counts) = line.strip_prefix("Socket errors:") {
                let of_kind = |part: &str| {
                    let (kind, count) = part.trim().split_once(' ')?;
                    Some((kind.to_owned(), count.parse().ok()?))
                };
                said.errors.extend(counts.split(',').filter_map(of_kind));
            }
            if let Some(count) = line.strip_prefix("Non-2xx or 3xx responses:") {
                let count = count.trim().parse().with_context(|| line.to_owned())?;
                said.errors.insert("status".to_owned(), count);
            }
        }
        said.errors.retain(|_, count| *count > 0);
        Ok(said)
    }

    /// The same as ours is told, as far as wrk knows it: not which connections were served.
    pub(crate) fn outcome(self, client_cpu_s: f64) -> anyhow::Result<Outcome> {
        ensure!(self.rate_per_s > 0.0 || self.requests == 0, "wrk told no rate");
        ensure!(self.elapsed_s > 0.0, "wrk told no time");
        // The rate tells the time more exactly, if anything was answered.
        let exactly = Some(self.requests as f64 / self.rate_per_s).filter(|it| it.is_normal());
        let elapsed_s = exactly.unwrap_or(self.elapsed_s);
        let first_error = self.errors.iter().next().map(|(kind, count)| format!("{count} {kind}"));
        let latency = Summary {
            count: self.requests,
            p50: self.p50_us,
            p90: self.p90_us,
            p99: self.p99_us,
            ..Summary::default()
        };
        Ok(Outcome {
            requests: self.requests,
            rate_per_s: self.rate_per_s,
            elapsed_s,
            bytes_received: self.bytes_read as u64,
            errors: self.errors,
            first_error,
            response_us: latency,
            service_us: latency,
            client_cpu_us_per_request: client_cpu_s * 1e6 / self.requests.max(1) as f64,
            client_busy: client_cpu_s / elapsed_s,
            ..Outcome::default()
        })
    }
}

const BYTES: [(&str, f64); 6] = [
    ("TB", 1_099_511_627_776.0),
    ("GB", 1_073_741_824.0),
    ("MB", 1_048_576.0),
    ("KB", 1024.0),
    ("K", 1024.0),
    ("B", 1.0),
];
const MICROSECONDS: [(&str, f64); 5] =
    [("us", 1.0), ("ms", 1e3), ("s", 1e6), ("m", 6e7), ("h", 3.6e9)];

/// A number with one of the units behind it.
fn scaled(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let scale = units.iter().find(|(name, _)| *name == unit)?.1;
    Some(number.parse::<f64>().ok()? * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "Running 3s test @ http://127.0.0.1:8080/plaintext\n  \
                        1 threads and 64 connections\n  Thread Stats   Avg      Stdev     Max\n    \
                        Latency   640.05us   50.50us   1.93ms   99.00%\n  \
                        Latency Distribution\n     50%  635.91us\n     75%  640.00us\n     \
                        90%  645.00us\n     99%    1.20ms\n  \
                        297310 requests in 3.00s, 35.50MB read\n  \
                        Socket errors: connect 1, read 2, write 0, timeout 4\n  \
                        Non-2xx or 3xx responses: 5\nRequests/sec:  99073.36\n";

    #[test]
    fn what_wrk_says_for_people_is_understood() {
        let said = Said::read(SAID).unwrap();
        assert_eq!((said.requests, said.errors.values().sum::<u64>()), (297_310, 12));
        assert_eq!(said.errors["status"], 5);
        assert!((said.bytes_read - 35.5 * 1_048_576.0).abs() < 1.0);
        let outcome = said.outcome(2.4).unwrap();
        assert!((outcome.rate_per_s - 99_073.36).abs() < 1e-9);
        assert!((outcome.service_us.p50 - 635.91).abs() < 1e-9);
        assert!((outcome.service_us.p99 - 1200.0).abs() < 1e-9);
        assert!((outcome.client_busy - 0.8).abs() < 0.01, "{}", outcome.client_busy);
        let none = "  0 requests in 2.00s, 1.50GB read\nRequests/sec:  0.00\n";
        let none = Said::read(none).unwrap().outcome(0.5).unwrap();
        assert!((none.elapsed_s - 2.0).abs() < 1e-9 && none.client_busy.is_normal());
        let silent = Said::read("unable to connect to 127.0.0.1:9 Connection refused\n").unwrap();
        assert_eq!(silent, Said::default());
        let told = b"wrk debian/4.1.0 [epoll] Copyright (C) 2012 Will Glozer\nUsage: wrk\n";
        assert_eq!(version_of(told), "wrk debian/4.1.0 [epoll]");
    }

    #[test]
    fn sixteen_requests_leave_at_once_by_a_script_and_one_by_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(script(1, folder.path()).unwrap(), None);
        let file = script(16, folder.path()).unwrap().unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains("for i = 1, 16 do all[i] = wrk.format() end"), "{text}");
        let target = SocketAddr::from(([127, 0, 0, 1], 80));
        let order = Order {
            path: "/plaintext",
            connections: 64,
            reconnect: true,
            duration_s: 2,
            script: Some(&file),
        };
        let command = command(target, &order);
        let told: Vec<_> = command.get_args().map(|one| one.to_str().unwrap()).collect();
        assert!(told.ends_with(&[file.to_str().unwrap(), "http://127.0.0.1:80/plaintext"]));
        assert!(told.contains(&"Connection: close"));
    }

    #[test]
    fn wrk_is_asked_closed_loops_of_get_and_nothing_else() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads");
        let all = crate::workload::load_folder(&folder).unwrap();
        let asked = |name: &str| can_ask(all.iter().find(|one| one.name == name).unwrap());
        for name in ["plaintext", "file-1k", "file-100k", "file-1gb", "churn", "pipelining"] {
            assert!(asked(name), "{name}");
        }
        for name in ["tls-handshakes", "latency", "ftp-logins", "idle-herd", "database", "echo"] {
            assert!(!asked(name), "{name}");
        }
        let mut named: Vec<Workload> = all.clone();
        named.retain(|one| ["latency", "churn"].contains(&one.name.as_str()));
        let refused = keep_what_it_can_ask(&mut named.clone(), &all, true).unwrap_err().0;
        assert!(refused.starts_with("wrk cannot ask what latency asks; it can: "), "{refused}");
        assert!(refused.contains("churn, ") && !refused.contains("tls"), "{refused}");
        keep_what_it_can_ask(&mut named, &all, false).unwrap();
        assert_eq!(named.len(), 1);
    }
}
