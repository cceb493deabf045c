//! Snapshots of the report of a small made-up run.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};
use loadgen::{Arrivals, Class, FtpOperation, Outcome, Protocol, Rate, Sessions, Summary, Word};

use super::*;
use crate::catalogue::{Contestant, Io};
use crate::machine::{Machine, Placement};
use crate::record::{Cell, Header};
use crate::sample::{Footprint, Used};

pub(crate) fn contestant(name: &str, order: u32, io: Io, floor: bool) -> Contestant {
    Contestant {
        name: name.to_owned(),
        description: String::new(),
        order,
        io,
        floor,
        many_workers: false,
        counts_workers: false,
        variant: false,
        concurrent: true,
        needs: None,
        version: None,
        definition_sha256: None,
        protocols: Vec::new(),
        program: PathBuf::new(),
        arguments: Vec::new(),
        tls: false,
        peer: None,
    }
}

pub(crate) fn workload(name: &str) -> Workload {
    Workload {
        name: name.to_owned(),
        title: "Dispatch".to_owned(),
        question: "What does it cost?".to_owned(),
        expectation: "Little.".to_owned(),
        path: "/plaintext".to_owned(),
        connections: 64,
        warm_up_ms: 100,
        blocks: 5,
        workers: Some(64),
        floor: true,
        quick: true,
        ..Workload::new(Protocol::Http)
    }
}

/// Where a made-up run was made.
pub(super) fn machine() -> Machine {
    Machine {
        cpu: "A processor".to_owned(),
        cores: 2,
        memory_mib: 1024,
        kernel: "6.1".to_owned(),
        rustc: "rustc 1.95.0".to_owned(),
        commit: "0123456789ab".to_owned(),
        backlog_limit: "4096".to_owned(),
        placement: Placement { server: Some(0), client: Some(1), ..Placement::unpinned() },
        congestion_control: String::new(),
        netns_mtu: None,
        accounting: String::new(),
        syscalls: None,
        served_from: String::new(),
    }
}

/// A cell in which a request costs `cpu_us` and there are `rate` of them.
pub(crate) fn cell(workload: &str, contestant: &str, block: u32, cpu_us: f64, rate: f64) -> Cell {
    let summary =
        Summary { count: rate as u64, p50: 1e6 / rate, p99: 3e6 / rate, ..Summary::default() };
    let loaded = Footprint {
        pss_bytes: 3 << 20,
        private_bytes: 2 << 20,
        processes: 1,
        threads: 65,
        descriptors: 70,
    };
    Cell {
        workload: workload.to_owned(),
        contestant: contestant.to_owned(),
        block,
        position: 1,
        twin: false,
        failure: None,
        unavailable: None,
        faults: Vec::new(),
        syscalls: None,
        workers: None,
        capacity: None,
        outcome: Some(Outcome {
            requests: rate as u64,
            elapsed_s: 1.0,
            rate_per_s: rate,
            connections_offered: 64,
            connections_served: 64,
            service_us: summary,
            client_busy: 0.5,
            ..Outcome::default()
        }),
        used: Some(Used {
            cpu_window_s: 1.0,
            cpu_s: cpu_us * rate / 1e6,
            switches_window_s: 1.0,
            switches_voluntary: rate as u64,
            switches_complete: true,
            loaded,
            ..Used::default()
        }),
    }
}

/// As an outcome has it.
pub(crate) fn encoded(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).unwrap();
    STANDARD.encode(bytes)
}

