//! From cells to rows: which numbers count, and what is printed where they do not.
//!
//! The terminal and the report print these same rows.

mod words;

use std::collections::BTreeMap;

use loadgen::{BUSY_MAX, Outcome, Word};

use crate::capacity::{self, Capacity};
use crate::catalogue::Contestant;
use crate::ranking::{Ranking, twin_remark};
use crate::record::{Cell, Run};
use crate::sample::{Footprint, Used};
use crate::stats::{Blocks, Spread, median_ratio, spread};
use crate::unit::Unit;
use crate::workload::Workload;

/// The kernel counts for the whole network namespace, so no server can be blamed.
const OVERFLOWED: &str = "some listen queue of this machine overflowed meanwhile \
                          (the counter is the kernel's, not this server's)";
/// What stands where there is nothing to print.
pub(crate) const NOTHING: &str = "–";

/// Whether a cell's numbers may be printed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Verdict {
    Valid,
    /// Open loop: the load generator says that the latencies mean nothing. All else counts.
    UnderSampled,
    Noisy,
    NonStationary,
    /// CPU per request counts, throughput and latency do not.
    ClientBound,
    /// No request was answered, nor was a part of a file moved: only what the server held counts.
    Starved,
    Errors,
    Failed,
    /// It needs what this machine has not.
    Unavailable,
}

/// A workload's rows, ready to be printed.
#[derive(Clone)]
pub(crate) struct Table {
    pub(crate) columns: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
    /// What the numbers do not say, a sentence each.
    pub(crate) remarks: Vec<String>,
}

/// A contestant's cells under one workload.
#[derive(Clone)]
pub(crate) struct Line<'a> {
    pub(crate) contestant: &'a Contestant,
    pub(crate) workload: &'a Workload,
    pub(crate) cells: Vec<&'a Cell>,
}

/// What a line is compared with.
struct Yardsticks<'a> {
    /// The floor of its I/O model.
    floor: Option<&'a Line<'a>>,
    /// The best of ours, where there are servers of other people.
    ours: Option<&'a Line<'a>>,
    /// The letters that it shares with those that it is not told apart from.
    letters: String,
}

/// The lines of a workload in the order of a table, without those that were not run. Where servers
/// of other people are among them they are ranked.
pub(crate) fn lines<'a>(run: &'a Run, workload: &'a Workload) -> Vec<Line<'a>> {
    let cells: Vec<&Cell> = cells_of(run, workload).collect();
    let all = run.header.contestants_of(workload).map(|one| line(&cells, workload, one, false));
    let mut lines: Vec<Line<'a>> = all.filter(|line| !line.cells.is_empty()).collect();
    if lines.iter().any(|line| line.contestant.is_peer()) {
        let rank = |line: &Line<'_>| (line.contestant.floor, line.standing().unwrap_or(f64::MAX));
        lines.sort_by(|a, b| {
            let ((a_floor, a), (b_floor, b)) = (rank(a), rank(b));
            a_floor.cmp(&b_floor).then(a.total_cmp(&b))
        });
    }
    lines
}

fn cells_of<'a>(run: &'a Run, workload: &'a Workload) -> impl Iterator<Item = &'a Cell> {
    run.cells.iter().filter(|cell| cell.workload == workload.name)
}

/// From the cells of the workload.
fn line<'a>(
    cells: &[&'a Cell],
    workload: &'a Workload,
    contestant: &'a Contestant,
    twin: bool,
) -> Line<'a> {
    let is_of = |cell: &&Cell| cell.contestant == contestant.name && cell.twin == twin;
    Line { contestant, workload, cells: cells.iter().copied().filter(is_of).collect() }
}

/// The contestant of a workload that was measured twice in each block, and its A/A twin.
pub(crate) fn twin<'a>(run: &'a Run, workload: &'a Workload) -> Option<[Line<'a>; 2]> {
    let name = run.header.twins.get(&workload.name)?;
    let contestant = run.header.contestants.iter().find(|one| one.name == *name)?;
    let cells: Vec<&Cell> = cells_of(run, workload).collect();
    Some([false, true].map(|twin| line(&cells, workload, contestant, twin)))
}

