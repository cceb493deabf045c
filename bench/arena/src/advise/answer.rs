//! The answer in words, from the cells of a run.

use std::fs;
use std::path::Path;

use loadgen::Word;

use super::{MORE, Question, WORKERS_MAX};
use crate::capacity::objection;
use crate::catalogue::Contestant;
use crate::ranking::Ranking;
use crate::record::{Cell, Run};
use crate::stats::spread;
use crate::table::{Line, lines, number};
use crate::workload::Workload;

/// What a candidate has shown.
struct Shown<'a> {
    line: Line<'a>,
    /// Blocks in which it held what is asked for.
    held: usize,
    blocks: usize,
    /// Why it did not, where it did not.
    objection: Option<String>,
}

/// The recommendation, what it rests on, and how the recommended architecture fails.
pub(super) fn answer(
    question: &Question,
    run: &Run,
    how_it_fails: impl Fn(&str) -> Option<String>,
) -> Vec<String> {
    let Some(asked) = run.header.workloads.first() else {
        return Vec::new();
    };
    let shown: Vec<Shown<'_>> = run
        .header
        .contestants
        .iter()
        .filter_map(|contestant| shown(question, run, asked, contestant))
        .collect();
    let (holding, failing): (Vec<_>, Vec<_>) =
        shown.iter().partition(|one| one.blocks > 0 && one.held == one.blocks);
    let mut out = Vec::new();
    let ranking = Ranking::of(run, asked, Line::cost);
    match recommended(&holding, &ranking) {
        Some((best, alike)) => {
            out.push(recommendation(question, best, &alike));
            let more = run.header.workloads.get(1);
            out.extend(more.and_then(|more| room(question, run, more, best.line.contestant)));
            let name = &best.line.contestant.name;
            if let Some(text) = how_it_fails(name) {
                out.push(format!("How {name} fails: {text}"));
            }
            let others = holding.iter().filter(|one| {
                let is = |other: &Shown<'_>| other.line.contestant.name == one.line.contestant.name;
                !is(best) && !alike.iter().any(|other| is(other))
            });
            let others: Vec<String> = others.map(|one| with_cost(one)).collect();
            if !others.is_empty() {
                out.push(format!("Dearer, but they hold as well: {}.", others.join(", ")));
            }
        }
        None => out.push(format!(
            "Recommendation: none. No architecture answered {} requests a second within a p99 of \
             {} ms in every block; ask for less, allow more time, or give it more --cores.",
            question.rate, question.p99_ms
        )),
    }
    let failing: Vec<String> = failing.iter().map(|one| failure(one)).collect();
    if !failing.is_empty() {
        out.push(format!("Did not hold: {}.", failing.join("; ")));
    }
    out
}

/// The paragraph of an architecture's page about what it is bad at, in one line.
pub(super) fn how_it_fails(root: &Path, name: &str) -> Option<String> {
    let page = root.join("architectures").join(name).join("README.md");
    let text = fs::read_to_string(page).ok()?;
    let paragraph = text.split("\n\n").find(|paragraph| paragraph.starts_with(BAD))?;
    let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(line.replace("**", ""))
}

/// How that paragraph begins on each page.
const BAD: &str = "**Bad at**";

fn shown<'a>(
    question: &Question,
    run: &'a Run,
    asked: &'a Workload,
    contestant: &Contestant,
) -> Option<Shown<'a>> {
    let mut lines = lines(run, asked).into_iter();
    let line = lines.find(|line| line.contestant.name == contestant.name)?;
    let objections: Vec<Option<String>> =
        line.cells.iter().map(|cell| objection_to(cell, contestant, question)).collect();
    let held = objections.iter().filter(|objection| objection.is_none()).count();
    let blocks = objections.len();
    Some(Shown { line, held, blocks, objection: objections.into_iter().flatten().next() })
}

fn objection_to(cell: &Cell, contestant: &Contestant, question: &Question) -> Option<String> {
    if contestant.many_workers && question.connections as usize > WORKERS_MAX {
        return Some(format!(
            "{} connections each hold a worker, of which there are {WORKERS_MAX} at most",
            question.connections
        ));
    }
    let Some(outcome) = &cell.outcome else {
        let why = cell.failure.as_ref().or(cell.unavailable.as_ref());
        return Some(why.map_or("not measured", String::as_str).to_owned());
    };
    if outcome.idle_held < question.idle() {
        let (held, idle) = (outcome.idle_held, question.idle());
        return Some(format!("{held} of {idle} idle connections held"));
    }
    let is_client_bound =
        outcome.verdict.as_ref().is_some_and(|verdict| verdict.word == Word::ClientBound);
    let reason =
        if is_client_bound { ", CLIENT-BOUND: the load generator was at its end" } else { "" };
    objection(outcome, question.bound()).map(|why| format!("{why}{reason}"))
}