pub(crate) fn run() -> Run {
    let mut cells = Vec::new();
    for block in 1..=5 {
        let noise = f64::from(block) / 10.0;
        cells.push(cell("plaintext", "floor-threads", block, 8.0 + noise, 90_000.0));
        cells.push(cell("plaintext", "threads", block, 9.0 + noise, 80_000.0));
        cells.push(cell("plaintext", "pool", block, 9.5 - noise, 81_000.0 - 1000.0 * noise));
        let mut serial = cell("plaintext", "serial", block, 7.0, 70_000.0);
        serial.outcome.as_mut().unwrap().connections_served = 1;
        cells.push(serial);
        let mut broken = cell("plaintext", "broken", block, 7.0, 70_000.0);
        (broken.outcome, broken.used) = (None, None);
        broken.failure = Some("never became ready".to_owned());
        cells.push(broken);
    }
    for block in 1..=2 {
        let mut bound = cell("herd", "threads", block, 9.0, 80_000.0);
        bound.outcome.as_mut().unwrap().client_busy = 0.97;
        bound.outcome.as_mut().unwrap().idle_held = 1000;
        bound.used.as_mut().unwrap().loaded.descriptors = 1070;
        cells.push(bound);
        let mut starved = cell("herd", "pool", block, 9.0, 80_000.0);
        let outcome = starved.outcome.as_mut().unwrap();
        (outcome.requests, outcome.rate_per_s, outcome.connections_served) = (0, 0.0, 0);
        outcome.idle_held = 1000;
        cells.push(starved);
        let mut wrong = cell("herd", "serial", block, 9.0, 80_000.0);
        let errors = &mut wrong.outcome.as_mut().unwrap().errors;
        errors.insert("timed out".to_owned(), 3);
        wrong.faults.push("left 2 processes behind: killed".to_owned());
        cells.push(wrong);
    }
    let herd = Workload { idle_connections: 1000, floor: false, blocks: 2, ..workload("herd") };
    let contestants = vec![
        contestant("serial", 1, Io::Threads, false),
        contestant("threads", 2, Io::Threads, false),
        contestant("pool", 3, Io::Threads, false),
        contestant("broken", 4, Io::Epoll, false),
        contestant("floor-threads", u32::MAX, Io::Threads, true),
    ];
    let header = Header {
        format: 1,
        started: "2026-01-02T03:04:05Z".to_owned(),
        profile: "quick".to_owned(),
        seed: 7,
        machine: machine(),
        contestants,
        workloads: vec![workload("plaintext"), herd],
        twins: BTreeMap::new(),
        resumed: Vec::new(),
        programs: BTreeMap::new(),
        client: None,
        calibration: None,
    };
    Run { name: "20260102T030405Z-quick".to_owned(), header, cells }
}

#[test]
fn the_report_says_what_the_records_say() {
    insta::assert_snapshot!(readme_of(&[run()], &[]));
}

#[test]
fn the_terminal_has_the_same_rows() {
    let (run, text) = (run(), for_terminal(&run(), None));
    for workload in &run.header.workloads {
        for value in crate::table::table(&run, workload).rows.iter().flatten() {
            assert!(text.contains(value.as_str()), "{value}");
        }
    }
}

#[test]
fn the_end_of_a_run_names_what_was_written() {
    let files = ["README.md", "report.html"].map(|name| Path::new("results").join(name));
    let text = written(&files, Path::new("results/20260102T030405Z-quick"));
    let expected = "Reports: results/README.md, results/report.html\n\
                    Raw records: results/20260102T030405Z-quick";
    assert_eq!(text, expected);
}

#[test]
fn a_run_cut_short_does_not_replace_a_whole_one() {
    let mut whole = run();
    whole.header.contestants.truncate(1);
    whole.header.workloads.truncate(1);
    whole.cells.truncate(5);
    assert!(whole.whole());
    let mut short = run();
    short.name = "20260102T040000Z-quick".to_owned();
    let newest = newest_by_profile(vec![whole.clone(), short.clone()]);
    assert_eq!(newest.iter().map(|run| &run.name).collect::<Vec<_>>(), [&whole.name]);
    let only = newest_by_profile(vec![short.clone()]);
    assert_eq!(only[0].name, short.name);
}