/// The table of one workload.
pub(crate) fn table(run: &Run, workload: &Workload) -> Table {
    if workload.capacity.is_some() {
        return capacity::table(run, workload);
    }
    let lines = lines(run, workload);
    let mut columns = columns(workload, lines.iter().any(|line| line.contestant.is_peer()));
    if lines.iter().any(|line| line.syscalls().is_some()) {
        let after = columns.iter().position(|(name, _)| *name == SWITCHES).map_or(0, |at| at + 1);
        let column: Column = (Unit::of(workload).syscalls_column(), |line, _| {
            line.syscalls().map_or(NOTHING.to_owned(), number)
        });
        columns.insert(after, column);
    }
    if lines.iter().any(|line| line.p99_beside().next().is_some()) {
        let is_p99 = |(name, _): &Column| [RESPONSE_P99, "p99 µs"].contains(name);
        let after = columns.iter().position(is_p99).map_or(columns.len(), |at| at + 1);
        columns.insert(after, ("beside p99 µs", |line, _| line.p99_beside_text()));
    }
    let mut ours = lines.iter().filter(|line| !line.contestant.floor && !line.contestant.is_peer());
    // They are ranked, and doing less is cheap but no yardstick.
    let ours = ours.find(|line| line.is_answer() && line.standing().is_some());
    let ranking = Ranking::of(run, workload, Line::standings);
    let letters: BTreeMap<&str, String> = ranking.letters().collect();
    let rows = lines
        .iter()
        .map(|line| {
            let letters = letters.get(&*line.name()).map_or(NOTHING, |letters| letters).to_owned();
            let floor = lines
                .iter()
                .find(|other| other.contestant.floor && other.contestant.io == line.contestant.io);
            let yardsticks = Yardsticks { floor, ours, letters };
            columns.iter().map(|(_, cell)| cell(line, &yardsticks)).collect()
        })
        .collect();
    let mut remarks: Vec<String> = lines.iter().flat_map(Line::remarks).collect();
    remarks.extend(lines.iter().flat_map(Line::beside));
    remarks.extend(twin_remark(run, workload, Line::standings, &ranking));
    Table { columns: columns.into_iter().map(|(name, _)| name).collect(), rows, remarks }
}

