//! The tables of a run: one for each workload, and one for all levels of a series, in which each
//! cell has a value for each level, from the first to the last.

use loadgen::Outcome;

use crate::machine::Placement;
use crate::record::Run;
use crate::table::{Line, NOTHING, Table, Verdict, lines, middle, table};
use crate::unit::Unit;
use crate::workload::{Varied, Workload};

/// Between the values of two levels.
pub(crate) const THEN: &str = " → ";

/// A table with the workloads that it is about: one, or the levels of a series.
pub(crate) struct Section<'a> {
    pub(crate) workloads: Vec<&'a Workload>,
    pub(crate) table: Table,
}

impl Section<'_> {
    /// The name of the workload or of the series.
    pub(crate) fn name(&self) -> &str {
        self.workloads[0].family()
    }
}

/// The tables of a run, in the order of its workloads.
pub(crate) fn sections(run: &Run) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    for workload in &run.header.workloads {
        match sections.last_mut() {
            Some(last) if workload.series.is_some() && last.name() == workload.family() => {
                last.workloads.push(workload);
            }
            _ => {
                let table = Table { columns: Vec::new(), rows: Vec::new(), remarks: Vec::new() };
                sections.push(Section { workloads: vec![workload], table });
            }
        }
    }
    for section in &mut sections {
        section.table = match section.workloads[..] {
            [workload] => table(run, workload),
            _ => table_of_levels(run, &section.workloads),
        };
    }
    sections
}

type Column = (&'static str, fn(&Line<'_>, &Placement) -> String);

/// What changes with the rate at which is asked.
const OF_RATES: [Column; 5] = [
    ("answered/s", |line, _| middle(line.speed())),
    ("response p50 µs", |line, _| latency(line, |outcome| outcome.response_us.p50)),
    ("response p99 µs", |line, _| latency(line, |outcome| outcome.response_us.p99)),
    ("shed", |line, _| line.most(|outcome| outcome.shed)),
    ("CPU µs/request", |line, _| middle(line.cost())),
];

/// What changes with the processors that a server has.
const OF_CORES: [Column; 4] = [
    ("requests/s", |line, _| middle(line.reached())),
    ("processors used", |line, _| middle(line.processors_used())),
    ("CPU µs/request", |line, _| middle(line.cost())),
    ("client's CPU µs/request", |line, placement| {
        // One that never sleeps pays for asking in vain, too.
        let polls = line.workload.client_never_sleeps(placement);
        if polls { NOTHING.to_owned() } else { middle(line.client_cost()) }
    }),
];

/// What changes with the connections.
const OF_CONNECTIONS: [Column; 4] = [
    ("requests/s", |line, _| {
        let mark = if line.is_client_bound() { "≥ " } else { "" };
        format!("{mark}{}", middle(line.reached()))
    }),
    ("p99 µs", |line, _| latency(line, |outcome| outcome.service_us.p99)),
    ("CPU µs/request", |line, _| middle(line.cost())),
    ("served", |line, _| line.served_text()),
];

fn table_of_levels(run: &Run, levels: &[&Workload]) -> Table {
    let columns: &[Column] = match levels[0].varied() {
        Some(Varied::Cores) => &OF_CORES,
        Some(Varied::Connections) => &OF_CONNECTIONS,
        Some(Varied::Rate) | None => &OF_RATES,
    };
    let placement = &run.header.machine.placement;
    let by_level: Vec<Vec<Line<'_>>> = levels.iter().map(|level| lines(run, level)).collect();
    let named = |column: &'static str| match column {
        "CPU µs/request" => Unit::of(levels[0]).cost_column(),
        "requests/s" => Unit::of(levels[0]).speed_column(),
        other => other,
    };
    let mut rows = Vec::new();
    for contestant in &run.header.contestants {
        let of = |lines: &'_ Vec<Line<'_>>| {
            lines.iter().position(|line| line.contestant.name == contestant.name)
        };
        let places: Vec<Option<usize>> = by_level.iter().map(of).collect();
        let Some(first) = places.iter().zip(&by_level).find_map(|(at, all)| Some(&all[(*at)?]))
        else {
            continue;
        };
        let cell = |(_, text): &Column| {
            let values = places.iter().zip(&by_level);
            let values = values
                .map(|(at, all)| at.map_or(NOTHING.to_owned(), |at| text(&all[at], placement)));
            values.collect::<Vec<_>>().join(THEN)
        };
        rows.push([first.name()].into_iter().chain(columns.iter().map(cell)).collect());
    }
    let remarks = levels.iter().zip(&by_level).flat_map(|(level, lines)| {
        // What cannot be kept up is told in the cell.
        let remarks = lines.iter().flat_map(Line::wrongs);
        remarks.map(|remark| format!("{}: {remark}", level.name))
    });
    Table {
        columns: ["architecture"]
            .into_iter()
            .chain(columns.iter().map(|(name, _)| named(name)))
            .collect(),
        rows,
        remarks: remarks.collect(),
    }
}

/// A latency, or the word that says why there is none.
fn latency(line: &Line<'_>, of: fn(&Outcome) -> f64) -> String {
    // A level at which a server cannot keep up is what is looked for.
    let not_kept_up = line.worst() < Verdict::ClientBound && !line.kept_up();
    if not_kept_up { "not kept up".to_owned() } else { line.latency_text(of) }
}
