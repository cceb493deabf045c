//! The answer in words, from the cells of a run.

use std::fs;
use std::path::Path;

use hdrhistogram::Histogram;
use loadgen::Word;

use super::{MORE, Question, WORKERS_MAX};
use crate::capacity::{ARRIVALS, keeps_up, objection};
use crate::catalogue::Contestant;
use crate::ranking::Ranking;
use crate::record::{Cell, Run};
use crate::series::THEN;
use crate::stats::spread;
use crate::table::{Line, NOTHING, Table, lines, number};
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

/// What each architecture has shown, at what is asked for and then at more.
pub(super) fn table(question: &Question, run: &Run) -> Table {
    let columns = vec!["architecture", "held", "p99 ms", "replies", "CPU µs/request", "MiB"];
    let row = |contestant: &Contestant| {
        let levels = run.header.workloads.iter();
        let levels = levels.filter_map(|level| shown(question, run, level, contestant));
        let cells: Vec<[String; 5]> = levels.map(|one| one.cells()).collect();
        let column = |index: usize| {
            let values: Vec<&str> = cells.iter().map(|level| level[index].as_str()).collect();
            values.join(THEN)
        };
        [contestant.name.clone()].into_iter().chain((0..5).map(column)).collect()
    };
    let rates: Vec<String> = run
        .header
        .workloads
        .iter()
        .filter_map(|level| Some(format!("{} a second", level.rate.as_ref()?)))
        .collect();
    let remarks = vec![
        format!(
            "held: the blocks in which it answered {} with a p99 within {} ms.",
            rates.join(THEN),
            question.p99_ms
        ),
        format!(
            "p99: of the replies of all blocks together, for a block alone has too few, where it \
             held in each. It should rest on {} replies; what disturbs it makes it higher, never \
             lower.",
            number(ARRIVALS)
        ),
    ];
    Table { columns, rows: run.header.contestants.iter().map(row).collect(), remarks }
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
    let (holding, failing): (Vec<_>, Vec<_>) = shown.iter().partition(|one| one.holds());
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
    let behind = || {
        let (answered, due) = (outcome.requests, outcome.arrivals);
        (!keeps_up(outcome)).then(|| format!("{answered} of {due} answered"))
    };
    let why = objection(outcome, question.bound()).or_else(behind);
    why.map(|why| format!("{why}{reason}"))
}

impl Shown<'_> {
    fn holds(&self) -> bool {
        self.blocks > 0 && self.held == self.blocks
    }

    /// The response times of all blocks together, in nanoseconds, where it held in each.
    fn responses(&self) -> Option<Histogram<u64>> {
        let outcomes = self.line.cells.iter().filter_map(|cell| cell.outcome.as_ref());
        let blobs = outcomes.filter_map(|outcome| outcome.response_histogram.as_ref());
        let mut decoded = blobs.filter_map(|blob| loadgen::decode(blob).ok());
        let mut sum = decoded.next().filter(|_| self.holds())?;
        decoded.try_for_each(|one| sum.add(&one)).ok()?;
        Some(sum).filter(|sum| !sum.is_empty())
    }

    /// What the table has of it.
    fn cells(&self) -> [String; 5] {
        let held = format!("{}/{}", self.held, self.blocks);
        let nothing = || NOTHING.to_owned();
        let (p99, replies) = self.responses().map_or((nothing(), nothing()), |responses| {
            (p99_ms(&responses), number(responses.len() as f64))
        });
        let cost = if cost(self).is_finite() { number(cost(self)) } else { nothing() };
        [held, p99, replies, cost, self.mib().unwrap_or_else(nothing)]
    }

    /// The memory of all its processes under load.
    fn mib(&self) -> Option<String> {
        let spread = spread(self.line.footprints().into_iter().map(second))?;
        Some(number(spread.median / f64::from(1 << 20)))
    }
}

