//! Where servers run and what they serve: a folder in memory, ports, and how each is started.

use std::env;
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use loadgen::Protocol;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::{AccessFlags, access};
use tempfile::TempDir;

use crate::accounting::Accounting;
use crate::catalogue::Contestant;
use crate::certificate::Certificate;
use crate::contestant::{Launch, READY_DEADLINE, Ready, STOP_DEADLINE, Server};
use crate::machine::{Machine, Placement};
use crate::peer::Peer;
use crate::workload::Workload;

/// Files are served from memory where there is room: a disk's write-back comes when it likes and
/// is not what is asked.
pub(crate) const MEMORY: &str = "/dev/shm";
/// What must be left in memory beside the files.
pub(crate) const SPARE_BYTES: u64 = 256 << 20;
/// Ports for servers that cannot be told to take a free one: below those that Linux gives to
/// clients, where a connection to a port that nobody listens on yet could reach itself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
const PORTS_TRIED: usize = 100;

/// What a server is to do.
#[derive(Clone, Copy)]
pub(crate) struct Service<'a> {
    pub(crate) protocol: Protocol,
    /// The folder that it serves.
    pub(crate) root: &'a Path,
    pub(crate) workers: Option<usize>,
    /// The server behind it.
    pub(crate) backend: Option<SocketAddr>,
    /// The database of `/guestbook`, which is written into.
    pub(crate) guestbook: Option<&'a Path>,
    /// So many processors instead of one.
    pub(crate) cores: Option<usize>,
    /// It is to show the stage's certificate.
    pub(crate) tls: bool,
}

impl<'a> Service<'a> {
    pub(crate) fn new(protocol: Protocol, root: &'a Path) -> Self {
        let (workers, backend, guestbook, cores, tls) = (None, None, None, None, false);
        Self { protocol, root, workers, backend, guestbook, cores, tls }
    }
}

/// Where servers run and what they serve.
pub(crate) struct Stage {
    /// Removed with everything in it at the end.
    folder: TempDir,
    /// What servers show within TLS.
    pub(crate) certificate: Certificate,
    pub(crate) placement: Placement,
    pub(crate) accounting: Accounting,
    /// What `backend` workloads put behind the server.
    backend: Option<Contestant>,
    /// Whether it is wrk that loads servers.
    pub(crate) by_wrk: bool,
    pub(crate) ready_deadline: Duration,
    pub(crate) stop_deadline: Duration,
}

impl Stage {
    /// A stage whose files take `room_bytes` at most.
    pub(crate) fn new(
        placement: Placement,
        backend: Option<Contestant>,
        room_bytes: u64,
    ) -> anyhow::Result<Self> {
        let scratch = scratch(room_bytes);
        let folder = TempDir::with_prefix_in("arena-", &scratch).context("a folder for the run")?;
        // A server that gives up its rights must still find its way to what it serves.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711))?;
        let certificate = Certificate::make(folder.path()).context("a certificate")?;
        Ok(Self {
            folder,
            certificate,
            placement,
            accounting: Accounting::find(),
            backend,
            by_wrk: false,
            ready_deadline: READY_DEADLINE,
            stop_deadline: STOP_DEADLINE,
        })
    }

    /// Says where files are served from, and what counts.
    pub(crate) fn describe(&self, machine: &mut Machine) {
        let scratch = self.folder.path().parent().unwrap_or(Path::new("/"));
        let kind = if is_memory(scratch) { "memory" } else { "disk" };
        machine.served_from = format!("{} ({kind})", scratch.display());
        self.accounting.name().clone_into(&mut machine.accounting);
    }

    /// Makes the workload's root and the file in it.
    pub(crate) fn prepare(&self, workload: &Workload) -> anyhow::Result<()> {
        let root = self.root(workload);
        make_root(&root)?;
        let Some(bytes) = workload.file_bytes else {
            return Ok(());
        };
        let path = root.join(workload.path.trim_start_matches('/'));
        write_pattern(&path, bytes).with_context(|| path.display().to_string())
    }

