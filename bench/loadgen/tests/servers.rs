//! Runs against tiny servers that are correct, faulty or absent. What is asserted is what was
//! counted and of which kind, never how long anything took.

#![allow(clippy::unwrap_used, reason = "a test may panic wherever it fails")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use loadgen::{
    Arrivals, Class, Error, FtpOperation, Load, Measure, Method, Phase, Plan, Protocol, Within,
    Word,
};
use socket2::{Domain, Socket, Type};

use support::{REPLY, engine, run, serve};

fn plan(protocol: Protocol, target: SocketAddr) -> Plan {
    Plan {
        target,
        class: Class {
            protocol,
            operation: FtpOperation::Login,
            path: if protocol == Protocol::Http { "/" } else { "" }.to_owned(),
            connections: 4,
            ..Class::default()
        },
        threads: 2,
        warm_up: Duration::from_millis(50),
        duration: Duration::from_millis(300),
        engine: engine(),
        ..Plan::default()
    }
}

/// An address that refuses: bound, so that nobody else gets it, but not listening.
fn refusing() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    std::io::copy(&mut stream.try_clone()?, &mut stream).map(|_| ())
}

/// Answers every request with `reply`.
fn http(reply: &'static [u8]) -> impl Fn(TcpStream) -> std::io::Result<()> {
    move |mut stream| {
        for line in BufReader::new(stream.try_clone()?).split(b'\n') {
            if line? == b"\r" {
                stream.write_all(reply)?;
            }
        }
        Ok(())
    }
}

/// Runs HTTP against `converse` and checks that there was nothing but failures of these kinds.
fn check_failures(
    converse: impl Fn(TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
    kinds: &[&str],
) {
    let mut plan = plan(Protocol::Http, serve(converse));
    if kinds == ["timed out"] {
        plan.timeout = Duration::from_millis(100);
    }
    plan.class.expected_bytes = Some(5);
    let outcome = run(&plan);
    assert_eq!((outcome.requests, outcome.connections_served), (0, 0));
    assert!(!outcome.errors.is_empty());
    assert!(outcome.errors.keys().all(|kind| kinds.contains(&kind.as_str())), "{outcome:?}");
    assert!(outcome.first_error.is_some());
}

/// Says nothing until the client leaves.
fn hang(mut stream: TcpStream) -> std::io::Result<()> {
    std::io::copy(&mut stream, &mut std::io::sink()).map(|_| ())
}

#[test]
fn a_correct_server_is_counted_in_full() {
    for (protocol, target) in [(Protocol::Echo, serve(echo)), (Protocol::Http, serve(http(REPLY)))]
    {
        for pipeline in [1, 7] {
            let mut plan = plan(protocol, target);
            plan.class.pipeline = pipeline;
            plan.class.expected_bytes = Some(5);
            plan.class.expected_crc32 = Some(crc32fast::hash(b"Hello"));
            let outcome = run(&plan);
            assert_eq!(outcome.errors, BTreeMap::new(), "{outcome:?}");
            assert_eq!((outcome.connections_offered, outcome.connections_served), (4, 4));
            assert!(outcome.requests > 0 && outcome.bytes_received > 0);
            assert_eq!(outcome.service_us.count, outcome.requests);
            let blob =
                base64::engine::general_purpose::STANDARD.decode(&outcome.histogram).unwrap();
            let histogram: Histogram<u64> =
                Deserializer::new().deserialize(&mut blob.as_slice()).unwrap();
            assert_eq!(histogram.len(), outcome.requests);
        }
    }
}

#[test]
fn messages_larger_than_every_buffer_are_echoed_whole() {
    let mut plan = plan(Protocol::Echo, serve(echo));
    plan.class.payload_bytes = 20_000_000;
    plan.class.connections = 1;
    plan.duration = Duration::from_secs(1);
    let outcome = run(&plan);
    assert_eq!(outcome.errors, BTreeMap::new());
    assert!(outcome.bytes_received > 0);
}

#[test]
fn a_server_that_closes_at_once_is_closed_early_or_reset() {
    check_failures(|_| Ok(()), &["closed early", "reset"]);
}

#[test]
fn half_a_reply_and_a_close_is_closed_early() {
    let half = |mut stream: TcpStream| {
        let _ = stream.read(&mut [0; 1000])?;
        stream.write_all(&REPLY[..REPLY.len() - 2])
    };
    check_failures(half, &["closed early"]);
}

#[test]
fn half_a_reply_and_silence_is_timed_out() {
    let half = |mut stream: TcpStream| {
        stream.write_all(&REPLY[..REPLY.len() - 2])?;
        hang(stream)
    };
    check_failures(half, &["timed out"]);
}

#[test]
fn a_server_that_never_replies_is_timed_out() {
    check_failures(hang, &["timed out"]);
}

#[test]
fn a_reply_that_never_ends_is_timed_out() {
    let endless = |mut stream: TcpStream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999\r\n\r\n")?;
        loop {
            stream.write_all(&[0; 16000])?;
        }
    };
    let mut plan = plan(Protocol::Http, serve(endless));
    plan.timeout = Duration::from_millis(100);
    let outcome = run(&plan);
    assert_eq!(outcome.requests, 0);
    assert_eq!(outcome.errors.keys().collect::<Vec<_>>(), ["timed out"]);
}

