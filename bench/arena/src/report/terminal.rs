//! What fits a terminal: fewer columns where it is narrow, and lines broken between words.

use super::{Style, render};
use crate::capacity::CAPACITY;
use crate::table::{GROUP, RESPONSE_P99, Table};

/// The columns that stay longest, the most important first.
const IMPORTANT: [&str; 20] = [
    "architecture",
    CAPACITY,
    "held",
    "p99 ms",
    "CPU µs/request",
    "CPU µs/login",
    "CPU µs/session",
    "CPU ms/GB",
    "KiB/session",
    GROUP,
    "× best of ours",
    "× floor",
    "requests/s",
    "logins/s",
    "sessions/s",
    "MB/s",
    RESPONSE_P99,
    "p99 µs",
    "served",
    "response p50 µs",
];
/// Without these a table says nothing.
const FEWEST_COLUMNS: usize = 2;

/// How wide the terminal is, if standard output is one.
pub(crate) fn columns() -> Option<usize> {
    let (_, columns) = console::Term::stdout().size_checked()?;
    Some(usize::from(columns)).filter(|columns| *columns > 0)
}

/// The table in so many columns of text, and whether columns of it had to go.
pub(super) fn fitted(table: &Table, columns: Option<usize>) -> (String, bool) {
    let mut kept = table.clone();
    loop {
        let text = render(&kept, Style::Terminal);
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        let fits = columns.is_none_or(|columns| widest <= columns);
        if fits || kept.columns.len() <= FEWEST_COLUMNS {
            return (text, kept.columns.len() < table.columns.len());
        }
        let index = least_important(&kept.columns);
        kept.columns.remove(index);
        for row in &mut kept.rows {
            row.remove(index);
        }
    }
}

/// The rightmost of those that are not important, and then the least of those that are.
fn least_important(columns: &[&str]) -> usize {
    let rank = |name: &str| IMPORTANT.iter().position(|one| *one == name);
    let ranks = columns.iter().enumerate();
    let last = ranks.max_by_key(|(index, name)| (rank(name).unwrap_or(IMPORTANT.len()), *index));
    last.map_or(0, |(index, _)| index)
}

/// A sentence with an indent, broken between words where the terminal would break it anywhere.
pub(super) fn wrapped(text: &str, indent: usize, columns: Option<usize>) -> String {
    let margin = " ".repeat(indent);
    let mut lines = vec![margin.clone()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a line");
        let width = line.chars().count();
        let empty = width == margin.len();
        let fits = columns.is_none_or(|columns| width + 1 + word.chars().count() <= columns);
        match (empty, fits) {
            (true, _) => line.push_str(word),
            (false, true) => {
                line.push(' ');
                line.push_str(word);
            }
            (false, false) => lines.push(format!("{margin}{word}")),
        }
    }
    lines.join("\n")
}
