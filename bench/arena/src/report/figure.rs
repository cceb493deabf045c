//! Figures: the bar of a row, and the heat map as a file of its own, which a README can show.
//!
//! A file has its colours with it, dark and light, and a ground of its own: what surrounds it is
//! not known.

use maud::{Markup, PreEscaped, html};

use super::answers;
use super::standing::{MULTIPLE, Place, Standing, family, standings};
use super::terminal::wrapped;
use crate::progress::counted;
use crate::record::Run;
use crate::stats::Spread;
use crate::table::number;
use crate::workload::Workload;

pub(super) const PALETTE: &str = include_str!("assets/palette.css");
const FIGURE: &str = include_str!("assets/figure.css");

/// In pixels, as in the style of the page.
const BAR_WIDTH: f64 = 136.0;

const ROW: f64 = 26.0;
/// The heat map's lines of words above and below, those of the answer aside.
const ABOVE: f64 = 72.0;
const ANSWER_LINE: f64 = 19.0;
const BELOW: f64 = 104.0;
/// Of letters, about: names are set in a font that is not known.
const LETTER: f64 = 7.2;
/// With more workloads than this their names stand upright.
pub(super) const NAMES_ACROSS_MAX: usize = 8;
/// Beside the words.
const MARGIN: f64 = 16.0;
/// The words above and below need so much.
const WIDTH_MIN: f64 = 720.0;

/// From nothing to the greatest of a table: the median, and the least and the greatest block.
pub(super) fn bar(standing: &Standing<'_>, greatest: f64) -> Markup {
    let Some(Spread { median, low, high }) = standing.spread else {
        return html! {};
    };
    let x = |value: f64| format!("{:.1}", value / greatest * BAR_WIDTH);
    let (left, right) = (x(low), x(high));
    html! {
        svg.bar.(family(standing.line.contestant)) aria-hidden="true" {
            title { (standing.place_in_words()) }
            rect.fill y="3" width=(x(median)) height="10" {}
            path.range d=(format!("M{left} 8H{right}M{left} 5v6M{right} 5v6")) {}
        }
    }
}