#[test]
fn a_head_that_never_ends_is_a_bad_reply() {
    let endless = |mut stream: TcpStream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
        loop {
            stream.write_all(b"More: of it\r\n")?;
        }
    };
    check_failures(endless, &["bad reply", "reset", "closed early"]);
}

#[test]
fn a_reply_that_comes_byte_by_byte_has_no_more_time_than_another() {
    let drip = |mut stream: TcpStream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")?;
        for _ in 0..4 {
            thread::sleep(Duration::from_millis(40));
            stream.write_all(b"H")?;
        }
        hang(stream)
    };
    check_failures(drip, &["timed out"]);
}

#[test]
fn what_was_measured_before_a_server_failed_is_kept() {
    let dies = |mut stream: TcpStream| {
        let mut requests = 0;
        for line in BufReader::new(stream.try_clone()?).split(b'\n') {
            if line? == b"\r" {
                requests += 1;
                if requests > 20 {
                    return Ok(());
                }
                stream.write_all(REPLY)?;
            }
        }
        Ok(())
    };
    let outcome = run(&plan(Protocol::Http, serve(dies)));
    assert!(outcome.requests > 0 && outcome.service_us.count == outcome.requests);
    assert!(!outcome.errors.is_empty());
    let verdict = outcome.verdict.unwrap();
    assert_eq!(verdict.word, Word::Errors, "{verdict:?}");
}

#[test]
fn wrong_replies_are_counted_by_what_is_wrong() {
    check_failures(http(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nHell"), &["wrong length"]);
    check_failures(http(b"HTTP/1.1 500 Oh\r\nContent-Length: 5\r\n\r\nHello"), &["wrong status"]);
    check_failures(http(b"220 not HTTP\r\n\r\n"), &["bad reply"]);
    let zeros = |mut stream: TcpStream| {
        let count = stream.read(&mut [0; 64])?;
        stream.write_all(&[0; 64][..count])?;
        hang(stream)
    };
    let plan = plan(Protocol::Echo, serve(zeros));
    assert_eq!(run(&plan).errors.keys().collect::<Vec<_>>(), ["wrong bytes"]);
}

#[test]
fn a_refused_connection_is_tried_again_but_not_in_a_busy_loop() {
    let (_bound, address) = refusing();
    let outcome = run(&plan(Protocol::Http, address));
    assert_eq!(outcome.errors.keys().collect::<Vec<_>>(), ["refused"]);
    let refused = outcome.errors["refused"];
    assert!((4..1000).contains(&refused), "{refused}");
}

#[test]
fn connections_that_wait_all_along_are_not_served_and_no_errors() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut plan = plan(Protocol::Echo, listener.local_addr().unwrap());
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let _ = echo(stream);
        }
    });
    plan.class.connections = 8;
    let outcome = run(&plan);
    assert_eq!((outcome.connections_offered, outcome.connections_served), (8, 1));
    assert_eq!(outcome.errors, BTreeMap::new());
}

#[test]
fn a_connection_is_used_for_as_many_requests_as_planned() {
    static OVERUSED: AtomicUsize = AtomicUsize::new(0);
    static ACCEPTED: AtomicUsize = AtomicUsize::new(0);
    let counting = |mut stream: TcpStream| {
        ACCEPTED.fetch_add(1, Ordering::Relaxed);
        let mut requests = 0;
        for line in BufReader::new(stream.try_clone()?).split(b'\n') {
            if line? == b"\r" {
                stream.write_all(REPLY)?;
                requests += 1;
            }
        }
        OVERUSED.fetch_add(usize::from(requests > 3), Ordering::Relaxed);
        Ok(())
    };
    let mut plan = plan(Protocol::Http, serve(counting));
    plan.class.requests_per_connection = Some(3);
    plan.class.pipeline = 2;
    let outcome = run(&plan);
    assert_eq!(outcome.errors, BTreeMap::new());
    assert!(outcome.requests > 3 * 4 && outcome.operations["connect"].count > 0);
    assert!(ACCEPTED.load(Ordering::Relaxed) > 4);
    assert_eq!(OVERUSED.load(Ordering::Relaxed), 0);
}

