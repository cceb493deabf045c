//! What a process tree uses, read from procfs and the CPU clocks of its processes, or from its
//! control group.
//!
//! A tree is read while it changes: a process that vanishes between two reads is left out, and no
//! read fails for it.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use procfs::CurrentSI as _;
use procfs::process::{MMapExtension, Stat};
use serde::{Deserialize, Serialize};

use crate::accounting::{CpuTime, Group};

/// A process, told from a later one of the same pid by its start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Clock ticks after boot.
    started: u64,
}

/// The tree's counters since it began, and when they were read.
pub(crate) struct Counters {
    asked: Instant,
    cpu_read: Instant,
    /// Of its processes, and of those that have ended as far as the one who counts knows them.
    cpu: CpuTime,
    switches_read: Instant,
    switches: Switches,
    /// The threads counted in `switches`.
    threads: BTreeSet<i32>,
    machine: MachineCounters,
}

#[derive(Clone, Copy, Default)]
struct Switches {
    voluntary: u64,
    involuntary: u64,
}

/// Counters of the whole machine.
struct MachineCounters {
    busy_s: f64,
    listen_overflows: u64,
    listen_drops: u64,
}

/// What the tree holds at one instant.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Footprint {
    /// Proportional set size: a page shared by N processes counts 1/N in each.
    pub(crate) pss_bytes: u64,
    /// Pages that no other process shares.
    pub(crate) private_bytes: u64,
    pub(crate) processes: u64,
    pub(crate) threads: u64,
    pub(crate) descriptors: u64,
}

/// What the tree used while it was measured.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Used {
    /// Time from the first reading of the CPU clocks to the end of the load.
    pub(crate) cpu_window_s: f64,
    pub(crate) cpu_s: f64,
    /// User and system; from procfs in ticks of 10 ms, which is all the precision there is.
    pub(crate) cpu_user_s: f64,
    pub(crate) cpu_system_s: f64,
    /// The same for the switches.
    pub(crate) switches_window_s: f64,
    pub(crate) switches_voluntary: u64,
    pub(crate) switches_involuntary: u64,
    /// False where threads ended meanwhile and took their counts with them.
    pub(crate) switches_complete: bool,
    /// Ready, before the first connection.
    pub(crate) at_rest: Footprint,
    /// The measuring has ended, the connections are still open.
    pub(crate) loaded: Footprint,
    /// Time that all processors were in use.
    pub(crate) machine_busy_s: f64,
    /// Connections that any listen queue of the network namespace dropped.
    pub(crate) listen_overflows: u64,
    pub(crate) listen_drops: u64,
}

impl Counters {
    /// Reads the counters of the tree below `root`, which may have a control group: CPU first,
    /// where the order of reading is the order of precision.
    pub(crate) fn read(root: i32, group: Option<&Group>) -> Self {
        let asked = Instant::now();
        let machine = MachineCounters::read();
        let stats = stats_of(root, group);
        let began = Instant::now();
        let cpu = sum_of_processes(&stats);
        let summed = middle(began);
        // Reading their clocks has brought the group up to date: what runs is else charged late.
        let counted = group.and_then(Group::cpu).map(|cpu| (cpu, Instant::now()));
        let (cpu, cpu_read) = counted.unwrap_or((cpu, summed));
        let began = Instant::now();
        let mut switches = Switches::default();
        let mut threads = BTreeSet::new();
        for stat in &stats {
            add_switches(stat.pid, &mut switches, &mut threads);
        }
        let switches_read = middle(began);
        Self { asked, cpu_read, cpu, switches_read, switches, threads, machine }
    }

