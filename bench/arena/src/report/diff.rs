//! Two recorded runs side by side: did a change help?

use std::path::Path;

use super::{Style, push, render};
use crate::Usage;
use crate::capacity::CAPACITY;
use crate::ranking::{Itself, Measure, Unpaired, interval};
use crate::record::{self, Difference, Header, Run, differences, read_header};
use crate::stats::Blocks;
use crate::table::{Line, NOTHING, Table, lines, middle, number};
use crate::unit::Unit;
use crate::workload::Workload;

/// What two commits are expected to differ in.
const MACHINE_MAY_DIFFER: [&str; 1] = ["commit"];
/// Keys of a workload that say nothing about the work.
const WORKLOAD_MAY_DIFFER: [&str; 7] =
    ["title", "question", "expectation", "blocks", "quick", "full_ms", "peers"];

/// Reads a recorded run by its folder, or by its name below `results`.
pub(crate) fn find(results: &Path, wanted: &str) -> anyhow::Result<Run> {
    let folder = record::find(results, wanted)?;
    if read_header(&folder)?.is_of_the_client() {
        let why = format!("{wanted} is a run of the load generator; name two runs of servers");
        return Err(Usage(why).into());
    }
    Run::read(&folder)
}

/// What differs from the first run to the second.
pub(crate) fn diff(first: &Run, second: &Run) -> String {
    let mut out = String::new();
    for (name, run) in [("A", first), ("B", second)] {
        let Header { profile, started, machine, .. } = &run.header;
        let run = &run.name;
        push(&mut out, &format!("{name}: {run} ({profile}, {started}, commit {})", machine.commit));
    }
    for warning in warnings(&first.header, &second.header) {
        push(&mut out, &format!("WARNING: {warning}"));
    }
    let mut compared = false;
    for workload in &second.header.workloads {
        let before = first.header.workloads.iter().find(|one| one.name == workload.name);
        let table = before.map(|before| table((first, before), (second, workload)));
        if let Some(table) = table.filter(|table| !table.rows.is_empty()) {
            compared = true;
            push(&mut out, &format!("\n{} ({})", workload.title, workload.name));
            push(&mut out, render(&table, Style::Terminal).trim_end());
        }
    }
    push(&mut out, if compared { EXPLANATION } else { "\nThey have nothing in common." });
    out
}

const EXPLANATION: &str = "
B/A is the ratio of the medians over the blocks, with the 95% interval of a bootstrap of the blocks
of each run. Blocks of two runs have nothing in common, so what the machine did to one of them stays
in the ratio: look at the floors, which no change of a server moves. Told apart by Welch's t test of
the logarithms, with Holm's correction within a workload and measure, from a ratio of 1.02 on, or of
what A/A twins differed by.";

fn warnings(first: &Header, second: &Header) -> Vec<String> {
    let between = |one: Difference| one.told("in A", "in B");
    let machine = differences(&first.machine, &second.machine, &MACHINE_MAY_DIFFER);
    let mut found: Vec<String> = machine.into_iter().map(between).collect();
    for workload in &second.workloads {
        if let Some(before) = first.workloads.iter().find(|one| one.name == workload.name) {
            let keys = differences(before, workload, &WORKLOAD_MAY_DIFFER);
            found
                .extend(keys.into_iter().map(|key| format!("{}: {}", workload.name, between(key))));
        }
    }
    for contestant in &second.contestants {
        let before = first.contestants.iter().find(|one| one.name == contestant.name);
        if let Some(before) = before.filter(|before| before.version != contestant.version) {
            let version = |version: &Option<String>| version.clone().unwrap_or_default();
            let (a, b) = (version(&before.version), version(&contestant.version));
            found.push(format!("{}: {a} in A, {b} in B", contestant.name));
        }
    }
    found
}

type RunOf<'a> = (&'a Run, &'a Workload);

/// What is compared, and what the second run is where it is less or more.
struct Compared<'a> {
    column: &'static str,
    measure: Measure<'a>,
    words: [&'static str; 2],
    /// Where only a lower bound was measured, which is compared with nothing, that bound.
    bound: Measure<'a>,
}

