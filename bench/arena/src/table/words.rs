//! What cells say in words, below the table of their numbers.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use loadgen::{Class, Outcome, Sessions};

use super::{Line, NOTHING, OVERFLOWED, Verdict, number, verdict};
use crate::record::Cell;
use crate::sample::Used;
use crate::stats::spread;
use crate::workload::Workload;

impl Line<'_> {
    /// What went wrong, and what the load generator objects to.
    pub(super) fn remarks(&self) -> Vec<String> {
        let objections = self.workload.is_open().then(|| self.objections());
        self.told(objections.into_iter().flatten())
    }

    /// What went wrong.
    pub(crate) fn wrongs(&self) -> Vec<String> {
        self.told(std::iter::empty())
    }

    /// What went wrong and some objections, the same words once with the blocks they are of.
    fn told(&self, objections: impl Iterator<Item = (String, String)>) -> Vec<String> {
        let mut found: Vec<(String, Vec<String>)> = Vec::new();
        let mut note = |words: String, block: String| match found
            .iter_mut()
            .find(|(known, _)| *known == words)
        {
            Some((_, blocks)) => blocks.push(block),
            None => found.push((words, vec![block])),
        };
        for cell in &self.cells {
            for words in words(cell, self.workload) {
                note(words, cell.block.to_string());
            }
        }
        for (words, block) in objections {
            note(words, block);
        }
        let name = self.name();
        let all = self.cells.len();
        let sentence = |(words, blocks): (String, Vec<String>)| match blocks.len() {
            here if here == all => format!("{name}: {words}."),
            1 => format!("{name}, block {}: {words}.", blocks[0]),
            _ => format!("{name}, blocks {}: {words}.", blocks.join(", ")),
        };
        found.into_iter().map(sentence).collect()
    }

    /// What became of each class beside the first, over the blocks that count.
    pub(super) fn beside(&self) -> Vec<String> {
        let of_class = |(number, class): (usize, &Class)| {
            let cells = self.cells.iter().filter(|cell| self.verdict(cell) <= Verdict::Starved);
            let outcomes = cells.filter_map(|cell| cell.outcome.as_ref()?.beside.get(number));
            let outcomes: Vec<&Outcome> = outcomes.collect();
            (!outcomes.is_empty())
                .then(|| format!("{}, {}: {}.", self.name(), class.name, became(&outcomes)))
        };
        self.workload.beside.iter().enumerate().filter_map(of_class).collect()
    }

    /// What the load generator objects to, with the block. The figures of an objection differ from
    /// block to block: those of the first are told.
    fn objections(&self) -> impl Iterator<Item = (String, String)> {
        let judged = self.cells.iter().filter_map(|cell| {
            let verdict = self.verdict(cell);
            let is_void = (Verdict::UnderSampled..=Verdict::ClientBound).contains(&verdict);
            let reason = &cell.outcome.as_ref()?.verdict.as_ref()?.reason;
            is_void.then_some((verdict, reason, cell.block))
        });
        judged.clone().filter_map(move |(verdict, _, block)| {
            let mut alike = judged.clone().filter(|(other, ..)| *other == verdict);
            let (_, reason, first) = alike.next()?;
            let of = alike.next().map_or(String::new(), |_| format!("in block {first} "));
            Some((format!("{} ({of}{reason})", verdict.code()), block.to_string()))
        })
    }
}

/// What became of a class in all blocks: of clients that are slow or leave, their sessions; of
/// others, their rate and latency.
fn became(outcomes: &[&Outcome]) -> String {
    let sessions = outcomes.iter().filter_map(|outcome| outcome.sessions.as_ref());
    if sessions.clone().next().is_none() {
        let median = |of: fn(&Outcome) -> f64| {
            let spread = spread(outcomes.iter().map(|outcome| of(outcome)));
            spread.map_or(NOTHING.to_owned(), |spread| number(spread.median))
        };
        let rate = median(|outcome| outcome.rate_per_s);
        let p99 = median(|outcome| outcome.response_us.p99);
        return format!("{rate} requests/s, response p99 {p99} µs");
    }
    let sum = |of: fn(&Sessions) -> u64| sessions.clone().map(of).sum::<u64>();
    let begun = sum(|sessions| sessions.begun);
    let mut text = format!("{begun} sessions begun, {} served", sum(|sessions| sessions.served));
    let mut add = |count: u64, what: &str| {
        if count > 0 {
            write!(text, ", {count} {what}").expect("a string takes all");
        }
    };
    add(sum(|sessions| sessions.abandoned), "left by the client");
    let mut cuts: BTreeMap<&str, u64> = BTreeMap::new();
    for (kind, count) in sessions.clone().flat_map(|sessions| &sessions.cut) {
        *cuts.entry(kind).or_default() += count;
    }
    for (kind, count) in cuts {
        add(count, &format!("cut by the server ({kind})"));
    }
    text
}

/// What one cell says in words.
fn words(cell: &Cell, workload: &Workload) -> Vec<String> {
    let mut words = Vec::new();
    let verdict = verdict(cell, workload);
    if let Some(failure) = cell.failure.as_ref().or(cell.unavailable.as_ref()) {
        words.push(format!("{} ({failure})", verdict.code()));
    }
    if let Some(outcome) = cell.outcome.as_ref().filter(|_| cell.failure.is_none()) {
        if verdict == Verdict::Errors {
            for class in outcome.classes().filter(|class| !class.errors.is_empty()) {
                let kinds: Vec<_> = class.errors.keys().map(String::as_str).collect();
                let of = if class.name.is_empty() { "" } else { " of " };
                let kinds = kinds.join(", ");
                words.push(format!("{} ({kinds}{of}{})", verdict.code(), class.name));
            }
        }
        if verdict == Verdict::Starved {
            words.push(format!("{} (no request was answered)", verdict.code()));
        }
        let ready = outcome.idle_ready.unwrap_or(workload.idle_connections);
        if ready < workload.idle_connections {
            words.push(format!("{ready} of {} idle sessions logged in", workload.idle_connections));
        }
        if outcome.idle_held < ready {
            words.push("it dropped idle connections".to_owned());
        }
    }
    let overflowed = |used: &Used| used.listen_overflows + used.listen_drops > 0;
    if cell.used.as_ref().is_some_and(overflowed) {
        words.push(OVERFLOWED.to_owned());
    }
    words.extend(cell.faults.iter().cloned());
    words
}
