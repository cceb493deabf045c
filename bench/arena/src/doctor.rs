//! Is this machine fit to measure? What is read here is judged by figures alone, and each judgement
//! that is not "ok" says what to do.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use io_uring::IoUring;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statfs::statfs;
use procfs::{Current as _, CurrentSI as _, KernelStats};

use crate::accounting::Accounting;
use crate::machine::Machine;
use crate::stage::{MEMORY, SPARE_BYTES};
use crate::syscalls;
use crate::workload::Workload;

/// How long other load is looked at.
const SAMPLE: Duration = Duration::from_secs(1);
/// What one server or client has open beside its connections.
const DESCRIPTORS_BESIDE: u64 = 256;
/// Beside the processes or threads of the largest workload.
const PROCESSES_BESIDE: u64 = 1024;
/// A listen queue of this length overflows in none of the project's workloads.
const LISTEN_QUEUE: u64 = 1024;
/// Closed connections keep their ports for a minute.
const PORTS: u64 = 20_000;
/// For the largest servers and the harness.
const MEMORY_MIB: u64 = 1024;
const MEMORY_COMFORTABLE_MIB: u64 = 4096;
/// Shares of the machine that others may have: beyond the first it is worth knowing, beyond the
/// second nothing of worth is measured.
const STOLEN: (f64, f64) = (0.02, 0.1);
const OTHERS: (f64, f64) = (0.05, 0.25);

/// How much a finding matters.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Fitness {
    Ok,
    WorthKnowing,
    Unfit,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finding {
    what: &'static str,
    pub(crate) fitness: Fitness,
    found: String,
    /// What to do where it is not ok, a command where there is one.
    change: String,
}

/// What the machine says of itself; none where it does not tell.
#[derive(Clone, Debug)]
struct Readings {
    processors: usize,
    is_pinned: bool,
    siblings: bool,
    governor: Option<String>,
    turbo: Option<bool>,
    stolen: Option<f64>,
    others: Option<f64>,
    descriptors: u64,
    /// The lowest of the limits on processes and threads.
    processes: u64,
    somaxconn: Option<u64>,
    syn_backlog: Option<u64>,
    ports: Option<u64>,
    room_bytes: u64,
    memory_mib: Option<u64>,
    accounting: &'static str,
    syscalls: Result<(), String>,
    io_uring: Result<(), String>,
}

/// What the largest workload asks of a machine.
#[derive(Clone, Copy, Debug)]
struct Needs {
    connections: u64,
    room_bytes: u64,
}

/// Looks at this machine for a second, with these workloads in mind.
pub(crate) fn examine(workloads: &[Workload]) -> Vec<Finding> {
    let connections = |one: &Workload| {
        let beside: usize = one.beside.iter().map(|class| class.connections).sum();
        (one.connections + one.idle_connections + beside) as u64
    };
    let needs = Needs {
        connections: workloads.iter().map(connections).max().unwrap_or(0),
        room_bytes: workloads.iter().map(Workload::room_bytes).sum(),
    };
    judge(&Readings::take(), needs)
}

impl Readings {
    fn take() -> Self {
        let machine = Machine::describe();
        let placement = &machine.placement;
        let cpu = placement.server.unwrap_or(0);
        let cpufreq = format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
        let (stolen, others) = shares().unzip();
        let turbo_off = number("/sys/devices/system/cpu/intel_pstate/no_turbo");
        let boost = number("/sys/devices/system/cpu/cpufreq/boost");
        let hard = |of| getrlimit(of).map_or(0, |(_, hard)| hard);
        let own_processes = hard(Resource::RLIMIT_NPROC);
        let limits = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"];
        let processes = limits.into_iter().filter_map(number).chain([own_processes]).min();
        Self {
            processors: machine.cores,
            is_pinned: placement.client.is_some(),
            siblings: placement.siblings,
            governor: text(&cpufreq),
            turbo: turbo_off.map(|off| off == 0).or(boost.map(|on| on == 1)),
            stolen,
            others,
            descriptors: hard(Resource::RLIMIT_NOFILE),
            processes: processes.unwrap_or(u64::MAX),
            somaxconn: number("/proc/sys/net/core/somaxconn"),
            syn_backlog: number("/proc/sys/net/ipv4/tcp_max_syn_backlog"),
            ports: text("/proc/sys/net/ipv4/ip_local_port_range").and_then(|range| {
                let (first, last) = range.split_once(char::is_whitespace)?;
                Some(last.trim().parse::<u64>().ok()?.saturating_sub(first.parse().ok()?) + 1)
            }),
            room_bytes: statfs(Path::new(MEMORY))
                .map_or(0, |it| it.blocks_available().saturating_mul(it.block_size() as u64)),
            memory_mib: available_memory_mib(),
            accounting: Accounting::find().name(),
            syscalls: syscalls::allowed(),
            io_uring: IoUring::new(2).map(drop).map_err(|error| error.to_string()),
        }
    }
}

