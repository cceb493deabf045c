//! Runs a plan: randomised complete blocks, a fresh server for every cell.
//!
//! A cell that goes wrong says so in its record and harms no other.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use loadgen::{Outcome, Phase, Plan};

use crate::calibration::Child;
use crate::capacity;
use crate::catalogue::Contestant;
use crate::certificate::Certificate;
use crate::contestant::Server;
use crate::machine::Counting;
use crate::progress::{Progress, counted, for_people};
use crate::record::{Cell, Header, Run, Writer};
use crate::sample::Used;
use crate::shares;
use crate::stage::{self, Service, Stage};
use crate::syscalls::Watch;
use crate::unit::Unit;
use crate::verify::{Request, verify};
use crate::workload::Workload;
use crate::wrk;

/// A rough allowance for starting, verifying and stopping, for the time that is foretold.
const OVERHEAD_MS: u64 = 60;
/// The same for each idle session that logs in, with the slowest servers in mind.
const IDLE_LOGIN_MS: u64 = 2;
/// How long system calls are counted.
const COUNTING_MS: u64 = 150;
/// A request may be silent for the whole of a cell: starving is a finding, not an error.
const PATIENCE_BEYOND_CELL: Duration = Duration::from_secs(5);

/// What the load generator and the server's counters say of a cell, if it came to that.
pub(crate) type Measured = (Option<Outcome>, Option<Used>);

/// One cell to be measured: indices into the header's workloads and contestants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slot {
    workload: usize,
    contestant: usize,
    block: u32,
    position: u32,
    /// Whether it is the A/A twin.
    twin: bool,
}

/// The order of a run: block after block, in each every workload, in each every contestant once
/// and the twin of one, shuffled. A run cut short has thus measured something of everything.
pub(crate) fn schedule(header: &Header) -> Vec<Slot> {
    let mut random = fastrand::Rng::with_seed(header.seed);
    let mut slots = Vec::new();
    let most_blocks = header.workloads.iter().map(|workload| workload.blocks).max().unwrap_or(0);
    for block in 1..=most_blocks {
        for (workload, definition) in header.workloads.iter().enumerate() {
            if block > definition.blocks {
                continue;
            }
            let has_twin = header.twins.get(&definition.name);
            let mut order: Vec<(usize, bool)> = Vec::new();
            for (index, contestant) in header.contestants.iter().enumerate() {
                if definition.is_for(contestant) {
                    order.push((index, false));
                    order.extend((has_twin == Some(&contestant.name)).then_some((index, true)));
                }
            }
            random.shuffle(&mut order);
            let slot = |((contestant, twin), position)| Slot {
                workload,
                contestant,
                block,
                position,
                twin,
            };
            slots.extend(order.into_iter().zip(1..).map(slot));
        }
    }
    slots
}

/// What of a run's plan is not recorded yet.
fn remaining(run: &Run) -> Vec<Slot> {
    let header = &run.header;
    let key = |cell: &Cell| (cell.workload.clone(), cell.contestant.clone(), cell.block, cell.twin);
    let recorded: HashSet<_> = run.cells.iter().map(key).collect();
    let is_recorded = |slot: &Slot| {
        let workload = header.workloads[slot.workload].name.clone();
        let contestant = header.contestants[slot.contestant].name.clone();
        recorded.contains(&(workload, contestant, slot.block, slot.twin))
    };
    schedule(header).into_iter().filter(|slot| !is_recorded(slot)).collect()
}

/// How many cells of a run's plan are not recorded yet, and the milliseconds that they should take.
pub(crate) fn planned(run: &Run) -> (usize, u64) {
    let slots = remaining(run);
    (slots.len(), slots.iter().map(|slot| slot_ms(&run.header, slot)).sum())
}