    /// Removes what clients have stored.
    pub(crate) fn clear(&self, workload: &Workload) -> io::Result<()> {
        if !workload.stores() {
            return Ok(());
        }
        let retrieved = workload.file_bytes.map(|_| workload.path.trim_start_matches('/'));
        for entry in fs::read_dir(self.root(workload))? {
            let entry = entry?;
            if retrieved.is_none_or(|name| entry.file_name() != name) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// A root with one file in it.
    pub(crate) fn root_with_file(&self, name: &str, bytes: u64) -> anyhow::Result<PathBuf> {
        let root = self.folder.path().join("root");
        make_root(&root)?;
        write_pattern(&root.join(name), bytes)?;
        Ok(root)
    }

    /// The folder that servers of a workload serve.
    pub(crate) fn root(&self, workload: &Workload) -> PathBuf {
        self.folder.path().join("root").join(&workload.name)
    }

    /// Starts a contestant with the command line that all architectures have; a floor knows no
    /// protocol, only what it replies.
    pub(crate) fn start(
        &self,
        contestant: &Contestant,
        service: &Service<'_>,
    ) -> anyhow::Result<Server> {
        let Service { protocol, root, workers, backend, guestbook, cores, tls } = *service;
        let cpus = self.placement.server_at(cores);
        if let Some(peer) = &contestant.peer {
            return self.start_peer(protocol, contestant, peer, root, cpus);
        }
        let mut arguments = contestant.arguments.clone();
        let takes_writes = protocol == Protocol::Ftp || guestbook.is_some();
        if takes_writes && !contestant.floor {
            arguments.push("--writable".to_owned());
        }
        let mut give = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
        give("--listen", "127.0.0.1:0".to_owned());
        if contestant.floor {
            give("--reply", protocol_name(protocol).to_owned());
        } else {
            give("--protocol", protocol_name(protocol).to_owned());
            give("--root", root.display().to_string());
        }
        if let Some(workers) = workers {
            give("--workers", workers.to_string());
        }
        if let Some(address) = backend {
            give("--backend", address.to_string());
        }
        if contestant.counts_workers {
            give("--report-workers", self.workers_file().display().to_string());
        }
        if let Some(file) = guestbook {
            give("--guestbook", file.display().to_string());
        }
        if tls {
            give("--tls-cert", self.certificate.file.display().to_string());
            give("--tls-key", self.certificate.key.display().to_string());
        }
        self.launch(contestant, arguments, Ready::Line, cpus)
    }

    /// Where what is written for a run may lie.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where a server with workers says at its end what each of them has had.
    pub(crate) fn workers_file(&self) -> PathBuf {
        self.folder.path().join("workers.csv")
    }

    /// The backend shares the client's processor, for it is part of the world outside the server.
    pub(crate) fn start_backend(&self, workload: &Workload) -> anyhow::Result<Server> {
        let contestant = self.backend.as_ref().context("there is no backend to start")?;
        let root = self.root(workload).display().to_string();
        let arguments = ["--protocol", "http", "--listen", "127.0.0.1:0", "--root", &root];
        Server::start(Launch {
            program: &contestant.program,
            arguments: arguments.map(str::to_owned).to_vec(),
            cpus: self.placement.client.into_iter().collect(),
            // It is not what is asked about.
            accounting: &Accounting::Procfs,
            log: self.folder.path().join("backend.log"),
            ready: Ready::Line,
            ready_deadline: self.ready_deadline,
            stop_deadline: self.stop_deadline,
        })
        .context("the backend")
    }

    /// Starts a server of other people, on a port that was free a moment ago.
    fn start_peer(
        &self,
        protocol: Protocol,
        contestant: &Contestant,
        peer: &Peer,
        root: &Path,
        cpus: Vec<usize>,
    ) -> anyhow::Result<Server> {
        let port = free_port()?;
        let folder = self.folder.path().join("peers").join(&contestant.name);
        let arguments = peer.prepare(port, root, &folder, &self.certificate)?;
        self.launch(
            contestant,
            arguments,
            Ready::Greets(SocketAddr::from(([127, 0, 0, 1], port)), protocol),
            cpus,
        )
    }

    fn launch(
        &self,
        contestant: &Contestant,
        arguments: Vec<String>,
        ready: Ready,
        cpus: Vec<usize>,
    ) -> anyhow::Result<Server> {
        Server::start(Launch {
            program: &contestant.program,
            arguments,
            cpus,
            accounting: &self.accounting,
            log: self.folder.path().join(format!("{}.log", contestant.name)),
            ready,
            ready_deadline: self.ready_deadline,
            stop_deadline: self.stop_deadline,
        })
    }
}

/// Where a cell keeps its guestbook, until it is over. Not in memory: to wait for a disk is what
/// such a workload is about.
pub(crate) fn folder_of_a_book() -> anyhow::Result<TempDir> {
    let temporary = env::temp_dir();
    let folder = if is_memory(&temporary) { PathBuf::from("/var/tmp") } else { temporary };
    TempDir::with_prefix_in("arena-book-", folder).context("a folder for the guestbook")
}

/// The name on a server's command line.
pub(crate) fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Ftp => "ftp",
        Protocol::Echo => "echo",
    }
}

