//! How good the load generator is: beside wrk on the same server, against its own schedule, by what
//! it holds, and against arithmetic. What is measured here is the client, and the server is the
//! yardstick.
//!
//! All clients are children, and what they used is what the kernel says when they have ended: from
//! their start, so all their requests count and none are a warm-up.

mod client;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use loadgen::selftest::Findings;
use loadgen::{Arrivals, Outcome, Protocol};
use serde::{Deserialize, Serialize};

pub(crate) use self::client::{Child, Client, clients, word};
use crate::catalogue::{Catalogue, Contestant, require_programs};
use crate::progress::Progress;
use crate::record::Writer;
use crate::sample::Footprint;
use crate::stage::{Service, Stage};

/// What keeps connections is asked of the least server there is.
const FLOOR: &str = "floor-epoll";
/// What makes a connection for each request is asked of one that closes it: wrk closes none.
const CLOSING: &str = "evented";
const CONNECTIONS: [usize; 2] = [64, 512];
/// Of an open loop, and of what closes each connection.
pub(crate) const FEW_CONNECTIONS: usize = 64;
pub(crate) const HELD_CONNECTIONS: usize = 10_000;
/// All of them are asked while they are held.
const HOLDING_RATE_PER_S: u64 = 5000;
const WARM_UP: Duration = Duration::from_secs(1);
/// About what the servers of known latency take.
const TRUTH: Duration = Duration::from_secs(90);
/// A rough allowance for starting and stopping, for the time that is foretold.
const OVERHEAD_MS: u64 = 200;

/// What a calibration sets out to measure.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Plan {
    pub(crate) blocks: u32,
    pub(crate) duration_s: u64,
    pub(crate) clients: Vec<Client>,
}

/// What a client is asked.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Question {
    /// What does a request cost, as fast as it goes?
    Saturate {
        connections: usize,
        /// Whether each connection makes one request.
        reconnect: bool,
    },
    /// Is a schedule kept, at half of the rate that was reached in the same block?
    Keep { arrivals: Arrivals },
    /// What do so many open connections take of memory?
    Hold { connections: usize },
    /// Is what is found of servers of known latency what arithmetic says? Asked once.
    Truth,
}

/// What one client answered to one question in one block.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Cell {
    pub(crate) question: Question,
    pub(crate) client: String,
    pub(crate) block: u32,
    /// Its place in the block's order.
    pub(crate) position: u32,
    /// Why there is nothing measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) found: Option<Found>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) truth: Option<Findings>,
}

/// What a client said, and what it and the machine used meanwhile.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Found {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) rate_per_s: f64,
    /// User and system time of the whole child.
    pub(crate) cpu_s: f64,
    /// From its start to its end.
    pub(crate) elapsed_s: f64,
    /// The most that it was seen to hold, where that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pss_bytes: Option<u64>,
    pub(crate) server_cpu_s: f64,
    pub(crate) machine_busy_s: f64,
    /// All that the load generator says of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) outcome: Option<Outcome>,
}

/// One cell to be measured.
#[derive(Clone, Debug, PartialEq)]
struct Slot {
    question: Question,
    client: Client,
    block: u32,
    position: u32,
}

impl Plan {
    pub(crate) fn cells(&self) -> usize {
        schedule(self, 0).len()
    }

    /// The time that it should take, in milliseconds.
    pub(crate) fn planned_ms(&self) -> u64 {
        schedule(self, 0).iter().map(|slot| self.cell_ms(slot.question)).sum()
    }

    fn cell_ms(&self, question: Question) -> u64 {
        self.limit(question).as_millis() as u64 + OVERHEAD_MS
    }

    /// How long a client works.
    fn limit(&self, question: Question) -> Duration {
        match question {
            Question::Truth => TRUTH,
            _ => question.warm_up() + Duration::from_secs(self.duration_s),
        }
    }
}

impl Question {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Saturate { connections, reconnect: false } => format!("{connections} kept"),
            Self::Saturate { connections, reconnect: true } => format!("{connections} made anew"),
            Self::Keep { arrivals } => format!("{} arrivals", word(arrivals)),
            Self::Hold { connections } => format!("{connections} held"),
            Self::Truth => "known latency".to_owned(),
        }
    }

    /// All that are asked, in an order in which none needs the answer to a later one.
    pub(crate) fn all() -> Vec<Self> {
        let stay = CONNECTIONS.map(|connections| Self::Saturate { connections, reconnect: false });
        let leave = Self::Saturate { connections: FEW_CONNECTIONS, reconnect: true };
        let keep = [Arrivals::Constant, Arrivals::Poisson].map(|arrivals| Self::Keep { arrivals });
        let hold = [1, HELD_CONNECTIONS].map(|connections| Self::Hold { connections });
        stay.into_iter().chain([leave]).chain(keep).chain(hold).collect()
    }

    /// Whether it is asked of the other generator too.
    pub(crate) fn is_for(self, client: &Client) -> bool {
        matches!(self, Self::Saturate { .. }) || !client.is_wrk()
    }

    fn server(self) -> &'static str {
        match self {
            Self::Saturate { reconnect: true, .. } => CLOSING,
            _ => FLOOR,
        }
    }

    /// Where processor time is asked all of a child's requests count.
    fn warm_up(self) -> Duration {
        if matches!(self, Self::Saturate { .. }) { Duration::ZERO } else { WARM_UP }
    }
}

