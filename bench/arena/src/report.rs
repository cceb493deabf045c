//! The report: text that depends on the raw records alone, the same whenever it is generated.

mod calibration;
mod curves;
mod diff;
mod figure;
mod page;
mod prose;
mod standing;
mod terminal;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use anyhow::Context as _;
use comfy_table::presets;
use loadgen::Load;
use serde::de::IgnoredAny;

pub(crate) use self::calibration::for_terminal as calibration_for_terminal;
pub(crate) use self::diff::{diff, find};
pub(crate) use self::terminal::columns as terminal_columns;
use crate::Usage;
use crate::calibration::word;
use crate::machine::Counting;
use crate::ranking::{Ranked, Ranking, interval, twins};
use crate::record::{Header, Run, read_all};
use crate::series::sections;
use crate::stats::{Comparison, compare};
use crate::table::{Line, Table, Verdict, lines, number};
use crate::unit::Unit;
use crate::workload::Workload;

/// More stolen time than this share of the machine is worth a word.
const STEAL_WORTH_A_WORD: f64 = 0.02;
/// So is more of the machine in the hands of other processes.
const OTHERS_WORTH_A_WORD: f64 = 0.05;

/// The first column of the answers.
const WORKLOAD: &str = "workload";
/// What stands where a workload does not ask for an answer.
const NO_QUESTION: &str = "–";

/// What a run answers, by workload and question.
struct Answers<'a> {
    /// The workload, and the questions.
    columns: Vec<&'static str>,
    rows: Vec<(&'a Workload, Vec<Answer>)>,
}

/// The answer to one question about one workload.
struct Answer {
    /// The best by its median, and its value with the unit.
    best: Option<(String, String)>,
    /// Whether there are others and it is told apart from them all.
    is_sure: bool,
    /// How it stands to the others, or why there is no best.
    words: String,
}

/// How the same tables look in a terminal and in Markdown.
#[derive(Clone, Copy)]
enum Style {
    Terminal,
    Markdown,
}

/// Writes `README.md`, the same as a page, and a figure of it beside the recorded runs; returns
/// their paths.
pub(crate) fn generate(results: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let runs = newest_by_profile(read_all(results, Header::is_of_servers)?);
    let calibrations = newest_by_profile(read_all(results, Header::is_of_the_client)?);
    if runs.is_empty() && calibrations.is_empty() {
        let folder = results.display();
        return Err(Usage(format!("no recorded run in {folder}; make one with `arena run`")).into());
    }
    let mut files = vec![
        ("README.md", readme_of(&runs, &calibrations)),
        ("report.html", page::of(&runs, &calibrations)),
    ];
    // The answer in one figure is that of the first run, as on the page.
    files.extend(runs.first().map(|run| ("heat-map.svg", figure::heat_map(run))));
    let write = |(name, text)| {
        let path = results.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    };
    files.into_iter().map(write).collect()
}

/// Whether there is a whole run of a profile, so that the report has no need of another.
pub(crate) fn has_whole_run(results: &Path, profile: &str) -> anyhow::Result<bool> {
    let runs = read_all::<IgnoredAny>(results, |_| true)?;
    Ok(runs.iter().any(|run| run.header.profile == profile && run.whole()))
}

