//! The part of the report that is about the load generator: tables, and each target beside the
//! figure that meets it or does not.

use loadgen::Outcome;
use loadgen::selftest::{Beside, Findings};

use super::{Style, machine, push, render, terminal, told_disturbances};
use crate::calibration::{Cell, Client, FEW_CONNECTIONS, Found, HELD_CONNECTIONS, Question, word};
use crate::record::Run;
use crate::stats::{Blocks, Comparison, Spread, compare, spread};
use crate::table::{Table, number};

/// What it must reach: the client's processor time for a request, in that of wrk.
const COST_MAX: f64 = 0.85;
/// How far its mean rate may be from what was due, as a share.
const RATE_OFF_MAX: f64 = 0.002;
/// How late a request may be sent at the 99th percentile, in microseconds.
const LATE_MAX_US: f64 = 50.0;
/// What a connection that is held may take.
const HELD_MAX_KIB: f64 = 4.0;

const NOTHING: &str = "–";

/// A table with what it shows.
pub(super) struct Part {
    pub(super) title: &'static str,
    pub(super) says: String,
    pub(super) table: Table,
}

pub(super) fn section(out: &mut String, run: &Run<Cell>) {
    push(out, &format!("\n## The load generator: [{}]({}/)\n", run.name, run.name));
    push(out, render(&targets(run), Style::Markdown).trim_end());
    push(out, &format!("\n{}", machine(&run.header, &disturbances(run))));
    if !run.whole() {
        let (done, planned) = (run.cells.len(), run.header.planned());
        push(out, &format!("\nThis run was cut short: {done} of {planned} cells."));
    }
    for Part { title, says, table } in parts(run) {
        push(out, &format!("\n### {title}\n\n{says}\n"));
        push(out, render(&table, Style::Markdown).trim_end());
    }
    let failures = failures(run);
    if !failures.is_empty() {
        push(out, "");
    }
    for failure in failures {
        push(out, &format!("- {failure}"));
    }
}

/// What a calibration prints when it ends.
pub(crate) fn for_terminal(run: &Run<Cell>, columns: Option<usize>) -> String {
    let mut out = String::new();
    for Part { title, table, .. } in parts(run) {
        push(&mut out, &format!("\n{title}"));
        push(&mut out, terminal::fitted(&table, columns).0.trim_end());
    }
    for sentence in failures(run).iter().chain(&disturbances(run)) {
        push(&mut out, &terminal::wrapped(sentence, 0, columns));
    }
    push(&mut out, "");
    push(&mut out, terminal::fitted(&targets(run), columns).0.trim_end());
    out
}

pub(super) fn disturbances(run: &Run<Cell>) -> Vec<String> {
    let cores = run.header.machine.cores as f64;
    let found = || run.cells.iter().filter_map(|cell| cell.found.as_ref());
    let stolen = found().filter_map(|found| Some(found.outcome.as_ref()?.stolen));
    let others = found().map(|found| {
        (found.machine_busy_s - found.server_cpu_s - found.cpu_s) / found.elapsed_s / cores
    });
    told_disturbances(stolen, others)
}

/// The cells that could not be measured.
pub(super) fn failures(run: &Run<Cell>) -> Vec<String> {
    let failed = run.cells.iter().filter_map(|cell| {
        let failure = cell.failure.as_ref()?;
        let (client, question) = (&cell.client, cell.question.name());
        Some(format!("{client}, {question}, block {}: FAILED ({failure}).", cell.block))
    });
    failed.collect()
}