/// Every finding, the machine itself first, then its limits.
fn judge(now: &Readings, needs: Needs) -> Vec<Finding> {
    let mut findings = vec![processors(now), frequency(now), turbo(now)];
    findings.extend([
        share(
            "stolen time",
            now.stolen,
            STOLEN,
            "another host, or another hour: others use this one",
        ),
        share("other load", now.others, OTHERS, "end what runs beside: top -bn1 | head -20"),
        memory(now),
        room(now, needs),
        descriptors(now, needs),
        processes(now, needs),
        at_least("listen queue", now.somaxconn, LISTEN_QUEUE, "sysctl -w net.core.somaxconn=4096"),
        at_least(
            "half-open connections",
            now.syn_backlog,
            LISTEN_QUEUE,
            "sysctl -w net.ipv4.tcp_max_syn_backlog=4096",
        ),
        at_least(
            "client ports",
            now.ports,
            PORTS.max(needs.connections),
            "sysctl -w net.ipv4.ip_local_port_range='32768 60999'",
        ),
    ]);
    findings.extend([accounting(now), counting(now), io_uring(now)]);
    findings
}

fn finding(what: &'static str, fitness: Fitness, found: impl Into<String>) -> Finding {
    Finding { what, fitness, found: found.into(), change: String::new() }
}

impl Finding {
    fn change(self, change: impl Into<String>) -> Self {
        let change = if self.fitness == Fitness::Ok { String::new() } else { change.into() };
        Self { change, ..self }
    }
}

fn processors(now: &Readings) -> Finding {
    let count = crate::progress::counted(now.processors, "processor");
    let (fitness, found) = match (now.is_pinned, now.siblings) {
        (false, _) => (Fitness::Unfit, format!("{count}, which server and client would share")),
        (true, true) => (Fitness::WorthKnowing, format!("{count}, all of one core")),
        (true, false) => (Fitness::Ok, format!("{count}, one for the server, others for clients")),
    };
    let change = "two cores at least; if they are there, allow them: taskset -cp 0-1 $$";
    finding("processors", fitness, found).change(change)
}

fn frequency(now: &Readings) -> Finding {
    let fitness = match now.governor.as_deref() {
        None | Some("performance") => Fitness::Ok,
        Some(_) => Fitness::WorthKnowing,
    };
    let found = now.governor.clone().unwrap_or_else(|| "not to be seen here".to_owned());
    finding("frequency governor", fitness, found).change("cpupower frequency-set -g performance")
}

fn turbo(now: &Readings) -> Finding {
    let (fitness, found) = match now.turbo {
        None => (Fitness::Ok, "not to be seen here"),
        Some(false) => (Fitness::Ok, "off"),
        Some(true) => (Fitness::WorthKnowing, "on: the frequency depends on heat and neighbours"),
    };
    let off = "echo 1 > /sys/devices/system/cpu/intel_pstate/no_turbo, or \
               echo 0 > /sys/devices/system/cpu/cpufreq/boost";
    finding("turbo", fitness, found).change(off)
}

fn share(what: &'static str, share: Option<f64>, limits: (f64, f64), change: &str) -> Finding {
    let Some(share) = share else {
        return finding(what, Fitness::WorthKnowing, "the kernel does not tell").change(change);
    };
    let fitness = match share {
        much if much > limits.1 => Fitness::Unfit,
        some if some > limits.0 => Fitness::WorthKnowing,
        _ => Fitness::Ok,
    };
    finding(what, fitness, format!("{:.1}% of the machine", share * 100.0)).change(change)
}