type Column = (&'static str, fn(&Line<'_>, &Yardsticks<'_>) -> String);

/// The columns that a workload has, in order.
fn columns(workload: &Workload, peers: bool) -> Vec<Column> {
    let unit = Unit::of(workload);
    let mut columns: Vec<Column> = vec![
        ("architecture", |line, _| line.name()),
        (unit.cost_column(), |line, _| line.cost_text()),
    ];
    let group: Column = (GROUP, |_, yardsticks| yardsticks.letters.clone());
    columns.extend((!workload.idle_ones_log_in()).then_some(group));
    let ratio: Column = ("× best of ours", |line, yardsticks| {
        let ours = yardsticks.ours.map(Line::standings);
        let ratio = ours.and_then(|ours| median_ratio(&line.standings(), &ours));
        ratio.map_or(NOTHING.to_owned(), number)
    });
    if peers && !workload.idle_ones_log_in() {
        columns.push(ratio);
    }
    if workload.floor {
        columns.push(("× floor", |line, yardsticks| {
            let name = &line.contestant.name;
            let floor = yardsticks.floor.filter(|floor| floor.contestant.name != *name);
            let ratio = floor.and_then(|floor| median_ratio(&line.cost(), &floor.cost()));
            ratio.map_or(NOTHING.to_owned(), number)
        }));
    }
    if workload.is_open() {
        columns.push(("intended/s", |line, _| middle(line.intended())));
    }
    columns.push((unit.speed_column(), |line, _| match line.worst() {
        Verdict::ClientBound => format!("≥ {} CLIENT-BOUND", middle(line.reached())),
        _ => middle(line.speed()),
    }));
    if workload.is_open() {
        columns.extend(OPEN_COLUMNS);
    } else {
        columns.push(("p50 µs", |line, _| middle(line.latency(|one| one.service_us.p50))));
        columns.push(("p99 µs", |line, _| middle(line.p99())));
        columns.push(("served", |line, _| line.served_text()));
    }
    columns.push((SWITCHES, |line, _| line.switches_text()));
    columns.push(("PSS MiB", |line, _| middle(line.footprint(|one| mib(one.pss_bytes)))));
    if workload.idle_ones_log_in() {
        columns.push(("idle held", |line, _| line.idle_text()));
        columns.push((SESSION_MEMORY, |line, _| line.memory_text()));
        columns.push(group);
        columns.extend(peers.then_some(ratio));
    } else if workload.idle_connections > 0 {
        columns.push(("KiB/connection", |line, _| line.memory_text()));
    }
    columns.push(("threads", |line, _| count(line.footprint(|one| one.threads as f64))));
    columns.push(("processes", |line, _| count(line.footprint(|one| one.processes as f64))));
    columns
}

/// What a schedule shows and a closed loop does not.
const OPEN_COLUMNS: [Column; 6] = [
    ("response p50 µs", |line, _| line.latency_text(|one| one.response_us.p50)),
    (RESPONSE_P99, |line, _| line.latency_text(|one| one.response_us.p99)),
    ("response p99.9 µs", |line, _| line.latency_text(|one| one.response_us.p999)),
    ("service p99 µs", |line, _| line.latency_text(|one| one.service_us.p99)),
    ("shed", |line, _| line.most(|outcome| outcome.shed)),
    ("never served", |line, _| line.most(|outcome| outcome.connections_never_served as u64)),
];
/// Behind the column that ranks: rows that share a letter are not told apart by it.
pub(crate) const GROUP: &str = "group";
/// Behind it stand the system calls, where they were counted.
const SWITCHES: &str = "switches/request";
/// The growth of the memory for each idle session.
const SESSION_MEMORY: &str = "KiB/session";

/// The column with the number that ranks.
pub(crate) fn ranking_column(workload: &Workload) -> &'static str {
    if workload.idle_ones_log_in() { SESSION_MEMORY } else { Unit::of(workload).cost_column() }
}

/// What an open loop is ranked by beside the CPU.
pub(crate) const RESPONSE_P99: &str = "response p99 µs";

/// The verdict on one cell.
pub(crate) fn verdict(cell: &Cell, workload: &Workload) -> Verdict {
    if cell.unavailable.is_some() {
        return Verdict::Unavailable;
    }
    let Some(outcome) = cell.outcome.as_ref().filter(|_| cell.failure.is_none()) else {
        // Where no rate held there is no outcome.
        return if cell.capacity.is_some() { Verdict::Starved } else { Verdict::Failed };
    };
    if outcome.classes().any(|class| !class.errors.is_empty()) {
        Verdict::Errors
    } else if outcome.requests == 0 && !Unit::of(workload).moved_any(outcome) {
        Verdict::Starved
    } else if workload.is_open() {
        outcome.verdict.as_ref().map_or(Verdict::Valid, |verdict| verdict.word.into())
    } else if outcome.client_busy >= BUSY_MAX {
        Verdict::ClientBound
    } else {
        Verdict::Valid
    }
}

impl From<Word> for Verdict {
    fn from(word: Word) -> Self {
        match word {
            Word::Valid => Self::Valid,
            Word::UnderSampled => Self::UnderSampled,
            Word::Noisy => Self::Noisy,
            Word::NonStationary => Self::NonStationary,
            Word::ClientBound => Self::ClientBound,
            Word::Errors => Self::Errors,
        }
    }
}