pub(super) fn parts(run: &Run<Cell>) -> Vec<Part> {
    let Some(plan) = &run.header.calibration else {
        return Vec::new();
    };
    let (blocks, seconds) = (plan.blocks, plan.duration_s);
    let versions: Vec<&str> = plan.clients.iter().filter_map(Client::version).collect();
    let beside = match versions.as_slice() {
        [] => "wrk was not installed, so nothing is compared with it".to_owned(),
        versions => format!("beside {}", versions.join(", ")),
    };
    vec![
        Part {
            title: "What a request costs the client",
            says: format!(
                "HTTP /plaintext as fast as it goes, from one thread that sleeps when there is \
                 nothing, {beside}; {blocks} blocks of {seconds} s in random order. Connections \
                 are kept, against `floor-epoll`, or made anew for each request, against \
                 `evented`, which closes them: wrk closes none itself. Processor time is that of \
                 the whole child, from its start to its end, for each of its correct replies. \
                 Where the client is busier than the server, it is CLIENT-BOUND; that is what is \
                 asked here."
            ),
            table: cost(run, &plan.clients),
        },
        Part {
            title: "How well a schedule is kept",
            says: format!(
                "At half of the rate that the same client reached in the same block, over \
                 {FEW_CONNECTIONS} connections to `floor-epoll`. *Off* is the rate of the replies \
                 against that of the arrivals that were due, in the worst block; *late* is the \
                 time from when a request was due, and a connection free for it, to its send."
            ),
            table: schedule(run, &plan.clients),
        },
        Part {
            title: "What a connection takes of memory",
            says: format!(
                "{} connections to `floor-epoll`, each of which is asked now and then; the \
                 greatest PSS of the client, less that with one connection, for each of the \
                 others.",
                number(HELD_CONNECTIONS as f64)
            ),
            table: memory(run, &plan.clients),
        },
        Part {
            title: "What is found where arithmetic knows it",
            says: "`loadgen selftest`: servers of its own whose latency is known. Of the one that \
                   is silent for a second in ten a tenth of all arrivals wait, evenly up to that \
                   second. The response time, from when a request was to be sent, shows it, as \
                   wrk2 does; the service time, from the actual send, hides it, for only so many \
                   requests as there are connections are under way. wrk, in its closed loop, fills \
                   in afterwards what it takes to be missing from its mean interval: its \
                   percentiles are an estimate."
                .to_owned(),
            table: truth(run),
        },
    ]
}

fn truth(run: &Run<Cell>) -> Table {
    let columns =
        vec!["server and load", "figure", "client", "arithmetic", "measured", "allowed", "agrees"];
    let mut rows = Vec::new();
    for found in truths(run) {
        for check in &found.checks {
            let agrees = if check.is_good() { "yes" } else { "no" };
            rows.push(vec![
                check.case.clone(),
                check.figure.clone(),
                "loadgen".to_owned(),
                number(check.expected),
                number(check.measured),
                format!("{} to {}", number(check.low.max(0.0)), number(check.high)),
                agrees.to_owned(),
            ]);
        }
        for Beside { client, case, figure, measured } in &found.beside {
            let [case, figure, client] = [case, figure, client].map(String::clone);
            let arithmetic =
                found.checks.iter().find(|one| one.case == case && one.figure == figure);
            let expected = arithmetic.map_or(NOTHING.to_owned(), |one| number(one.expected));
            let nothing = || NOTHING.to_owned();
            let measured = number(*measured);
            rows.push(vec![case, figure, client, expected, measured, nothing(), nothing()]);
        }
    }
    Table { columns, rows, remarks: Vec::new() }
}

fn truths(run: &Run<Cell>) -> impl Iterator<Item = &Findings> {
    run.cells.iter().filter_map(|cell| cell.truth.as_ref())
}

fn cost(run: &Run<Cell>, clients: &[Client]) -> Table {
    let columns = vec![
        "client",
        "connections",
        "client CPU µs/request",
        "× wrk",
        "requests/s",
        "server busy",
        "errors",
        "verdict",
    ];
    let mut rows = Vec::new();
    for question in Question::all() {
        let Question::Saturate { connections, reconnect } = question else { continue };
        for client in clients {
            let kind = if reconnect { "made anew" } else { "kept" };
            let line = Line { run, question, client };
            rows.push(vec![
                client.name(),
                format!("{connections} {kind}"),
                line.range(cost_us),
                ratio(line.to_wrk(clients)),
                line.middle(|found| Some(found.rate_per_s)),
                line.percent(|found| Some(found.server_cpu_s / found.elapsed_s)),
                line.sum(|found| found.errors),
                line.verdicts(),
            ]);
        }
    }
    Table { columns, rows, remarks: Vec::new() }
}

fn schedule(run: &Run<Cell>, clients: &[Client]) -> Table {
    let columns = vec![
        "client",
        "arrivals",
        "intended/s",
        "requests/s",
        "off",
        "late p50 µs",
        "late p99 µs",
        "response p99 µs",
        "verdict",
    ];
    let mut rows = Vec::new();
    for question in Question::all() {
        let Question::Keep { arrivals } = question else { continue };
        for client in clients.iter().filter(|client| question.is_for(client)) {
            let line = Line { run, question, client };
            let of =
                |of: fn(&Outcome) -> Option<f64>| line.range(|found| of(found.outcome.as_ref()?));
            let off = spread(values(line.blocks(rate_off)));
            rows.push(vec![
                client.name(),
                word(arrivals),
                line.middle(|found| found.outcome.as_ref()?.rate_intended_per_s),
                line.middle(|found| Some(found.rate_per_s)),
                off.map_or(NOTHING.to_owned(), |off| share(off.high)),
                of(|outcome| Some(outcome.schedule_lag_us?.p50)),
                of(|outcome| Some(outcome.schedule_lag_us?.p99)),
                of(|outcome| Some(outcome.response_us.p99)),
                line.verdicts(),
            ]);
        }
    }
    Table { columns, rows, remarks: Vec::new() }
}

