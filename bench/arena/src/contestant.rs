//! A running server: started with a ready line awaited, and ended with its whole process tree.
//!
//! Whatever happens, a server does not outlive its `Server`: dropping one kills what is left, and
//! the kernel kills it should the harness itself be killed.

#![allow(unsafe_code, reason = "what a child does between fork and exec has no safe form")]

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};

use crate::sample::{self, Process};

/// How long a server may take to say that it is ready.
pub(crate) const READY_DEADLINE: Duration = Duration::from_secs(5);
/// How long a server may take to end after SIGTERM.
pub(crate) const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// How long orphans may take to end after their parent did.
const ORPHAN_DEADLINE: Duration = Duration::from_millis(500);
/// More than this before the ready line is not a ready line.
const READY_LINE_BYTES: usize = 4096;

/// What to start.
pub(crate) struct Launch<'a> {
    pub(crate) program: &'a Path,
    pub(crate) arguments: Vec<String>,
    /// The processor it is confined to, if it is.
    pub(crate) cpu: Option<usize>,
    /// The file that gets its standard error.
    pub(crate) log: PathBuf,
    pub(crate) ready_deadline: Duration,
    pub(crate) stop_deadline: Duration,
}

/// A server that has said where it listens.
pub(crate) struct Server {
    child: Child,
    /// Kept open: a server that prints later must not meet a closed pipe.
    stdout: ChildStdout,
    address: SocketAddr,
    log: PathBuf,
    stop_deadline: Duration,
}

impl Server {
    /// Starts a server and awaits its ready line; what went wrong is told in words.
    ///
    /// The server dies with the thread that calls this: that is how the kernel counts.
    pub(crate) fn start(launch: Launch<'_>) -> anyhow::Result<Self> {
        let log = File::create(&launch.log).context("the server's log")?;
        let mut command = Command::new(launch.program);
        command
            .args(&launch.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0);
        let cpus = launch.cpu.map(cpu_set).transpose()?;
        let parent = nix::unistd::getpid();
        let between_fork_and_exec = move || {
            set_pdeathsig(Signal::SIGKILL)?;
            if getppid() != parent {
                // The harness died before it could be watched.
                return Err(io::ErrorKind::Interrupted.into());
            }
            if let Some(cpus) = &cpus {
                sched_setaffinity(Pid::from_raw(0), cpus)?;
            }
            Ok(())
        };
        // SAFETY: the closure makes three system calls and neither allocates nor locks.
        unsafe { command.pre_exec(between_fork_and_exec) };

        let started = Instant::now();
        let mut child = command.spawn().with_context(|| {
            format!("cannot start {}", launch.program.file_name().unwrap_or_default().display())
        })?;
        let stdout = child.stdout.take().expect("standard output was asked to be a pipe");
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let (log, stop_deadline) = (launch.log, launch.stop_deadline);
        // From here on, returning early drops the server and so ends it.
        let mut server = Self { child, stdout, address: unknown, log, stop_deadline };
        server.address = server.await_ready(started + launch.ready_deadline)?;
        Ok(server)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The root of its process tree.
    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// How it died, if it did, with its last words.
    pub(crate) fn death(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(format!("died: {status}{}", self.last_words()))
    }

    /// Ends it with SIGTERM and its tree with SIGKILL if it must be; returns what it did wrong.
    pub(crate) fn stop(mut self) -> Vec<String> {
        let mut faults = Vec::new();
        let tree = sample::tree(self.pid());
        // A pid of a child not yet waited for cannot have been given to another process.
        let _ = kill(Pid::from_raw(self.pid()), Signal::SIGTERM);
        match self.wait(self.stop_deadline) {
            Some(status) if status.success() => {}
            Some(status) => faults.push(format!("ended after SIGTERM with {status}")),
            None => {
                let seconds = self.stop_deadline.as_secs_f64();
                faults.push(format!("did not end within {seconds} s of SIGTERM: killed"));
                self.kill_tree();
                return faults;
            }
        }
        let orphans = self.orphans(&tree);
        if !orphans.is_empty() {
            faults.push(format!("left {} processes behind: killed", orphans.len()));
            kill_all(&orphans);
        }
        faults
    }

    fn await_ready(&mut self, deadline: Instant) -> anyhow::Result<SocketAddr> {
        let mut said = Vec::new();
        while !said.contains(&b'\n') && said.len() < READY_LINE_BYTES {
            let left = deadline.saturating_duration_since(Instant::now());
            let readable = PollFd::new(self.stdout.as_fd(), PollFlags::POLLIN);
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [readable], timeout) {
                Ok(0) => anyhow::bail!("never became ready{}", self.last_words()),
                Err(nix::errno::Errno::EINTR) => continue,
                other => other.context("waiting for the ready line")?,
            };
            let mut piece = [0; 256];
            let length = self.stdout.read(&mut piece).context("the ready line")?;
            if length == 0 {
                let status = self.wait(deadline.saturating_duration_since(Instant::now()));
                let how = status.map_or("closed its output".to_owned(), |one| one.to_string());
                anyhow::bail!("ended before it was ready: {how}{}", self.last_words());
            }
            said.extend_from_slice(&piece[..length]);
        }
        let said = String::from_utf8_lossy(&said);
        let line = said.lines().next().unwrap_or_default();
        line.strip_prefix("listening on ")
            .and_then(|address| address.parse().ok())
            .with_context(|| format!("said {line:?} instead of \"listening on ADDRESS\""))
    }

