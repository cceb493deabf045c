//! Runs a plan: randomised complete blocks, a fresh server for every cell.
//!
//! A cell that goes wrong says so in its record and harms no other.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use loadgen::{Outcome, Phase, Plan, Protocol};
use tempfile::TempDir;

use crate::catalogue::Contestant;
use crate::contestant::{Launch, READY_DEADLINE, STOP_DEADLINE, Server};
use crate::machine::Placement;
use crate::progress::Progress;
use crate::record::{Cell, Header, Writer};
use crate::sample::{Counters, Footprint, Used};
use crate::verify::{Request, verify};
use crate::workload::Workload;

/// A rough allowance for starting, verifying and stopping, for the time that is foretold.
const OVERHEAD_MS: u64 = 100;
/// A request may be silent for the whole of a cell: starving is a finding, not an error.
const PATIENCE_BEYOND_CELL: Duration = Duration::from_secs(5);

/// One cell to be measured: indices into the header's workloads and contestants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slot {
    workload: usize,
    contestant: usize,
    block: u32,
    position: u32,
}

/// Where servers run and what they serve.
pub(crate) struct Stage {
    /// Removed with everything in it at the end.
    folder: TempDir,
    placement: Placement,
    /// What `backend` workloads put behind the server.
    backend: Option<Contestant>,
    ready_deadline: Duration,
    stop_deadline: Duration,
}

/// The order of a run: block after block, in each every workload, in each every contestant once,
/// shuffled. A run cut short has thus measured something of everything.
pub(crate) fn schedule(header: &Header) -> Vec<Slot> {
    let mut random = fastrand::Rng::with_seed(header.seed);
    let mut slots = Vec::new();
    let most_blocks = header.workloads.iter().map(|workload| workload.blocks).max().unwrap_or(0);
    for block in 1..=most_blocks {
        for (workload, definition) in header.workloads.iter().enumerate() {
            if block > definition.blocks {
                continue;
            }
            let mut order: Vec<usize> = (0..header.contestants.len())
                .filter(|&one| definition.floor || !header.contestants[one].floor)
                .collect();
            random.shuffle(&mut order);
            slots.extend(order.into_iter().zip(1..).map(|(contestant, position)| Slot {
                workload,
                contestant,
                block,
                position,
            }));
        }
    }
    slots
}

/// The time that a header's plan should take, in milliseconds.
pub(crate) fn planned_ms(header: &Header) -> u64 {
    schedule(header).iter().map(|slot| cell_ms(&header.workloads[slot.workload])).sum()
}

fn cell_ms(workload: &Workload) -> u64 {
    workload.warm_up_ms + workload.duration_ms + OVERHEAD_MS
}

/// Measures cell after cell until the plan is done or `stop` is set; the writer has what came out.
pub(crate) fn run(writer: &mut Writer, stage: &Stage, stop: &AtomicBool) -> anyhow::Result<()> {
    let header = writer.run().header.clone();
    for workload in &header.workloads {
        stage.prepare(workload)?;
    }
    let mut progress = Progress::new(planned_ms(&header));
    for slot in schedule(&header) {
        let workload = &header.workloads[slot.workload];
        let contestant = &header.contestants[slot.contestant];
        let label = format!("{} · {}", workload.name, contestant.name);
        progress.doing(format!("block {}/{} · {label}", slot.block, workload.blocks));
        let cell = stage.cell(workload, contestant, &slot, stop);
        if stop.load(Ordering::SeqCst) {
            // A cell that was cut short is not comparable with the others.
            break;
        }
        for wrong in cell.wrongs() {
            progress.note(&format!("{label} · block {}: {wrong}", slot.block));
        }
        writer.append(cell)?;
        progress.done(cell_ms(workload));
    }
    progress.finish();
    Ok(())
}

impl Stage {
    pub(crate) fn new(placement: Placement, backend: Option<Contestant>) -> anyhow::Result<Self> {
        Ok(Self {
            folder: TempDir::with_prefix("arena-").context("a folder for the run")?,
            placement,
            backend,
            ready_deadline: READY_DEADLINE,
            stop_deadline: STOP_DEADLINE,
        })
    }

    /// Makes the workload's root and the file in it.
    fn prepare(&self, workload: &Workload) -> anyhow::Result<()> {
        let root = self.root(workload);
        std::fs::create_dir_all(&root).with_context(|| root.display().to_string())?;
        let Some(bytes) = workload.file_bytes else {
            return Ok(());
        };
        let path = root.join(workload.path.trim_start_matches('/'));
        write_pattern(&path, bytes).with_context(|| path.display().to_string())
    }

    /// Measures one cell, whatever happens.
    fn cell(
        &self,
        workload: &Workload,
        contestant: &Contestant,
        slot: &Slot,
        stop: &AtomicBool,
    ) -> Cell {
        let mut cell = Cell {
            workload: workload.name.clone(),
            contestant: contestant.name.clone(),
            block: slot.block,
            position: slot.position,
            failure: None,
            faults: Vec::new(),
            outcome: None,
            used: None,
        };
        match self.measure(workload, contestant, &mut cell.faults, stop) {
            Ok((outcome, used)) => (cell.outcome, cell.used) = (Some(outcome), used),
            Err(error) => cell.failure = Some(format!("{error:#}")),
        }
        cell
    }