fn memory(run: &Run<Cell>, clients: &[Client]) -> Table {
    let columns = vec!["client", "connections", "PSS MiB", "KiB/connection", "errors"];
    let mut rows = Vec::new();
    for client in clients {
        for question in Question::all() {
            let Question::Hold { connections } = question else { continue };
            if !question.is_for(client) {
                continue;
            }
            let line = Line { run, question, client };
            let grown = if connections == HELD_CONNECTIONS {
                range(&held_kib(run, client))
            } else {
                NOTHING.to_owned()
            };
            rows.push(vec![
                client.name(),
                connections.to_string(),
                line.range(|found| Some(found.pss_bytes? as f64 / 1024.0 / 1024.0)),
                grown,
                line.sum(|found| found.errors),
            ]);
        }
    }
    Table { columns, rows, remarks: Vec::new() }
}

/// Each target beside its figure.
pub(super) fn targets(run: &Run<Cell>) -> Table {
    let columns = vec!["target", "client", "figure", "met"];
    let mut rows = Vec::new();
    let clients = run.header.calibration.iter().flat_map(|plan| &plan.clients);
    let all: Vec<Client> = clients.cloned().collect();
    let mut judge = |target: String, client: &Client, figure: Option<(f64, String)>, most: f64| {
        let met = match &figure {
            None => "not measured",
            Some((value, _)) if *value <= most => "yes",
            Some(_) => "no",
        };
        let figure = figure.map_or(NOTHING.to_owned(), |(_, text)| text);
        rows.push(vec![target, client.name(), figure, met.to_owned()]);
    };
    for question in Question::all() {
        for client in all.iter().filter(|client| !client.is_wrk()) {
            let line = Line { run, question, client };
            match question {
                Question::Saturate { connections, reconnect: false } => {
                    let target = format!(
                        "client CPU for a request over {connections} connections: at most \
                         {COST_MAX} of wrk's"
                    );
                    let found = line.to_wrk(&all);
                    judge(target, client, found.map(|it| (it.ratio, ratio(Some(it)))), COST_MAX);
                }
                Question::Keep { arrivals } => {
                    let arrivals = word(arrivals);
                    let target =
                        format!("{arrivals} arrivals: mean rate within {}", share(RATE_OFF_MAX));
                    let off = spread(values(line.blocks(rate_off))).map(|it| it.high);
                    judge(target, client, off.map(|off| (off, share(off))), RATE_OFF_MAX);
                    let target =
                        format!("{arrivals} arrivals: sent at most {LATE_MAX_US} µs late at p99");
                    let late =
                        line.blocks(|found| Some(found.outcome.as_ref()?.schedule_lag_us?.p99));
                    judge(target, client, figure(&late, "µs"), LATE_MAX_US);
                }
                Question::Hold { connections } if connections == HELD_CONNECTIONS => {
                    let target = format!(
                        "{} connections held: at most {HELD_MAX_KIB} KiB of client memory each",
                        number(connections as f64)
                    );
                    judge(target, client, figure(&held_kib(run, client), "KiB"), HELD_MAX_KIB);
                }
                Question::Saturate { .. } | Question::Hold { .. } | Question::Truth => {}
            }
        }
    }
    for found in truths(run) {
        let (all, good) = (found.checks.len(), found.checks.iter().filter(|one| one.is_good()));
        let target = "servers of known latency: every figure is what arithmetic says".to_owned();
        let met = if found.are_good() { "yes" } else { "no" };
        let figure = format!("{} of {all}", good.count());
        rows.push(vec![target, "loadgen".to_owned(), figure, met.to_owned()]);
    }
    Table { columns, rows, remarks: Vec::new() }
}

/// What one client answered to one question.
struct Line<'a> {
    run: &'a Run<Cell>,
    question: Question,
    client: &'a Client,
}