/// Few blocks tell little apart; what is dearer than this is still not called equal.
const ALIKE_RATIO: f64 = 1.1;

/// The cheapest by processor time; of those that are about as cheap and not told apart from it, the
/// simplest, which comes first in the catalogue. With it, the others of these.
fn recommended<'a, 'b>(
    holding: &[&'b Shown<'a>],
    ranking: &Ranking,
) -> Option<(&'b Shown<'a>, Vec<&'b Shown<'a>>)> {
    let cheapest = holding.iter().min_by(|a, b| cost(a).total_cmp(&cost(b)))?;
    let is_alike = |one: &&&Shown<'_>| {
        cost(one) <= cost(cheapest) * ALIKE_RATIO
            && !ranking.tells_apart(&one.line.name(), &cheapest.line.name())
    };
    let mut alike: Vec<&Shown<'_>> = holding.iter().filter(is_alike).copied().collect();
    alike.sort_by_key(|one| one.line.contestant.order);
    let best = alike.remove(0);
    Some((best, alike))
}

fn recommendation(question: &Question, best: &Shown<'_>, alike: &[&Shown<'_>]) -> String {
    let p99 =
        spread(best.line.at_the_end(|outcome| outcome.response_us.p99).into_iter().map(second));
    let replies = best.line.at_the_end(|outcome| outcome.requests as f64).into_iter().map(second);
    let fewest = spread(replies).map_or(0.0, |replies| replies.low);
    let p99_ms = p99.map_or(String::new(), |p99| {
        let p99_ms = number(p99.high / 1e3);
        format!(" with a p99 of {p99_ms} ms at worst, of {} replies or more", number(fewest))
    });
    let memory = spread(best.line.footprints().into_iter().map(second));
    let memory = memory.map_or(String::new(), |bytes| {
        format!(", {} MiB", number(bytes.median / f64::from(1 << 20)))
    });
    let alike: Vec<String> = alike.iter().map(|one| with_cost(one)).collect();
    let alike = if alike.is_empty() {
        String::new()
    } else {
        let alike = alike.join(", ");
        format!(" Not told apart from it by processor time, and less simple: {alike}.")
    };
    format!(
        "Recommendation: {}. It held {} requests a second in {} of {} blocks{p99_ms}, at {} µs of \
         processor time a request{memory}.{alike}",
        best.line.contestant.name,
        question.rate,
        best.held,
        best.blocks,
        number(cost(best)),
    )
}

/// Whether the recommended one holds more, too.
fn room(question: &Question, run: &Run, more: &Workload, best: &Contestant) -> Option<String> {
    let shown = shown(question, run, more, best)?;
    let rate = number(question.rate * MORE);
    Some(match shown.objection {
        None => format!("Room: it held {rate} a second as well, in every block."),
        Some(why) => {
            let (held, blocks) = (shown.held, shown.blocks);
            format!("Room: it held {rate} a second in {held} of {blocks} blocks ({why}).")
        }
    })
}

fn failure(one: &Shown<'_>) -> String {
    let why = one.objection.as_deref().unwrap_or("not measured");
    let blocks = match one.held {
        0 => String::new(),
        held => format!(", though it held in {held} of {} blocks", one.blocks),
    };
    format!("{} ({why}{blocks})", one.line.contestant.name)
}

fn with_cost(one: &Shown<'_>) -> String {
    format!("{} ({} µs)", one.line.contestant.name, number(cost(one)))
}

fn cost(one: &Shown<'_>) -> f64 {
    let spread = spread(one.line.cost().into_iter().map(second));
    spread.map_or(f64::INFINITY, |spread| spread.median)
}

fn second((_, value): (u32, f64)) -> f64 {
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_architecture_says_on_its_page_how_it_fails() {
        let catalogue = crate::catalogue::discover().unwrap();
        for one in &catalogue.architectures {
            let text = how_it_fails(&catalogue.root, &one.name);
            assert!(text.is_some_and(|text| text.starts_with("Bad at ")), "{}", one.name);
        }
    }
}
