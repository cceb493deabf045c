//! A running server: started and awaited until it is ready, and ended with its whole process tree.
//!
//! Whatever happens, a server does not outlive its `Server`: dropping one kills what is left, and
//! the kernel kills it should the harness itself be killed.

#![allow(unsafe_code, reason = "what a child does between fork and exec has no safe form")]

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use loadgen::Protocol;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};

use crate::accounting::{Accounting, Group};
use crate::sample::{self, Counters, Footprint, Process};
use crate::verify;

/// How long a server may take to say that it is ready.
pub(crate) const READY_DEADLINE: Duration = Duration::from_secs(5);
/// How long a server may take to end after SIGTERM.
pub(crate) const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// How long orphans may take to end after their parent did.
const ORPHAN_DEADLINE: Duration = Duration::from_millis(500);
/// More than this before the ready line is not a ready line.
const READY_LINE_BYTES: usize = 4096;

/// The descriptors that a server of other people may have: enough for every workload, and not so
/// many that one which closes all that it might have inherited is held up by it.
const DESCRIPTORS: u64 = 65_536;

/// How a server shows that it is ready.
#[derive(Clone, Copy)]
pub(crate) enum Ready {
    /// It says where it listens, as ours do.
    Line,
    /// It was told to listen there, and greets whoever connects if its protocol has a greeting.
    Greets(SocketAddr, Protocol),
}

/// What to start.
pub(crate) struct Launch<'a> {
    pub(crate) program: &'a Path,
    pub(crate) arguments: Vec<String>,
    /// The processors it is confined to; none: it is not.
    pub(crate) cpus: Vec<usize>,
    /// What counts what it uses.
    pub(crate) accounting: &'a Accounting,
    /// The file that gets its standard error.
    pub(crate) log: PathBuf,
    pub(crate) ready: Ready,
    pub(crate) ready_deadline: Duration,
    pub(crate) stop_deadline: Duration,
}

/// A server would not be started so, or not here; in words.
#[derive(Debug)]
pub(crate) struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

/// A server that has said where it listens.
pub(crate) struct Server {
    child: Child,
    /// Kept open: a server that prints later must not meet a closed pipe.
    stdout: Option<ChildStdout>,
    /// Whether SIGTERM may just end it: that it leaves in order is asked of ours only.
    may_be_cut: bool,
    address: SocketAddr,
    log: PathBuf,
    stop_deadline: Duration,
    /// Dropped last, when it is empty.
    group: Option<Group>,
}

