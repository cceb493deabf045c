//! A table of the report as HTML: numbers to the right, words that void them set apart, and beside
//! the number that ranks its bar.

use maud::{Markup, html};

use crate::report::figure::{bar, scale};
use crate::report::standing::Standing;
use crate::table::{Table, Verdict};

/// The column that has bars beside it, and the value at which they end.
type Charted = (&'static str, f64);

/// The standings are those of the rows, for their bars.
pub(super) fn data_table(
    caption: &str,
    table: &Table,
    standings: &[Option<&Standing<'_>>],
    charted: Option<Charted>,
) -> Markup {
    let is_number =
        |column: usize| column > 0 && table.rows.iter().any(|row| value(&row[column]).is_some());
    let numeric: Vec<bool> = (0..table.columns.len()).map(is_number).collect();
    // Most columns are of numbers; what is none says so.
    let class = |column: usize| (!numeric[column]).then_some("text");
    let is_charted = |column: usize| charted.filter(|(name, _)| *name == table.columns[column]);
    html! {
        .scroll tabindex="0" role="region" aria-label=(format!("Table: {caption}")) {
            table.data {
                caption { span { (caption) } }
                thead {
                    tr {
                        @for (column, name) in table.columns.iter().enumerate() {
                            th class=[class(column)] scope="col" { (name) }
                            @if let Some((_, greatest)) = is_charted(column) {
                                th.chart scope="col" { span { (scale(greatest)) } }
                            }
                        }
                    }
                }
                tbody {
                    @for (number, cells) in table.rows.iter().enumerate() {
                        tr {
                            th scope="row" { (cells[0]) }
                            @let standing = standings.get(number).copied().flatten();
                            @for column in 1..cells.len() {
                                td class=[class(column)] { (cell(&cells[column])) }
                                @if let Some((_, greatest)) = is_charted(column) {
                                    td.chart {
                                        @if let Some(standing) = standing {
                                            (bar(standing, greatest))
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The number that a cell begins with, by which the page's script sorts it, too.
fn value(text: &str) -> Option<f64> {
    let text = text.trim_start_matches(['≥', '≤', '<', '>', ' ']);
    let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, ',' | '.'));
    text[..end.unwrap_or(text.len())].replace(',', "").parse().ok()
}

/// The range behind a number has a place of its own, so that the numbers stand below each other.
fn cell(text: &str) -> Markup {
    let mut codes = Verdict::VOIDS.iter().map(|(verdict, _)| verdict.code());
    if let Some(code) = codes.find(|code| text.ends_with(code)) {
        let before = text.trim_end_matches(code);
        return html! { (before) span.code { (code) } };
    }
    match text.split_once(" (") {
        Some((number, range)) if value(number).is_some() => {
            html! { (number) " " span.range { "(" (range) } }
        }
        _ => html! { (text) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_a_number_if_it_begins_with_one() {
        for (text, expected) in [
            ("12.9 (10.3–17.6)", Some(12.9)),
            ("≥ 94,045 CLIENT-BOUND", Some(94045.0)),
            ("16/64", Some(16.0)),
            ("< 50.0", Some(50.0)),
            ("–", None),
            ("STARVED", None),
            ("a.b", None),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn words_that_void_a_number_and_ranges_are_set_apart() {
        assert_eq!(cell("≥ 9 CLIENT-BOUND").0, "≥ 9 <span class=\"code\">CLIENT-BOUND</span>");
        assert_eq!(cell("9.0 (8.0–9.5)").0, "9.0 <span class=\"range\">(8.0–9.5)</span>");
        assert_eq!(cell("<b> (x)").0, "&lt;b&gt; (x)");
    }
}