impl Line<'_> {
    fn cells(&self) -> impl Iterator<Item = &Cell> {
        let name = self.client.name();
        let cells = self.run.cells.iter();
        cells.filter(move |cell| cell.question == self.question && cell.client == name)
    }

    /// A value of each block, where no request failed.
    fn blocks(&self, of: impl Fn(&Found) -> Option<f64>) -> Blocks {
        let value = |cell: &Cell| {
            let found = cell.found.as_ref().filter(|found| found.errors == 0)?;
            Some((cell.block, of(found)?)).filter(|(_, value)| value.is_finite())
        };
        self.cells().filter_map(value).collect()
    }

    fn to_wrk(&self, clients: &[Client]) -> Option<Comparison> {
        let wrk = clients.iter().find(|client| client.is_wrk() && *client != self.client)?;
        let other = Line { client: wrk, ..*self };
        compare(&self.blocks(cost_us), &other.blocks(cost_us))
    }

    fn range(&self, of: impl Fn(&Found) -> Option<f64>) -> String {
        range(&self.blocks(of))
    }

    fn middle(&self, of: impl Fn(&Found) -> Option<f64>) -> String {
        let found = spread(values(self.blocks(of)));
        found.map_or(NOTHING.to_owned(), |spread| number(spread.median))
    }

    fn percent(&self, of: impl Fn(&Found) -> Option<f64>) -> String {
        let found = spread(values(self.blocks(of)));
        found.map_or(NOTHING.to_owned(), |spread| format!("{:.0}%", 100.0 * spread.median))
    }

    fn sum(&self, of: impl Fn(&Found) -> u64) -> String {
        let found = self.cells().filter_map(|cell| cell.found.as_ref());
        found.map(of).sum::<u64>().to_string()
    }

    /// The words of all blocks, each with how often it was said. Wrk does not judge itself.
    fn verdicts(&self) -> String {
        let mut counts: Vec<(String, usize)> = Vec::new();
        for cell in self.cells() {
            let outcome = cell.found.as_ref().and_then(|found| found.outcome.as_ref());
            let Some(verdict) = outcome.and_then(|outcome| outcome.verdict.as_ref()) else {
                continue;
            };
            let word = verdict.word.to_string();
            match counts.iter_mut().find(|(known, _)| *known == word) {
                Some((_, count)) => *count += 1,
                None => counts.push((word, 1)),
            }
        }
        match counts.as_slice() {
            [] => NOTHING.to_owned(),
            [(word, _)] => word.clone(),
            several => {
                let told = several.iter().map(|(word, count)| format!("{count} × {word}"));
                told.collect::<Vec<_>>().join(", ")
            }
        }
    }
}

/// Processor time of the client for a request, if there was one.
fn cost_us(found: &Found) -> Option<f64> {
    (found.requests > 0).then(|| found.cpu_s * 1e6 / found.requests as f64)
}

fn rate_off(found: &Found) -> Option<f64> {
    let outcome = found.outcome.as_ref()?;
    Some((outcome.rate_per_s / outcome.rate_intended_per_s? - 1.0).abs())
}

/// The growth of the memory for each connection beyond the first, by block.
fn held_kib(run: &Run<Cell>, client: &Client) -> Blocks {
    let pss = |connections| {
        let line = Line { run, question: Question::Hold { connections }, client };
        line.blocks(|found| found.pss_bytes.map(|bytes| bytes as f64))
    };
    let one = pss(1);
    let grown = |(block, many): (u32, f64)| {
        let (_, one) = one.iter().find(|(other, _)| *other == block)?;
        Some((block, (many - one) / 1024.0 / (HELD_CONNECTIONS - 1) as f64))
    };
    pss(HELD_CONNECTIONS).into_iter().filter_map(grown).collect()
}

fn values(blocks: Blocks) -> impl Iterator<Item = f64> {
    blocks.into_iter().map(|(_, value)| value)
}

fn range(blocks: &Blocks) -> String {
    match spread(values(blocks.clone())) {
        Some(Spread { median, low, high }) => {
            format!("{} ({}–{})", number(median), number(low), number(high))
        }
        None => NOTHING.to_owned(),
    }
}

/// The median, and how it is told.
fn figure(blocks: &Blocks, unit: &str) -> Option<(f64, String)> {
    let spread = spread(values(blocks.clone()))?;
    Some((spread.median, format!("{} {unit}", range(blocks))))
}

fn ratio(comparison: Option<Comparison>) -> String {
    match comparison {
        Some(Comparison { ratio, interval: Some((low, high)), .. }) => {
            format!("{ratio:.2} [{low:.2}–{high:.2}]")
        }
        Some(Comparison { ratio, .. }) => format!("{ratio:.2}"),
        None => NOTHING.to_owned(),
    }
}

/// A small share in percent.
fn share(share: f64) -> String {
    format!("{:.3}%", 100.0 * share)
}

#[cfg(test)]
mod tests;
