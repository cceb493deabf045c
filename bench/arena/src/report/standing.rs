//! How each contestant stands in a workload: what the charts show of the rows of its table.

use std::collections::BTreeSet;

use hdrhistogram::Histogram;

use crate::catalogue::{Contestant, Io};
use crate::ranking::{End, Ranking, interval};
use crate::record::Run;
use crate::stats::{Comparison, Spread, compare, spread};
use crate::table::{Line, Verdict, lines, number, ranking_column};
use crate::workload::Workload;

/// From these multiples of the lowest on, a colour is a step stronger.
pub(super) const STEPS: [f64; 4] = [1.25, 1.5, 2.0, 4.0];

/// What a multiple of the lowest is, where one below 1 may stand beside it.
pub(super) const MULTIPLE: &str =
    "A multiple is the median of the ratios within blocks, so that one in the lead may be below 1.";

/// A row of a table, by the number that ranks.
pub(super) struct Standing<'a> {
    pub(super) line: Line<'a>,
    pub(super) spread: Option<Spread>,
    pub(super) place: Place,
}

/// What the number says beside that of the lowest that counts as an answer.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Lowest,
    /// Not surely dearer than any other; without a comparison where they have no block in common.
    InTheLead(Option<Comparison>),
    Dearer(Comparison),
    /// A floor, or one that did not do the whole work: no answer, whatever it costs.
    NoAnswer(Option<Comparison>),
    Void(Verdict),
}

/// The standings of a workload, in the order of its table.
pub(super) fn standings<'a>(run: &'a Run, workload: &'a Workload) -> Vec<Standing<'a>> {
    let lines = lines(run, workload);
    let ranking = Ranking::of(run, workload, Line::standings);
    let is_candidate = |line: &Line<'_>| !line.contestant.floor && line.is_answer();
    let named = |name: &str| lines.iter().any(|line| is_candidate(line) && line.name() == name);
    let lead = ranking.nearest(|one| named(&one.name), End::Least);
    let place = |line: &Line<'_>, spread: Option<Spread>| {
        if spread.is_none() {
            return Place::Void(line.worst());
        }
        let Some(lowest) = lead.first() else {
            return Place::NoAnswer(None);
        };
        let leads = lead.iter().any(|leader| leader.name == line.name());
        match compare(&line.standings(), &lowest.blocks) {
            _ if line.name() == lowest.name => Place::Lowest,
            found if leads => Place::InTheLead(found),
            Some(found) if is_candidate(line) => Place::Dearer(found),
            found => Place::NoAnswer(found),
        }
    };
    let standing = |line: &Line<'a>| {
        let (line, spread) = (line.clone(), spread_of(line));
        Standing { place: place(&line, spread), spread, line }
    };
    lines.iter().map(standing).collect()
}

fn spread_of(line: &Line<'_>) -> Option<Spread> {
    spread(line.standings().into_iter().map(|(_, value)| value))
}

impl Standing<'_> {
    /// What a cell of the heat map says, and the class of its colour.
    pub(super) fn cell(&self) -> (String, String) {
        let ratio = |found: Comparison| number(found.ratio);
        match self.place {
            Place::Lowest => ("lowest".to_owned(), "lowest".to_owned()),
            Place::InTheLead(Some(found)) => (format!("{} ?", ratio(found)), "unsure".to_owned()),
            Place::InTheLead(None) => ("?".to_owned(), "unsure".to_owned()),
            Place::Dearer(found) => (ratio(found), step(found.ratio)),
            Place::NoAnswer(Some(found)) => (format!("{} †", ratio(found)), "none".to_owned()),
            Place::NoAnswer(None) => ("†".to_owned(), "none".to_owned()),
            Place::Void(verdict) => (verdict.code().to_owned(), "none".to_owned()),
        }
    }

    /// The same in words, with what is behind it.
    pub(super) fn words(&self) -> String {
        format!("{}, {}: {}", self.line.name(), self.line.workload.name, self.number_in_words())
    }

    /// The number that ranks and its place, where it is known whose it is.
    pub(super) fn number_in_words(&self) -> String {
        let Some(Spread { median, low, high }) = self.spread else {
            return self.line.worst().code().to_owned();
        };
        let (median, low, high) = (number(median), number(low), number(high));
        let about = format!("{median} {} ({low}–{high})", ranking_column(self.line.workload));
        match self.place_in_words() {
            place if place.is_empty() => about,
            place => format!("{about}, {place}"),
        }
    }

    /// The place alone, where the number stands beside it.
    pub(super) fn place_in_words(&self) -> String {
        let ratio = |found: Comparison| format!("{}{}", number(found.ratio), interval(found));
        match self.place {
            Place::Lowest => "the lowest".to_owned(),
            Place::InTheLead(None) => "in the lead, not compared with the lowest".to_owned(),
            Place::InTheLead(Some(found)) => {
                format!("{} times the lowest, in the lead with it", ratio(found))
            }
            Place::Dearer(found) => format!("{} times the lowest", ratio(found)),
            Place::NoAnswer(_) if self.line.contestant.floor => String::new(),
            Place::NoAnswer(_) | Place::Void(_) if self.line.served_all() => {
                "it did not answer all that was due".to_owned()
            }
            Place::NoAnswer(_) | Place::Void(_) => "it did not serve every connection".to_owned(),
        }
    }
}

/// The class of a colour: `step-0` next to the lowest.
fn step(ratio: f64) -> String {
    format!("step-{}", STEPS.iter().filter(|step| ratio >= **step).count())
}

/// The class of what is drawn of a contestant.
pub(super) fn family(contestant: &Contestant) -> &'static str {
    match contestant.io {
        _ if contestant.floor => "floor",
        Io::Threads => "threads",
        Io::Processes => "processes",
        Io::Epoll => "epoll",
    }
}

/// What the families are, with their classes.
pub(super) const FAMILIES: [(&str, &str); 4] = [
    ("threads", "blocking calls in threads"),
    ("processes", "blocking calls in processes"),
    ("epoll", "one wait for all connections"),
    ("floor", "floor"),
];

/// The latencies of all blocks in which they count, together, in nanoseconds; none where none do.
pub(super) fn latencies(line: &Line<'_>) -> Option<Histogram<u64>> {
    if line.worst() == Verdict::ClientBound {
        return None;
    }
    let valid = line.cells.iter().filter(|cell| line.verdict(cell) == Verdict::Valid);
    let blobs = valid.filter_map(|cell| {
        let outcome = cell.outcome.as_ref()?;
        Some(outcome.response_histogram.as_ref().unwrap_or(&outcome.histogram))
    });
    let mut sum: Option<Histogram<u64>> = None;
    for histogram in blobs.filter_map(|blob| loadgen::decode(blob).ok()) {
        match &mut sum {
            None => sum = Some(histogram),
            Some(sum) => sum.add(&histogram).ok()?,
        }
    }
    sum.filter(|sum| !sum.is_empty())
}

/// Every verdict that some cell of a line has, but for those that void nothing.
pub(super) fn voids(line: &Line<'_>) -> BTreeSet<Verdict> {
    let verdicts = line.cells.iter().map(|cell| line.verdict(cell));
    verdicts.filter(|verdict| *verdict != Verdict::Valid).collect()
}