/// What a run prints when it ends, in no more than `columns` of a terminal if there is one.
pub(crate) fn for_terminal(run: &Run, columns: Option<usize>) -> String {
    let mut out = String::new();
    let mut narrowed = false;
    for section in sections(run) {
        let (workload, table) = (section.workloads[0], &section.table);
        if !table.rows.is_empty() {
            push(&mut out, &format!("\n{} ({})", workload.title, section.name()));
            let (text, dropped) = terminal::fitted(table, columns);
            push(&mut out, text.trim_end());
            narrowed |= dropped;
            for remark in &table.remarks {
                push(&mut out, &terminal::wrapped(remark, 2, columns));
            }
            if let Some(shares) = shares(run, workload) {
                push(&mut out, terminal::fitted(&shares, columns).0.trim_end());
            }
        }
    }
    if narrowed {
        push(&mut out, "\nthe other columns are in results/README.md");
    }
    push(&mut out, "");
    let mut disturbances = disturbances(run);
    disturbances.extend(twins(run));
    for sentence in &disturbances {
        push(&mut out, &terminal::wrapped(sentence, 0, columns));
    }
    if !disturbances.is_empty() {
        push(&mut out, "");
    }
    let Table { columns: questions, rows, .. } = answers(run).table();
    for row in rows {
        for (question, answer) in questions.iter().zip(row) {
            let (indent, line) = match *question {
                WORKLOAD => (0, format!("{answer}:")),
                _ if answer == NO_QUESTION => continue,
                _ => (2, format!("{question}: {answer}")),
            };
            push(&mut out, &terminal::wrapped(&line, indent, columns));
        }
    }
    push(&mut out, "");
    out
}

/// The newest whole run of each profile, or the newest where none is whole; quick comes first.
fn newest_by_profile<C>(runs: Vec<Run<C>>) -> Vec<Run<C>> {
    let mut newest: BTreeMap<(bool, String), Run<C>> = BTreeMap::new();
    for run in runs {
        let key = (run.header.profile != "quick", run.header.profile.clone());
        let kept = newest.get(&key).is_some_and(|known| known.whole() && !run.whole());
        if !kept {
            newest.insert(key, run);
        }
    }
    newest.into_values().collect()
}

fn readme_of(runs: &[Run], calibrations: &[Run<crate::calibration::Cell>]) -> String {
    let mut out = String::new();
    push(&mut out, "# Results\n");
    push(
        &mut out,
        "Generated by `arena report` from the raw records beside this file: change nothing here. \
         How it is measured is in [METHODOLOGY.md](../METHODOLOGY.md).",
    );
    for run in runs {
        section(&mut out, run);
    }
    for run in calibrations {
        calibration::section(&mut out, run);
    }
    push(&mut out, &explanations());
    out
}

fn section(out: &mut String, run: &Run) {
    let header = &run.header;
    push(out, &format!("\n## {}: [{}]({}/)\n", header.profile, run.name, run.name));
    push(out, render(&answers(run).table(), Style::Markdown).trim_end());
    push(out, &format!("\n{}", machine(header, &disturbances(run))));
    if let Some(peers) = peers(run) {
        push(out, &format!("\n{peers}"));
    }
    if let Some(twins) = twins(run) {
        push(out, &format!("\n{twins}"));
    }
    if !run.whole() {
        let (done, planned) = (run.cells.len(), header.planned());
        push(out, &format!("\nThis run was cut short: {done} of {planned} cells."));
    }
    for section in sections(run) {
        let (workload, table) = (section.workloads[0], &section.table);
        push(out, &format!("\n### {} (`{}`)\n", workload.title, section.name()));
        push(out, &workload.question);
        push(out, &format!("\nExpected: {}", workload.expectation));
        push(out, &format!("\n{}.\n", load(&section.workloads)));
        if table.rows.is_empty() {
            push(out, "Nothing was measured.");
            continue;
        }
        push(out, render(table, Style::Markdown).trim_end());
        if !table.remarks.is_empty() {
            push(out, "");
        }
        for remark in &table.remarks {
            push(out, &format!("- {remark}"));
        }
        if let Some(shares) = shares(run, workload) {
            push(out, &format!("\n{SHARES}:\n"));
            push(out, render(&shares, Style::Markdown).trim_end());
        }
    }
}

/// What the table of the shares shows.
const SHARES: &str = "What each worker had, from its start to its end";

/// How connections were shared out between workers, where that is asked.
fn shares(run: &Run, workload: &Workload) -> Option<Table> {
    crate::shares::table(run, workload).filter(|_| workload.variants)
}