/// The plan of what is not recorded yet, in a line for each question and one for all.
pub(crate) fn plan_in_words(run: &Run) -> String {
    let line = |name: &str, cells: usize, ms: u64| {
        let time = for_people(Duration::from_millis(ms));
        format!("{name:24} {:>10}, about {time}\n", counted(cells, "cell"))
    };
    let mut by_question: Vec<(&str, usize, u64)> = Vec::new();
    for workload in &run.header.workloads {
        by_question.push((workload.family(), 0, 0));
    }
    by_question.dedup();
    for slot in remaining(run) {
        let name = run.header.workloads[slot.workload].family();
        let of_it = by_question.iter_mut().find(|(question, ..)| *question == name);
        let (_, cells, ms) = of_it.expect("each slot is of one of the questions");
        (*cells, *ms) = (*cells + 1, *ms + slot_ms(&run.header, &slot));
    }
    let lines = by_question.iter().map(|&(name, cells, ms)| line(name, cells, ms));
    let (cells, ms) = planned(run);
    lines.chain([line("in all", cells, ms)]).collect()
}

fn slot_ms(header: &Header, slot: &Slot) -> u64 {
    let workload = &header.workloads[slot.workload];
    let counts = counts(header) && counts_here(slot, workload);
    let by_wrk = header.client.is_some();
    let duration_ms = if by_wrk { wrk::duration_s(workload) * 1000 } else { workload.duration_ms };
    let timed = Workload { duration_ms, ..workload.clone() };
    cell_ms(&timed) + if counts { cell_ms(&counting(workload)) } else { 0 }
}

/// Only of our own load: a server's system calls depend on whom it serves.
fn counts(header: &Header) -> bool {
    header.machine.syscalls == Some(Counting::Counted) && header.client.is_none()
}

/// System calls are counted once for each contestant and workload, but where no table shows them.
fn counts_here(slot: &Slot, workload: &Workload) -> bool {
    slot.block == 1 && !slot.twin && workload.capacity.is_none() && workload.series.is_none()
}

/// The workload for so long as it takes to count system calls, whose number hardly varies. Sessions
/// are few, so that each needs its time.
fn counting(workload: &Workload) -> Workload {
    if workload.script.is_some() {
        return workload.clone();
    }
    // The warm-up stays: who forks for each of a thousand clients needs all of it.
    Workload { duration_ms: workload.duration_ms.min(COUNTING_MS), ..workload.clone() }
}

fn cell_ms(workload: &Workload) -> u64 {
    let sessions = if workload.idle_ones_log_in() { workload.idle_connections as u64 } else { 0 };
    let trial_ms =
        workload.warm_up_ms + workload.duration_ms + OVERHEAD_MS + sessions * IDLE_LOGIN_MS;
    if workload.capacity.is_some() { capacity::planned_ms(trial_ms) } else { trial_ms }
}

/// Measures cell after cell until the plan is done or `stop` is set; the writer has what came out.
pub(crate) fn run(writer: &mut Writer, stage: &Stage, stop: &AtomicBool) -> anyhow::Result<()> {
    let header = writer.run().header.clone();
    for workload in &header.workloads {
        stage.prepare(workload)?;
    }
    let counts = counts(&header);
    let mut progress = Progress::new(planned(writer.run()).1);
    for slot in remaining(writer.run()) {
        let workload = &header.workloads[slot.workload];
        let contestant = &header.contestants[slot.contestant];
        let label = format!("{} · {}", workload.name, contestant.name);
        progress.doing(format!("block {}/{} · {label}", slot.block, workload.blocks));
        // Contestants of a block meet the same arrivals, and those of the next meet others.
        let seed = header.seed.wrapping_add(slot.block.into());
        let mut cell = stage.cell(workload, contestant, &slot, seed, stop);
        if counts && counts_here(&slot, workload) && cell.outcome.is_some() {
            stage.count_syscalls(workload, contestant, seed, &mut cell, stop);
        }
        if stop.load(Ordering::SeqCst) {
            // A cell that was cut short is not comparable with the others.
            break;
        }
        for wrong in cell.wrongs() {
            progress.note(&format!("{label} · block {}: {wrong}", slot.block));
        }
        writer.append(cell)?;
        progress.done(slot_ms(&header, &slot));
    }
    progress.finish();
    Ok(())
}

