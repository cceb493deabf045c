//! Open loops against tiny servers. What is asserted is what was counted, and that a wait that
//! certainly took place is in the figures; never that anything was quick.

#![allow(clippy::unwrap_used, reason = "a test may panic wherever it fails")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use loadgen::{Arrivals, Class, FtpOperation, Load, Outcome, Plan, Protocol, Rate, Word};

use support::{REPLY, engine, run, serve};

fn open(rate: &str, arrivals: Arrivals, backlog: usize) -> Load {
    Load::Open { rate: rate.parse().unwrap(), arrivals, seed: 1, backlog }
}

fn plan(target: SocketAddr, load: Load) -> Plan {
    Plan {
        target,
        class: Class { path: "/".to_owned(), load, connections: 4, ..Class::default() },
        threads: 2,
        warm_up: Duration::from_millis(300),
        duration: Duration::from_millis(500),
        engine: engine(),
        ..Plan::default()
    }
}

/// Answers each request, so much later.
fn http(latency: Duration) -> impl Fn(TcpStream) -> std::io::Result<()> {
    move |mut stream| {
        for line in BufReader::new(stream.try_clone()?).split(b'\n') {
            if line? == b"\r" {
                thread::sleep(latency);
                stream.write_all(REPLY)?;
            }
        }
        Ok(())
    }
}

#[test]
fn every_arrival_is_sent_and_counted_or_unfinished() {
    let target = serve(http(Duration::ZERO));
    for arrivals in [Arrivals::Constant, Arrivals::Poisson] {
        for pipeline in [1, 3] {
            let mut plan = plan(target, open("400", arrivals, 1000));
            plan.class.pipeline = pipeline;
            let outcome = run(&plan);
            assert!(outcome.errors.is_empty(), "{:?}", outcome.first_error);
            assert_eq!(outcome.shed, 0);
            assert!(outcome.arrivals > 0 && outcome.sent <= outcome.arrivals);
            // What was due and has no reply is unfinished.
            assert!(outcome.requests + outcome.unfinished as u64 >= outcome.arrivals);
            assert_eq!(outcome.response_us.count, outcome.requests);
            assert_eq!(outcome.service_us.count, outcome.requests);
            assert!(outcome.response_us.max >= outcome.service_us.max);
            assert!(outcome.schedule_lag_us.is_some() && outcome.verdict.is_some());
        }
    }
}

#[test]
fn arrivals_have_the_rate_of_the_plan_whatever_the_server_does() {
    let hang = |mut stream: TcpStream| std::io::copy(&mut stream, &mut std::io::sink()).map(drop);
    let outcome = run(&plan(serve(hang), open("1000", Arrivals::Constant, 10)));
    // The window of a thread may begin and end a little later than that of the run.
    let rate = outcome.arrivals as f64 / outcome.elapsed_s;
    assert!((500.0..2000.0).contains(&rate), "{rate}");
    assert_eq!(outcome.requests, 0);
    // All connections are busy and the backlog is full: all else is shed.
    assert_eq!((outcome.shed, outcome.unfinished), (outcome.arrivals, 4 + 10));
}

#[test]
fn waiting_for_a_connection_is_in_the_response_time_and_not_in_the_service_time() {
    // Of each connection 10 a second, of all 40; 100 are due.
    let target = serve(http(Duration::from_millis(100)));
    let mut plan = plan(target, open("100", Arrivals::Constant, 1000));
    plan.duration = Duration::from_secs(1);
    plan.warm_up = Duration::ZERO;
    let outcome = run(&plan);
    assert!(outcome.errors.is_empty());
    assert!(outcome.response_us.max > 400_000.0, "{:?}", outcome.response_us);
    assert!(outcome.response_us.p50 > outcome.service_us.p50 + 100_000.0);
    assert!(outcome.unfinished > 4 && outcome.in_system > 4.0);
    let verdict = outcome.verdict.unwrap();
    assert_eq!(verdict.word, Word::NonStationary, "{verdict:?}");
}

#[test]
fn ramps_and_steps_have_the_arrivals_that_they_are_to_have() {
    let target = serve(http(Duration::ZERO));
    for rate in ["100..500", "100,500"] {
        let outcome = run(&plan(target, open(rate, Arrivals::Constant, 1000)));
        // 150 in half a second, if the machine makes it neither shorter nor longer.
        assert!((75..1000).contains(&outcome.arrivals), "{rate}: {}", outcome.arrivals);
    }
}

#[test]
fn an_arrival_of_an_ftp_login_is_a_whole_session() {
    let ftp = |mut stream: TcpStream| {
        stream.write_all(b"220 ready\r\n")?;
        for line in BufReader::new(stream.try_clone()?).lines() {
            let reply: &[u8] = match line?.split(' ').next() {
                Some("USER") => b"331 any\r\n",
                Some("PASS") => b"230 in\r\n",
                _ => return stream.write_all(b"221 bye\r\n"),
            };
            stream.write_all(reply)?;
        }
        Ok(())
    };
    let target = serve(ftp);
    let think = Load::Closed { think: Duration::from_millis(5) };
    for load in [open("100", Arrivals::Poisson, 100), think] {
        let mut plan = plan(target, load);
        (plan.class.protocol, plan.class.operation) = (Protocol::Ftp, FtpOperation::Login);
        plan.class.path = String::new();
        let outcome = run(&plan);
        assert!(outcome.errors.is_empty(), "{:?}", outcome.first_error);
        assert!(outcome.requests > 4 && outcome.operations.contains_key("banner"));
    }
}