fn memory(now: &Readings) -> Finding {
    let Some(memory_mib) = now.memory_mib else {
        return finding("memory", Fitness::WorthKnowing, "the kernel does not tell")
            .change("free -m");
    };
    let fitness = match memory_mib {
        little if little < MEMORY_MIB => Fitness::Unfit,
        some if some < MEMORY_COMFORTABLE_MIB => Fitness::WorthKnowing,
        _ => Fitness::Ok,
    };
    let change = format!("make {MEMORY_COMFORTABLE_MIB} MiB available, or leave out large files");
    finding("memory", fitness, format!("{memory_mib} MiB available")).change(change)
}

fn room(now: &Readings, needs: Needs) -> Finding {
    let needs_bytes = needs.room_bytes + SPARE_BYTES;
    let (has_mib, needs_mib) = (now.room_bytes >> 20, (needs_bytes >> 20) + 1);
    let fitness = if has_mib > needs_mib { Fitness::Ok } else { Fitness::WorthKnowing };
    let found = format!("{has_mib} MiB in {MEMORY}, all workloads together take {needs_mib}");
    let change = format!("mount -o remount,size={needs_mib}m {MEMORY}; files lie on disk else");
    finding("room for files", fitness, found).change(change)
}

fn descriptors(now: &Readings, needs: Needs) -> Finding {
    let wanted = needs.connections + DESCRIPTORS_BESIDE;
    let fitness = if now.descriptors >= wanted { Fitness::Ok } else { Fitness::Unfit };
    let found = format!("{} in a process, the largest workload takes {wanted}", now.descriptors);
    finding("descriptors", fitness, found).change(format!("ulimit -Hn {wanted}, as root"))
}

fn processes(now: &Readings, needs: Needs) -> Finding {
    let wanted = needs.connections + PROCESSES_BESIDE;
    let fitness = if now.processes >= wanted { Fitness::Ok } else { Fitness::WorthKnowing };
    let found = format!("{}, the largest workload takes {wanted}", now.processes);
    let change = format!("sysctl -w kernel.pid_max={wanted} kernel.threads-max={wanted}");
    finding("processes and threads", fitness, found).change(format!("{change}; ulimit -u {wanted}"))
}

fn at_least(what: &'static str, found: Option<u64>, wanted: u64, change: &str) -> Finding {
    let fitness = match found {
        Some(found) if found >= wanted => Fitness::Ok,
        _ => Fitness::WorthKnowing,
    };
    let found = found.map_or("the kernel does not tell".to_owned(), |found| found.to_string());
    finding(what, fitness, format!("{found}, of {wanted} that are good")).change(change)
}

fn accounting(now: &Readings) -> Finding {
    let is_group = now.accounting != Accounting::Procfs.name();
    let fitness = if is_group { Fitness::Ok } else { Fitness::WorthKnowing };
    let change =
        "as root, or in a cgroup that is yours: systemd-run --user --scope -p Delegate=yes";
    finding("processor time", fitness, format!("counted by {}", now.accounting)).change(change)
}

fn counting(now: &Readings) -> Finding {
    match &now.syscalls {
        Ok(()) => finding("system calls", Fitness::Ok, "may be counted"),
        Err(why) => finding("system calls", Fitness::WorthKnowing, why.as_str())
            .change("as root; or sysctl -w kernel.perf_event_paranoid=-1"),
    }
}

fn io_uring(now: &Readings) -> Finding {
    match &now.io_uring {
        Ok(()) => finding("io_uring", Fitness::Ok, "available and allowed"),
        Err(why) => finding("io_uring", Fitness::WorthKnowing, format!("none: {why}"))
            .change("sysctl -w kernel.io_uring_disabled=0; `completion` is NOT AVAILABLE else"),
    }
}

/// The shares of the machine that the hypervisor and others take, over a second in which we sleep.
fn shares() -> Option<(f64, f64)> {
    let read = || KernelStats::current().map(|stats| (stats.total, stats.cpu_time.len())).ok();
    let ((before, _), began) = (read()?, Instant::now());
    thread::sleep(SAMPLE);
    // Of all processors, also those that this process may not use.
    let ((after, processors), elapsed) = (read()?, began.elapsed());
    let stolen = after.steal.unwrap_or(0).saturating_sub(before.steal.unwrap_or(0));
    let busy = |it: &procfs::CpuTime| {
        it.user + it.nice + it.system + it.irq.unwrap_or(0) + it.softirq.unwrap_or(0)
    };
    let others = busy(&after).saturating_sub(busy(&before));
    let all = elapsed.as_secs_f64() * processors as f64 * procfs::ticks_per_second() as f64;
    Some((stolen as f64 / all, others as f64 / all))
}

