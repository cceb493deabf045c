//! The table of a workload whose question is the capacity.

use std::collections::BTreeMap;

use super::{BEYOND, Capacity, recovery_step};
use crate::ranking::{Ranking, twin_remark};
use crate::record::Run;
use crate::stats::{Blocks, Spread, spread};
use crate::table::{GROUP, Line, NOTHING, Table, lines, middle, number};
use crate::unit::Unit;
use crate::workload::Workload;

const COLUMNS: [&str; 10] = [
    "architecture",
    "capacity/s",
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

/// The median over the blocks, with the least that held and the least that did not hold where no
/// block held more: the capacity lies between them.
fn capacity_text(line: &Line<'_>) -> String {
    let Some(Spread { median, low, .. }) = spread(line.held().into_iter().map(|(_, rate)| rate))
    else {
        return line.worst().code().to_owned();
    };
    let refused = blocks(line, |found| found.refused_per_s);
    let all_refused = refused.len() == line.held().len();
    match spread(refused.into_iter().map(|(_, rate)| rate)).filter(|_| all_refused) {
        Some(refused) => {
            format!("{} ({}–{})", number(median), number(low), number(refused.high))
        }
        None => format!("≥ {} CLIENT-BOUND", number(median)),
    }
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