impl Line<'_> {
    /// The contestant's name, marked where it is not one of ours.
    pub(crate) fn name(&self) -> String {
        let mark = if self.contestant.is_peer() { " (peer)" } else { "" };
        format!("{}{mark}", self.contestant.name)
    }

    /// CPU of the server's tree for each request or byte, by block.
    pub(crate) fn cost(&self) -> Blocks {
        let unit = Unit::of(self.workload);
        self.blocks(Verdict::ClientBound, |outcome, used| unit.cost_of(outcome, used))
    }

    /// Requests or bytes a second by block; none where the client was what was measured.
    pub(crate) fn speed(&self) -> Blocks {
        if self.is_client_bound() { Blocks::new() } else { self.reached() }
    }

    /// The same, which the server could exceed where the client was what was measured.
    pub(crate) fn reached(&self) -> Blocks {
        let unit = Unit::of(self.workload);
        self.blocks(Verdict::ClientBound, |outcome, _| unit.speed_of(outcome))
    }

    /// Processors that the server used on average, by block.
    pub(crate) fn processors_used(&self) -> Blocks {
        self.blocks(Verdict::ClientBound, |_, used| Some(used.cpu_s / used.cpu_window_s))
    }

    /// CPU of the load generator for each request, in µs by block.
    pub(crate) fn client_cost(&self) -> Blocks {
        self.blocks(Verdict::ClientBound, |outcome, _| Some(outcome.client_cpu_us_per_request))
    }

    /// Open loop: requests a second that were due, by block.
    fn intended(&self) -> Blocks {
        self.blocks(Verdict::ClientBound, |outcome, _| outcome.rate_intended_per_s)
    }

    /// The memory of the tree under load, in bytes by block.
    pub(crate) fn footprints(&self) -> Blocks {
        self.footprint(|footprint| footprint.pss_bytes as f64)
    }

    /// What was found of the capacity, by block.
    pub(crate) fn capacities(&self) -> impl Iterator<Item = (u32, &Capacity)> {
        self.cells.iter().filter_map(|cell| Some((cell.block, cell.capacity.as_ref()?)))
    }

    /// The capacity by block; none where it is only known that it is this or more.
    pub(crate) fn held(&self) -> Blocks {
        if self.holds_at_least() { Blocks::new() } else { self.held_at_least() }
    }

    /// The rates that held, by block.
    pub(crate) fn held_at_least(&self) -> Blocks {
        self.capacities().filter_map(|(block, found)| Some((block, found.held_per_s?))).collect()
    }

    /// Whether a search ended before anything was refused, at the end of the load generator: then
    /// what held is a lower bound.
    pub(crate) fn holds_at_least(&self) -> bool {
        self.capacities()
            .any(|(_, found)| found.held_per_s.is_some() && found.refused_per_s.is_none())
    }

    /// Whether the client was what was measured in a block that counts.
    pub(crate) fn is_client_bound(&self) -> bool {
        self.worst() == Verdict::ClientBound
    }

    /// A figure of each run that confirmed a capacity.
    pub(crate) fn at_the_end(&self, of: fn(&Outcome) -> f64) -> Blocks {
        self.blocks(Verdict::ClientBound, |outcome, _| Some(of(outcome)))
    }

    /// Response time at the 99th percentile by block, where it means something.
    pub(crate) fn response_p99(&self) -> Blocks {
        self.latency(|outcome| outcome.response_us.p99)
    }

    /// The latency of one request in a hundred or less, by block: of the response where there is a
    /// schedule, else of the service.
    pub(crate) fn p99(&self) -> Blocks {
        if self.workload.is_open() {
            self.response_p99()
        } else {
            self.latency(|outcome| outcome.service_us.p99)
        }
    }

    /// What it is ranked by: the memory of an idle session where that is asked, else the CPU.
    pub(crate) fn standings(&self) -> Blocks {
        if self.workload.idle_ones_log_in() { self.memory() } else { self.cost() }
    }

    fn standing(&self) -> Option<f64> {
        spread(self.standings().into_iter().map(|(_, value)| value)).map(|spread| spread.median)
    }

    pub(crate) fn verdict(&self, cell: &Cell) -> Verdict {
        verdict(cell, self.workload)
    }

    /// Whether it did the whole work: what did less is cheap, but no answer.
    pub(crate) fn is_answer(&self) -> bool {
        self.served_all() && self.kept_up()
    }

    /// Whether all that was due was answered, in every block that counts. Without a schedule
    /// nothing is due.
    pub(crate) fn kept_up(&self) -> bool {
        let kept_up = |cell: &&Cell| cell.outcome.as_ref().is_some_and(capacity::keeps_up);
        !self.workload.is_open() || self.counting().all(kept_up)
    }

    /// The cells that count, if only by what the server held.
    fn counting(&self) -> impl Iterator<Item = &&Cell> {
        self.cells.iter().filter(|cell| self.verdict(cell) <= Verdict::Starved)
    }

    /// Whether every connection was served, in every block that counts, or as many as few replies
    /// can meet.
    pub(crate) fn served_all(&self) -> bool {
        let served = |cell: &&Cell| {
            let outcome = cell.outcome.as_ref();
            outcome.is_some_and(|one| {
                let (served, connections) = (one.connections_served, one.connections_offered);
                // Few arrivals need not meet every connection.
                let are_few = self.workload.is_open() && one.sent < 10 * connections as u64;
                are_few || served as f64 >= fewest_by_chance(one.requests, connections)
            })
        };
        self.counting().all(served)
    }

    /// The worst verdict among the cells that count; of none, the worst there is.
    pub(crate) fn worst(&self) -> Verdict {
        let verdicts = self.cells.iter().map(|cell| self.verdict(cell));
        let counting = verdicts.clone().filter(|verdict| *verdict <= Verdict::ClientBound).max();
        counting.or(verdicts.max()).unwrap_or(Verdict::Failed)
    }

    fn latency(&self, of: fn(&Outcome) -> f64) -> Blocks {
        if self.is_client_bound() {
            return Blocks::new();
        }
        let was_any = |outcome: &Outcome| outcome.requests > 0;
        self.blocks(Verdict::Valid, |outcome, _| was_any(outcome).then(|| of(outcome)))
    }

    /// A latency, or the word that says why there is none.
    pub(crate) fn latency_text(&self, of: fn(&Outcome) -> f64) -> String {
        let blocks = self.latency(of);
        if blocks.is_empty() { self.worst().code().to_owned() } else { middle(blocks) }
    }

    /// Of the block in which there were most.
    pub(crate) fn most(&self, of: fn(&Outcome) -> u64) -> String {
        let counts = self.blocks(Verdict::Starved, |outcome, _| Some(of(outcome) as f64));
        let most = spread(counts.into_iter().map(|(_, count)| count)).map(|spread| spread.high);
        most.map_or(NOTHING.to_owned(), |count| count.to_string())
    }

    fn footprint(&self, of: fn(&Footprint) -> f64) -> Blocks {
        self.blocks(Verdict::Starved, |_, used| Some(of(&used.loaded)))
    }

    /// The growth of the memory for each connection, in KiB, where the idle ones cost the server
    /// anything: where it has accepted them, and of sessions only where all are held. Workers that
    /// were made for the sessions before there was one count with them.
    pub(crate) fn memory(&self) -> Blocks {
        let workload = self.workload;
        self.blocks(Verdict::Starved, |outcome, used| {
            let before = if self.has_workers_for_sessions() { 0 } else { used.at_rest.pss_bytes };
            let grown = used.loaded.pss_bytes as f64 - before as f64;
            let known = if workload.idle_ones_log_in() {
                outcome.idle_held >= workload.idle_connections
            } else {
                has_accepted_the_idle(outcome, used)
            };
            let active = if workload.idle_ones_log_in() { 0 } else { workload.connections };
            let connections = active + outcome.idle_held;
            let known = known && connections > 0;
            known.then(|| grown.max(0.0) / 1024.0 / connections as f64)
        })
    }

    fn has_workers_for_sessions(&self) -> bool {
        let workload = self.workload;
        workload.idle_ones_log_in() && workload.workers.is_some() && self.contestant.many_workers
    }

    fn memory_text(&self) -> String {
        let text = middle(self.memory());
        if self.has_workers_for_sessions() && text != NOTHING {
            format!("≤ {text}")
        } else {
            text
        }
    }

    /// Of the block in which the fewest sessions were held.
    fn idle_text(&self) -> String {
        let planned = self.workload.idle_connections;
        let held = self.blocks(Verdict::Starved, |outcome, _| Some(outcome.idle_held as f64));
        let worst = spread(held.into_iter().map(|(_, held)| held)).map(|spread| spread.low);
        worst.map_or(NOTHING.to_owned(), |held| format!("{held}/{planned}"))
    }

    /// A value of each cell that is no worse than `limit`.
    fn blocks(&self, limit: Verdict, of: impl Fn(&Outcome, &Used) -> Option<f64>) -> Blocks {
        let value = |cell: &&Cell| {
            let good = self.verdict(cell) <= limit;
            let value = of(cell.outcome.as_ref()?, cell.used.as_ref()?).filter(|_| good)?;
            Some((cell.block, value))
        };
        self.cells.iter().filter_map(value).collect()
    }

    fn cost_text(&self) -> String {
        let spread = spread(self.cost().into_iter().map(|(_, value)| value));
        match spread {
            Some(Spread { median, low, high }) => {
                format!("{} ({}–{})", number(median), number(low), number(high))
            }
            None => self.worst().code().to_owned(),
        }
    }

    fn switches_text(&self) -> String {
        let values = self.blocks(Verdict::ClientBound, |outcome, used| {
            let switches = used.switches_voluntary + used.switches_involuntary;
            per_request(switches as f64, used.switches_window_s, outcome)
        });
        let complete = |cell: &&Cell| cell.used.as_ref().is_none_or(|used| used.switches_complete);
        let mark = if self.cells.iter().all(complete) { "" } else { "≥ " };
        match spread(values.into_iter().map(|(_, value)| value)) {
            Some(spread) => format!("{mark}{}", number(spread.median)),
            None => NOTHING.to_owned(),
        }
    }

    /// Response time at the 99th percentile of each class beside the first that does no harm.
    fn p99_beside(&self) -> impl Iterator<Item = String> {
        let counting = |cell: &&&Cell| self.verdict(cell) <= Verdict::Starved;
        (0..self.workload.beside.len()).filter_map(move |class| {
            let outcomes = self.cells.iter().filter(counting);
            let outcomes = outcomes.filter_map(|cell| cell.outcome.as_ref()?.beside.get(class));
            let harmless = outcomes.filter(|outcome| outcome.sessions.is_none());
            let values = harmless.map(|outcome| match outcome.requests {
                0 => f64::INFINITY,
                _ => outcome.response_us.p99,
            });
            spread(values).map(|spread| match spread.median {
                infinite if infinite.is_infinite() => "no reply".to_owned(),
                median => number(median),
            })
        })
    }

    fn p99_beside_text(&self) -> String {
        let values: Vec<String> = self.p99_beside().collect();
        if values.is_empty() { NOTHING.to_owned() } else { values.join(", ") }
    }

    /// System calls for each request or megabyte, from the first cell that has them.
    fn syscalls(&self) -> Option<f64> {
        self.cells.iter().find_map(|cell| cell.syscalls)
    }

    /// Of the block in which the fewest connections were served.
    pub(crate) fn served_text(&self) -> String {
        let outcomes = self.cells.iter().filter(|cell| self.verdict(cell) <= Verdict::Starved);
        let worst = outcomes
            .filter_map(|cell| cell.outcome.as_ref())
            .map(|outcome| (outcome.connections_served, outcome.connections_offered))
            // wrk does not tell.
            .filter(|(_, offered)| *offered > 0)
            .min();
        worst.map_or(NOTHING.to_owned(), |(served, offered)| format!("{served}/{offered}"))
    }
}