    fn measure(
        &self,
        workload: &Workload,
        contestant: &Contestant,
        faults: &mut Vec<String>,
        stop: &AtomicBool,
    ) -> anyhow::Result<(Outcome, Option<Used>)> {
        let backend = workload.backend.then(|| self.start_backend(workload)).transpose()?;
        let behind = backend.as_ref().map(Server::address);
        let mut server = self.start(
            workload.protocol,
            contestant,
            &self.root(workload),
            workload.workers,
            behind,
        )?;
        let result = verify(server.address(), &Request::of(workload))
            .context("it answers wrongly")
            .and_then(|()| self.load(workload, &server, stop));
        match server.death() {
            Some(death) => anyhow::bail!(death),
            None => faults.extend(server.stop()),
        }
        if let Some(backend) = backend {
            faults.extend(backend.stop().into_iter().map(|fault| format!("the backend {fault}")));
        }
        result
    }

    /// Loads a verified server and reads its counters around the measurement.
    fn load(
        &self,
        workload: &Workload,
        server: &Server,
        stop: &AtomicBool,
    ) -> anyhow::Result<(Outcome, Option<Used>)> {
        let plan = self.plan(workload, server.address());
        let at_rest = Footprint::read(server.pid());
        let (mut before, mut used) = (None, None);
        let mut on_phase = |phase| match phase {
            Phase::Measuring => before = Some(Counters::read(server.pid())),
            Phase::Done => {
                let end = Counters::read(server.pid());
                let loaded = Footprint::read(server.pid());
                used = before.take().map(|before| before.until(&end, at_rest, loaded));
            }
        };
        let outcome = loadgen::run(&plan, stop, &mut on_phase).context("the load generator")?;
        Ok((outcome, used))
    }

    fn plan(&self, workload: &Workload, target: SocketAddr) -> Plan {
        let warm_up = Duration::from_millis(workload.warm_up_ms);
        let duration = Duration::from_millis(workload.duration_ms);
        Plan {
            protocol: workload.protocol,
            target,
            path: workload.path.clone(),
            payload_bytes: workload.payload_bytes,
            connections: workload.connections,
            threads: 1,
            pipeline: workload.pipeline,
            requests_per_connection: workload.requests_per_connection,
            idle_connections: workload.idle_connections,
            expected_bytes: workload.expected_bytes,
            warm_up,
            duration,
            timeout: warm_up + duration + PATIENCE_BEYOND_CELL,
            cpus: self.placement.client.into_iter().collect(),
            // A backend runs on the client's processor, and is to have its share of it.
            busy_poll: self.placement.client.is_some() && !workload.backend,
            ..Plan::default()
        }
    }

    /// Starts a contestant with the command line that all architectures have; a floor knows no
    /// protocol, only what it replies.
    pub(crate) fn start(
        &self,
        protocol: Protocol,
        contestant: &Contestant,
        root: &Path,
        workers: Option<usize>,
        backend: Option<SocketAddr>,
    ) -> anyhow::Result<Server> {
        let mut arguments = contestant.arguments.clone();
        let mut give = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
        give("--listen", "127.0.0.1:0".to_owned());
        if contestant.floor {
            give("--reply", protocol_name(protocol).to_owned());
        } else {
            give("--protocol", protocol_name(protocol).to_owned());
            give("--root", root.display().to_string());
        }
        if let Some(workers) = workers.filter(|_| contestant.many_workers) {
            give("--workers", workers.to_string());
        }
        if let Some(address) = backend {
            give("--backend", address.to_string());
        }
        Server::start(Launch {
            program: &contestant.program,
            arguments,
            cpu: self.placement.server,
            log: self.folder.path().join(format!("{}.log", contestant.name)),
            ready_deadline: self.ready_deadline,
            stop_deadline: self.stop_deadline,
        })
    }

    /// The backend shares the client's processor, for it is part of the world outside the server.
    fn start_backend(&self, workload: &Workload) -> anyhow::Result<Server> {
        let contestant = self.backend.as_ref().context("there is no backend to start")?;
        let root = self.root(workload).display().to_string();
        let arguments = ["--protocol", "http", "--listen", "127.0.0.1:0", "--root", &root];
        Server::start(Launch {
            program: &contestant.program,
            arguments: arguments.map(str::to_owned).to_vec(),
            cpu: self.placement.client,
            log: self.folder.path().join("backend.log"),
            ready_deadline: self.ready_deadline,
            stop_deadline: self.stop_deadline,
        })
        .context("the backend")
    }

    /// A root with one file in it.
    pub(crate) fn root_with_file(&self, name: &str, bytes: u64) -> anyhow::Result<PathBuf> {
        let root = self.folder.path().join("root");
        std::fs::create_dir_all(&root)?;
        write_pattern(&root.join(name), bytes)?;
        Ok(root)
    }

    /// The folder that servers of a workload serve.
    fn root(&self, workload: &Workload) -> PathBuf {
        self.folder.path().join("root").join(&workload.name)
    }
}

impl<'a> Request<'a> {
    fn of(workload: &'a Workload) -> Self {
        let path = &workload.path;
        Self { protocol: workload.protocol, path, expected_bytes: workload.expected_bytes }
    }
}

/// The name on a server's command line.
pub(crate) fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Ftp => "ftp",
        Protocol::Echo => "echo",
    }
}

/// A file whose every byte is known from its place.
fn write_pattern(path: &Path, bytes: u64) -> std::io::Result<()> {
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
mod tests;