#[test]
fn a_run_of_nothing_is_not_whole() {
    let mut nothing = run();
    nothing.header.workloads.clear();
    nothing.cells.clear();
    assert!(!nothing.whole());
}

#[test]
fn a_workload_in_which_only_floors_were_measured_has_no_answer() {
    let mut run = run();
    run.cells.retain(|cell| cell.contestant == "floor-threads");
    let answers = answers::of(&run);
    for answer in answers.table().rows {
        assert_eq!(answer[2..], ["not measured", "–", "–"]);
    }
    assert_eq!(answers.summary(), ["Nothing was measured that counts."]);
}

#[test]
fn a_narrow_terminal_gets_fewer_columns_and_no_longer_lines() {
    let text = for_terminal(&run(), Some(60));
    assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
    assert!(text.contains("× floor") && !text.contains("threads │"), "{text}");
    assert!(text.contains("the other columns are in results/README.md"), "{text}");
    assert!(!for_terminal(&run(), Some(400)).contains("the other columns"));
}

/// Under a workload whose requests come by a schedule, which one server cannot keep.
pub(super) fn run_at_a_rate() -> Run {
    let mut run = run();
    let (rate, arrivals) = (Rate::Constant(5000.0), Arrivals::Poisson);
    let keys = Workload { rate: Some(rate), arrivals: Some(arrivals), ..workload("latency") };
    run.header.workloads = vec![Workload { floor: false, ..keys }];
    run.cells.clear();
    for block in 1..=5 {
        let noise = f64::from(block) / 10.0;
        for (name, cpu_us) in [("threads", 20.0), ("pool", 25.0), ("serial", 10.0)] {
            let mut cell = cell("latency", name, block, cpu_us + noise, 5000.0);
            let outcome = cell.outcome.as_mut().unwrap();
            let p99 = cpu_us * 10.0 + noise;
            outcome.response_us =
                Summary { p50: cpu_us, p99, p999: 2.0 * p99, ..outcome.service_us };
            (outcome.rate_intended_per_s, outcome.sent) = (Some(5000.0), 5000);
            let (word, reason) = match (name, block) {
                ("serial", _) => {
                    (outcome.connections_served, outcome.connections_never_served) = (1, 63);
                    outcome.shed = block.into();
                    (Word::NonStationary, format!("the server did not keep up: {block}% not sent"))
                }
                ("threads", 2) => (Word::Noisy, "the hypervisor took the machine".to_owned()),
                _ => (Word::Valid, "all is well".to_owned()),
            };
            outcome.verdict = Some(loadgen::Verdict { word, reason, also: Vec::new() });
            run.cells.push(cell);
        }
    }
    run
}

#[test]
fn a_latency_that_means_nothing_is_not_printed_and_the_reason_is() {
    insta::assert_snapshot!(
        readme_of(&[run_at_a_rate()], &[]).split("## What the").next().unwrap()
    );
}

#[test]
fn what_became_of_the_classes_beside_the_first_is_told_and_their_failures_void_a_cell() {
    let mut run = run();
    let slow = |name: &str| Class { name: name.to_owned(), connections: 3, ..Class::default() };
    let beside = vec![slow("slow readers"), slow("others")];
    run.header.workloads = vec![Workload { floor: false, beside, ..workload("dispatch") }];
    run.cells.clear();
    for (block, name) in [(1, "threads"), (2, "threads"), (1, "serial")] {
        let mut cell = cell("dispatch", name, block, 20.0, 1000.0);
        let outcome = cell.outcome.as_mut().unwrap();
        let cut = BTreeMap::from([("closed early".to_owned(), 2)]);
        let sessions = Some(Sessions { begun: 5, served: 3, cut, ..Sessions::default() });
        let slow = Outcome { name: "slow readers".to_owned(), sessions, ..Outcome::default() };
        let others = Outcome { name: "others".to_owned(), beside: Vec::new(), ..outcome.clone() };
        outcome.beside = vec![slow, others];
        if name == "serial" {
            outcome.beside[1].errors.insert("reset".to_owned(), 1);
        }
        run.cells.push(cell);
    }
    let text = readme_of(&[run], &[]);
    for expected in [
        "64 connections, beside them 3 connections of slow readers, beside them 3 connections",
        "- threads, slow readers: 10 sessions begun, 6 served, 4 cut by the server (closed early).",
        "- threads, others: 1,000 requests/s, response p99 0.00 µs.",
        "- serial: ERRORS (reset of others).",
    ] {
        assert!(text.contains(expected), "{text} has {expected}");
    }
}