impl Server {
    /// Starts a server and awaits that it is ready; what went wrong is told in words.
    ///
    /// The server dies with the thread that calls this: that is how the kernel counts.
    pub(crate) fn start(launch: Launch<'_>) -> anyhow::Result<Self> {
        let log = File::create(&launch.log).context("the server's log")?;
        let logged = || log.try_clone().map(Stdio::from).context("the server's log");
        // What a server of other people prints is not read, and must not fill a pipe. Some that
        // can be started by inetd print to what would be the connection: their standard input.
        let (stdin, stdout) = match launch.ready {
            Ready::Line => (Stdio::null(), Stdio::piped()),
            Ready::Greets(..) => (logged()?, logged()?),
        };
        let mut command = Command::new(launch.program);
        command.args(&launch.arguments).stdin(stdin).stdout(stdout).stderr(log).process_group(0);
        let cpus = cpu_set(&launch.cpus)?;
        let group = launch.accounting.group().context("a control group for the server")?;
        let entrance = group.as_ref().map(Group::entrance).transpose();
        let entrance = entrance.context("the server's control group")?;
        let parent = nix::unistd::getpid();
        // Ours raise their limit themselves.
        let raises = matches!(launch.ready, Ready::Greets(..));
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("the limit on descriptors")?;
        let descriptors = hard.min(DESCRIPTORS);
        let between_fork_and_exec = move || {
            set_pdeathsig(Signal::SIGKILL)?;
            if getppid() != parent {
                // The harness died before it could be watched.
                return Err(io::ErrorKind::Interrupted.into());
            }
            if let Some(entrance) = &entrance {
                nix::unistd::write(entrance, b"0")?;
            }
            if cpus != CpuSet::new() {
                sched_setaffinity(Pid::from_raw(0), &cpus)?;
            }
            if raises {
                setrlimit(Resource::RLIMIT_NOFILE, descriptors, hard)?;
            }
            Ok(())
        };
        // SAFETY: the closure makes five system calls and neither allocates nor locks.
        unsafe { command.pre_exec(between_fork_and_exec) };

        let started = Instant::now();
        let mut child = command.spawn().with_context(|| {
            format!("cannot start {}", launch.program.file_name().unwrap_or_default().display())
        })?;
        let stdout = child.stdout.take();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let (log, stop_deadline, may_be_cut) = (launch.log, launch.stop_deadline, raises);
        // From here on, returning early drops the server and so ends it.
        let mut server = Self { child, stdout, may_be_cut, address, log, stop_deadline, group };
        let deadline = started + launch.ready_deadline;
        server.address = match launch.ready {
            Ready::Line => server.await_line(deadline)?,
            Ready::Greets(address, protocol) => {
                server.await_greeting(address, protocol, deadline)?
            }
        };
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

    /// What it has used until now.
    pub(crate) fn counters(&self) -> Counters {
        Counters::read(self.pid(), self.group.as_ref())
    }

    /// What it holds now.
    pub(crate) fn footprint(&self) -> Footprint {
        Footprint::read(self.pid(), self.group.as_ref())
    }

    /// How it died, if it did, with its last words.
    pub(crate) fn death(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(format!("died: {status}{}", self.last_words()))
    }

    /// Ends it with SIGTERM and its tree with SIGKILL if it must be; returns what it did wrong.
    pub(crate) fn stop(mut self) -> Vec<String> {
        let mut faults = Vec::new();
        let tree = self.tree();
        // A pid of a child not yet waited for cannot have been given to another process.
        let _ = kill(Pid::from_raw(self.pid()), Signal::SIGTERM);
        match self.wait(self.stop_deadline) {
            Some(status) if status.success() => {}
            Some(status) if self.may_be_cut && status.signal() == Some(Signal::SIGTERM as i32) => {}
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
            if !self.may_be_cut {
                faults.push(format!("left {} processes behind: killed", orphans.len()));
            }
            kill_all(&orphans);
        }
        faults
    }

    /// Asks again and again, for there is no other sign.
    fn await_greeting(
        &mut self,
        address: SocketAddr,
        protocol: Protocol,
        deadline: Instant,
    ) -> anyhow::Result<SocketAddr> {
        loop {
            if let Some(status) = self.child.try_wait().context("waiting for the server")? {
                anyhow::bail!("ended before it was ready: {status}{}", self.last_words());
            }
            let Err(error) = verify::greeting(address, protocol) else {
                return Ok(address);
            };
            if Instant::now() >= deadline {
                anyhow::bail!("never became ready: {error:#}{}", self.last_words());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn await_line(&mut self, deadline: Instant) -> anyhow::Result<SocketAddr> {
        let mut stdout = self.stdout.take().expect("standard output was asked to be a pipe");
        let line = self.ready_line(&mut stdout, deadline);
        self.stdout = Some(stdout);
        let line = line?;
        line.strip_prefix("listening on ")
            .and_then(|address| address.parse().ok())
            .with_context(|| format!("said {line:?} instead of \"listening on ADDRESS\""))
    }

    fn ready_line(
        &mut self,
        stdout: &mut ChildStdout,
        deadline: Instant,
    ) -> anyhow::Result<String> {
        let mut said = Vec::new();
        while !said.contains(&b'\n') && said.len() < READY_LINE_BYTES {
            let left = deadline.saturating_duration_since(Instant::now());
            let readable = PollFd::new(stdout.as_fd(), PollFlags::POLLIN);
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [readable], timeout) {
                Ok(0) => anyhow::bail!("never became ready{}", self.last_words()),
                Err(nix::errno::Errno::EINTR) => continue,
                other => other.context("waiting for the ready line")?,
            };
            let mut piece = [0; 256];
            let length = stdout.read(&mut piece).context("the ready line")?;
            if length == 0 {
                let status = self.wait(deadline.saturating_duration_since(Instant::now()));
                let how = status.map_or("closed its output".to_owned(), |one| one.to_string());
                let words = format!("ended before it was ready: {how}{}", self.last_words());
                if status.is_some_and(|status| status.code() == Some(2)) {
                    return Err(Refusal(words).into());
                }
                anyhow::bail!(words);
            }
            said.extend_from_slice(&piece[..length]);
        }
        let said = String::from_utf8_lossy(&said);
        Ok(said.lines().next().unwrap_or_default().to_owned())
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
            let orphans = self.remains(tree);
            if orphans.is_empty() || Instant::now() >= deadline {
                return orphans;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Those of a tree, of the process group that it began with and of its control group that have
    /// not ended.
    fn remains(&self, tree: &[Process]) -> Vec<Process> {
        let mut remains = sample::still_alive(tree);
        // Nobody leaves a control group, so what is in it is all there is.
        let of_group = || sample::group(self.pid());
        for other in self.group.as_ref().map_or_else(of_group, sample::members) {
            if remains.iter().all(|one| one.pid != other.pid) {
                remains.push(other);
            }
        }
        remains
    }

    /// Itself and all that it has started.
    fn tree(&self) -> Vec<Process> {
        let below = || sample::tree(self.pid());
        self.group.as_ref().map_or_else(below, sample::members)
    }

    fn kill_tree(&mut self) {
        let doomed = self.remains(&self.tree());
        let _ = self.child.kill();
        kill_all(&doomed);
        let _ = self.child.wait();
        // What was forked while the tree was read is in a group still.
        kill_all(&self.remains(&[]));
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
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            // It is gone, and may have left others behind.
            kill_all(&self.remains(&[]));
        } else {
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

/// The set of those processors.
pub(crate) fn cpu_set(cpus: &[usize]) -> anyhow::Result<CpuSet> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu).with_context(|| format!("processor {cpu}"))?;
    }
    Ok(set)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::verify::tests::parrot;

    /// A server that is a shell script.
    pub(crate) fn script(text: &str, folder: &Path) -> anyhow::Result<Server> {
        start(text, folder, Ready::Line)
    }

    fn start(text: &str, folder: &Path, ready: Ready) -> anyhow::Result<Server> {
        Server::start(Launch {
            program: Path::new("/bin/sh"),
            arguments: vec!["-c".to_owned(), text.to_owned()],
            cpus: Vec::new(),
            accounting: &Accounting::find(),
            log: folder.join("log"),
            ready,
            ready_deadline: Duration::from_secs(3),
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
    fn a_server_of_other_people_is_ready_when_it_greets_and_may_be_cut() {
        let folder = tempfile::tempdir().unwrap();
        let ready = Ready::Greets(parrot("220 a\r\n221 b\r\n"), Protocol::Ftp);
        let server = start("exec sleep 9", folder.path(), ready).unwrap();
        assert!(server.stop().is_empty());

        let full = Ready::Greets(parrot("421 too many\r\n"), Protocol::Ftp);
        let failed = start("exec sleep 9", folder.path(), full).err().unwrap().to_string();
        assert_eq!(
            failed,
            "never became ready: the connection was answered by \"421 too many\" instead of 220"
        );
        let said = start("echo 500 no such option >&0; exit 2", folder.path(), full);
        assert_eq!(
            said.err().unwrap().to_string(),
            "ended before it was ready: exit status: 2; its last words: 500 no such option"
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

    #[test]
    fn what_a_server_that_died_has_left_behind_is_ended_too() {
        let folder = tempfile::tempdir().unwrap();
        let text = "sleep 64 & echo listening on 127.0.0.1:9; sleep 0.05; kill -9 $$";
        let mut server = script(text, folder.path()).unwrap();
        let pid = server.pid();
        while server.death().is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(sample::group(pid).len(), 1);
        drop(server);
        thread::sleep(Duration::from_millis(20));
        assert!(sample::group(pid).is_empty());
    }
}