/// The greatest value of a table, which its bars end at.
pub(super) fn greatest(standings: &[&Standing<'_>]) -> f64 {
    let highs = standings.iter().filter_map(|one| Some(one.spread?.high));
    highs.fold(f64::MIN_POSITIVE, f64::max)
}

/// Where the parts of the heat map lie.
struct Layout {
    are_names_across: bool,
    left: f64,
    top: f64,
    cell: f64,
    width: f64,
    /// Of the cells.
    bottom: f64,
    /// The answer in lines that fit.
    answer: Vec<String>,
}

impl Layout {
    fn of(names: &[&str], workloads: &[Workload], summary: &[String]) -> Self {
        let width = |longest: Option<usize>| LETTER * longest.unwrap_or(0) as f64;
        let are_names_across = workloads.len() <= NAMES_ACROSS_MAX;
        let left = 24.0 + width(names.iter().map(|one| one.chars().count()).max());
        let upright = width(workloads.iter().map(|one| one.name.chars().count()).max());
        let cell = if are_names_across { 96.0 } else { 58.0 };
        let width = (left + cell * workloads.len() as f64 + 16.0).max(WIDTH_MIN);
        let letters = ((width - 2.0 * MARGIN) / LETTER) as usize;
        let lines = summary.iter().map(|sentence| wrapped(sentence, 0, Some(letters)));
        let answer: Vec<String> =
            lines.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        let above = ABOVE + ANSWER_LINE * answer.len() as f64;
        let top = above + if are_names_across { 24.0 } else { 14.0 + upright };
        let bottom = top + ROW * names.len() as f64;
        Self { are_names_across, left, top, cell, width, bottom, answer }
    }

    fn x(&self, column: usize) -> f64 {
        self.left + self.cell * column as f64
    }

    fn y(&self, row: usize) -> f64 {
        self.top + ROW * row as f64
    }

    fn names_above(&self, workloads: &[Workload]) -> Markup {
        html! {
            @for (column, workload) in workloads.iter().enumerate() {
                @let x = self.x(column) + self.cell / 2.0;
                @if self.are_names_across {
                    text.middle x=(x) y=(self.top - 9.0) { (workload.name) }
                } @else {
                    @let place = format!("translate({} {}) rotate(-90)", x + 4.0, self.top - 8.0);
                    text transform=(place) { (workload.name) }
                }
            }
        }
    }

    fn cell(&self, (row, column): (usize, usize), standing: &Standing<'_>) -> Markup {
        let (text, class) = standing.cell();
        let (x, y) = (self.x(column), self.y(row));
        let middle = x + self.cell / 2.0;
        // A code of two words has a line for each.
        let (words, size) = match standing.place {
            Place::Void(verdict) => (verdict.code().split(' ').collect(), "code"),
            _ => (vec![text.as_str()], "number"),
        };
        let first = y + 17.0 - 5.0 * (words.len() - 1) as f64;
        html! {
            g.(class) {
                title { (standing.words()) }
                rect x=(x + 1.0) y=(y + 1.0) width=(self.cell - 2.0) height=(ROW - 2.0) rx="3" {}
                @for (line, word) in words.iter().enumerate() {
                    text.middle.(size) x=(middle) y=(first + 10.0 * line as f64) { (word) }
                }
            }
        }
    }
}

/// Architecture by workload: each as a multiple of the lowest of its column.
pub(super) fn heat_map(run: &Run) -> String {
    let workloads = &run.header.workloads;
    let columns: Vec<Vec<Standing<'_>>> =
        workloads.iter().map(|workload| standings(run, workload)).collect();
    let contestants = run.header.contestants.iter().filter(|one| !one.floor);
    let names: Vec<&str> = contestants.map(|one| one.name.as_str()).collect();
    let answers = answers::of(run);
    let layout = Layout::of(&names, workloads, &answers.summary());
    let (width, height) = (layout.width, layout.bottom + BELOW);
    let machine = &run.header.machine;
    let cores = counted(machine.cores, "processor");
    let markup = html! {
        svg xmlns="http://www.w3.org/2000/svg" role="img" width=(width) height=(height)
            viewBox=(format!("0 0 {width} {height}")) aria-labelledby="title words" {
            title id="title" { "What each architecture costs, as a multiple of the lowest" }
            desc id="words" {
                "Architecture by workload; README.md in the same folder has the numbers."
            }
            style { (PreEscaped(PALETTE)) (PreEscaped(FIGURE)) }
            rect.ground x="0.5" y="0.5" width=(width - 1.0) height=(height - 1.0) rx="8" {}
            text.title x=(MARGIN) y="28" { "Cost by workload, as a multiple of the lowest" }
            text.quiet x=(MARGIN) y="48" {
                (run.header.profile) " run of " (&run.header.started[..10]) ", " (machine.cpu) ", "
                (cores) "; processor time for each request, or for each byte of files"
            }
            @for (line, text) in layout.answer.iter().enumerate() {
                text.answer x=(MARGIN) y=(ABOVE + ANSWER_LINE * line as f64) { (text) }
            }
            (layout.names_above(workloads))
            @for (row, name) in names.iter().enumerate() {
                text.end x=(layout.left - 10.0) y=(layout.y(row) + 17.0) { (name) }
                @for (column, standings) in columns.iter().enumerate() {
                    @let mut standings = standings.iter();
                    @if let Some(one) = standings.find(|one| one.line.contestant.name == *name) {
                        (layout.cell((row, column), one))
                    }
                }
            }
            (legend(layout.bottom + 26.0, answers.meaning().is_some()))
        }
    };
    markup.into_string() + "\n"
}

fn legend(y: f64, has_leads: bool) -> Markup {
    let steps = super::standing::STEPS;
    let mut entries = vec![
        ("lowest".to_owned(), "lowest".to_owned(), 80.0),
        ("unsure".to_owned(), "? in the lead with it".to_owned(), 160.0),
    ];
    let mut from = "above".to_owned();
    for (number, step) in steps.iter().enumerate() {
        let words = if number == 0 { format!("to {step}") } else { format!("{from}–{step}") };
        entries.push((format!("step-{number}"), words, 84.0));
        from = step.to_string();
    }
    entries.push((format!("step-{}", steps.len()), format!("{from} and more"), 100.0));
    let mut x = 16.0;
    let placed = entries.into_iter().map(|(class, words, width)| {
        let at = x;
        x += width;
        (at, class, words)
    });
    let placed: Vec<_> = placed.collect();
    html! {
        @for (x, class, words) in placed {
            g.(class) { rect x=(x) y=(y - 11.0) width="16" height="14" rx="3" {} }
            text.quiet x=(x + 22.0) y=(y) { (words) }
        }
        text.quiet x=(MARGIN) y=(y + 26.0) {
            "† did not serve every connection, or answer all that was due: no answer. "
            "Capitals: nothing that counts."
        }
        text.quiet x=(MARGIN) y=(y + 44.0) { (MULTIPLE) }
        text.quiet x=(MARGIN) y=(y + 62.0) {
            @if has_leads { "In the lead: with 95% confidence the cheapest is among these. " }
            "Intervals: results/README.md"
        }
    }
}

/// A number of the lowest, for a legend.
pub(super) fn scale(greatest: f64) -> String {
    format!("0 to {}", number(greatest))
}