    /// What was used from `self`, read under load, to `end`, read when the load has just ended:
    /// what reading takes counts as time before, and no longer as time after.
    pub(crate) fn until(&self, end: &Self, at_rest: Footprint, loaded: Footprint) -> Used {
        let counted = |before: u64, after: u64| after.saturating_sub(before);
        let used = |before, after: Duration| after.saturating_sub(before).as_secs_f64();
        Used {
            cpu_window_s: (end.asked - self.cpu_read).as_secs_f64(),
            cpu_s: used(self.cpu.total, end.cpu.total),
            cpu_user_s: used(self.cpu.user, end.cpu.user),
            cpu_system_s: used(self.cpu.system, end.cpu.system),
            switches_window_s: (end.asked - self.switches_read).as_secs_f64(),
            switches_voluntary: counted(self.switches.voluntary, end.switches.voluntary),
            switches_involuntary: counted(self.switches.involuntary, end.switches.involuntary),
            switches_complete: self.threads.is_subset(&end.threads),
            at_rest,
            loaded,
            machine_busy_s: end.machine.busy_s - self.machine.busy_s,
            listen_overflows: counted(self.machine.listen_overflows, end.machine.listen_overflows),
            listen_drops: counted(self.machine.listen_drops, end.machine.listen_drops),
        }
    }
}

impl MachineCounters {
    fn read() -> Self {
        let tick = procfs::ticks_per_second() as f64;
        let cpu = procfs::KernelStats::current().map(|stats| stats.total).ok();
        let busy = cpu.as_ref().map_or(0, |cpu| {
            let soft = cpu.user + cpu.nice + cpu.system;
            soft + cpu.irq.unwrap_or(0) + cpu.softirq.unwrap_or(0)
        });
        let netstat = fs::read_to_string("/proc/net/netstat").unwrap_or_default();
        Self {
            busy_s: busy as f64 / tick,
            listen_overflows: netstat_counter(&netstat, "ListenOverflows"),
            listen_drops: netstat_counter(&netstat, "ListenDrops"),
        }
    }
}

impl Footprint {
    /// Reads what the tree below `root`, which may have a control group, holds now.
    pub(crate) fn read(root: i32, group: Option<&Group>) -> Self {
        let mut total = Self::default();
        for stat in stats_of(root, group) {
            total.processes += 1;
            total.threads += stat.num_threads as u64;
            let Ok(process) = procfs::process::Process::new(stat.pid) else {
                continue;
            };
            total.descriptors += process.fd_count().unwrap_or(0) as u64;
            let Ok(rollup) = process.smaps_rollup() else {
                continue;
            };
            for MMapExtension { map, .. } in rollup.memory_map_rollup.iter().map(|m| &m.extension) {
                let bytes = |key: &str| map.get(key).copied().unwrap_or(0);
                total.pss_bytes += bytes("Pss");
                total.private_bytes += bytes("Private_Clean") + bytes("Private_Dirty");
            }
        }
        total
    }
}

/// The process and its descendants.
pub(crate) fn tree(root: i32) -> Vec<Process> {
    tree_stats(root).iter().map(Process::of).collect()
}

/// The members of a process group that have not ended.
pub(crate) fn group(leader: i32) -> Vec<Process> {
    let member = |stat: &Stat| stat.pgrp == leader && !ended(stat);
    all_stats().iter().filter(|stat| member(stat)).map(Process::of).collect()
}

/// The members of a control group that have not ended.
pub(crate) fn members(group: &Group) -> Vec<Process> {
    stats_of_members(group).iter().filter(|stat| !ended(stat)).map(Process::of).collect()
}

/// Those of `processes` that have not ended.
pub(crate) fn still_alive(processes: &[Process]) -> Vec<Process> {
    let alive = |one: &Process| {
        let stat = procfs::process::Process::new(one.pid).and_then(|process| process.stat());
        stat.is_ok_and(|stat| stat.starttime == one.started && !ended(&stat))
    };
    processes.iter().copied().filter(alive).collect()
}

impl Process {
    fn of(stat: &Stat) -> Self {
        Self { pid: stat.pid, started: stat.starttime }
    }
}

fn ended(stat: &Stat) -> bool {
    matches!(stat.state, 'Z' | 'X')
}

fn all_stats() -> Vec<Stat> {
    let processes = procfs::process::all_processes().into_iter().flatten();
    processes.filter_map(|process| process.ok()?.stat().ok()).collect()
}

/// The stats of a tree: its control group knows who belongs to it, without a look at all processes
/// of the machine.
fn stats_of(root: i32, group: Option<&Group>) -> Vec<Stat> {
    group.map_or_else(|| tree_stats(root), stats_of_members)
}