fn available_memory_mib() -> Option<u64> {
    let bytes = procfs::Meminfo::current().ok()?.mem_available?;
    Some(bytes >> 20)
}

fn text(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn number(path: &str) -> Option<u64> {
    text(path)?.parse().ok()
}

/// What was found, a line each with what to change below it.
pub(crate) fn told(findings: &[Finding]) -> String {
    let mut out = String::new();
    for one in findings {
        let word = match one.fitness {
            Fitness::Ok => "ok",
            Fitness::WorthKnowing => "worth knowing",
            Fitness::Unfit => "UNFIT",
        };
        let mut line = |word: &str, what: &str, text: &str| {
            writeln!(out, "{word:14} {what:22} {text}").expect("a string takes all");
        };
        line(word, one.what, &one.found);
        if !one.change.is_empty() {
            line("", "", &format!("→ {}", one.change));
        }
    }
    let worst = findings.iter().map(|one| one.fitness).max().unwrap_or(Fitness::Ok);
    out + match worst {
        Fitness::Ok => "\nThis machine is fit to measure.\n",
        Fitness::WorthKnowing => "\nThis machine is fit to measure, with what is worth knowing.\n",
        Fitness::Unfit => "\nThis machine is not fit to measure.\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: Needs = Needs { connections: 5016, room_bytes: 1 << 30 };

    fn fit() -> Readings {
        Readings {
            processors: 2,
            is_pinned: true,
            siblings: false,
            governor: Some("performance".to_owned()),
            turbo: None,
            stolen: Some(0.001),
            others: Some(0.01),
            descriptors: 1 << 20,
            processes: 32_768,
            somaxconn: Some(4096),
            syn_backlog: Some(2048),
            ports: Some(28_232),
            room_bytes: 2 << 30,
            memory_mib: Some(8192),
            accounting: "cgroup v2",
            syscalls: Ok(()),
            io_uring: Ok(()),
        }
    }

    /// What is not ok of a machine.
    fn complaints(now: &Readings) -> Vec<String> {
        let bad = |one: &Finding| one.fitness != Fitness::Ok;
        let findings = judge(now, NEEDS);
        assert!(findings.iter().all(|one| bad(one) != one.change.is_empty()), "{findings:?}");
        findings
            .iter()
            .filter(|one| bad(one))
            .map(|one| format!("{}: {:?}", one.what, one.fitness))
            .collect()
    }

    #[test]
    fn a_fit_machine_gets_no_advice() {
        assert_eq!(complaints(&fit()), [""; 0]);
        assert!(told(&judge(&fit(), NEEDS)).ends_with("\nThis machine is fit to measure.\n"));
    }

    #[test]
    fn whatever_would_falsify_a_measurement_makes_it_unfit() {
        let one = Readings { processors: 1, is_pinned: false, ..fit() };
        assert_eq!(complaints(&one), ["processors: Unfit"]);
        let busy = Readings { others: Some(0.5), stolen: Some(0.2), ..fit() };
        assert_eq!(complaints(&busy), ["stolen time: Unfit", "other load: Unfit"]);
        let small = Readings { descriptors: 1024, memory_mib: Some(500), ..fit() };
        assert_eq!(complaints(&small), ["memory: Unfit", "descriptors: Unfit"]);
        let text = told(&judge(&small, NEEDS));
        assert!(text.contains("→ ulimit -Hn 5272, as root\n"), "{text}");
        assert!(text.ends_with("\nThis machine is not fit to measure.\n"), "{text}");
    }

    #[test]
    fn what_only_limits_it_is_worth_knowing() {
        let limited = Readings {
            siblings: true,
            governor: Some("powersave".to_owned()),
            turbo: Some(true),
            stolen: None,
            others: Some(0.1),
            processes: 4096,
            somaxconn: Some(128),
            syn_backlog: None,
            ports: Some(1000),
            room_bytes: 64 << 20,
            memory_mib: Some(2048),
            accounting: "procfs",
            syscalls: Err("no".to_owned()),
            io_uring: Err("no".to_owned()),
            ..fit()
        };
        let complaints = complaints(&limited);
        assert_eq!(complaints.len(), 14, "{complaints:?}");
        assert!(complaints.iter().all(|one| one.ends_with(": WorthKnowing")), "{complaints:?}");
    }
}