#[test]
fn a_server_that_announces_its_close_is_served_again_without_an_error() {
    let closing = |mut stream: TcpStream| {
        let _ = stream.read(&mut [0; 1000])?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    };
    let outcome = run(&plan(Protocol::Http, serve(closing)));
    assert_eq!(outcome.errors, BTreeMap::new());
    assert!(outcome.requests > 4);
}

#[test]
fn the_idle_herd_is_held_beside_the_others_or_reported_as_lost() {
    let mut plan = plan(Protocol::Echo, serve(echo));
    plan.idle_connections = 50;
    let outcome = run(&plan);
    assert_eq!((outcome.idle_held, outcome.errors.len()), (50, 0));

    plan.target = serve(|_| Ok(()));
    assert_eq!(run(&plan).idle_held, 0);

    let (_bound, address) = refusing();
    plan.target = address;
    let outcome = run(&plan);
    assert_eq!(outcome.idle_held, 0);
    assert!(outcome.errors["refused"] >= 50);
}

#[test]
fn the_phases_are_announced_once_each_and_in_order() {
    let mut phases = Vec::new();
    let plan = plan(Protocol::Echo, serve(echo));
    loadgen::run(&plan, &AtomicBool::new(false), &mut |phase| {
        phases.push(phase);
    })
    .unwrap();
    assert_eq!(phases, [Phase::Measuring, Phase::Done]);
}

#[test]
fn a_run_that_is_told_to_stop_keeps_what_it_measured() {
    let mut plan = plan(Protocol::Echo, serve(echo));
    plan.duration = Duration::from_hours(1);
    let stop = Arc::new(AtomicBool::new(false));
    let outcome = loadgen::run(&plan, &stop, &mut |phase| {
        if phase == Phase::Measuring {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(200));
                stop.store(true, Ordering::Relaxed);
            });
        }
    });
    let outcome = outcome.unwrap();
    assert!(outcome.stopped && outcome.requests > 0);
    // What was not measured is not taken for silence.
    assert!(outcome.windows.is_empty());

    plan.warm_up = Duration::from_hours(1);
    let outcome = loadgen::run(&plan, &stop, &mut |_| panic!("nothing is measured")).unwrap();
    assert!(outcome.stopped && outcome.requests == 0);
}

#[test]
fn a_run_ends_when_enough_is_known_or_says_that_it_is_not() {
    let mut plan = plan(Protocol::Echo, serve(echo));
    plan.duration = Duration::from_secs(4);
    plan.until_within = Some(Within { measure: Measure::Rate, share: 0.99 });
    // What comes at equal distances is known at once.
    plan.class.load = Load::Open {
        rate: "2000".parse().unwrap(),
        arrivals: Arrivals::Constant,
        seed: 1,
        backlog: 1000,
    };
    let outcome = run(&plan);
    assert!(!outcome.stopped && outcome.within == plan.until_within);
    let known = outcome.intervals.iter().find(|known| known.measure == Measure::Rate);
    let is_known = known.is_some_and(|known| known.share() <= 0.99 && known.batches >= 10);
    let verdict = outcome.verdict.unwrap();
    let says_not = verdict.also.iter().chain([&verdict.reason]).any(|why| why.contains("rate is"));
    assert!(is_known != says_not, "{known:?} {verdict:?}");
    assert!(is_known || outcome.elapsed_s >= 4.0, "it ends early only when enough is known");
}

#[test]
fn a_warm_up_that_is_awaited_is_bounded_and_told() {
    let mut plan = plan(Protocol::Echo, serve(hang));
    plan.until_steady = true;
    let outcome = run(&plan);
    assert_eq!(outcome.warm_up_is_steady, Some(false), "without replies nothing is steady");
    assert!(outcome.warm_up_s >= 0.05);
    let verdict = outcome.verdict.unwrap();
    assert!(verdict.reason.contains("no reply"), "{verdict:?}");
    assert!(outcome.warm_up_objection.unwrap().contains("too few replies"));
    plan.class.load = Load::Open {
        rate: "1..2".parse().unwrap(),
        arrivals: Arrivals::Constant,
        seed: 1,
        backlog: 1,
    };
    let refused = loadgen::run(&plan, &AtomicBool::new(false), &mut |_| {}).unwrap_err();
    assert!(refused.to_string().contains("no steady state"), "{refused}");
}

