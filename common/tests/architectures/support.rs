//! Finds the architectures, starts and stops their servers, and makes the folders that they serve.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use socket2::SockRef;
use tempfile::TempDir;

/// How long anything may take before it counts as hanging. Nothing passes by being faster.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An architecture, as its manifest describes it.
#[derive(Clone, Debug)]
pub(crate) struct Architecture {
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) concurrent: bool,
    /// Whether it takes `--workers`.
    pub(crate) has_many_workers: bool,
    /// Whether each of them has one connection at a time.
    pub(crate) has_one_each: bool,
    program: PathBuf,
    /// Its own, that make a variant.
    pub(crate) arguments: Vec<String>,
}

/// Every architecture that this machine has what it needs for, from cargo's metadata; only those
/// that the variable ARCHITECTURES names, if it is there.
pub(crate) fn architectures() -> Vec<Architecture> {
    FOUND.iter().filter(|one| one.arguments.is_empty()).cloned().collect()
}

/// Their variants likewise.
pub(crate) fn variants() -> Vec<Architecture> {
    FOUND.iter().filter(|one| !one.arguments.is_empty()).cloned().collect()
}

static FOUND: LazyLock<Vec<Architecture>> = LazyLock::new(found);

fn found() -> Vec<Architecture> {
    let metadata = cargo_metadata::MetadataCommand::new()
        .no_deps()
        .other_options(vec!["--offline".to_owned()])
        .exec()
        .expect("cargo metadata");
    let folder = programs();
    let found: Vec<_> = metadata
        .packages
        .iter()
        .filter_map(|package| {
            let declared = package.metadata.get("architecture")?;
            let name = package.name.to_string();
            let program = folder.join(&name);
            assert!(program.exists(), "{} is not built: make build", program.display());
            let architecture = Architecture {
                concurrent: declared["concurrent"] != false,
                about: package.description.clone().unwrap_or_default(),
                has_many_workers: declared["workers"] != "none",
                has_one_each: declared["workers"] == "many",
                name,
                program,
                arguments: Vec::new(),
            };
            if !declared["needs"].is_null() && !architecture.is_available() {
                return None;
            }
            let variants = declared["variants"].as_array().into_iter().flatten();
            let variants: Vec<_> = variants.map(|one| architecture.variant(one)).collect();
            Some(std::iter::once(architecture).chain(variants))
        })
        .flatten()
        .collect();
    assert!(found.len() >= 6, "cargo metadata shows {found:?}");
    match std::env::var("ARCHITECTURES") {
        Ok(names) => {
            let is_meant =
                |one: &Architecture| names.split_whitespace().any(|name| name == one.name);
            found.into_iter().filter(is_meant).collect()
        }
        Err(_) => found,
    }
}

/// Where cargo puts the programs of this build: above the folder that this test lies in.
fn programs() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    test.ancestors().nth(2).expect("target/PROFILE/deps/TEST").to_owned()
}

/// Runs `check` on a fresh server of every architecture, with a folder of its own, and has each
/// leave in good order.
pub(crate) fn on_every_architecture(arguments: &[&str], mut check: impl FnMut(&mut Server)) {
    for architecture in architectures() {
        eprintln!("── {}", architecture.name);
        let mut server = Server::start(&architecture, arguments);
        check(&mut server);
        server.leave();
    }
}

/// A server of ours, alone in a process group, so that whatever it leaves behind is seen.
pub(crate) struct Server {
    pub(crate) architecture: Architecture,
    pub(crate) address: SocketAddr,
    /// The folder that it serves.
    pub(crate) root: TempDir,
    child: Child,
}

impl Server {
    pub(crate) fn start(architecture: &Architecture, arguments: &[&str]) -> Self {
        Self::start_with(architecture.command(), architecture, arguments)
    }

    /// The same by another command, which ends in the architecture's own.
    pub(crate) fn start_with(
        command: Command,
        architecture: &Architecture,
        arguments: &[&str],
    ) -> Self {
        let root = TempDir::new().unwrap();
        let folder = root.path().to_owned();
        // It may run as another user than we do.
        std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        Self::launch(command, architecture, root, &folder, arguments)
    }

    /// The same on a folder that others serve as well; its own stays empty.
    pub(crate) fn start_in(folder: &Path, architecture: &Architecture) -> Self {
        let root = TempDir::new().unwrap();
        Self::launch(architecture.command(), architecture, root, folder, &[])
    }