impl Stage {
    /// Measures one cell, whatever happens.
    fn cell(
        &self,
        workload: &Workload,
        contestant: &Contestant,
        slot: &Slot,
        seed: u64,
        stop: &AtomicBool,
    ) -> Cell {
        let mut cell = Cell {
            workload: workload.name.clone(),
            contestant: contestant.name.clone(),
            block: slot.block,
            position: slot.position,
            twin: slot.twin,
            failure: None,
            unavailable: None,
            faults: Vec::new(),
            syscalls: None,
            capacity: None,
            outcome: None,
            used: None,
            workers: None,
        };
        let measured = match workload.capacity {
            None => self.with_server(workload, contestant, &mut cell.faults, |server| {
                let load = if self.by_wrk { Self::load_by_wrk } else { Self::load };
                let (outcome, used) = load(self, workload, server, seed, stop)?;
                Ok((Some(outcome), used))
            }),
            Some(bound) => self
                .capacity(workload, contestant, bound, seed, &mut cell.faults, stop)
                .map(|(found, confirmed)| {
                    cell.capacity = Some(found);
                    confirmed
                }),
        };
        match measured {
            Ok(measured) => (cell.outcome, cell.used) = measured,
            Err(error) if contestant.is_unavailable(&error) => {
                cell.unavailable = Some(format!("{error:#}"));
            }
            Err(error) => cell.failure = Some(format!("{error:#}")),
        }
        cell.workers = shares::read(&self.workers_file()).filter(|_| contestant.counts_workers);
        // Memory and disk stay bounded, and the next finds what this one found.
        if let Err(error) = self.clear(workload) {
            cell.faults.push(format!("what was stored cannot be removed: {error}"));
        }
        cell
    }

    /// Counts system calls with a server of its own, for each of them takes longer when it is
    /// counted.
    fn count_syscalls(
        &self,
        workload: &Workload,
        contestant: &Contestant,
        seed: u64,
        cell: &mut Cell,
        stop: &AtomicBool,
    ) {
        let workload = &counting(workload);
        let mut faults = Vec::new();
        let counted = self.with_server(workload, contestant, &mut faults, |server| {
            let mut watch = Watch::begin(server.pid())?;
            let mut readings = Vec::new();
            let plan = self.plan(workload, server.address(), seed);
            let mut read = |_| readings.push((Instant::now(), watch.count()));
            let outcome = loadgen::run(&plan, stop, &mut read).context("the load generator")?;
            let mut readings = readings.into_iter();
            let (Some((began, before)), Some((ended, after))) = (readings.next(), readings.next())
            else {
                return Ok(None);
            };
            let calls = after?.saturating_sub(before?) as f64 / (ended - began).as_secs_f64();
            let served = Unit::of(workload).speed_of(&outcome).filter(|per_s| *per_s > 0.0);
            Ok(served.map(|per_s| calls / per_s))
        });
        match counted {
            Ok(syscalls) => cell.syscalls = syscalls,
            Err(error) => faults.push(format!("{error:#}")),
        }
        let while_counted = |fault| format!("while its system calls were counted: {fault}");
        cell.faults.extend(faults.into_iter().map(while_counted));
    }

