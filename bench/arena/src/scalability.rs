//! How throughput scales with concurrency: the universal scalability law of each contestant of a
//! series whose levels are connections or processors.

use crate::record::Run;
use crate::stats::{Blocks, LEVELS_MIN, Law, estimate};
use crate::table::{Line, Table, lines, number};
use crate::workload::{Varied, Workload};

/// A law that is off by more than this at some level, in the median block, describes nothing.
const MISFIT_MAX: f64 = 0.25;

/// What the table shows.
pub(crate) const SCALABILITY: &str = "The universal scalability law";

/// A row for each contestant to which the law could be fitted, and a remark for each other; none
/// where it is not concurrency that varies.
pub(crate) fn table(run: &Run, levels: &[&Workload]) -> Option<Table> {
    let concurrency: fn(&Workload) -> Option<usize> = match levels.first()?.varied()? {
        Varied::Connections => |level| Some(level.connections),
        Varied::Cores => |level| level.cores,
        // Where a schedule decides how much is asked, throughput is not the server's.
        Varied::Rate => return None,
    };
    let columns = vec![
        "architecture",
        "levels",
        "λ: throughput of one",
        "σ: contention",
        "κ: coherency",
        "greatest throughput at",
        "off by at most",
    ];
    let by_level: Vec<(usize, Vec<Line<'_>>)> =
        levels.iter().filter_map(|level| Some((concurrency(level)?, lines(run, level)))).collect();
    let (mut rows, mut remarks) = (Vec::new(), Vec::new());
    for contestant in &run.header.contestants {
        let of = |(level, lines): &'_ (usize, Vec<Line<'_>>)| {
            let line = lines.iter().find(|line| line.contestant.name == contestant.name)?;
            let name = line.name();
            Some((name, Level { n: *level as f64, speed: line.speed(), why_not: why_not(line) }))
        };
        let (names, levels): (Vec<String>, Vec<Level>) = by_level.iter().filter_map(of).unzip();
        let Some(name) = names.into_iter().next() else { continue };
        match row(&levels) {
            Ok(row) => rows.push([vec![name], row].concat()),
            Err(why) => remarks.push(format!("{name}: not fitted, for {why}.")),
        }
    }
    (!rows.is_empty() || !remarks.is_empty()).then_some(Table { columns, rows, remarks })
}

/// What a contestant reached at one level.
struct Level {
    n: f64,
    speed: Blocks,
    /// Why it does not count, if it does not.
    why_not: Option<&'static str>,
}

