//! The table of a workload whose question is the capacity.

use std::collections::BTreeMap;

use super::{BEYOND, Capacity, recovery_step};
use crate::ranking::{Ranking, twin_remark};
use crate::record::Run;
use crate::stats::{Blocks, Spread, spread};
use crate::table::{GROUP, Line, NOTHING, Table, lines, middle, number};
use crate::unit::Unit;
use crate::workload::Workload;

/// What is looked for.
pub(crate) const CAPACITY: &str = "capacity/s";

const COLUMNS: [&str; 10] = [
    "architecture",
    CAPACITY,
    GROUP,
    "p99 µs there",
    "CPU µs/request",
    "at 1.5 times: answered/s",
    "shed",
    "at 2 times: answered/s",
    "shed",
    "recovery ms",
];

pub(crate) fn table(run: &Run, workload: &Workload) -> Table {
    let lines = lines(run, workload);
    let mut columns = COLUMNS.to_vec();
    columns[4] = Unit::of(workload).cost_column();
    let mut rows: Vec<Vec<String>> = lines.iter().map(|line| row(line, workload)).collect();
    let mut remarks: Vec<String> = lines.iter().flat_map(Line::wrongs).collect();
    remarks.extend(lines.iter().filter_map(nothing_held));
    remarks.extend(lines.iter().flat_map(failed_beyond));
    let ranking = Ranking::of(run, workload, Line::held);
    let letters: BTreeMap<&str, String> = ranking.letters().collect();
    for (line, row) in lines.iter().zip(&mut rows) {
        let group = letters.get(line.name().as_str());
        row.insert(2, group.cloned().unwrap_or_else(|| NOTHING.to_owned()));
    }
    remarks.extend(twin_remark(run, workload, Line::held, &ranking));
    Table { columns, rows, remarks }
}

fn row(line: &Line<'_>, workload: &Workload) -> Vec<String> {
    let beyond = |index: usize, of: fn(&super::Trial) -> f64| {
        middle(blocks(line, |found| found.beyond.get(index).map(of)))
    };
    let mut row = vec![
        line.name(),
        capacity_text(line),
        middle(line.at_the_end(|outcome| outcome.response_us.p99)),
        middle(line.cost()),
    ];
    for index in 0..BEYOND.len() {
        row.push(beyond(index, |trial| trial.answered_per_s));
        row.push(beyond(index, |trial| trial.shed as f64));
    }
    row.push(recovery_text(line, workload));
    row
}

/// The median over the blocks, with the least that held and the greatest that did not hold: the
/// capacity lies between them.
fn capacity_text(line: &Line<'_>) -> String {
    let held = line.held_at_least().into_iter().map(|(_, rate)| rate);
    let Some(Spread { median, low, .. }) = spread(held) else {
        return line.worst().code().to_owned();
    };
    let refused = blocks(line, |found| found.refused_per_s).into_iter().map(|(_, rate)| rate);
    match spread(refused).filter(|_| !line.holds_at_least()) {
        Some(refused) => {
            format!("{} ({}–{})", number(median), number(low), number(refused.high))
        }
        None => format!("≥ {} CLIENT-BOUND", number(median)),
    }
}

/// What failed when more was asked than holds, in the block in which the most did.
fn failed_beyond(line: &Line<'_>) -> Vec<String> {
    let at = |(index, times): (usize, &f64)| {
        let trials = line.capacities().filter_map(|(block, found)| {
            let trial = found.beyond.get(index)?;
            (trial.failed > 0).then_some((block, trial))
        });
        let (block, most) = trials.max_by_key(|(_, trial)| trial.failed)?;
        let why = most.refused.as_deref().unwrap_or("requests failed");
        Some(format!("{}, block {block}, at {times} times: {why}.", line.name()))
    };
    BEYOND.iter().enumerate().filter_map(at).collect()
}

fn recovery_text(line: &Line<'_>, workload: &Workload) -> String {
    let step_ms = recovery_step(workload).as_millis() as f64;
    let recovered = blocks(line, |found| found.recovery_ms);
    let tried = blocks(line, |found| found.held_per_s).len();
    let late = tried - recovered.len();
    match spread(recovered.into_iter().map(|(_, time)| time)) {
        // Within the first step, nobody knows when.
        Some(worst) if late == 0 => format!("< {}", number(worst.high + step_ms)),
        None if tried == 0 => NOTHING.to_owned(),
        _ => format!("not in {late} of {tried} blocks"),
    }
}

/// What the trials said where nothing held.
fn nothing_held(line: &Line<'_>) -> Option<String> {
    let mut nothing = line.capacities().filter(|(_, found)| found.held_per_s.is_none());
    let (block, found) = nothing.next()?;
    let last = found.trials.last()?;
    let why = last.refused.as_deref().unwrap_or("not confirmed");
    let rate = number(last.offered_per_s);
    Some(format!("{}, block {block}: nothing held, at last {rate} a second ({why}).", line.name()))
}

fn blocks(line: &Line<'_>, of: impl Fn(&Capacity) -> Option<f64>) -> Blocks {
    line.capacities().filter_map(|(block, found)| Some((block, of(found)?))).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::Trial;
    use super::*;
    use crate::capacity::Bound;
    use crate::report::tests::{cell, run as made_up, workload};

    fn trial(failed: u64) -> Trial {
        let refused = (failed > 0).then(|| format!("{failed} requests failed, the first: reset"));
        Trial {
            offered_per_s: 1.0,
            answered_per_s: 1.0,
            p99_us: 1.0,
            shed: 0,
            failed,
            refused,
            client_bound: false,
        }
    }

    /// One whose capacity is known, and one that the load generator could not bring to its end.
    pub(crate) fn run() -> Run {
        let mut run = made_up();
        let asked = Workload { floor: false, ..workload("capacity") };
        run.header.workloads = vec![Workload { capacity: Some(Bound { p99_ms: 10.0 }), ..asked }];
        run.cells.clear();
        for block in 1..=5 {
            for (name, held, refused) in [("threads", 1000.0, Some(1050.0)), ("pool", 900.0, None)]
            {
                let mut cell = cell("capacity", name, block, 20.0, held);
                cell.capacity = Some(Capacity {
                    held_per_s: Some(held + f64::from(block)),
                    refused_per_s: refused,
                    trials: Vec::new(),
                    beyond: vec![trial(0), trial(if block == 3 { 7 } else { 0 })],
                    recovery_ms: None,
                });
                run.cells.push(cell);
            }
        }
        run
    }

    #[test]
    fn a_lower_bound_is_marked_and_has_no_letter() {
        let run = run();
        let table = table(&run, &run.header.workloads[0]);
        assert_eq!(table.rows[0][..3], ["threads", "1,003 (1,001–1,050)", "a"]);
        assert_eq!(table.rows[1][..3], ["pool", "≥ 903 CLIENT-BOUND", NOTHING]);
    }

    #[test]
    fn what_failed_beyond_the_capacity_is_told() {
        let run = run();
        let remarks = table(&run, &run.header.workloads[0]).remarks;
        let told = "threads, block 3, at 2 times: 7 requests failed, the first: reset.";
        assert!(remarks.iter().any(|remark| remark == told), "{remarks:?}");
        assert_eq!(remarks.iter().filter(|remark| remark.contains(" times: ")).count(), 2);
    }
}
