//! Classes of clients, their manners and their scripts, against a server of ours. What is asserted
//! is what was counted, and times that cannot be shorter.

#![allow(clippy::unwrap_used, reason = "a test may panic wherever it fails")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use loadgen::{Arrivals, Class, FtpOperation, Load, Manner, Outcome, Plan, Protocol, Script, Word};
use socket2::SockRef;
use tempfile::TempDir;

use support::{REPLY, engine, run, serve};

const FILE_BYTES: usize = 3_000_000;
/// How long anything may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server of ours, which `make test` has built.
struct Server {
    process: Child,
    address: SocketAddr,
    root: TempDir,
}

impl Server {
    fn start(protocol: Protocol) -> Self {
        Self::start_with(protocol, &[])
    }

    fn start_with(protocol: Protocol, arguments: &[&str]) -> Self {
        let test = std::env::current_exe().unwrap();
        let program = test.ancestors().nth(2).unwrap().join("evented");
        assert!(program.exists(), "{} is not built: cargo build -p evented", program.display());
        let root = TempDir::new().unwrap();
        std::fs::write(root.path().join("file"), vec![7; FILE_BYTES]).unwrap();
        let protocol = match protocol {
            Protocol::Http => "http",
            Protocol::Ftp => "ftp",
            Protocol::Echo => "echo",
        };
        let mut process = Command::new(program)
            .args(["--listen", "127.0.0.1:0"])
            .args((protocol != "echo").then_some("--writable"))
            .args(["--protocol", protocol, "--root"])
            .arg(root.path())
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let address = ready.trim().strip_prefix("listening on ").unwrap().parse().unwrap();
        Self { process, address, root }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn class(protocol: Protocol) -> Class {
    let path = match protocol {
        Protocol::Http => "/plaintext",
        Protocol::Ftp => "file",
        Protocol::Echo => "",
    };
    Class { protocol, path: path.to_owned(), connections: 2, ..Class::default() }
}

fn plan(target: SocketAddr, class: Class) -> Plan {
    Plan {
        target,
        class,
        threads: 2,
        warm_up: Duration::from_millis(50),
        duration: Duration::from_millis(500),
        engine: engine(),
        ..Plan::default()
    }
}

fn has_no_errors(outcome: &Outcome) {
    assert_eq!(outcome.errors, BTreeMap::new(), "{:?}", outcome.first_error);
}

#[test]
fn within_tls_requests_are_as_they_are_without() {
    for protocol in [Protocol::Http, Protocol::Echo] {
        let server = Server::start_with(protocol, &["--tls-self-signed"]);
        let mut plan = plan(server.address, Class { tls: true, ..class(protocol) });
        plan.class.pipeline = 4;
        has_no_errors(&run(&plan));
        plan.class.pipeline = 1;
        plan.class.requests_per_connection = Some(1);
        let churn = run(&plan);
        has_no_errors(&churn);
        assert!(churn.requests > 10 && churn.operations.contains_key("handshake"));
        if protocol == Protocol::Http {
            plan.class.path = "/bytes/1000000".to_owned();
            plan.class.expected_bytes = Some(1_000_000);
            plan.class.requests_per_connection = None;
            let large = run(&plan);
            has_no_errors(&large);
            assert!(large.requests > 0);
        }
    }
    let server = Server::start(Protocol::Http);
    let outcome = run(&plan(server.address, Class { tls: true, ..class(Protocol::Http) }));
    assert_eq!(outcome.errors.keys().collect::<Vec<_>>(), ["bad reply"]);
}

#[test]
fn a_slow_class_has_figures_of_its_own_beside_a_fast_one() {
    let server = Server::start(Protocol::Http);
    let mut plan = plan(server.address, class(Protocol::Http));
    plan.duration = Duration::from_secs(2);
    plan.beside = vec![Class {
        name: "slow".to_owned(),
        path: "/bytes/30000".to_owned(),
        connections: 3,
        receive_bytes_per_s: Some(100_000),
        ..class(Protocol::Http)
    }];
    let fast = run(&plan);
    has_no_errors(&fast);
    assert!(fast.requests > 0 && fast.name.is_empty() && fast.sessions.is_none());
    let [slow] = fast.beside.as_slice() else { panic!("one class beside: {:?}", fast.beside) };
    has_no_errors(slow);
    assert_eq!((slow.name.as_str(), slow.connections_offered), ("slow", 3));
    let sessions = slow.sessions.as_ref().unwrap();
    assert_eq!((sessions.begun, sessions.served, sessions.abandoned), (3, 3, 0));
    // What it has not yet taken of 30,000 bytes comes a tenth of a second later, twice.
    assert!(slow.requests > 0 && slow.service_us.p50 > 150_000.0, "{:?}", slow.service_us);
    assert_eq!(slow.service_us.count, slow.requests);
    assert_eq!(loadgen::decode(&slow.histogram).unwrap().len(), slow.requests);
    assert_eq!(loadgen::decode(&fast.histogram).unwrap().len(), fast.requests);
    // Three connections, and two pieces of each at the edges.
    let most = 3.0 * 100_000.0 * (slow.elapsed_s + 0.2);
    assert!((slow.bytes_received as f64) < most, "{} of {most}", slow.bytes_received);
}

#[test]
fn a_slow_reader_of_a_download_takes_no_more_than_it_is_to() {
    let server = Server::start(Protocol::Ftp);
    let slow = Class { receive_bytes_per_s: Some(50_000), ..class(Protocol::Ftp) };
    let outcome = run(&plan(server.address, slow));
    has_no_errors(&outcome);
    let most = 2.0 * 50_000.0 * (outcome.elapsed_s + 0.2) + 10_000.0;
    assert!(outcome.bytes_received > 0 && (outcome.bytes_received as f64) < most, "{outcome:?}");
    assert_eq!(outcome.sessions.unwrap().begun, 2);
}

#[test]
fn a_slow_sender_trickles_its_request_or_its_upload() {
    let server = Server::start(Protocol::Http);
    let slow = Class { send_bytes_per_s: Some(300), ..class(Protocol::Http) };
    let outcome = run(&plan(server.address, slow));
    has_no_errors(&outcome);
    assert!(outcome.requests > 0, "{outcome:?}");
    // Its 50 bytes go in pieces of 30.
    assert!(outcome.service_us.p50 > 30_000.0, "{:?}", outcome.service_us);

    let server = Server::start(Protocol::Ftp);
    let slow = Class {
        operation: FtpOperation::Store,
        path: "up".to_owned(),
        payload_bytes: 5000,
        send_bytes_per_s: Some(20_000),
        ..class(Protocol::Ftp)
    };
    let outcome = run(&plan(server.address, slow));
    has_no_errors(&outcome);
    // A quarter of a second, but for what a pause before it has left.
    assert!(outcome.requests > 0 && outcome.service_us.p50 > 90_000.0, "{outcome:?}");
    assert!(server.root.path().join("up.0").metadata().unwrap().len() == 5000);
}

/// The cases at the same time, since they wait.
fn for_each<T: Sync>(cases: &[T], check: impl Fn(&T) + Sync) {
    thread::scope(|scope| {
        for case in cases {
            scope.spawn(|| check(case));
        }
    });
}

#[test]
fn half_open_clients_are_cut_by_the_server_and_that_is_no_error() {
    for_each(&[Protocol::Http, Protocol::Ftp, Protocol::Echo], |protocol| {
        let server = Server::start_with(*protocol, &["--idle-timeout", "1"]);
        let half = Class {
            operation: FtpOperation::Login,
            manner: Manner::HalfOpen,
            connections: 4,
            ..class(*protocol)
        };
        let mut plan = plan(server.address, half);
        plan.duration = Duration::from_secs(4);
        let outcome = run(&plan);
        has_no_errors(&outcome);
        let sessions = outcome.sessions.as_ref().unwrap();
        let cut: u64 = sessions.cut.values().sum();
        assert!(cut >= 4 && sessions.begun >= cut && sessions.served == 0, "{sessions:?}");
        assert_eq!((sessions.cut_after_us.count, outcome.requests), (cut, 0));
        assert!(sessions.first_cut.is_some());
        // The server waits for a second.
        assert!(sessions.cut_after_us.p50 > 900_000.0, "{sessions:?}");
        assert_ne!(outcome.verdict.as_ref().unwrap().word, Word::UnderSampled);
    });
}

#[test]
fn vanishing_and_resetting_clients_are_counted_and_the_server_serves_on() {
    let store = Class {
        operation: FtpOperation::Store,
        path: "up".to_owned(),
        payload_bytes: 2_000_000,
        ..class(Protocol::Ftp)
    };
    let download = Class { path: "/bytes/1000000".to_owned(), ..class(Protocol::Http) };
    let cases = [
        (download, true),
        (class(Protocol::Ftp), true),
        (Class { operation: FtpOperation::Login, ..class(Protocol::Ftp) }, true),
        (store, false),
        (Class { payload_bytes: 100_000, ..class(Protocol::Echo) }, true),
    ];
    for_each(&cases, |(leaving, has_reply)| {
        let all = [
            Manner::VanishInRequest,
            Manner::ResetInRequest,
            Manner::VanishInReply,
            Manner::ResetInReply,
        ];
        for manner in all.into_iter().take(if *has_reply { 4 } else { 2 }) {
            leave(&Class { name: "leaving".to_owned(), manner, ..leaving.clone() });
        }
    });
}

/// Clients that leave, beside others that do not.
fn leave(class_of_leavers: &Class) {
    let server = Server::start(class_of_leavers.protocol);
    let mut plan = plan(server.address, class(class_of_leavers.protocol));
    let load = Load::Closed { think: Duration::from_millis(5) };
    plan.beside = vec![Class { load, ..class_of_leavers.clone() }];
    let begun = Instant::now();
    let outcome = loop {
        let outcome = run(&plan);
        has_no_errors(&outcome);
        let abandoned = outcome.beside[0].sessions.as_ref().unwrap().abandoned;
        if outcome.requests > 0 && abandoned > 0 {
            break outcome;
        }
        // A machine that has much else to do needs longer.
        assert!(begun.elapsed() < PATIENCE, "in vain: {outcome:?}");
        plan.duration *= 2;
    };
    let [leaving] = outcome.beside.as_slice() else { panic!("one class beside: {outcome:?}") };
    has_no_errors(leaving);
    let sessions = leaving.sessions.as_ref().unwrap();
    assert_eq!(sessions.served, 0, "{sessions:?}");
    assert!(sessions.begun >= sessions.abandoned, "{sessions:?}");
    assert_eq!((leaving.requests, sessions.cut.len()), (0, 0), "{sessions:?}");
}

#[test]
fn who_was_served_and_who_was_cut_is_counted_by_how() {
    let resets_after_a_reply = |mut stream: TcpStream| {
        let _ = stream.read(&mut [0; 1000])?;
        stream.write_all(REPLY)?;
        // The next request.
        let _ = stream.read(&mut [0; 1000])?;
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))
    };
    let slow = Class { receive_bytes_per_s: Some(1_000_000), ..class(Protocol::Http) };
    let outcome = run(&plan(serve(resets_after_a_reply), slow.clone()));
    has_no_errors(&outcome);
    let sessions = outcome.sessions.unwrap();
    assert!(sessions.served > 0 && sessions.begun >= sessions.served, "{sessions:?}");
    assert_eq!(sessions.cut.keys().collect::<Vec<_>>(), ["reset"]);

