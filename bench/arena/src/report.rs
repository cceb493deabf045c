//! The report: text that depends on the raw records alone, the same whenever it is generated.

mod answers;
mod calibration;
mod curves;
mod diff;
mod figure;
mod page;
mod prose;
mod standing;
mod terminal;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

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
use crate::ranking::twins;
use crate::record::{Header, Run, read_all};
use crate::scalability::{self, SCALABILITY};
use crate::series::sections;
use crate::table::{Table, Verdict};
use crate::unit::Unit;
use crate::workload::{Varied, Workload};

/// More stolen time than this share of the machine is worth a word.
const STEAL_WORTH_A_WORD: f64 = 0.02;
/// So is more of the machine in the hands of other processes.
const OTHERS_WORTH_A_WORD: f64 = 0.05;

/// How the same tables look in a terminal and in Markdown.
#[derive(Clone, Copy)]
enum Style {
    Terminal,
    Markdown,
}

/// What was written, where a run ends: the files of the report, and the folder of the records.
pub(crate) fn written(files: &[PathBuf], records: &Path) -> String {
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    format!("Reports: {}\nRaw records: {}", files.join(", "), records.display())
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
            let laws = scalability::table(run, &section.workloads);
            for table in shares(run, workload).iter().chain(laws.as_ref()) {
                if !table.rows.is_empty() {
                    push(&mut out, terminal::fitted(table, columns).0.trim_end());
                }
            }
        }
    }
    if narrowed {
        push(&mut out, "\nthe other columns are in results/README.md");
    }
    push(&mut out, "");
    push_circumstances(&mut out, run, columns);
    for line in answers::of(run).lines() {
        push(&mut out, &terminal::wrapped(&line.1, line.0, columns));
    }
    push(&mut out, "");
    out
}

/// The same of a run that is told in a table of its own.
pub(crate) fn table_for_terminal(table: &Table, run: &Run, columns: Option<usize>) -> String {
    let mut out = format!("\n{}\n", terminal::fitted(table, columns).0.trim_end());
    for remark in &table.remarks {
        push(&mut out, &terminal::wrapped(remark, 2, columns));
    }
    push(&mut out, "");
    push_circumstances(&mut out, run, columns);
    out
}

/// What else the machine did, and what the twins say, with an empty line behind it.
fn push_circumstances(out: &mut String, run: &Run, columns: Option<usize>) {
    let mut told = disturbances(run);
    told.extend(twins(run));
    for sentence in &told {
        push(out, &terminal::wrapped(sentence, 0, columns));
    }
    if !told.is_empty() {
        push(out, "");
    }
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
    let answers = answers::of(run);
    for sentence in answers.summary() {
        push(out, &format!("- {sentence}"));
    }
    if let Some(meaning) = answers.meaning() {
        push(out, &format!("\n{meaning}"));
    }
    push(out, "");
    let table = answers.table();
    push(out, render(&table, Style::Markdown).trim_end());
    if !table.remarks.is_empty() {
        push(out, "");
    }
    for remark in &table.remarks {
        push(out, &format!("- {remark}"));
    }
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
        if let Some(laws) = scalability::table(run, &section.workloads) {
            push(out, &format!("\n{SCALABILITY}:\n"));
            if !laws.rows.is_empty() {
                push(out, &render(&laws, Style::Markdown));
            }
            for remark in &laws.remarks {
                push(out, &format!("- {remark}"));
            }
        }
    }
}

/// What the table of the shares shows.
const SHARES: &str = "What each worker had, from its start to its end";

/// How connections were shared out between workers, where that is asked.
fn shares(run: &Run, workload: &Workload) -> Option<Table> {
    crate::shares::table(run, workload).filter(|_| workload.variants)
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
    parts.push(connections(levels));
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
    let durations: Vec<String> = levels.iter().map(|one| one.duration_ms.to_string()).collect();
    let (warm_up, duration) = (workload.warm_up_ms, then(&durations));
    let trials = if workload.capacity.is_some() { "searches with trials" } else { "blocks" };
    parts.push(format!("{} {trials} of {duration} ms after {warm_up} ms", workload.blocks));
    parts.join(", ")
}

fn connections(levels: &[&Workload]) -> String {
    if levels[0].varied() == Some(Varied::Connections) {
        let all: Vec<String> = levels.iter().map(|level| level.connections.to_string()).collect();
        return format!("{} connections", then(&all));
    }
    crate::progress::counted(levels[0].connections, "connection")
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
  memory of an idle session, and **× best of ours** is the ratio to the first row that is ours,
  served every connection and answered all that was due.
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
  the idle ones too. The kernel's own memory is not in it, and there is none where the idle ones
  were never accepted: these cost the server nothing.
- **KiB/session**: the same for each idle session that has logged in, where all of them are held.
  `≤`: with the whole server in it, for its workers were made ahead of the sessions.
- **idle held**: idle sessions that had logged in and were still open at the end, in the worst
  block.";

#[cfg(test)]
pub(crate) mod tests;