/// Block after block, in each all questions of capacity in a random order, then all others, which
/// rest on the capacity that was found. The truth is asked at the end of the first.
fn schedule(plan: &Plan, seed: u64) -> Vec<Slot> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut slots = Vec::new();
    for block in 1..=plan.blocks {
        let mut asked: Vec<(Question, &Client)> = Vec::new();
        for question in Question::all() {
            let clients = plan.clients.iter().filter(|client| question.is_for(client));
            asked.extend(clients.map(|client| (question, client)));
        }
        random.shuffle(&mut asked);
        asked.sort_by_key(|(question, _)| !matches!(question, Question::Saturate { .. }));
        if let (1, Some(client)) = (block, plan.clients.iter().find(|client| !client.is_wrk())) {
            asked.push((Question::Truth, client));
        }
        slots.extend(asked.into_iter().zip(1..).map(|((question, client), position)| Slot {
            question,
            client: client.clone(),
            block,
            position,
        }));
    }
    slots
}

/// What is needed to measure a load generator.
pub(crate) struct Bench<'a> {
    stage: &'a Stage,
    servers: Vec<Contestant>,
    loadgen: PathBuf,
    /// The folder that servers serve and children write to.
    folder: PathBuf,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(stage: &'a Stage, catalogue: &Catalogue) -> anyhow::Result<Self> {
        let all = catalogue.architectures.iter().chain(&catalogue.floors);
        let is_asked = |one: &&Contestant| [FLOOR, CLOSING].contains(&one.name.as_str());
        let servers: Vec<Contestant> = all.filter(is_asked).cloned().collect();
        require_programs(&servers)?;
        let folder = stage.root_with_file("index.html", 1)?;
        Ok(Self { stage, servers, loadgen: client::loadgen_program()?, folder })
    }

    /// Measures cell after cell until the plan is done or `stop` is set; the writer has what came
    /// out.
    pub(crate) fn run(&self, writer: &mut Writer<Cell>, stop: &AtomicBool) -> anyhow::Result<()> {
        let header = writer.run().header.clone();
        let plan = header.calibration.context("there is no plan of a calibration")?;
        let mut progress = Progress::new(plan.planned_ms());
        for slot in schedule(&plan, header.seed) {
            let label = format!("{} · {}", slot.question.name(), slot.client.name());
            progress.doing(format!("block {}/{} · {label}", slot.block, plan.blocks));
            let cell = self.cell(&slot, &plan, header.seed, &writer.run().cells, stop);
            if stop.load(Ordering::SeqCst) {
                // A cell that was cut short is not comparable with the others.
                break;
            }
            if let Some(failure) = &cell.failure {
                progress.note(&format!("{label} · block {}: {failure}", slot.block));
            }
            writer.append(cell)?;
            progress.done(plan.cell_ms(slot.question));
        }
        progress.finish();
        Ok(())
    }

    /// Measures one cell, whatever happens.
    fn cell(
        &self,
        slot: &Slot,
        plan: &Plan,
        seed: u64,
        before: &[Cell],
        stop: &AtomicBool,
    ) -> Cell {
        let mut cell = Cell {
            question: slot.question,
            client: slot.client.name(),
            block: slot.block,
            position: slot.position,
            failure: None,
            found: None,
            truth: None,
        };
        // The clients of a block meet the same arrivals.
        let seed = seed.wrapping_add(slot.block.into());
        let asked = if slot.question == Question::Truth {
            self.truth(stop).map(|truth| cell.truth = Some(truth))
        } else {
            let found = self.ask(slot, plan, seed, capacity(before, slot), stop);
            found.map(|found| cell.found = Some(found))
        };
        cell.failure = asked.err().map(|error| format!("{error:#}"));
        cell
    }

    /// The load generator has such servers itself.
    fn truth(&self, stop: &AtomicBool) -> anyhow::Result<Findings> {
        let file = self.folder.join("selftest.json");
        let mut command = Command::new(&self.loadgen);
        command.arg("selftest").arg("--json").arg(&file);
        let start = |command: &mut Command| self.stage.placement.everywhere(|| command.spawn());
        Child::run_started_by(start, &mut command, TRUTH, false, stop)?;
        let text = fs::read_to_string(&file).context("what it found")?;
        serde_json::from_str(&text).context("what it found")
    }

    fn ask(
        &self,
        slot: &Slot,
        plan: &Plan,
        seed: u64,
        capacity: Option<f64>,
        stop: &AtomicBool,
    ) -> anyhow::Result<Found> {
        let name = slot.question.server();
        let server = self.servers.iter().find(|one| one.name == name);
        let server = server.with_context(|| format!("there is no {name} to be the server"))?;
        let server = self.stage.start(server, &Service::new(Protocol::Http, &self.folder))?;
        let target = server.address();
        let (question, limit) = (slot.question, plan.limit(slot.question));
        let mut command = match &slot.client {
            Client::Wrk { .. } => client::by_wrk(target, question, plan.duration_s),
            Client::Loadgen { engine } => {
                let rate = capacity.map(|capacity| (capacity / 2.0).floor());
                let program = &self.loadgen;
                let mut command = client::loadgen(program, *engine, target, question, rate, seed)?;
                let warm_up_s = question.warm_up().as_secs();
                command.args(["--warm-up", &format!("{warm_up_s}s")]);
                command.args(["--duration", &format!("{}s", plan.duration_s)]);
                command
            }
        };
        let before = server.counters();
        let weigh = matches!(question, Question::Hold { .. });
        let child = Child::run(&mut command, &self.stage.placement, limit, weigh, stop)?;
        let after = server.counters();
        let nothing = Footprint::default();
        let used = before.until(&after, nothing, nothing);
        let faults = server.stop();
        anyhow::ensure!(faults.is_empty(), "the server {}", faults.join("; "));
        let mut found = match slot.client {
            Client::Wrk { .. } => client::found_by_wrk(&child.said)?,
            Client::Loadgen { .. } => client::found_by_loadgen(&child.said)?,
        };
        found.cpu_s = child.cpu_s;
        found.elapsed_s = child.elapsed_s;
        found.pss_bytes = child.pss_bytes;
        found.server_cpu_s = used.cpu_s;
        found.machine_busy_s = used.machine_busy_s;
        Ok(found)
    }
}