    let outcome = run(&plan(serve(|_| Ok(())), slow));
    has_no_errors(&outcome);
    let sessions = outcome.sessions.unwrap();
    assert!(sessions.begun > 0 && sessions.served == 0, "{sessions:?}");
    assert!(sessions.cut.keys().all(|kind| kind == "reset" || kind == "closed early"));
}

fn script(name: &str) -> Script {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name);
    toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Runs a script that stands ready, without its pauses.
fn play(name: &str, protocol: Protocol, load: Load) -> (Outcome, Server) {
    let server = Server::start(protocol);
    let mut script = script(name);
    script.think = None;
    let scripted = Class { script: Some(script), load, connections: 4, ..class(protocol) };
    let mut plan = plan(server.address, scripted);
    plan.duration = Duration::from_secs(2);
    let outcome = run(&plan);
    has_no_errors(&outcome);
    (outcome, server)
}

#[test]
fn a_script_of_ftp_is_one_request_whose_steps_are_timed() {
    let (outcome, server) = play("ftp-mix.toml", Protocol::Ftp, Load::default());
    assert!(outcome.requests > 0);
    let steps: Vec<_> = outcome.steps.iter().map(|step| step.name.as_str()).collect();
    let all = ["login", "retrieve /file", "cwd /", "list", "nlst", "store /up", "noop", "quit"];
    assert_eq!(steps, all);
    let count = |name: &str| {
        let step = outcome.steps.iter().find(|step| step.name == name).unwrap();
        assert_eq!(loadgen::decode(&step.histogram).unwrap().len(), step.service_us.count);
        step.service_us.count
    };
    // A session that has ended has quit; those at the edges have done a part.
    assert!(count("quit").abs_diff(outcome.requests) <= 4, "{:?}", outcome.steps);
    assert!(count("retrieve /file") > count("noop"));
    for phase in ["connect", "banner", "login", "epsv", "data_connect", "transfer"] {
        assert!(outcome.operations.contains_key(phase), "{phase}");
    }
    assert_eq!(outcome.response_us.count, outcome.requests);
    assert_eq!(server.root.path().join("up.0").metadata().unwrap().len(), 10_000);
}