#[test]
fn a_plan_that_cannot_be_is_refused_in_words() {
    let good = plan(Protocol::Http, SocketAddr::from(([127, 0, 0, 1], 1)));
    let stop = AtomicBool::new(false);
    let run = |plan: Plan| loadgen::run(&plan, &stop, &mut |_| {}).unwrap_err();
    let with = |change: fn(&mut Class)| {
        let mut plan = good.clone();
        change(&mut plan.class);
        plan
    };
    let none = run(with(|class| class.connections = 0));
    assert!(matches!(none, Error::Plan(_)));
    let no_port = run(Plan { target: SocketAddr::from(([127, 0, 0, 1], 0)), ..good.clone() });
    assert!(no_port.to_string().contains("port"), "{no_port}");
    let split = run(with(|class| class.path = "/ HTTP/1.1\r\nEvil: 1".to_owned()));
    assert!(matches!(split, Error::Plan(_)));
    let huge = run(Plan { idle_connections: 1 << 40, ..good.clone() });
    assert!(huge.to_string().contains("ulimit"), "{huge}");
    for extreme in [
        Plan { threads: usize::MAX, ..with(|class| class.connections = usize::MAX) },
        Plan { duration: Duration::MAX, ..good.clone() },
        with(|class| class.pipeline = usize::MAX),
        with(|class| {
            (class.protocol, class.payload_bytes) = (Protocol::Echo, usize::MAX);
        }),
        with(|class| (class.method, class.payload_bytes) = (Method::Post, usize::MAX)),
        with(|class| (class.method, class.protocol) = (Method::Post, Protocol::Ftp)),
    ] {
        assert!(matches!(run(extreme), Error::Plan(_) | Error::Descriptors { .. }));
    }
    let nowhere = run(Plan { cpus: vec![1000], ..good });
    assert!(matches!(nowhere, Error::Pin { cpu: 1000, .. }), "{nowhere}");
}

/// As much of an FTP server as the client asks for. Serves `file` under the name `file`, but
/// sends only `sent` bytes of it. What it stores must be as long as `file`, and is forgotten.
fn ftp(file: &'static [u8], sent: usize) -> impl Fn(TcpStream) -> std::io::Result<()> {
    move |mut control| {
        let mut data = None;
        control.write_all(b"220-Hello\r\n220 ready\r\n")?;
        for line in BufReader::new(control.try_clone()?).lines() {
            let reply = match line?.as_str() {
                "USER anonymous" => "331 any password\r\n".to_owned(),
                "PASS loadgen@" => "230 logged in\r\n".to_owned(),
                "TYPE I" => "200 binary\r\n".to_owned(),
                "SIZE file" => format!("213 {}\r\n", file.len()),
                "EPSV" => {
                    let listener = TcpListener::bind("127.0.0.1:0")?;
                    let port = listener.local_addr()?.port();
                    data = Some(listener);
                    format!("229 extended passive (|||{port}|)\r\n")
                }
                "RETR file" => {
                    let (mut stream, _) = data.take().expect("EPSV came first").accept()?;
                    control.write_all(b"150 here it comes\r\n")?;
                    stream.write_all(&file[..sent])?;
                    "226 done\r\n".to_owned()
                }
                stored if stored.starts_with("STOR up.") => {
                    let (mut stream, _) = data.take().expect("EPSV came first").accept()?;
                    control.write_all(b"150 send it\r\n")?;
                    let came = std::io::copy(&mut stream, &mut std::io::sink())?;
                    let whole = came == file.len() as u64;
                    if whole { "226 done\r\n" } else { "426 cut\r\n" }.to_owned()
                }
                "QUIT" => return control.write_all(b"221 bye\r\n"),
                _ => "550 no\r\n".to_owned(),
            };
            control.write_all(reply.as_bytes())?;
        }
        Ok(())
    }
}

const FILE: &[u8] = &[7; 3_000_000];

