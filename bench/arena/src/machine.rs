//! What a run was measured on: read once, when it starts.

use std::fs;
use std::process::Command;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::syscalls;

/// The machine and the build, as recorded.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    pub(crate) rustc: String,
    /// The commit, with `+` behind it when there were changes on top, those of results aside.
    pub(crate) commit: String,
    pub(crate) backlog_limit: String,
    /// Where it is not told, the record is of before it was.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) congestion_control: String,
    /// The MTU of the loopback, where the run had a network namespace of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) netns_mtu: Option<u32>,
    pub(crate) placement: Placement,
    /// What counted processor time: a control group or procfs; it was procfs before it was told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) accounting: String,
    /// Whether system calls were counted, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) syscalls: Option<Counting>,
    /// Where the files lie that are served; records of before it was told have nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) served_from: String,
}

/// Whether the kernel let system calls be counted.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Counting {
    Counted,
    /// And why not.
    Refused(String),
}

impl Counting {
    /// What the kernel says now.
    pub(crate) fn now() -> Self {
        syscalls::allowed().map_or_else(Self::Refused, |()| Self::Counted)
    }
}

/// Which processors the server and the client have.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Placement {
    /// None: not pinned, they share what there is.
    pub(crate) server: Option<usize>,
    pub(crate) client: Option<usize>,
    /// Whether the two are threads of one core, which then share its execution units.
    pub(crate) siblings: bool,
    /// All that there are, the client's last. Records of before it was told have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) processors: Vec<usize>,
}

impl Machine {
    pub(crate) fn describe() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory_kib = field(&meminfo, "MemTotal").and_then(|text| {
            text.split_ascii_whitespace().next().and_then(|number| number.parse::<u64>().ok())
        });
        // What was measured before changes nothing in what is measured now.
        let sources = [":/", ":(top,exclude)results"];
        let changes = said(Command::new("git").args(["status", "--porcelain", "--"]).args(sources));
        let commit = said(Command::new("git").args(["rev-parse", "--short=12", "HEAD"]));
        let mark = if changes.is_none_or(|changes| changes.is_empty()) { "" } else { "+" };
        let unknown = || "unknown".to_owned();
        Self {
            cpu: field(&cpuinfo, "model name").map_or_else(unknown, str::to_owned),
            cores: allowed().len(),
            memory_mib: memory_kib.unwrap_or(0) / 1024,
            kernel: one_line("/proc/sys/kernel/osrelease"),
            rustc: said(Command::new("rustc").arg("--version")).unwrap_or_else(unknown),
            commit: commit.map_or_else(unknown, |commit| commit + mark),
            backlog_limit: one_line("/proc/sys/net/core/somaxconn"),
            congestion_control: one_line("/proc/sys/net/ipv4/tcp_congestion_control"),
            netns_mtu: None,
            placement: Placement::choose(&allowed()),
            accounting: String::new(),
            syscalls: None,
            served_from: String::new(),
        }
    }
}

impl Placement {
    /// The server gets the first processor, the client the next that shares no core with it.
    fn choose(allowed: &[usize]) -> Self {
        let [server, others @ ..] = allowed else {
            return Self::unpinned();
        };
        let siblings = siblings_of(*server);
        let apart = others.iter().find(|cpu| !siblings.contains(cpu));
        let Some(&client) = apart.or(others.first()) else {
            return Self::unpinned();
        };
        let siblings = siblings.contains(&client);
        let mut processors = allowed.to_vec();
        processors.sort_by_key(|cpu| *cpu == client);
        Self { server: Some(*server), client: Some(client), siblings, processors }
    }

    /// Everything may run everywhere.
    pub(crate) fn unpinned() -> Self {
        Self { server: None, client: None, siblings: false, processors: Vec::new() }
    }

    /// The processors of a server that is to have so many instead of one: its own, then others, the
    /// client's last.
    pub(crate) fn server_at(&self, cores: Option<usize>) -> Vec<usize> {
        match cores {
            Some(cores) => self.processors.iter().copied().take(cores).collect(),
            None => self.server.into_iter().collect(),
        }
    }

    /// Whether such a server has the client's processor, too.
    pub(crate) fn is_shared_at(&self, cores: Option<usize>) -> bool {
        self.client.is_some_and(|client| self.server_at(cores).contains(&client))
    }

    /// Starts what is to run on the client's processor.
    pub(crate) fn at_the_client<T>(&self, start: impl FnOnce() -> T) -> anyhow::Result<T> {
        start_on(self.client, start)
    }

    /// Starts what is server and client in one, and needs the processors of both.
    pub(crate) fn everywhere<T>(&self, start: impl FnOnce() -> T) -> anyhow::Result<T> {
        start_on([self.server, self.client].into_iter().flatten(), start)
    }

    /// Keeps this thread, and the threads that it starts, off the server's processor.
    pub(crate) fn keep_off_the_server(&self) -> anyhow::Result<()> {
        let Some(server) = self.server else {
            return Ok(());
        };
        let mut set = CpuSet::new();
        for cpu in allowed().into_iter().filter(|cpu| *cpu != server) {
            set.set(cpu)?;
        }
        sched_setaffinity(Pid::from_raw(0), &set)?;
        Ok(())
    }
}

/// Starts something on these processors, if there are any: a child is where its parent was.
fn start_on<T>(
    cpus: impl IntoIterator<Item = usize>,
    start: impl FnOnce() -> T,
) -> anyhow::Result<T> {
    let own = sched_getaffinity(Pid::from_raw(0))?;
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(cpu)?;
    }
    if set != CpuSet::new() {
        sched_setaffinity(Pid::from_raw(0), &set)?;
    }
    let started = start();
    sched_setaffinity(Pid::from_raw(0), &own)?;
    Ok(started)
}

/// How many processors there are for server and client together.
pub(crate) fn processors() -> usize {
    allowed().len()
}

/// The processors that this process may use.
fn allowed() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else {
        return Vec::new();
    };
    (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect()
}

/// The processors of one core, itself among them.
fn siblings_of(cpu: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    let text = one_line(&path);
    let numbers = text.split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    });
    numbers.flatten().collect()
}

/// The SHA-256 in hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

fn one_line(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// What a command printed, if it went well.
fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_processor_is_shared_and_two_are_divided() {
        assert_eq!(Placement::choose(&[3]), Placement::unpinned());
        let two = Placement::choose(&[1000, 1001]);
        assert_eq!((two.server, two.client), (Some(1000), Some(1001)));
    }
}