impl Answer {
    fn none(why: impl Into<String>) -> Self {
        Self { best: None, is_sure: false, words: why.into() }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.best {
            Some((name, value)) => write!(f, "{name}, {value} ({})", self.words),
            None => f.write_str(&self.words),
        }
    }
}

impl Answers<'_> {
    fn table(&self) -> Table {
        let row = |(workload, answers): &(&Workload, Vec<Answer>)| {
            let answers = answers.iter().map(Answer::to_string);
            std::iter::once(workload.name.clone()).chain(answers).collect()
        };
        let rows = self.rows.iter().map(row).collect();
        Table { columns: self.columns.clone(), rows, remarks: Vec::new() }
    }
}

/// Which architecture is the answer to each workload's question, and how sure that is.
fn answers(run: &Run) -> Answers<'_> {
    let mut rows = Vec::new();
    let any = |is: fn(&Workload) -> bool| run.header.workloads.iter().any(is);
    let any_closed = any(|workload| !workload.is_open());
    let any_open = any(Workload::is_open);
    let any_idle = any(|workload| workload.idle_connections > 0);
    let mut columns = vec![WORKLOAD, "lowest CPU"];
    columns.extend(any_closed.then_some("highest throughput"));
    columns.extend(any_open.then_some("lowest response p99"));
    columns.extend(any_idle.then_some("lowest memory of an idle connection"));
    for workload in &run.header.workloads {
        let lines = lines(run, workload);
        let measured = |line: &Line<'_>| !line.contestant.floor && line.worst() < Verdict::Failed;
        if !lines.iter().any(measured) {
            let nothing = columns[1..].iter().map(|_| Answer::none("not measured")).collect();
            rows.push((workload, nothing));
            continue;
        }
        // The floors are yardsticks, and serving few is cheap but no answer.
        let candidates: Vec<&Line<'_>> =
            lines.iter().filter(|line| !line.contestant.floor && line.served_all()).collect();
        let unit = Unit::of(workload);
        let lowest = |measure, unit| {
            best(&Ranking::of(run, workload, measure), &candidates, f64::total_cmp, unit)
        };
        let mut row = vec![lowest(Line::cost, unit.cost())];
        let mut answer = |is_in_the_table: bool, is_asked: bool, answer: &dyn Fn() -> Answer| {
            let found = || if is_asked { answer() } else { Answer::none(NO_QUESTION) };
            row.extend(is_in_the_table.then(found));
        };
        // Where a schedule decides how much is asked, throughput is no answer.
        answer(any_closed, !workload.is_open(), &|| highest_throughput(run, workload, &candidates));
        answer(any_open, workload.is_open(), &|| lowest(Line::response_p99, "µs"));
        let has_idle = workload.idle_connections > 0;
        answer(any_idle, has_idle, &|| lowest(Line::memory, "KiB"));
        rows.push((workload, row));
    }
    Answers { columns, rows }
}