#[test]
fn thinking_clients_ask_no_faster_than_they_think() {
    let mut plan =
        plan(serve(http(Duration::ZERO)), Load::Closed { think: Duration::from_millis(50) });
    for requests_per_connection in [None, Some(1)] {
        plan.class.requests_per_connection = requests_per_connection;
        let outcome = run(&plan);
        assert!(outcome.errors.is_empty(), "{:?}", outcome.first_error);
        // 4 connections, each at most 20 a second and one at the edge.
        let most = 4.0 * (outcome.elapsed_s * 20.0 + 2.0);
        assert!(outcome.requests > 0 && (outcome.requests as f64) < most, "{}", outcome.requests);
    }
}

#[test]
fn a_server_may_close_a_connection_that_nothing_is_asked_of() {
    let once = |mut stream: TcpStream| {
        let _ = stream.read(&mut [0; 1000])?;
        stream.write_all(REPLY)
    };
    let mut plan = plan(serve(once), open("20", Arrivals::Constant, 100));
    plan.class.connections = 16;
    let outcome = run(&plan);
    assert!(outcome.errors.is_empty(), "{:?}", outcome.first_error);
    assert!(outcome.requests > 0);
    // But one that answers nothing at all fails.
    plan.target = serve(|_| Ok(()));
    let outcome = run(&plan);
    assert_eq!(outcome.requests, 0);
    assert!(!outcome.errors.is_empty());
    assert_eq!(outcome.verdict.unwrap().word, Word::Errors);
}

#[test]
fn an_impossible_rate_is_refused_in_words() {
    let target = SocketAddr::from(([127, 0, 0, 1], 1));
    let load = |rate| Load::Open { rate, arrivals: Arrivals::Constant, seed: 1, backlog: 1 };
    for rate in [Rate::Constant(0.0), Rate::Constant(f64::NAN), Rate::Ramp(1.0, 1e12)] {
        let plan = plan(target, load(rate));
        let error = loadgen::run(&plan, &AtomicBool::new(false), &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("rate"), "{error}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["run", "--protocol", "http", "--target", "127.0.0.1:1", "--rate", "1e12"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("a rate of 1e12 a second is impossible"), "{text}");
}

#[test]
fn a_mistake_on_the_command_line_gets_one_line_and_exit_code_2() {
    let check = |options: &[&str], said: &str| {
        let mut command = Command::new("sh");
        // So few descriptors that it matters.
        command.args(["-c", "ulimit -n 100; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_loadgen")]);
        command.args(["run", "--protocol", "http"]).args(options);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{text}");
        assert!(text.contains(said) && text.lines().count() == 1, "{text}");
    };
    // Too long for a name: nobody is asked.
    let nobody = format!("{}:80", "x".repeat(64));
    check(&["--target", &nobody], "cannot be resolved");
    check(&["--target", "localhost"], "give a host and a port");
    check(&["--target", "127.0.0.1:1", "--connections", "200"], "raise it with `ulimit -Hn 268`");
    check(&["--target", "127.0.0.1:1", "--until-within", "much"], "give a percentage");
    check(&["--target", "127.0.0.1:1", "--warm-up", "soon"], "give auto, or a time");
    check(&["--target", "127.0.0.1:1", "--rate", "1..2", "--warm-up", "auto"], "no steady state");
}

#[test]
fn outcomes_are_written_merged_and_judged_by_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let loadgen = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        let output = command.args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text)
    };
    let target = serve(http(Duration::ZERO)).to_string();
    for name in ["a.json", "b.json"] {
        let (code, text) = loadgen(&[
            "run",
            "--protocol",
            "http",
            "--target",
            &target,
            "--rate",
            "200",
            "--duration",
            "300ms",
            "--warm-up",
            "100ms",
            "--connections",
            "4",
            "--json",
            &path(name),
            "--hgrm",
            &path("run.hgrm"),
        ]);
        // Sixty replies have no 99th percentile.
        assert_eq!(code, Some(3), "{text}");
        assert!(text.contains("response") && text.contains("verdict"), "{text}");
    }
    let read = |name: &str| {
        let text = std::fs::read_to_string(path(name)).unwrap();
        serde_json::from_str::<Outcome>(&text).unwrap()
    };
    let (code, text) = loadgen(&[
        "merge",
        &path("a.json"),
        &path("b.json"),
        "--json",
        &path("c.json"),
        "--hgrm",
        &path("c.hgrm"),
    ]);
    assert_eq!(code, Some(3), "{text}");
    let (a, b, c) = (read("a.json"), read("b.json"), read("c.json"));
    assert_eq!(c.requests, a.requests + b.requests);
    assert_eq!(c.response_us.count, c.requests);
    let hgrm = std::fs::read_to_string(path("c.hgrm")).unwrap();
    assert!(hgrm.contains(&format!("Total count    = {:12}]", c.requests)), "{hgrm}");
}