fn stats_of_members(group: &Group) -> Vec<Stat> {
    let stat = |pid| procfs::process::Process::new(pid).and_then(|one| one.stat()).ok();
    group.members().into_iter().filter_map(stat).collect()
}

/// The tree's stats, zombies included: their CPU is not yet counted in their parent.
fn tree_stats(root: i32) -> Vec<Stat> {
    let mut others = all_stats();
    let mut found: Vec<Stat> = others.extract_if(.., |stat| stat.pid == root).collect();
    let mut next = 0;
    while next < found.len() {
        let parent = found[next].pid;
        found.extend(others.extract_if(.., |stat| stat.ppid == parent));
        next += 1;
    }
    found
}

/// Processor time of some processes and of those that they waited for, by mode in ticks of 10 ms.
fn sum_of_processes(stats: &[Stat]) -> CpuTime {
    let rate = procfs::ticks_per_second() as f64;
    let time = |ticks: u64| Duration::from_secs_f64(ticks as f64 / rate);
    let reaped = |ticks: i64| time(ticks.max(0) as u64);
    let mut sum = CpuTime::default();
    for stat in stats {
        let own = clock(stat.pid).unwrap_or_else(|| time(stat.utime + stat.stime));
        sum.total += own + reaped(stat.cutime + stat.cstime);
        sum.user += time(stat.utime) + reaped(stat.cutime);
        sum.system += time(stat.stime) + reaped(stat.cstime);
    }
    sum
}

/// When the average process or thread was read: a large tree takes some milliseconds.
fn middle(began: Instant) -> Instant {
    began + began.elapsed() / 2
}

/// The CPU clock of a process, which is finer than the ticks of its stat.
fn clock(pid: i32) -> Option<Duration> {
    Some(clock_gettime(clock_getcpuclockid(Pid::from_raw(pid)).ok()?).ok()?.into())
}

fn add_switches(pid: i32, switches: &mut Switches, threads: &mut BTreeSet<i32>) {
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let Ok(status) = fs::read_to_string(task.path().join("status")) else {
            continue;
        };
        let count = |key: &str| {
            let value = status.lines().rev().find_map(|line| line.strip_prefix(key));
            value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
        };
        switches.voluntary += count("voluntary_ctxt_switches:");
        switches.involuntary += count("nonvoluntary_ctxt_switches:");
        threads.extend(task.file_name().to_str().and_then(|tid| tid.parse::<i32>().ok()));
    }
}

/// A counter of /proc/net/netstat, where a line of names is followed by a line of values.
fn netstat_counter(text: &str, name: &str) -> u64 {
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.chunks_exact(2) {
        let place = pair[0].split_ascii_whitespace().position(|word| word == name);
        if let Some(value) = place.and_then(|place| pair[1].split_ascii_whitespace().nth(place)) {
            return value.parse().unwrap_or(0);
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_netstat_counter_stands_below_its_name() {
        let text = "TcpExt: A ListenDrops\nTcpExt: 4 17\nIpExt: B\nIpExt: 5\n";
        assert_eq!(netstat_counter(text, "ListenDrops"), 17);
        assert_eq!(netstat_counter(text, "B"), 5);
        assert_eq!(netstat_counter(text, "C"), 0);
    }

    #[test]
    fn this_process_uses_cpu_memory_and_a_thread() {
        let own = std::process::id() as i32;
        let before = Counters::read(own, None);
        let work =
            (0..3_000_000_u64).fold(1_u64, |sum, n| std::hint::black_box(sum.wrapping_mul(n) ^ n));
        std::hint::black_box(work);
        let end = Counters::read(own, None);
        let footprint = Footprint::read(own, None);
        let used = before.until(&end, footprint, footprint);
        assert!(used.cpu_s > 0.0, "{used:?}");
        assert!(footprint.pss_bytes > 0 && footprint.private_bytes > 0, "{footprint:?}");
        assert!(footprint.threads >= 1 && footprint.processes >= 1 && footprint.descriptors >= 3);
    }
}