fn compared<'a>(workload: &Workload) -> Vec<Compared<'a>> {
    let unit = Unit::of(workload);
    let cpu = Compared {
        column: unit.cost_column(),
        measure: Line::cost,
        words: ["cheaper", "dearer"],
        bound: |_| Blocks::new(),
    };
    if workload.capacity.is_some() {
        let capacity = Compared {
            column: CAPACITY,
            measure: Line::held,
            words: ["lower", "higher"],
            bound: |line| if line.holds_at_least() { line.held_at_least() } else { Blocks::new() },
        };
        return vec![capacity, cpu];
    }
    let speed = Compared {
        column: unit.speed_column(),
        measure: Line::speed,
        words: ["slower", "faster"],
        bound: |line| if line.is_client_bound() { line.reached() } else { Blocks::new() },
    };
    let p99 = Compared {
        column: if workload.is_open() { "response p99 µs" } else { "p99 µs" },
        measure: Line::p99,
        words: ["faster", "slower"],
        bound: |_| Blocks::new(),
    };
    vec![cpu, speed, p99]
}

/// A row for each measure of each contestant that both have.
fn table<'a>(first: RunOf<'a>, second: RunOf<'a>) -> Table {
    let compared = compared(second.1);
    let families: Vec<Unpaired> =
        compared.iter().map(|one| Unpaired::of(first, second, one.measure)).collect();
    let before = lines(first.0, first.1);
    let mut rows = Vec::new();
    for line in lines(second.0, second.1) {
        let name = line.name();
        let before = before.iter().find(|before| before.name() == name);
        for (one, family) in compared.iter().zip(&families) {
            let rest = match (family.member(&name), before) {
                (Some(member), _) => Some(of_values(member, one.words)),
                (None, Some(before)) => of_bounds(one, before, &line),
                (None, None) => None,
            };
            rows.extend(
                rest.map(|rest| [vec![name.clone(), one.column.to_owned()], rest].concat()),
            );
        }
    }
    let columns = vec!["architecture", "measure", "A", "B", "B/A", "B is"];
    Table { columns, rows, remarks: Vec::new() }
}

fn of_values(member: &Itself, [less, more]: [&str; 2]) -> Vec<String> {
    let ratio = member.comparison.ratio;
    let verdict = match (member.told_apart, ratio < 1.0) {
        (false, _) => "not told apart",
        (true, true) => less,
        (true, false) => more,
    };
    let ratio = format!("{ratio:.2}{}", interval(member.comparison));
    vec![number(member.first), number(member.second), ratio, verdict.to_owned()]
}

/// Where a run has a lower bound only, there is no ratio.
fn of_bounds<'a>(one: &Compared<'a>, before: &Line<'a>, line: &Line<'a>) -> Option<Vec<String>> {
    let bounds = [before, line].map(|line| (one.bound)(line));
    if bounds.iter().all(Vec::is_empty) {
        return None;
    }
    let text = |(line, bound): (&Line<'a>, &Blocks)| {
        if bound.is_empty() {
            middle((one.measure)(line))
        } else {
            format!("≥ {}", middle(bound.clone()))
        }
    };
    let [first, second] = [(before, &bounds[0]), (line, &bounds[1])].map(text);
    Some(vec![first, second, NOTHING.to_owned(), "not compared, CLIENT-BOUND".to_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::run;

    #[test]
    fn what_differs_surely_between_two_runs_is_told_and_the_rest_is_not() {
        let first = run();
        let mut second = run();
        second.name = "20260102T050000Z-quick".to_owned();
        "6.2".clone_into(&mut second.header.machine.kernel);
        "abc".clone_into(&mut second.header.machine.commit);
        second.header.workloads[0].duration_ms = 500;
        second.header.workloads[0].blocks = 9;
        for cell in second.cells.iter_mut().filter(|cell| cell.contestant == "threads") {
            cell.used.as_mut().unwrap().cpu_s *= 0.5;
        }
        insta::assert_snapshot!(diff(&first, &second));
    }

    #[test]
    fn runs_of_other_workloads_have_nothing_in_common() {
        let (first, mut second) = (run(), run());
        for workload in &mut second.header.workloads {
            workload.name.push('2');
        }
        assert!(diff(&first, &second).ends_with("\nThey have nothing in common.\n"));
    }

    #[test]
    fn capacities_are_compared_and_lower_bounds_are_not() {
        let first = crate::capacity::table::tests::run();
        let mut second = first.clone();
        for cell in second.cells.iter_mut().filter(|cell| cell.contestant == "threads") {
            let found = cell.capacity.as_mut().unwrap();
            (found.held_per_s, found.refused_per_s) = (Some(2000.0), Some(2100.0));
        }
        let rows =
            table((&first, &first.header.workloads[0]), (&second, &second.header.workloads[0]))
                .rows;
        assert_eq!(rows[0][..4], ["threads", "capacity/s", "1,003", "2,000"]);
        assert_eq!(rows[0][5], "higher");
        let bound = ["pool", "capacity/s", "≥ 903", "≥ 903", "–", "not compared, CLIENT-BOUND"];
        assert_eq!(rows[2], bound);
    }
}