    fn wait(&mut self, at_most: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + at_most;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Processes of the tree, or of the group that it began with, that are still there.
    fn orphans(&self, tree: &[Process]) -> Vec<Process> {
        let deadline = Instant::now() + ORPHAN_DEADLINE;
        loop {
            let mut orphans = sample::still_alive(tree);
            for member in sample::group(self.pid()) {
                if orphans.iter().all(|orphan| orphan.pid != member.pid) {
                    orphans.push(member);
                }
            }
            if orphans.is_empty() || Instant::now() >= deadline {
                return orphans;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn kill_tree(&mut self) {
        let mut doomed = sample::tree(self.pid());
        doomed.extend(sample::group(self.pid()));
        let _ = self.child.kill();
        kill_all(&doomed);
        let _ = self.child.wait();
        // What was forked while the tree was read is in the group still.
        kill_all(&sample::group(self.pid()));
    }

    /// The end of what it wrote to standard error, ready to be appended to a sentence.
    fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        let last: String = last.chars().filter(|char| !char.is_control()).take(200).collect();
        if last.is_empty() { last } else { format!("; its last words: {last}") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.kill_tree();
        }
    }
}

fn kill_all(processes: &[Process]) {
    // Asked again, so that a pid that was reused meanwhile is spared.
    for process in sample::still_alive(processes) {
        let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
    }
}

/// The set of that one processor.
pub(crate) fn cpu_set(cpu: usize) -> anyhow::Result<CpuSet> {
    let mut set = CpuSet::new();
    set.set(cpu).with_context(|| format!("processor {cpu}"))?;
    Ok(set)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A server that is a shell script.
    pub(crate) fn script(text: &str, folder: &Path) -> anyhow::Result<Server> {
        Server::start(Launch {
            program: Path::new("/bin/sh"),
            arguments: vec!["-c".to_owned(), text.to_owned()],
            cpu: None,
            log: folder.join("log"),
            ready_deadline: Duration::from_millis(300),
            stop_deadline: Duration::from_millis(300),
        })
    }

    fn refused(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        script(text, folder.path()).err().expect("the script is no server").to_string()
    }

    #[test]
    fn a_server_that_is_not_one_is_told_in_words() {
        assert_eq!(
            refused("echo no such root >&2; exit 3"),
            "ended before it was ready: exit status: 3; its last words: no such root"
        );
        assert_eq!(refused("sleep 60"), "never became ready");
        assert_eq!(
            refused("echo hello; sleep 60"),
            "said \"hello\" instead of \"listening on ADDRESS\""
        );
    }

    #[test]
    fn a_server_that_ignores_sigterm_is_killed_with_its_tree() {
        let folder = tempfile::tempdir().unwrap();
        let text = "trap '' TERM; echo listening on 127.0.0.1:9; sleep 61 & sleep 62";
        let server = script(text, folder.path()).unwrap();
        let pid = server.pid();
        assert_eq!(server.stop(), ["did not end within 0.3 s of SIGTERM: killed"]);
        thread::sleep(Duration::from_millis(20));
        assert!(sample::group(pid).is_empty());
    }

    #[test]
    fn processes_left_behind_are_noticed_and_killed() {
        let folder = tempfile::tempdir().unwrap();
        let text = "trap 'exit 0' TERM; setsid sleep 63 & echo listening on 127.0.0.1:9; wait";
        let server = script(text, folder.path()).unwrap();
        while sample::tree(server.pid()).len() < 2 {
            thread::sleep(Duration::from_millis(1));
        }
        let tree = sample::tree(server.pid());
        assert_eq!(server.stop(), ["left 1 processes behind: killed"]);
        thread::sleep(Duration::from_millis(20));
        assert!(sample::still_alive(&tree).is_empty());
    }
}