#[test]
fn sessions_with_a_script_may_arrive_by_a_schedule() {
    let rate = "20".parse().unwrap();
    let load = Load::Open { rate, arrivals: Arrivals::Poisson, seed: 1, backlog: 100 };
    let (outcome, _) = play("http-visit.toml", Protocol::Http, load);
    assert!(outcome.requests > 0 && outcome.arrivals > 0 && outcome.steps.len() == 5);
    assert!(outcome.requests + outcome.unfinished as u64 >= outcome.arrivals);
    // The pause in it is in the time of the whole session, and in that of no step.
    assert!(outcome.service_us.p50 > 99_000.0, "{:?}", outcome.service_us);
    assert!(outcome.steps.iter().all(|step| step.name != "think"));
}

#[test]
fn a_step_that_fails_is_a_failure_of_its_session() {
    let server = Server::start(Protocol::Ftp);
    let text = "step = [{ do = \"login\" }, { do = \"cwd\", path = \"/nowhere\" }]";
    let scripted = Class { script: Some(toml::from_str(text).unwrap()), ..class(Protocol::Ftp) };
    let outcome = run(&plan(server.address, scripted));
    assert_eq!(outcome.errors.keys().collect::<Vec<_>>(), ["wrong status"]);
    let first = outcome.first_error.unwrap();
    assert!(first.contains("the reply to CWD: 550"), "{first}");
}