#[test]
fn ftp_downloads_are_counted_and_timed_by_phase() {
    let mut plan = plan(Protocol::Ftp, serve(ftp(FILE, FILE.len())));
    plan.class.operation = FtpOperation::Retrieve;
    plan.class.path = "file".to_owned();
    plan.class.expected_crc32 = Some(crc32fast::hash(FILE));
    plan.class.requests_per_connection = Some(2);
    plan.duration = Duration::from_secs(1);
    let outcome = run(&plan);
    assert_eq!(outcome.errors, BTreeMap::new(), "{:?}", outcome.first_error);
    assert!(outcome.requests > 0 && outcome.bytes_received >= FILE.len() as u64);
    for operation in ["epsv", "data_connect", "first_byte", "transfer"] {
        assert!(outcome.operations.contains_key(operation), "{operation}");
    }
}

#[test]
fn ftp_uploads_are_counted_in_full_and_each_connection_has_its_own_name() {
    let mut plan = plan(Protocol::Ftp, serve(ftp(FILE, 0)));
    plan.class.operation = FtpOperation::Store;
    plan.class.path = "up".to_owned();
    plan.class.payload_bytes = FILE.len();
    plan.duration = Duration::from_secs(1);
    let outcome = run(&plan);
    assert_eq!(outcome.errors, BTreeMap::new(), "{:?}", outcome.first_error);
    assert!(outcome.requests > 0 && outcome.bytes_sent >= FILE.len() as u64);
    for operation in ["epsv", "data_connect", "transfer", "complete"] {
        assert!(outcome.operations.contains_key(operation), "{operation}");
    }
    plan.class.payload_bytes -= 1;
    assert_eq!(run(&plan).errors.keys().collect::<Vec<_>>(), ["wrong status"]);
}

#[test]
fn idle_sessions_of_ftp_log_in_and_those_that_wait_are_no_errors() {
    let mut plan = plan(Protocol::Ftp, serve(ftp(b"", 0)));
    plan.idle_connections = 50;
    let outcome = run(&plan);
    assert_eq!((outcome.idle_ready, outcome.idle_held), (Some(50), 50));
    assert_eq!(outcome.errors, BTreeMap::new(), "{:?}", outcome.first_error);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    plan.target = listener.local_addr().unwrap();
    plan.timeout = Duration::from_secs(1);
    plan.idle_connections = 3;
    // One after another: the first idle session stays, and nobody else is served.
    thread::spawn(move || listener.incoming().map_while(Result::ok).try_for_each(ftp(b"", 0)));
    let outcome = run(&plan);
    assert_eq!((outcome.idle_ready, outcome.idle_held, outcome.requests), (Some(1), 1, 0));

    plan.target = serve(|mut stream| stream.write_all(b"421 too many\r\n"));
    let outcome = run(&plan);
    assert_eq!(outcome.idle_held, 0);
    assert!(outcome.errors.keys().any(|kind| kind == "wrong status"), "{outcome:?}");
}

#[test]
fn ftp_logins_are_one_request_each() {
    let outcome = run(&plan(Protocol::Ftp, serve(ftp(b"", 0))));
    assert_eq!(outcome.errors, BTreeMap::new(), "{:?}", outcome.first_error);
    assert!(outcome.requests > 0);
    for operation in ["connect", "banner", "login"] {
        assert!(outcome.operations.contains_key(operation), "{operation}");
    }
}

#[test]
fn a_greeting_that_never_ends_or_is_none_is_told() {
    let endless = |mut stream: TcpStream| {
        loop {
            stream.write_all(b"220-Hello again\r\n")?;
        }
    };
    let mut plan = plan(Protocol::Ftp, serve(endless));
    plan.timeout = Duration::from_millis(100);
    assert_eq!(run(&plan).errors.keys().collect::<Vec<_>>(), ["timed out"]);
    plan.target = serve(|mut stream| {
        stream.write_all(b"nonsense\r\n")?;
        hang(stream)
    });
    assert_eq!(run(&plan).errors.keys().collect::<Vec<_>>(), ["bad reply"]);
}

#[test]
fn ftp_faults_are_counted_by_kind() {
    let mut plan = plan(Protocol::Ftp, serve(ftp(FILE, 1000)));
    plan.class.operation = FtpOperation::Retrieve;
    plan.class.path = "file".to_owned();
    assert_eq!(run(&plan).errors.keys().collect::<Vec<_>>(), ["wrong length"]);
    plan.class.path = "another".to_owned();
    assert_eq!(run(&plan).errors.keys().collect::<Vec<_>>(), ["wrong status"]);
    plan.target = serve(http(REPLY));
    plan.timeout = Duration::from_millis(100);
    assert_eq!(run(&plan).errors.keys().collect::<Vec<_>>(), ["timed out"]);
}