    fn launch(
        mut command: Command,
        architecture: &Architecture,
        root: TempDir,
        folder: &Path,
        arguments: &[&str],
    ) -> Self {
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.arg("--root").arg(folder).args(arguments);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut ready).unwrap();
        let address = ready.trim().strip_prefix("listening on ").expect("the ready line");
        let address = address.parse().unwrap();
        Server { architecture: architecture.clone(), address, root, child }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A file of `length` bytes that differ from place to place, in the served folder.
    pub(crate) fn file(&self, name: &str, length: usize) -> Vec<u8> {
        let bytes = pattern(length);
        std::fs::write(self.root.path().join(name), &bytes).unwrap();
        bytes
    }

    pub(crate) fn stored(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.root.path().join(name)).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Waits for the end of a server that is leaving.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let name = self.architecture.name.clone();
        eventually(&format!("{name} ends"), || self.child.try_wait().unwrap())
    }

    /// Has it leave, and sees that it ends well and leaves no process behind.
    pub(crate) fn leave(mut self) {
        self.signal(Signal::SIGTERM);
        self.assert_left();
    }

    pub(crate) fn assert_left(&mut self) {
        let name = self.architecture.name.clone();
        assert_eq!(self.wait().code(), Some(0), "{name} leaves in good order");
        let group = Pid::from_raw(self.pid());
        eventually(&format!("{name} leaves no process behind"), || {
            (killpg(group, None) == Err(Errno::ESRCH)).then_some(())
        });
    }

    /// Its children, which have none.
    pub(crate) fn children(&self) -> Vec<i32> {
        let children = format!("/proc/{0}/task/{0}/children", self.pid());
        let children = std::fs::read_to_string(children).unwrap();
        children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }

    /// Itself and its children.
    pub(crate) fn processes(&self) -> Vec<i32> {
        self.children().into_iter().chain([self.pid()]).collect()
    }

    /// Does something while all its processes are stopped; whatever waits there is interrupted.
    pub(crate) fn while_stopped(&self, work: impl FnOnce()) {
        let group = Pid::from_raw(self.pid());
        killpg(group, Signal::SIGSTOP).unwrap();
        eventually("all are stopped", || {
            let state = |pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
            // One that has ended is not reaped meanwhile.
            let is_still = |line: &str| line.contains(") T ") || line.contains(") Z ");
            let runs = |pid: i32| state(pid).is_some_and(|line| !is_still(&line));
            (!self.processes().into_iter().any(runs)).then_some(())
        });
        work();
        killpg(group, Signal::SIGCONT).unwrap();
    }

    /// How many descriptors the server has, and how many children: what a leak would make more of.
    pub(crate) fn footprint(&self) -> (usize, usize) {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        (descriptors.count(), self.children().len())
    }

    /// The largest resident size so far of the server, or of that child of it which is the largest:
    /// the one that serves, if any does.
    pub(crate) fn largest_size_kib(&self) -> u64 {
        // A child that ends meanwhile has no size.
        let of = |pid| -> Option<u64> {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
            line.trim().trim_end_matches(" kB").parse().ok()
        };
        let sizes = self.processes().into_iter().filter_map(of);
        sizes.max().expect("a server that runs has a size")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.pid()), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

impl Architecture {
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        command
    }

    /// Whether this machine has what it needs; what is missing is said.
    fn is_available(&self) -> bool {
        let asked = self.command().arg("--help").output().unwrap();
        if !asked.status.success() {
            let why = String::from_utf8_lossy(&asked.stderr);
            eprintln!("SKIPPED: {} is not available: {}", self.name, why.trim());
        }
        asked.status.success()
    }

    fn variant(&self, declared: &serde_json::Value) -> Self {
        let arguments = declared["arguments"].as_array().into_iter().flatten();
        Architecture {
            name: declared["name"].as_str().unwrap().to_owned(),
            arguments: arguments.map(|one| one.as_str().unwrap().to_owned()).collect(),
            ..self.clone()
        }
    }
}

/// A reset is an end as well, but silence is none.
fn heard(result: std::io::Result<usize>) {
    let silent = result.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    assert!(!silent, "neither a word nor the end of the stream");
}

