//! What the page and the figure hold, whatever the records say.

use hdrhistogram::Histogram;

use super::*;
use crate::catalogue::Io;
use crate::report::figure::heat_map;
use crate::report::tests::{
    cell, contestant, encoded, run, run_at_a_rate, run_beside_a_peer, workload,
};
use crate::shares::Share;
use crate::table::table;

/// What a reader sees of it.
fn text_of(page: &str) -> String {
    let mut text = String::new();
    let body = page.rsplit_once("<script>").map_or(page, |(body, _)| body);
    for piece in body.split('<').skip(1) {
        text.push_str(piece.split_once('>').map_or("", |(_, text)| text));
    }
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}

/// Replies in every power of two of microseconds, fewer of the slow ones.
fn histogram() -> String {
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 1 << 40, 3).unwrap();
    for power in 0..14 {
        let replies = 40_000 >> power;
        for part in 0..50_u64 {
            let nanoseconds = (1000 << power) * (50 + part) / 50;
            histogram.record_n(nanoseconds, replies).unwrap();
        }
    }
    encoded(&histogram)
}

#[test]
fn the_page_has_the_rows_answers_and_remarks_of_the_tables() {
    for run in [run(), run_at_a_rate(), run_beside_a_peer()] {
        let text = text_of(&of(std::slice::from_ref(&run), &[]));
        for workload in &run.header.workloads {
            let table = table(&run, workload);
            assert!(!table.rows.is_empty());
            for expected in table.rows.iter().flatten().chain(&table.remarks) {
                assert!(text.contains(expected.as_str()), "{expected}");
            }
        }
        let answers = answers::of(&run);
        for answer in answers.rows.iter().flat_map(|(_, row)| row) {
            let Ok(lead) = &answer.lead else { continue };
            for behind in lead.next.iter().chain(&lead.last) {
                assert!(text.contains(&behind.text()));
            }
            assert!(lead.names.iter().all(|name| text.contains(name)));
        }
        for sentence in answers.summary().iter().chain(&answers.table().remarks) {
            assert!(text.contains(sentence), "{sentence}");
        }
    }
}

#[test]
fn the_page_opens_with_the_answer_and_what_was_void() {
    let text = text_of(&of(&[run()], &[]));
    let place = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words} in {text}"));
    let order = [
        "The answer",
        "In the lead by processor time: pool and threads in the only workload.",
        "pool 9.20 µswith it threads",
        "What these answers leave open",
        "What was void, and why",
        "STARVED: no request was answered",
        "herd: pool",
        "FAILED: the server did not start",
        "plaintext: broken",
        "HTTP /plaintext, 64 connections",
    ]
    .map(place);
    assert!(order.is_sorted(), "{order:?}");
}

#[test]
fn the_heat_map_tells_the_lowest_its_equals_those_that_are_no_answer_and_what_is_void() {
    let text = text_of(&heat_map(&run()));
    for expected in
        ["lowest", "1.01 ?", "0.76 †", "FAILED", "in the lead with it", "(peer)", "herd"]
    {
        assert_eq!(text.contains(expected), expected != "(peer)", "{expected} in {text}");
    }
    assert!(text.contains("In the lead by processor time") && text.contains("95%"), "{text}");
}

#[test]
fn a_multiple_below_1_is_explained_where_it_stands() {
    // The least of the medians, and dearer than the other in three blocks of five.
    let least = [10.0, 10.0, 10.1, 19.0, 20.0];
    let paired = [11.0, 11.0, 10.0, 15.0, 16.0];
    let mut run = run();
    run.header.workloads.truncate(1);
    run.cells.clear();
    for block in 0..5 {
        for (name, costs) in [("threads", least), ("pool", paired)] {
            run.cells.push(cell("plaintext", name, block as u32 + 1, costs[block], 1000.0));
        }
    }
    let figure = text_of(&heat_map(&run));
    assert!(figure.contains("lowest") && figure.contains("0.99 ?"), "{figure}");
    assert!(figure.contains(MULTIPLE), "{figure}");
    assert!(text_of(&of(&[run], &[])).contains(MULTIPLE));
}

#[test]
fn a_curve_is_drawn_only_of_latencies_that_count() {
    let mut run = run_at_a_rate();
    for cell in &mut run.cells {
        cell.outcome.as_mut().unwrap().response_histogram = Some(histogram());
    }
    let curves = Curves::of(&run, &run.header.workloads[0]);
    assert_eq!(curves.missing(), ["serial (NON-STATIONARY)"]);
    let table = curves.table();
    assert_eq!((&*table.rows[0][0], &*table.rows[1][0]), ("threads", "pool"));
    // One of the five blocks of `threads` was disturbed.
    let replies = |row: usize| table.rows[row][1].replace(',', "").parse::<u64>().unwrap();
    assert_eq!(replies(0) * 5, replies(1) * 4);
    assert_eq!(table.rows[0][2], table.rows[1][2]);
    let chart = curves.chart().into_string();
    assert_eq!(chart.matches("class=\"line\"").count(), 2);
    assert!(chart.contains("role=\"img\"") && chart.contains("aria-label=\"Response time by"));
}