impl Verdict {
    /// What is printed instead of a number.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Valid => "VALID",
            Self::UnderSampled => "UNDER-SAMPLED",
            Self::Noisy => "NOISY",
            Self::NonStationary => "NON-STATIONARY",
            Self::ClientBound => "CLIENT-BOUND",
            Self::Starved => "STARVED",
            Self::Errors => "ERRORS",
            Self::Failed => "FAILED",
            Self::Unavailable => "NOT AVAILABLE",
        }
    }
}

impl Verdict {
    /// All that void something, and what.
    pub(crate) const VOIDS: [(Self, &str); 8] = [
        (
            Self::ClientBound,
            "the client was busy for 80% of the time or more, so that throughput and latency are \
             its own, and the server's throughput is that or more; CPU per request counts",
        ),
        (Self::NonStationary, "the latencies mean nothing, for there was no steady state"),
        (Self::Noisy, "the latencies mean nothing, for the machine disturbed the client"),
        (Self::UnderSampled, "the latencies mean nothing, for there were too few replies"),
        (
            Self::Starved,
            "no request was answered, nor a part of a file moved; what the server held counts",
        ),
        (Self::Errors, "requests failed; nothing counts"),
        (Self::Failed, "the server did not start, died, or answered wrongly; nothing counts"),
        (Self::Unavailable, "it needs what this machine has not"),
    ];
}