/// Tries again and again until there is an answer, or patience is at its end.
pub(crate) fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = attempt() {
            return answer;
        }
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Bytes of which no two stretches are alike, so that a piece that is missing or out of place
/// shows.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// A program of this machine, or `None`, in words, where it is missing. In CI it must be there.
pub(crate) fn installed(program: &str) -> Option<Command> {
    let found = Command::new("which").arg(program).output().unwrap().status.success();
    if !found {
        let missing = format!("{program} is not installed: apt-get install {}", package(program));
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        // Past the harness, which shows only what failing tests have printed.
        std::io::stderr().write_all(format!("SKIPPED: {missing}\n").as_bytes()).unwrap();
    }
    found.then(|| Command::new(program))
}

/// The package of Debian that has a program: the list is that of CI.
fn package(program: &str) -> &str {
    let mut pairs = include_str!("../../../.ci/run").split_whitespace();
    pairs.find_map(|pair| pair.strip_prefix(program)?.strip_prefix(':')).unwrap_or(program)
}

/// How many connections the server has that its clients have not given up, served or not.
pub(crate) fn established(server: &Server) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{:04X}", server.port());
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|fields| fields[1].ends_with(&port) && fields[3] == "01").count()
}

/// Runs a client to its end, which must be a good one.
pub(crate) fn succeed(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{command:?} ended with {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A control connection, spoken to line by line.
pub(crate) struct Dialogue(BufReader<TcpStream>);

impl Dialogue {
    /// Connects, and waits for nothing.
    pub(crate) fn connect(server: &Server) -> Self {
        Dialogue(BufReader::new(server.connect()))
    }

    /// Connects, and waits for the greeting.
    pub(crate) fn greeted(server: &Server) -> Self {
        let mut dialogue = Self::connect(server);
        dialogue.expect("220");
        dialogue
    }

    /// Connects, and logs in anonymously.
    pub(crate) fn login(server: &Server) -> Self {
        let mut dialogue = Self::greeted(server);
        dialogue.send("USER anonymous\r\nPASS x\r\nTYPE I\r\n");
        dialogue.expect("331");
        dialogue.expect("230");
        dialogue.expect("200");
        dialogue
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.send_bytes(text.as_bytes());
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    /// Sends bytes the last of which is urgent.
    pub(crate) fn send_urgent(&mut self, bytes: &[u8]) {
        let sent = SockRef::from(self.0.get_ref()).send_out_of_band(bytes).unwrap();
        assert_eq!(sent, bytes.len());
    }

    /// The next reply line, which must begin so.
    pub(crate) fn expect(&mut self, code: &str) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        assert!(line.starts_with(code), "expected {code}, got {line:?}");
        line
    }

    /// The next line, if there is one before the end of the stream.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        heard(self.0.read_line(&mut line));
        line
    }

    /// Says nothing more, and hears the rest.
    pub(crate) fn rest(mut self) -> Vec<u8> {
        self.0.get_ref().shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        heard(self.0.read_to_end(&mut rest));
        rest
    }

    /// The next line, which may be of any bytes.
    pub(crate) fn line_bytes(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line).unwrap();
        line
    }

    /// Whether nothing has arrived that was not read, not even the end of the stream.
    pub(crate) fn is_silent(&self) -> bool {
        self.0.get_ref().set_nonblocking(true).unwrap();
        let unread = self.0.get_ref().peek(&mut [0]).map_err(|error| error.kind());
        let silent = self.0.buffer().is_empty() && unread == Err(ErrorKind::WouldBlock);
        self.0.get_ref().set_nonblocking(false).unwrap();
        silent
    }

    /// Has a port opened the extended passive way.
    pub(crate) fn passive_port(&mut self) -> u16 {
        self.send("EPSV\r\n");
        let line = self.expect("229");
        line.split('|').nth(3).and_then(|port| port.parse().ok()).unwrap()
    }

    /// Opens a data connection the extended passive way.
    pub(crate) fn passive(&mut self, server: &Server) -> TcpStream {
        let port = self.passive_port();
        let stream = TcpStream::connect((server.address.ip(), port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

/// Everything until the end of the stream.
pub(crate) fn read_to_end(mut stream: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

/// What is there next. A pause of the machine interrupts a read that has a timeout (signal(7)); the
/// other reads of std go on by themselves.
pub(crate) fn read_some(stream: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// The names in a folder, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