fn why_not(line: &Line<'_>) -> Option<&'static str> {
    if line.is_client_bound() {
        Some("CLIENT-BOUND")
    } else if line.speed().is_empty() {
        Some(line.worst().code())
    } else {
        (!line.served_all()).then_some("not all connections served")
    }
}

/// One law for each block, and of their numbers the median; or why there is none.
fn row(levels: &[Level]) -> Result<Vec<String>, String> {
    let good: Vec<&Level> = levels.iter().filter(|level| level.why_not.is_none()).collect();
    if good.len() < LEVELS_MIN {
        let bad = levels.iter().filter_map(|level| Some((level.n, level.why_not?)));
        let bad: Vec<String> = bad.map(|(n, why)| format!("{n}: {why}")).collect();
        let why = if bad.is_empty() { String::new() } else { format!(" ({})", bad.join(", ")) };
        return Err(format!("{} levels count and {LEVELS_MIN} are needed{why}", good.len()));
    }
    let fits: Vec<(Law, f64)> =
        good[0].speed.iter().filter_map(|(block, _)| fit(&good, *block)).collect();
    let of = |value: &dyn Fn(&(Law, f64)) -> f64| {
        estimate(&fits.iter().map(value).collect::<Vec<f64>>())
    };
    let misfit = of(&|(_, misfit)| *misfit);
    let Some((misfit, _)) = misfit else {
        return Err("no block has all levels".to_owned());
    };
    if misfit > MISFIT_MAX {
        return Err(format!("the law is off by {} at some level", percent(misfit)));
    }
    let text = |value: &dyn Fn(&(Law, f64)) -> f64, shown: &dyn Fn(f64) -> String| {
        let (middle, interval) = of(value).expect("there is a misfit of each");
        let interval = interval.map(|[low, high]| format!(" [{}–{}]", shown(low), shown(high)));
        shown(middle) + &interval.unwrap_or_default()
    };
    let most = good.iter().map(|level| level.n).fold(0.0, f64::max);
    // Beyond what was measured nobody knows.
    let beyond = format!("> {most}");
    let peak_text = |n: f64| if n > most { beyond.clone() } else { n.round().to_string() };
    let peak = |(law, _): &(Law, f64)| law.peak();
    let is_within = of(&peak).is_some_and(|(middle, _)| middle <= most);
    Ok(vec![
        format!("{} of {}", good.len(), levels.len()),
        text(&|(law, _)| law.lambda, &number),
        text(&|(law, _)| law.sigma, &|sigma| format!("{sigma:.3}")),
        text(&|(law, _)| law.kappa, &|kappa| format!("{kappa:.6}")),
        if is_within { text(&peak, &peak_text) } else { beyond.clone() },
        percent(misfit),
    ])
}

/// The law of one block, and how far it is off at most.
fn fit(levels: &[&Level], block: u32) -> Option<(Law, f64)> {
    let point = |level: &&Level| {
        let (_, speed) = level.speed.iter().find(|(of, _)| *of == block)?;
        Some((level.n, *speed))
    };
    let points: Vec<(f64, f64)> = levels.iter().map(point).collect::<Option<_>>()?;
    let law = Law::fit(&points)?;
    Some((law, law.misfit(&points)))
}

fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{cell, run as made_up, workload};

    const LAW: Law = Law { lambda: 1000.0, sigma: 0.05, kappa: 0.001 };

    /// Throughput by this law, a hundredth more from block to block.
    fn run() -> Run {
        let mut run = made_up();
        let level = |connections: usize| Workload {
            connections,
            series: Some("concurrency".to_owned()),
            floor: false,
            ..workload(&format!("concurrency-{connections}"))
        };
        run.header.workloads = [1, 2, 4, 8, 64].map(level).to_vec();
        run.cells.clear();
        for level in &run.header.workloads {
            for (name, block) in
                ["threads", "pool"].iter().flat_map(|name| (1..=5).map(move |b| (name, b)))
            {
                let rate = LAW.at(level.connections as f64) * (1.0 + f64::from(block) / 100.0);
                let mut cell = cell(&level.name, name, block, 20.0, rate);
                let outcome = cell.outcome.as_mut().unwrap();
                (outcome.rate_per_s, outcome.requests) = (rate, rate as u64);
                run.cells.push(cell);
            }
        }
        run
    }

    fn of(run: &Run) -> Table {
        table(run, &run.header.workloads.iter().collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn the_law_is_told_with_its_intervals_and_its_peak() {
        assert_eq!(
            of(&run()).rows[0],
            [
                "threads",
                "5 of 5",
                "1,030 [1,010–1,050]",
                "0.050 [0.050–0.050]",
                "0.001000 [0.001000–0.001000]",
                "31 [31–31]",
                "0.0%",
            ]
        );
    }

    #[test]
    fn the_report_has_the_levels_in_one_table_and_the_law_below_it() {
        let mut run = run();
        for cell in run.cells.iter_mut().filter(|cell| cell.contestant == "pool") {
            cell.outcome.as_mut().unwrap().client_busy = 0.97;
        }
        let text = crate::report::for_terminal(&run, None);
        for expected in ["1,030 → 1,958 → 3,546", "≥ 1,030 → ≥ 1,958", "0.001000", "31 [31–31]"]
        {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }

    #[test]
    fn a_peak_beyond_what_was_measured_is_not_told_as_a_number() {
        let mut run = run();
        run.header.workloads.pop();
        assert_eq!(of(&run).rows[0][5], "> 8");
    }

    #[test]
    fn what_does_not_count_is_left_out_and_too_little_is_not_fitted_in_words() {
        let mut run = run();
        for cell in run.cells.iter_mut().filter(|cell| cell.contestant == "pool") {
            let outcome = cell.outcome.as_mut().unwrap();
            match cell.workload.as_str() {
                "concurrency-8" => outcome.client_busy = 0.97,
                "concurrency-64" => outcome.connections_served = 1,
                _ => {}
            }
        }
        let table = of(&run);
        assert_eq!(table.rows.len(), 1);
        assert_eq!(
            table.remarks,
            ["pool: not fitted, for 3 levels count and 4 are needed \
             (8: CLIENT-BOUND, 64: not all connections served)."]
        );
    }

    #[test]
    fn a_law_that_describes_nothing_is_not_printed() {
        let mut run = run();
        for cell in run.cells.iter_mut().filter(|cell| cell.workload == "concurrency-4") {
            cell.outcome.as_mut().unwrap().rate_per_s *= 3.0;
        }
        let table = of(&run);
        assert!(table.rows.is_empty());
        assert!(table.remarks[0].starts_with("threads: not fitted, for the law is off by "));
    }

    #[test]
    fn a_series_of_rates_has_no_such_table() {
        let mut run = run();
        for level in &mut run.header.workloads {
            level.rate = Some(loadgen::Rate::Constant(1000.0));
        }
        assert!(table(&run, &run.header.workloads.iter().collect::<Vec<_>>()).is_none());
        assert!(table(&run, &[]).is_none());
    }
}