#[test]
fn connections_are_opened_as_fast_as_the_class_says() {
    let server = Server::start(Protocol::Echo);
    let ramp = Class { connections: 100, connect_rate: Some(50.0), ..class(Protocol::Echo) };
    let mut plan = plan(server.address, ramp);
    plan.warm_up = Duration::ZERO;
    let outcome = run(&plan);
    has_no_errors(&outcome);
    let most = 50.0 * (outcome.elapsed_s + 0.2) + 2.0;
    let opened = outcome.connections_served;
    assert!(opened > 0 && (opened as f64) < most, "{opened} of {most}");
}

fn loadgen(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_mistake_in_a_file_is_told_with_its_line_and_what_was_expected() {
    let folder = TempDir::new().unwrap();
    let good = "[[class]]\nname = \"a\"\nprotocol = \"http\"\npath = \"/\"\nconnections = 1\n";
    let cases = [
        ("--beside", format!("{good}conections = 1\n"), ":6: conections: unknown field"),
        ("--beside", good.replace("\"http\"", "\"gopher\""), ":3: protocol: unknown variant"),
        (
            "--beside",
            good.replace("name = \"a\"\n", ""),
            "each class beside the first needs a name",
        ),
        ("--beside", good.replace("\"/\"", "\"x\""), "class a: an HTTP path starts with a slash"),
        ("--script", "[[step]]\ndo = \"fly\"\n".to_owned(), ":2: do: unknown variant `fly`"),
        ("--script", "draws = 1\n[[step]]\ndo = \"think\"\n".to_owned(), "step 1: \"think\""),
    ];
    for (flag, text, expected) in cases {
        let file = write(&folder, "file.toml", &text);
        let file = file.to_str().unwrap();
        let target = ["run", "--protocol", "http", "--target", "127.0.0.1:1"];
        let (code, _, told) = loadgen(&[&target[..], &[flag, file]].concat());
        assert_eq!((code, told.lines().count()), (Some(2), 1), "{told}");
        assert!(told.contains(expected), "{told} says {expected}");
    }
}

#[test]
fn the_command_shows_writes_and_merges_all_classes() {
    let server = Server::start(Protocol::Http);
    let folder = TempDir::new().unwrap();
    let beside = write(
        &folder,
        "beside.toml",
        "[[class]]\nname = \"slow readers\"\nprotocol = \"http\"\npath = \"/bytes/10000\"\n\
         connections = 2\nreceive_bytes_per_s = 50_000\n",
    );
    let target = server.address.to_string();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for name in ["a.json", "b.json"] {
        let (_, table, told) = loadgen(&[
            "run",
            "--protocol",
            "http",
            "--target",
            &target,
            "--connections",
            "2",
            "--warm-up",
            "100ms",
            "--duration",
            "400ms",
            "--beside",
            beside.to_str().unwrap(),
            "--json",
            &path(name),
        ]);
        assert!(table.contains("\nslow readers\n") && table.contains("2 begun"), "{table}{told}");
        assert_eq!(table.matches("verdict").count(), 2, "{table}");
    }
    loadgen(&["merge", &path("a.json"), &path("b.json"), "--json", &path("c.json")]);
    let read = |name: &str| -> Outcome {
        serde_json::from_str(&std::fs::read_to_string(path(name)).unwrap()).unwrap()
    };
    let (a, b, c) = (read("a.json"), read("b.json"), read("c.json"));
    assert_eq!(c.requests, a.requests + b.requests);
    assert_eq!(c.beside[0].requests, a.beside[0].requests + b.beside[0].requests);
    assert_eq!(c.beside[0].sessions.as_ref().unwrap().begun, 4);
    assert!(c.beside[0].verdict.is_some());
}