#[test]
fn all_levels_of_a_series_stand_in_one_table_and_are_filtered_together() {
    let mut run = run_at_a_rate();
    let level = |name: &str| {
        let series = Some("rates".to_owned());
        Workload { name: name.to_owned(), series, ..run.header.workloads[0].clone() }
    };
    let levels = vec![level("rates-1"), level("rates-2")];
    let cells = levels.iter().flat_map(|level| {
        let of = |cell: &crate::record::Cell| crate::record::Cell {
            workload: level.name.clone(),
            ..cell.clone()
        };
        run.cells.iter().map(of).collect::<Vec<_>>()
    });
    run.cells = cells.collect();
    run.header.workloads = levels;
    let page = of(std::slice::from_ref(&run), &[]);
    let sections = sections(&run);
    assert_eq!(sections.len(), 1);
    let cell = &sections[0].table.rows[0][1];
    assert!(cell.contains(" → ") && page.contains(cell.as_str()), "{cell}");
    for (expected, times) in [
        ("<section class=\"workload\" id=\"quick-rates\"", 1),
        ("type=\"checkbox\" checked autocomplete=\"off\" value=\"rates\"", 1),
        ("href=\"#quick-rates\"", 4),
        ("<th scope=\"row\">threads</th>", 2),
    ] {
        assert_eq!(page.matches(expected).count(), times, "{expected}");
    }
}

#[test]
fn how_workers_shared_is_on_the_page() {
    let mut run = run();
    run.header.workloads.truncate(1);
    run.header.workloads[0].variants = true;
    let rows = |page: &str| page.matches("<th scope=\"row\">pool</th>").count();
    let count_without = rows(&of(&[run.clone()], &[]));
    for cell in run.cells.iter_mut().filter(|cell| cell.contestant == "pool") {
        let share = |connections| Share { connections, requests: 10 * connections };
        cell.workers = Some(vec![share(12), share(52)]);
    }
    let shares = shares(&run, &run.header.workloads[0]).unwrap();
    assert_eq!(shares.rows, [["pool", "2", "12", "52", "0.72", "120", "520", "0.72"]]);
    let page = of(&[run], &[]);
    let text = text_of(&page);
    for expected in shares.columns.iter().chain([&SHARES]) {
        assert!(text.contains(expected), "{expected}");
    }
    assert!(shares.rows[0].iter().all(|cell| text.contains(cell)));
    assert_eq!(rows(&page), count_without + 1);
}

#[test]
fn what_a_record_says_is_text_and_no_markup() {
    let evil = "<script>alert(1)</script>\"'&";
    let mut run = run();
    run.header.machine.cpu = evil.to_owned();
    for workload in &mut run.header.workloads {
        let named = format!("{}{evil}", workload.name);
        let old = std::mem::replace(&mut workload.name, named);
        for cell in run.cells.iter_mut().filter(|cell| cell.workload == old) {
            cell.workload.clone_from(&workload.name);
        }
        (workload.title, workload.question) = (evil.to_owned(), evil.to_owned());
    }
    run.header.contestants[3].name = evil.to_owned();
    for cell in run.cells.iter_mut().filter(|cell| cell.contestant == "broken") {
        (cell.contestant, cell.failure) = (evil.to_owned(), Some(evil.to_owned()));
    }
    let figure = heat_map(&run);
    let page = of(&[run], &[]);
    for markup in [&page, &figure] {
        assert!(!markup.contains("<script>alert") && !markup.contains(")</script>\""));
        assert!(text_of(markup).contains(evil));
    }
    assert_eq!(page.matches("<script>").count(), 1, "its own");
}

#[test]
fn the_page_names_no_place_on_the_network() {
    let page = of(&[run(), run_beside_a_peer()], &[]);
    for place in ["://", "url(", "@import", " src="] {
        assert!(!page.contains(place), "{place}");
    }
    assert!(!heat_map(&run()).replace("http://www.w3.org/2000/svg", "").contains("://"));
}

/// Thirty contestants under forty-six workloads, fourteen of which are levels of two series.
fn full_run() -> Run {
    let mut run = run();
    let names: Vec<String> =
        (0..30).map(|number| format!("an-architecture-of-name-{number}")).collect();
    let of_io = |number: usize| [Io::Threads, Io::Processes, Io::Epoll][number % 3];
    run.header.contestants = names
        .iter()
        .enumerate()
        .map(|(number, name)| contestant(name, number as u32, of_io(number), number > 27))
        .collect();
    let level = |number: usize| match number {
        32..41 => Some(("concurrency", number - 31)),
        41.. => Some(("rates", number - 40)),
        _ => None,
    };
    let numbered = |number: usize| match level(number) {
        Some((series, level)) => Workload {
            connections: level,
            series: Some(series.to_owned()),
            ..workload(&format!("{series}-{level}"))
        },
        None => workload(&format!("a-workload-{number}")),
    };
    run.header.workloads = (0..46).map(numbered).collect();
    run.cells.clear();
    let histogram = histogram();
    let mut random = fastrand::Rng::with_seed(3);
    for (at, workload) in run.header.workloads.iter().enumerate() {
        for (number, name) in names.iter().enumerate() {
            for block in 1..=5 {
                let noise = 1.0 + 0.05 * random.f64();
                let cpu_us = (10.0 + ((number * 7 + at * 3) % 30) as f64) * noise;
                let mut cell = cell(&workload.name, name, block, cpu_us, 1e6 / cpu_us);
                // One block's is enough for a curve.
                if block == 1 {
                    cell.outcome.as_mut().unwrap().histogram.clone_from(&histogram);
                }
                run.cells.push(cell);
            }
        }
    }
    run
}

#[test]
fn the_page_of_a_full_run_is_under_two_megabytes() {
    let page = of(&[full_run()], &[]);
    assert_eq!(page.matches("class=\"line\"").count(), 30 * 46);
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
}