/// The fewest connections that so many replies would meet if each met any of them by chance: three
/// standard deviations below the mean of the occupancy problem (Feller, *An Introduction to
/// Probability Theory*, vol. 1, ch. IV). Fewer than that is no chance. All, where nobody had any.
fn fewest_by_chance(replies: u64, connections: usize) -> f64 {
    let count = connections as f64;
    let missed_by_all = |others: f64| ((count - others).max(0.0) / count).powf(replies as f64);
    if replies == 0 || connections == 0 {
        return count;
    }
    let (one, two) = (missed_by_all(1.0), missed_by_all(2.0));
    let variance = count * one + count * (count - 1.0) * two - (count * one).powi(2);
    count * (1.0 - one) - 3.0 * variance.max(0.0).sqrt()
}

fn per_request(amount: f64, window_s: f64, outcome: &Outcome) -> Option<f64> {
    let value = amount / window_s / outcome.rate_per_s;
    value.is_finite().then_some(value)
}

/// A connection that the kernel alone holds has no descriptor.
fn has_accepted_the_idle(outcome: &Outcome, used: &Used) -> bool {
    let grown = used.loaded.descriptors.saturating_sub(used.at_rest.descriptors);
    grown >= outcome.idle_held as u64
}

pub(crate) fn middle(blocks: Blocks) -> String {
    let spread = spread(blocks.into_iter().map(|(_, value)| value));
    spread.map_or(NOTHING.to_owned(), |spread| number(spread.median))
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}

