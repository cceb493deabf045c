//! A snapshot of the report of a small made-up calibration.

use std::collections::BTreeMap;

use loadgen::selftest::Check;
use loadgen::{Arrivals, Engine, Summary, Verdict, Word};

use super::*;
use crate::calibration::Plan;
use crate::record::Header;
use crate::report::tests::machine;

fn found(question: Question, client: &Client, noise: f64) -> Found {
    let cost_us = if client.is_wrk() { 10.0 } else { 7.0 } + noise;
    let word = if noise > 0.1 { Word::Valid } else { Word::ClientBound };
    let lag = Summary { p50: 1.0 + noise, p99: 49.0 + noise, ..Summary::default() };
    let outcome = Outcome {
        verdict: Some(Verdict { word, reason: String::new(), also: Vec::new() }),
        rate_per_s: 50_000.0 * (1.0 + noise / 1000.0),
        rate_intended_per_s: Some(50_000.0),
        schedule_lag_us: Some(lag),
        response_us: Summary { p99: 300.0, ..Summary::default() },
        ..Outcome::default()
    };
    let held = match question {
        Question::Hold { connections } => Some((3 << 20) + connections as u64 * 1024),
        _ => None,
    };
    Found {
        requests: 100_000,
        errors: u64::from(client.is_wrk() && noise > 0.4),
        rate_per_s: 1e6 / cost_us,
        cpu_s: cost_us / 10.0,
        elapsed_s: 1.0,
        pss_bytes: held,
        server_cpu_s: 0.8,
        machine_busy_s: 1.9,
        outcome: (!client.is_wrk()).then_some(outcome),
    }
}

fn truth(has_wrk: bool) -> Findings {
    let (case, figure) = ("1 s of 10 silent", "response p99 ms");
    let check = |measured| Check {
        case: case.to_owned(),
        figure: figure.to_owned(),
        expected: 900.0,
        measured,
        low: 890.0,
        high: 1000.0,
    };
    let [client, case, figure] = ["wrk", case, figure].map(str::to_owned);
    let beside = Beside { client, case, figure, measured: 970.0 };
    let beside = if has_wrk { vec![beside] } else { Vec::new() };
    Findings { checks: vec![check(905.0), check(2.0)], beside }
}

fn run(clients: Vec<Client>, blocks: u32) -> Run<Cell> {
    let mut cells = Vec::new();
    for block in 1..=blocks {
        for question in Question::all() {
            for client in clients.iter().filter(|client| question.is_for(client)) {
                let is_bad = question == Question::Keep { arrivals: Arrivals::Poisson };
                let failure = (is_bad && block == 2).then(|| "it did not end: killed".to_owned());
                let found = found(question, client, f64::from(block) / 10.0);
                cells.push(Cell {
                    question,
                    client: client.name(),
                    block,
                    position: 1,
                    found: failure.is_none().then_some(found),
                    failure,
                    truth: None,
                });
            }
        }
    }
    cells.push(Cell {
        question: Question::Truth,
        client: clients[0].name(),
        block: 1,
        position: 99,
        failure: None,
        found: None,
        truth: Some(truth(clients.iter().any(Client::is_wrk))),
    });
    let header = Header {
        format: 1,
        started: "2026-01-02T03:04:05Z".to_owned(),
        profile: "calibration".to_owned(),
        seed: 7,
        machine: machine(),
        contestants: Vec::new(),
        workloads: Vec::new(),
        twins: BTreeMap::new(),
        resumed: Vec::new(),
        programs: BTreeMap::new(),
        client: None,
        calibration: Some(Plan { blocks, duration_s: 1, clients }),
    };
    Run { name: "20260102T030405Z-calibration".to_owned(), header, cells }
}

fn markdown(run: &Run<Cell>) -> String {
    let mut text = String::new();
    section(&mut text, run);
    text
}

#[test]
fn each_target_stands_beside_the_figure_that_meets_it_or_does_not() {
    let wrk = Client::Wrk { version: "wrk 4.1".to_owned() };
    let run = run(vec![Client::Loadgen { engine: Engine::Epoll }, wrk], 5);
    assert!(run.whole());
    insta::assert_snapshot!(markdown(&run));
    for row in targets(&run).rows {
        assert!(for_terminal(&run, None).contains(&row[0]), "{row:?}");
    }
}

#[test]
fn without_wrk_nothing_is_compared_and_the_report_says_so() {
    let run = run(vec![Client::Loadgen { engine: Engine::Epoll }], 1);
    assert!(markdown(&run).contains("wrk was not installed"));
    let rows = targets(&run).rows;
    let judged = rows.iter().filter(|row| row[0].contains("wrk"));
    assert!(judged.clone().count() == 2 && judged.clone().all(|row| row[3] == "not measured"));
}