    /// Does something with a fresh server that has answered rightly, and ends it.
    pub(crate) fn with_server<T>(
        &self,
        workload: &Workload,
        contestant: &Contestant,
        faults: &mut Vec<String>,
        act: impl FnOnce(&Server) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let backend = workload.backend.then(|| self.start_backend(workload)).transpose()?;
        let book = workload.signs().then(stage::folder_of_a_book).transpose()?;
        let book = book.as_ref().map(|folder| folder.path().join("book"));
        let service = Service {
            protocol: workload.protocol,
            root: &self.root(workload),
            workers: workload.workers_of(contestant),
            backend: backend.as_ref().map(Server::address),
            guestbook: book.as_deref(),
            cores: workload.cores,
            tls: workload.tls,
        };
        let mut server = self.start(contestant, &service)?;
        let result = verify(server.address(), &Request::of(workload, &self.certificate))
            .context("it answers wrongly")
            .and_then(|()| act(&server));
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
    pub(crate) fn load(
        &self,
        workload: &Workload,
        server: &Server,
        seed: u64,
        stop: &AtomicBool,
    ) -> anyhow::Result<(Outcome, Option<Used>)> {
        let plan = self.plan(workload, server.address(), seed);
        let at_rest = server.footprint();
        let (mut before, mut used) = (None, None);
        let mut on_phase = |phase| match phase {
            Phase::Measuring => before = Some(server.counters()),
            Phase::Done => {
                let end = server.counters();
                let loaded = server.footprint();
                used = before.take().map(|before| before.until(&end, at_rest, loaded));
            }
        };
        let outcome = loadgen::run(&plan, stop, &mut on_phase).context("the load generator")?;
        Ok((outcome, used))
    }

    /// The same by wrk, which counts from its start on: so does the processor time, and what warms
    /// up before is a load of our own.
    fn load_by_wrk(
        &self,
        workload: &Workload,
        server: &Server,
        seed: u64,
        stop: &AtomicBool,
    ) -> anyhow::Result<(Outcome, Option<Used>)> {
        let plan = self.plan(workload, server.address(), seed);
        let (warm_up, at_rest) = (plan.warm_up, server.footprint());
        if !warm_up.is_zero() {
            let plan = Plan { warm_up: Duration::ZERO, duration: warm_up, ..plan };
            loadgen::run(&plan, stop, &mut |_| ()).context("the load generator")?;
        }
        let duration_s = wrk::duration_s(workload);
        let script = wrk::script(workload.pipeline, self.folder())?;
        let order = wrk::Order {
            path: &workload.path,
            connections: workload.connections,
            reconnect: workload.requests_per_connection.is_some(),
            duration_s,
            script: script.as_deref(),
        };
        let mut command = wrk::command(server.address(), &order);
        let limit = Duration::from_secs(duration_s);
        let before = server.counters();
        let (child, loaded) = thread::scope(|scope| {
            // Its connections are open in the middle, and closed when it has ended.
            let loaded = scope.spawn(|| {
                thread::sleep(limit / 2);
                server.footprint()
            });
            let child = Child::run(&mut command, &self.placement, limit, false, stop);
            (child, loaded.join())
        });
        let end = server.counters();
        let child = child.context("wrk")?;
        let loaded = loaded.ok().context("reading what the server holds")?;
        let outcome = wrk::Said::read(&child.said)?.outcome(child.cpu_s)?;
        // All that was used belongs to all replies, in the time that wrk says it took.
        let (cpu_window_s, switches_window_s) = (outcome.elapsed_s, outcome.elapsed_s);
        let used = before.until(&end, at_rest, loaded);
        let used = Used { cpu_window_s, switches_window_s, ..used };
        Ok((outcome, Some(used)))
    }

    fn plan(&self, workload: &Workload, target: SocketAddr, seed: u64) -> Plan {
        let warm_up = Duration::from_millis(workload.warm_up_ms);
        let duration = Duration::from_millis(workload.duration_ms);
        Plan {
            target,
            class: workload.class(seed),
            beside: workload.classes_beside(seed),
            threads: 1,
            idle_connections: workload.idle_connections,
            warm_up,
            duration,
            timeout: warm_up + duration + PATIENCE_BEYOND_CELL,
            cpus: self.placement.client.into_iter().collect(),
            busy_poll: workload.client_never_sleeps(&self.placement),
            ..Plan::default()
        }
    }
}

impl<'a> Request<'a> {
    fn of(workload: &'a Workload, certificate: &'a Certificate) -> Self {
        let path = workload.request_path();
        let (protocol, method) = (workload.protocol, workload.method);
        let certificate = workload.tls.then_some(certificate);
        Self { protocol, method, path, expected_bytes: workload.expected_bytes, certificate }
    }
}

#[cfg(test)]
mod tests;