/// Three significant digits, or all digits of a large number in groups.
pub(crate) fn number(value: f64) -> String {
    let decimals = match value {
        small if small < 9.995 => 2,
        middling if middling < 99.95 => 1,
        _ => 0,
    };
    let digits = format!("{value:.decimals$}");
    if value < 999.5 {
        return digits;
    }
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(ascii).collect();
    groups.join(",")
}

/// The median of what is counted in whole ones.
fn count(blocks: Blocks) -> String {
    let spread = spread(blocks.into_iter().map(|(_, value)| value));
    spread.map_or(NOTHING.to_owned(), |spread| spread.median.round().to_string())
}

fn ascii(digits: &[u8]) -> &str {
    str::from_utf8(digits).expect("digits are ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_replies_need_not_meet_every_connection_and_many_must() {
        let check = |replies, connections, fewest: u64| {
            assert_eq!(fewest_by_chance(replies, connections).ceil() as u64, fewest);
        };
        check(0, 8, 8);
        check(1, 8, 1);
        check(1, 1, 1);
        // Of 8 replies to 8 connections, 5.25 ± 0.89 are met.
        check(8, 8, 3);
        // A server that is held by one of 32 is not excused by chance.
        check(40, 32, 18);
        check(640, 64, 64);
        check(1_000_000, 64, 64);
    }

    #[test]
    fn a_number_has_three_digits_or_groups() {
        let check = |value, expected| assert_eq!(number(value), expected);
        check(0.0, "0.00");
        check(64.0, "64.0");
        check(0.123_4, "0.12");
        check(9.876, "9.88");
        check(12.34, "12.3");
        check(123.4, "123");
        check(1234.5, "1,234");
        check(1_234_567.0, "1,234,567");
    }
}