fn highest_throughput(run: &Run, workload: &Workload, candidates: &[&Line<'_>]) -> Answer {
    let bound = |line: &&&Line<'_>| line.worst() == Verdict::ClientBound;
    let bound: Vec<_> = candidates.iter().filter(bound).map(|line| line.name()).collect();
    if !bound.is_empty() {
        return Answer::none(format!("not decided, CLIENT-BOUND: {}", bound.join(", ")));
    }
    let ranking = Ranking::of(run, workload, Line::speed);
    best(&ranking, candidates, |a, b| b.total_cmp(a), Unit::of(workload).speed_column())
}

/// The best of the candidates by its median, and how it stands to the others.
fn best(
    ranking: &Ranking,
    candidates: &[&Line<'_>],
    order: fn(&f64, &f64) -> Ordering,
    unit: &str,
) -> Answer {
    if candidates.is_empty() {
        return Answer::none("none served every connection");
    }
    let is_candidate =
        |one: &&Ranked| candidates.iter().any(|candidate| candidate.name() == one.name);
    let mut ranked: Vec<&Ranked> = ranking.members.iter().filter(is_candidate).collect();
    ranked.sort_by(|a, b| order(&a.median, &b.median));
    let Some((best, others)) = ranked.split_first() else {
        return Answer::none("nothing that counts");
    };
    let same: Vec<&str> = others
        .iter()
        .filter(|other| !ranking.tells_apart(&best.name, &other.name))
        .map(|other| other.name.as_str())
        .collect();
    let sureness = match others.first() {
        None => "no other to compare".to_owned(),
        Some(next) if same.is_empty() => {
            let comparison = compare(&next.blocks, &best.blocks);
            let comparison = comparison.expect("what is told apart was compared");
            format!("next: {}, {}", next.name, ratio(comparison))
        }
        Some(_) => format!("not told apart from {}", same.join(", ")),
    };
    let is_sure = same.is_empty() && !others.is_empty();
    let value = format!("{} {unit}", number(best.median));
    Answer { best: Some((best.name.clone(), value)), is_sure, words: sureness }
}

/// A ratio to what was named before, with its interval where there is one.
fn ratio(comparison: Comparison) -> String {
    format!("{:.2} times that{}", comparison.ratio, interval(comparison))
}

/// The machine and the run in a paragraph.
fn machine(header: &Header, disturbances: &[String]) -> String {
    let machine = &header.machine;
    let placement = match (machine.placement.server, machine.placement.client) {
        (Some(server), Some(client)) if machine.placement.siblings => {
            format!("server on processor {server}, client on {client}, two threads of one core")
        }
        (Some(server), Some(client)) => format!("server on processor {server}, client on {client}"),
        _ => "not pinned: server and client share the processors".to_owned(),
    };
    let told = |what: &str, value: &str| match value {
        "" => String::new(),
        value => format!("; {what} {value}"),
    };
    let congestion = told("congestion control", &machine.congestion_control);
    let netns = machine.netns_mtu.map_or(String::new(), |mtu| mtu.to_string());
    let netns = told("a network namespace of its own, loopback MTU", &netns);
    let files = told("files served from", &machine.served_from);
    let accounting = told("processor time counted by", &machine.accounting);
    let mut text = format!(
        "Machine: {}, {} processors, {} MiB, Linux {}; {}; commit {}; listen queue limit \
         {}{congestion}{netns}; {placement}{files}{accounting}. Started {}, seed {}.",
        machine.cpu,
        machine.cores,
        machine.memory_mib,
        machine.kernel,
        machine.rustc,
        machine.commit,
        machine.backlog_limit,
        header.started,
        header.seed,
    );
    if !header.resumed.is_empty() {
        let when = header.resumed.join(", ");
        write!(text, " Interrupted, and resumed {when}.").expect("a string takes all");
    }
    if let Some(Counting::Refused(why)) = &machine.syscalls {
        write!(text, " System calls were not counted: {why}.").expect("a string takes all");
    }
    for sentence in disturbances {
        text.push(' ');
        text.push_str(sentence);
    }
    text
}

/// The servers of other people, as they name themselves.
fn peers(run: &Run) -> Option<String> {
    let peers = run.header.contestants.iter().filter_map(|one| {
        let version = one.version.as_ref()?;
        Some(format!("{}: {} ({version})", one.name, one.description))
    });
    let peers: Vec<String> = peers.collect();
    (!peers.is_empty()).then(|| format!("Servers of other people: {}.", peers.join("; ")))
}

/// Who else used the machine while it was measured, where that is worth a word.
fn disturbances(run: &Run) -> Vec<String> {
    let cores = run.header.machine.cores as f64;
    let placement = &run.header.machine.placement;
    let polls = |name: &str| {
        let mut workloads = run.header.workloads.iter();
        run.header.client.is_none()
            && workloads.any(|one| one.name == name && one.client_never_sleeps(placement))
    };
    let stolen = run.cells.iter().filter_map(|cell| Some(cell.outcome.as_ref()?.stolen));
    let others = run.cells.iter().filter_map(|cell| {
        let (outcome, used) = (cell.outcome.as_ref()?, cell.used.as_ref()?);
        let client_s = if polls(&cell.workload) {
            // It had all of its processor, whatever of that was work.
            used.cpu_window_s
        } else {
            outcome.client_cpu_us_per_request * outcome.requests as f64 / 1e6
        };
        Some((used.machine_busy_s - used.cpu_s - client_s) / used.cpu_window_s / cores)
    });
    let mut told = told_disturbances(stolen, others);
    if let Some(client) = &run.header.client {
        told.insert(0, format!("The load generator was {client}."));
    }
    told
}

/// From the shares of the machine that the hypervisor and other processes took from each cell.
fn told_disturbances(
    stolen: impl Iterator<Item = f64>,
    others: impl Iterator<Item = f64>,
) -> Vec<String> {
    let mut found = Vec::new();
    let stolen = stolen.fold(0.0, f64::max);
    if stolen > STEAL_WORTH_A_WORD {
        let percent = (stolen * 100.0).round();
        found.push(format!("The hypervisor took up to {percent}% of the machine from a cell."));
    }
    let others = others.filter(|share| share.is_finite()).fold(0.0, f64::max);
    if others > OTHERS_WORTH_A_WORD {
        let percent = (others * 100.0).round();
        found.push(format!("Other processes took up to {percent}% of the machine from a cell."));
    }
    found
}

/// The load in a sentence, from the workload's own keys.
fn load(levels: &[&Workload]) -> String {
    let workload = levels[0];
    let what = match Unit::of(workload) {
        Unit::Login => "login and QUIT".to_owned(),
        Unit::Session => "sessions of a script".to_owned(),
        Unit::Stored => format!("STOR {}", workload.path),
        _ if workload.path.is_empty() => "messages".to_owned(),
        _ if !workload.method.is_get() => format!("POST {}", workload.path),
        _ => workload.path.clone(),
    };
    let protocol = crate::stage::protocol_name(workload.protocol).to_uppercase();
    let within = if workload.tls { " within TLS" } else { "" };
    let mut parts = vec![format!("{protocol} {what}{within}")];
    if let Load::Open { rate, arrivals, .. } = workload.load(0) {
        let mut rates = vec![rate.to_string()];
        rates.extend(levels[1..].iter().filter_map(|level| Some(level.rate.as_ref()?.to_string())));
        parts.push(format!("{} a second ({} arrivals)", then(&rates), word(arrivals)));
    }
    let cores: Vec<String> =
        levels.iter().filter_map(|level| Some(level.cores?.to_string())).collect();
    if !cores.is_empty() {
        parts.push(format!("{} processors for the server", then(&cores)));
    }
    if let Some(bound) = workload.capacity {
        let p99_ms = bound.p99_ms;
        parts.push(format!("the highest rate (poisson arrivals) with p99 within {p99_ms} ms"));
    }
    if let Some(backlog) = workload.backlog {
        parts.push(format!("{backlog} arrivals at most wait"));
    }
    parts.push(crate::progress::counted(workload.connections, "connection"));
    if let Some(think_ms) = workload.think_ms {
        parts.push(format!("{think_ms} ms between reply and request"));
    }
    if workload.idle_connections > 0 {
        parts.push(format!("{} idle ones beside them", workload.idle_connections));
    }
    if let Some(requests) = workload.requests_per_connection {
        let unit = if requests == 1 { "request" } else { "requests" };
        parts.push(format!("{requests} {unit} a connection"));
    }
    if workload.pipeline > 1 {
        parts.push(format!("{} requests in flight on each", workload.pipeline));
    }
    if workload.payload_bytes > 0 {
        parts.push(format!("{} bytes each", workload.payload_bytes));
    }
    for class in &workload.beside {
        let connections = crate::progress::counted(class.connections, "connection");
        parts.push(format!("beside them {connections} of {}", class.name));
    }
    if let Some(workers) = workload.workers {
        parts.push(format!("{workers} workers where there are workers"));
    }
    let (warm_up, duration) = (workload.warm_up_ms, workload.duration_ms);
    let trials = if workload.capacity.is_some() { "searches with trials" } else { "blocks" };
    parts.push(format!("{} {trials} of {duration} ms after {warm_up} ms", workload.blocks));
    parts.join(", ")
}

/// The values of levels, from the first to the last.
fn then(values: &[String]) -> String {
    let distinct = values.windows(2).any(|pair| pair[0] != pair[1]);
    if distinct { values.join(", then ") } else { values[0].clone() }
}

fn render(table: &Table, style: Style) -> String {
    let mut drawn = comfy_table::Table::new();
    drawn.load_style(match style {
        Style::Terminal => presets::UTF8_FULL_CONDENSED,
        Style::Markdown => presets::ASCII_MARKDOWN,
    });
    drawn.set_header(&table.columns);
    drawn.add_rows(&table.rows);
    drawn.to_string() + "\n"
}

fn push(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}

/// What the columns and the words in them mean, in Markdown.
fn explanations() -> String {
    let voids = Verdict::VOIDS.map(|(verdict, why)| format!("- `{}`: {why}.", verdict.code()));
    format!("{COLUMNS}\n{}\n\nThe reasons stand below each table.", voids.join("\n"))
}

/// What each column is; METHODOLOGY.md says why.
const COLUMNS: &str = "
## What the columns mean

Numbers are medians over the blocks of a run; each block has every contestant once, in a random
order, each in a fresh process.

- **CPU µs/request**, **CPU µs/login**, **CPU ms/GB**: processor time of the server's whole process
  tree for each correct reply, or for each 1,000,000,000 bytes of files, with the least and the
  greatest block. It decides where a machine is noisy.
- **group**: rows that share a letter are not told apart by the column before it; `a` has the least.
  Below the table, **A/A** is a contestant that was measured twice in each block.
- **× floor**: that, divided by the same of the floor of its I/O model in the same block: a server
  that parses nothing and always sends the same reply.
- **(peer)**: a server of other people. Where there are some, the rows are ranked, by CPU or by the
  memory of an idle session, and **× best of ours** is the ratio to the first row that is ours and
  served every connection.
- **requests/s**, **logins/s**, **MB/s**, **p50 µs**, **p99 µs**: in a closed loop, where each
  connection sends its next request when it has the reply.
- **intended/s**, **requests/s** of a workload with a rate: what was due, and what was answered.
  **response** runs from the instant at which a request was to be sent, so that a stall counts for
  everybody who would have come meanwhile; **service** from its actual send. **shed**: arrivals
  that found neither a free connection nor room to wait; **never served**: connections without a
  reply; both of the block with the most.
- **served**: connections that got at least one reply, of those that asked, in the worst block.
- **switches/request**: voluntary and involuntary context switches of the tree. `≥`: threads ended
  while it was measured and took their counts with them.
- **PSS MiB**, **threads**, **processes**: at the end of the measuring, connections still open. PSS
  counts a page that N processes share as 1/N in each.
- **KiB/connection**: growth of the PSS from the first connection on, divided by all connections,
  the idle ones too. The kernel's own memory is not in it, and a connection that was never accepted
  costs the server nothing.
- **KiB/session**: the same for each idle session that has logged in, where all of them are held.
  `≤`: with the whole server in it, for its workers were made ahead of the sessions.
- **idle held**: idle sessions that had logged in and were still open at the end, in the worst
  block.";

#[cfg(test)]
pub(crate) mod tests;