fn p99_ms(responses: &Histogram<u64>) -> String {
    number(responses.value_at_quantile(0.99) as f64 / 1e6)
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
    let p99 = best.responses().map_or(String::new(), |responses| {
        let replies = responses.len() as f64;
        let rough = if replies < ARRIVALS { ", too few to be sure of it" } else { "" };
        let p99_ms = p99_ms(&responses);
        format!(" with a p99 of {p99_ms} ms, of {} replies in all{rough}", number(replies))
    });
    let memory = best.mib().map_or(String::new(), |mib| format!(", {mib} MiB"));
    let alike: Vec<String> = alike.iter().map(|one| with_cost(one)).collect();
    let alike = if alike.is_empty() {
        String::new()
    } else {
        let alike = alike.join(", ");
        format!(" Not told apart from it by processor time, and less simple: {alike}.")
    };
    format!(
        "Recommendation: {}. It held {} requests a second in {} of {} blocks{p99}, at {} µs of \
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
    use crate::advise::tests::question;
    use crate::catalogue::Io;
    use crate::report::tests::{cell, contestant, encoded};

    /// At the rate that is asked for, and at more: a good one, one that is dearer, and one that is
    /// cheap and answers few. A block alone has too few replies for a percentile.
    fn run() -> Run {
        let mut run = crate::report::tests::run();
        run.header.workloads = question().workloads(3);
        run.header.contestants = ["good", "dear", "few"]
            .iter()
            .zip(1..)
            .map(|(name, order)| contestant(name, order, Io::Threads, false))
            .collect();
        run.cells.clear();
        for workload in &run.header.workloads {
            for (name, cpu_us) in [("good", 300.0), ("dear", 600.0), ("few", 200.0)] {
                for block in 1..=3 {
                    let mut cell = cell(&workload.name, name, block, cpu_us, 400.0);
                    let outcome = cell.outcome.as_mut().unwrap();
                    (outcome.arrivals, outcome.sent) = (400, 400);
                    outcome.requests = if name == "few" { 99 } else { 400 };
                    outcome.rate_intended_per_s = Some(400.0);
                    outcome.idle_held = question().idle();
                    let word = Word::UnderSampled;
                    let (reason, also) = ("400 replies".to_owned(), Vec::new());
                    outcome.verdict = Some(loadgen::Verdict { word, reason, also });
                    let mut responses = Histogram::new(3).unwrap();
                    responses.record_n(21_000_000, 390).unwrap();
                    responses.record_n(27_000_000, 10).unwrap();
                    outcome.response_histogram = Some(encoded(&responses));
                    run.cells.push(cell);
                }
            }
        }
        run
    }

    #[test]
    fn the_p99_that_is_told_is_that_of_the_table_and_rests_on_all_blocks() {
        let run = run();
        let table = table(&question(), &run);
        let p99 = table.rows[0][2].split(THEN).next().unwrap();
        assert_eq!(table.rows[0][..2], ["good", "3/3 → 3/3"]);
        assert_eq!((p99, table.rows[0][3].as_str()), ("27.0", "1,200 → 1,200"));
        let told = answer(&question(), &run, |_| None).join("\n");
        let expected = format!(
            "Recommendation: good. It held 400 requests a second in 3 of 3 blocks with a p99 of \
             {p99} ms, of 1,200 replies in all, at 300 µs"
        );
        assert!(told.contains(&expected), "{told}");
        let text = crate::report::table_for_terminal(&table, &run, None);
        assert!(!text.contains("UNDER-SAMPLED"), "{text}");
    }

    #[test]
    fn who_does_not_hold_is_no_alternative_and_has_no_p99() {
        let run = run();
        assert_eq!(table(&question(), &run).rows[2][1..4], ["0/3 → 0/3", "– → –", "– → –"]);
        let told = answer(&question(), &run, |_| None);
        assert!(told.contains(&"Dearer, but they hold as well: dear (600 µs).".to_owned()));
        assert_eq!(told.last().unwrap(), "Did not hold: few (99 of 400 answered).");
    }

    #[test]
    fn too_few_replies_are_told() {
        let mut run = run();
        run.cells.retain(|cell| cell.block == 1);
        let told = answer(&question(), &run, |_| None).join("\n");
        assert!(told.contains("of 400 replies in all, too few to be sure of it"), "{told}");
    }

    #[test]
    fn every_architecture_says_on_its_page_how_it_fails() {
        let catalogue = crate::catalogue::discover().unwrap();
        for one in &catalogue.architectures {
            let text = how_it_fails(&catalogue.root, &one.name);
            assert!(text.is_some_and(|text| text.starts_with("Bad at ")), "{}", one.name);
        }
    }
}