/// What the slot's client reached in the slot's block over as many connections.
fn capacity(cells: &[Cell], slot: &Slot) -> Option<f64> {
    let question = Question::Saturate { connections: FEW_CONNECTIONS, reconnect: false };
    let is_it = |cell: &&Cell| {
        cell.block == slot.block && cell.client == slot.client.name() && cell.question == question
    };
    Some(cells.iter().find(is_it)?.found.as_ref()?.rate_per_s)
}

#[cfg(test)]
mod tests {
    use loadgen::Engine;

    use super::*;

    fn plan() -> Plan {
        let wrk = Client::Wrk { version: "wrk 4.1".to_owned() };
        let clients = vec![Client::Loadgen { engine: Engine::Epoll }, wrk];
        Plan { blocks: 6, duration_s: 1, clients }
    }

    #[test]
    fn each_block_asks_capacity_first_and_in_an_order_of_the_seed() {
        let plan = plan();
        let slots = schedule(&plan, 7);
        assert_eq!((slots.len(), slots.len() % 6), (plan.cells(), 1));
        for block in 1..=6 {
            let asked: Vec<&Slot> = slots.iter().filter(|slot| slot.block == block).collect();
            let is_of_capacity = |slot: &&&Slot| matches!(slot.question, Question::Saturate { .. });
            assert_eq!(asked.iter().take_while(is_of_capacity).count(), 6);
            assert_eq!(asked.iter().filter(is_of_capacity).count(), 6);
        }
        assert_eq!(slots, schedule(&plan, 7));
        assert_ne!(slots, schedule(&plan, 8));
    }

    #[test]
    fn a_schedule_rests_on_what_the_same_client_reached_in_the_same_block() {
        let slot = Slot {
            question: Question::Keep { arrivals: Arrivals::Poisson },
            client: plan().clients[0].clone(),
            block: 2,
            position: 9,
        };
        let cell = |client: &Client, block, rate_per_s| Cell {
            question: Question::Saturate { connections: FEW_CONNECTIONS, reconnect: false },
            client: client.name(),
            block,
            position: 1,
            failure: None,
            found: Some(Found { rate_per_s, ..Found::default() }),
            truth: None,
        };
        let clients = plan().clients;
        let others = [cell(&clients[0], 1, 1.0), cell(&clients[1], 2, 2.0)];
        assert_eq!(capacity(&others, &slot), None);
        let all = [others.as_slice(), &[cell(&clients[0], 2, 3.0)]].concat();
        assert_eq!(capacity(&all, &slot), Some(3.0));
    }
}