/// Memory, if it takes so many bytes, or else the folder for temporary files.
fn scratch(room_bytes: u64) -> PathBuf {
    let memory = Path::new(MEMORY);
    let has_room = statfs(memory).is_ok_and(|it| {
        it.blocks_available().saturating_mul(it.block_size() as u64) > room_bytes + SPARE_BYTES
    });
    let usable = has_room && is_memory(memory) && access(memory, AccessFlags::W_OK).is_ok();
    if usable { memory.to_owned() } else { std::env::temp_dir() }
}

fn is_memory(folder: &Path) -> bool {
    statfs(folder).is_ok_and(|it| it.filesystem_type() == TMPFS_MAGIC)
}

/// Anybody may write there, as a server may run as another user than we do.
fn make_root(root: &Path) -> anyhow::Result<()> {
    let make = || {
        fs::create_dir_all(root)?;
        fs::set_permissions(root, Permissions::from_mode(0o777))
    };
    make().with_context(|| root.display().to_string())
}

fn free_port() -> anyhow::Result<u16> {
    let mut tried = std::iter::repeat_with(|| fastrand::u16(PORTS)).take(PORTS_TRIED);
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    tried.find(is_free).context("no free port was found for the server")
}

/// A file whose every byte is known from its place.
fn write_pattern(path: &Path, bytes: u64) -> io::Result<()> {
    let pattern: Vec<u8> = (0..=250).cycle().take(251 * 256).collect();
    let mut file = BufWriter::new(File::create(path)?);
    let mut left = bytes;
    while left > 0 {
        let piece = left.min(pattern.len() as u64);
        file.write_all(&pattern[..piece as usize])?;
        left -= piece;
    }
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_is_removed_and_what_is_retrieved_stays() {
        let stage = Stage::new(Placement::unpinned(), None, 0).unwrap();
        let text = "title = 'T'\nquestion = 'Q'\nexpectation = 'E'\nprotocol = 'ftp'\n\
                    path = '/f'\nconnections = 1\nwarm_up_ms = 0\nduration_ms = 500\nblocks = 1\n";
        let parse = |name: &str, more: &str| {
            crate::workload::parse(Path::new(name), &format!("{text}{more}")).unwrap()
        };
        let retrieve = parse("retrieve.toml", "file_bytes = 3\n");
        let store = parse("store.toml", "operation = 'store'\npayload_bytes = 3\n");
        for workload in [&retrieve, &store] {
            stage.prepare(workload).unwrap();
            fs::write(stage.root(workload).join("f.0"), "abc").unwrap();
            stage.clear(workload).unwrap();
        }
        let names = |workload| fs::read_dir(stage.root(workload)).unwrap().count();
        assert_eq!((names(&retrieve), names(&store)), (2, 0));
    }

    #[test]
    fn what_needs_more_room_than_memory_has_lies_on_disk() {
        assert_eq!(scratch(u64::MAX / 2), std::env::temp_dir());
    }
}