/// Under a workload of logins, beside a server of other people that is dearer.
pub(super) fn run_beside_a_peer() -> Run {
    let mut run = run();
    let logins = Workload {
        protocol: Protocol::Ftp,
        operation: FtpOperation::Login,
        path: String::new(),
        floor: false,
        blocks: 2,
        ..workload("logins")
    };
    let idle = Workload { idle_connections: 100, workers: None, ..logins.clone() };
    run.header.machine.congestion_control = "reno".to_owned();
    run.header.machine.served_from = "/dev/shm (memory)".to_owned();
    run.header.workloads = vec![logins, Workload { name: "idle".to_owned(), ..idle }];
    let peer = contestant("other", 101, Io::Processes, false);
    let version = Some("other 1.2".to_owned());
    run.header.contestants.push(Contestant { version, protocols: vec![Protocol::Ftp], ..peer });
    run.cells.clear();
    for block in 1..=2 {
        let noise = f64::from(block) / 10.0;
        for (name, cpu_us) in [("other", 30.0), ("threads", 20.0), ("serial", 10.0)] {
            run.cells.push(cell("logins", name, block, cpu_us + noise, 1000.0));
            let mut idle = cell("idle", name, block, cpu_us, 1000.0);
            let outcome = idle.outcome.as_mut().unwrap();
            outcome.idle_held = if name == "serial" { 1 } else { 100 };
            outcome.idle_ready = Some(outcome.idle_held);
            idle.used.as_mut().unwrap().at_rest.pss_bytes = 3 << 19;
            if name == "other" {
                idle.used.as_mut().unwrap().loaded.pss_bytes = 9 << 19;
            }
            run.cells.push(idle);
        }
    }
    run
}

#[test]
fn servers_of_other_people_are_marked_and_ranked_in_the_same_table() {
    insta::assert_snapshot!(
        readme_of(&[run_beside_a_peer()], &[]).split("## What the").next().unwrap()
    );
}

#[test]
fn what_a_twin_differs_from_its_double_tells_nothing_apart() {
    let with_twin = |differs: f64| {
        let mut run = run();
        run.header.twins.insert("plaintext".to_owned(), "threads".to_owned());
        for block in 1..=5 {
            let cost = (9.0 + f64::from(block) / 10.0) * differs;
            run.cells.push(Cell { twin: true, ..cell("plaintext", "threads", block, cost, 8e4) });
        }
        readme_of(&[run], &[])
    };
    let text = with_twin(1.01);
    for expected in [
        "| serial        | 7.00 (7.00–7.00) | a  ",
        "| threads       | 9.30 (9.10–9.50) | b  ",
        "- A/A: threads measured twice differs by 1.01 [1.01–1.01].\n",
        "\nA/A twins: 0 of 3 comparisons with their doubles",
    ] {
        assert!(text.contains(expected), "{text} has {expected}");
    }
    let text = with_twin(1.5);
    for expected in [
        "| threads       | 9.30 (9.10–9.50) | a  ",
        "- A/A: threads measured twice differs by 1.50 [1.50–1.50], by 1.50 in a typical block: \
         less tells nothing apart here.",
        "\nA/A twins: 1 of 3 comparisons with their doubles",
    ] {
        assert!(text.contains(expected), "{text} has {expected}");
    }
}
