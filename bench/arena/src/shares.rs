//! How connections and requests were shared out between the workers of a server: what Stevens's
//! table of clients per child tells, in a row for each architecture.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::record::Run;
use crate::stats::spread;
use crate::table::{Table, number};
use crate::workload::Workload;

/// What one worker has had from its start to its end: the verification, the warm-up and the
/// measuring.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Share {
    pub(crate) connections: u64,
    pub(crate) requests: u64,
}

/// Reads what a server wrote that was told `--report-workers`; none where it did not come to that.
pub(crate) fn read(file: &Path) -> Option<Vec<Share>> {
    let text = fs::read_to_string(file).ok()?;
    let of_line = |line: &str| {
        let mut numbers = line.split(',').skip(1).map(str::parse);
        let (connections, requests) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(Share { connections, requests })
    };
    let shares: Option<Vec<Share>> = text.lines().skip(1).map(of_line).collect();
    shares.filter(|shares| !shares.is_empty())
}

/// A row for each contestant that has workers; none where there is no such contestant.
pub(crate) fn table(run: &Run, workload: &Workload) -> Option<Table> {
    let columns = vec![
        "architecture",
        "workers",
        "connections, least",
        "most",
        "Jain's index",
        "requests, least",
        "most",
        "Jain's index",
    ];
    let mut rows = Vec::new();
    for contestant in run.header.contestants_of(workload) {
        let cells = run
            .cells
            .iter()
            .filter(|cell| cell.workload == workload.name && cell.contestant == contestant.name);
        let blocks: Vec<&[Share]> = cells.filter_map(|cell| cell.workers.as_deref()).collect();
        let Some(first) = blocks.first() else { continue };
        let mut row = vec![contestant.name.clone(), first.len().to_string()];
        for of in [|share: &Share| share.connections, |share: &Share| share.requests] {
            let least = |shares: &[Share]| shares.iter().map(of).min().unwrap_or(0) as f64;
            let most = |shares: &[Share]| shares.iter().map(of).max().unwrap_or(0) as f64;
            let even = |shares: &[Share]| jain(shares.iter().map(of));
            for value in [&least as &dyn Fn(&[Share]) -> f64, &most] {
                let median = spread(blocks.iter().map(|shares| value(shares)));
                row.push(median.map_or(String::new(), |it| it.median.round().to_string()));
            }
            let median = spread(blocks.iter().map(|shares| even(shares)));
            row.push(median.map_or(String::new(), |it| number(it.median)));
        }
        rows.push(row);
    }
    (!rows.is_empty()).then_some(Table { columns, rows, remarks: Vec::new() })
}

/// Jain's index of fairness: 1 if all have the same, 1/n if one of n has all.
fn jain(values: impl Iterator<Item = u64>) -> f64 {
    let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for value in values.map(|value| value as f64) {
        count += 1.0;
        sum += value;
        squares += value * value;
    }
    if squares == 0.0 { 1.0 } else { sum * sum / (count * squares) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_writes_is_read_and_what_is_cut_short_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("workers.csv");
        fs::write(&file, "worker,connections,requests\n0,16,320\n1,2,40\n").unwrap();
        let expected =
            [Share { connections: 16, requests: 320 }, Share { connections: 2, requests: 40 }];
        assert_eq!(read(&file).unwrap(), expected);
        for text in ["", "worker,connections,requests\n", "worker,connections,requests\n0,1"] {
            fs::write(&file, text).unwrap();
            assert_eq!(read(&file), None, "{text:?}");
        }
    }

    #[test]
    fn jains_index_is_one_if_all_have_the_same() {
        let check = |values: &[u64], expected: f64| {
            assert!((jain(values.iter().copied()) - expected).abs() < 1e-12, "{values:?}");
        };
        check(&[5, 5, 5], 1.0);
        check(&[12, 0, 0, 0], 0.25);
        check(&[0, 0], 1.0);
    }
}
