//! Whole runs of contestants that are shell scripts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;
use crate::catalogue::Io;
use crate::machine::Placement;
use crate::record::Run;
use crate::verify::tests::parrot;

const REPLY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, World!";

/// How long a script may take on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(30);

fn contestant(name: &str, script: &str) -> Contestant {
    Contestant {
        name: name.to_owned(),
        description: String::new(),
        order: 1,
        io: Io::Threads,
        floor: false,
        many_workers: false,
        counts_workers: false,
        variant: false,
        concurrent: true,
        needs: None,
        version: None,
        definition_sha256: None,
        protocols: Vec::new(),
        program: PathBuf::from("/bin/sh"),
        arguments: vec!["-c".to_owned(), script.to_owned()],
        tls: false,
        peer: None,
    }
}

/// One request a connection, for a tenth of a second.
fn workload() -> Workload {
    let text = "title = 'T'\nquestion = 'Q'\nexpectation = 'E'\nprotocol = 'http'\n\
                path = '/plaintext'\nconnections = 1\nrequests_per_connection = 1\n\
                warm_up_ms = 0\nduration_ms = 500\nblocks = 1\n";
    crate::workload::parse(Path::new("sample.toml"), text).unwrap()
}

fn header(contestants: Vec<Contestant>, blocks: u32) -> Header {
    let workloads = vec![Workload { blocks, ..workload() }];
    Header::new(jiff::Timestamp::UNIX_EPOCH, "selected", 7, contestants, workloads)
}

fn stage() -> Stage {
    let mut stage = Stage::new(Placement::unpinned(), None, 0).unwrap();
    stage.ready_deadline = PATIENCE;
    stage.stop_deadline = PATIENCE;
    stage
}

#[test]
fn each_block_has_every_contestant_once_in_an_order_of_the_seed() {
    let contestants: Vec<_> = ["a", "b", "c", "d"].map(|name| contestant(name, "")).into();
    let header = header(contestants, 6);
    let slots = schedule(&header);
    assert_eq!(slots.len(), header.planned());
    for block in 1..=6 {
        let in_block = slots.iter().filter(|slot| slot.block == block);
        let (twins, ones): (Vec<_>, Vec<_>) = in_block.partition(|slot| slot.twin);
        let mut ones: Vec<_> = ones.iter().map(|slot| slot.contestant).collect();
        ones.sort_unstable();
        assert_eq!(ones, [0, 1, 2, 3]);
        let doubled = &header.contestants[twins[0].contestant].name;
        assert_eq!((twins.len(), doubled), (1, &header.twins["sample"]));
    }
    assert_eq!(slots, schedule(&header));
    assert_ne!(slots, schedule(&Header { seed: 8, ..header }));
}

#[test]
fn a_plan_names_each_question_once_and_the_whole() {
    let mut header = header(vec![contestant("a", ""), contestant("b", "")], 2);
    let level = |name: &str| {
        let series = Some("curve".to_owned());
        Workload { name: name.to_owned(), series, ..workload() }
    };
    header.workloads.extend([level("curve-1"), level("curve-2")]);
    let said = plan_in_words(&Run { name: String::new(), header, cells: Vec::new() });
    let cells = |line: &str| line.split_once(", about ").unwrap().0.to_owned();
    let lines: Vec<String> = said.lines().map(cells).collect();
    let line = |name: &str, cells: &str| format!("{name:24} {cells:>10}");
    let expected =
        [line("sample", "6 cells"), line("curve", "4 cells"), line("in all", "10 cells")];
    assert_eq!(lines, expected);
}

#[test]
fn a_contestant_that_goes_wrong_is_told_in_words_and_the_rest_goes_on() {
    let good = format!("trap 'exit 0' TERM; echo listening on {}; sleep 9 & wait", parrot(REPLY));
    let dies =
        format!("echo listening on {}; sleep 0.1; echo out of luck >&2; exit 4", parrot(REPLY));
    let wrong = format!("echo listening on {}; exec sleep 9", parrot("HTTP/1.1 404 No\r\n\r\n"));
    let contestants = vec![
        contestant("absent", "exit 3"),
        contestant("dying", &dies),
        contestant("good", &good),
        contestant("silent", "exec sleep 9"),
        contestant("wrong", &wrong),
    ];
    let folder = tempfile::tempdir().unwrap();
    let header = Header { twins: BTreeMap::new(), ..header(contestants, 1) };
    let mut writer = Writer::create(folder.path(), jiff::Timestamp::UNIX_EPOCH, header).unwrap();
    let mut stage = stage();
    // Patience with the silent one comes to its end.
    stage.ready_deadline = Duration::from_secs(5);
    run(&mut writer, &stage, &AtomicBool::new(false)).unwrap();

    let mut cells = Run::<Cell>::read(writer.folder()).unwrap().cells;
    assert!(cells == writer.run().cells, "the records are not what was measured");
    cells.sort_by(|a, b| a.contestant.cmp(&b.contestant));
    let failures: Vec<_> =
        cells.iter().map(|cell| cell.failure.as_deref().unwrap_or("none")).collect();
    assert_eq!(
        failures,
        [
            "ended before it was ready: exit status: 3",
            "died: exit status: 4; its last words: out of luck",
            "none",
            "never became ready",
            "it answers wrongly: GET /plaintext was answered by \"HTTP/1.1 404 No\"",
        ]
    );
    assert!(cells[2].outcome.as_ref().unwrap().requests > 0);
    // The sleep that it waited for is an orphan now.
    assert_eq!(cells[2].faults, ["left 1 processes behind: killed"]);
}

/// A server that answers the one who verifies it, and nobody after that.
fn hanging() -> std::net::SocketAddr {
    use std::io::{Read as _, Write as _};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut first, _) = listener.accept().unwrap();
        first.write_all(REPLY.as_bytes()).unwrap();
        first.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = first.read_to_end(&mut Vec::new());
        drop(first);
        let silent: Vec<_> = listener.incoming().collect();
        drop(silent);
    });
    address
}

#[test]
fn a_contestant_that_hangs_is_starved_and_ended_and_the_next_has_its_turn() {
    let hangs = format!("trap 'exit 0' TERM; echo listening on {}; sleep 9 & wait", hanging());
    let good = format!("echo listening on {}; exec sleep 9", parrot(REPLY));
    let contestants = vec![contestant("good", &good), contestant("hanging", &hangs)];
    let folder = tempfile::tempdir().unwrap();
    let header = header(contestants, 1);
    let mut writer = Writer::create(folder.path(), jiff::Timestamp::UNIX_EPOCH, header).unwrap();
    run(&mut writer, &stage(), &AtomicBool::new(false)).unwrap();
    let run = writer.run();
    let of = |name: &str| run.cells.iter().find(|cell| cell.contestant == name).unwrap();
    let verdict = |name| crate::table::verdict(of(name), &run.header.workloads[0]);
    assert_eq!(of("hanging").failure, None);
    assert_eq!(verdict("hanging"), crate::table::Verdict::Starved);
    // What it has left is told, as of any other.
    assert_eq!(of("hanging").faults, ["left 1 processes behind: killed"]);
    assert!(of("good").outcome.as_ref().unwrap().requests > 0);
}

#[test]
fn what_a_machine_has_not_is_not_available_there_and_nothing_wrong() {
    let script = "echo no luck here >&2; exit 2";
    let needs = Some("luck".to_owned());
    let contestants =
        vec![Contestant { needs, ..contestant("needy", script) }, contestant("refusing", script)];
    let folder = tempfile::tempdir().unwrap();
    let header = Header { twins: BTreeMap::new(), ..header(contestants, 1) };
    let mut writer = Writer::create(folder.path(), jiff::Timestamp::UNIX_EPOCH, header).unwrap();
    run(&mut writer, &stage(), &AtomicBool::new(false)).unwrap();

    let mut cells = Run::<Cell>::read(writer.folder()).unwrap().cells;
    cells.sort_by(|a, b| a.contestant.cmp(&b.contestant));
    let words = "ended before it was ready: exit status: 2; its last words: no luck here";
    assert_eq!(cells[0].unavailable.as_deref(), Some(words));
    assert_eq!(cells[0].wrongs(), Vec::<String>::new());
    assert_eq!((cells[1].unavailable.as_deref(), cells[1].failure.as_deref()), (None, Some(words)));
}

#[test]
fn a_run_that_is_stopped_records_no_half_cell() {
    let good = format!("echo listening on {}; exec sleep 9", parrot(REPLY));
    let folder = tempfile::tempdir().unwrap();
    let header = header(vec![contestant("good", &good)], 3);
    let mut writer = Writer::create(folder.path(), jiff::Timestamp::UNIX_EPOCH, header).unwrap();
    run(&mut writer, &stage(), &AtomicBool::new(true)).unwrap();
    assert!(Run::<Cell>::read(writer.folder()).unwrap().cells.is_empty());
    assert!(!writer.run().whole());
}

#[test]
fn a_run_that_was_cut_short_goes_on_with_what_is_missing_in_the_same_order() {
    let good = format!("trap 'exit 0' TERM; echo listening on {}; sleep 9 & wait", parrot(REPLY));
    let contestants = ["a", "b"].map(|name| contestant(name, "exit 3"));
    let folder = tempfile::tempdir().unwrap();
    let header = header(contestants.into(), 2);
    let mut writer = Writer::create(folder.path(), jiff::Timestamp::UNIX_EPOCH, header).unwrap();
    let stop = AtomicBool::new(false);
    run(&mut writer, &stage(), &stop).unwrap();
    let (path, whole) = (writer.folder().to_owned(), writer.run().cells.clone());
    assert_eq!(whole.len(), 6, "two contestants and a twin in two blocks");
    let refused = Writer::<Cell>::resume(path.clone(), jiff::Timestamp::UNIX_EPOCH);
    let said = refused.err().unwrap().to_string();
    assert!(said.ends_with("is being written by another arena; wait for it"), "{said}");
    drop(writer);

    // As SIGKILL leaves it: the fourth cell is half written.
    let file = path.join("cells.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    std::fs::write(&file, lines[..3].concat() + &lines[3][..40]).unwrap();

    let mut writer = Writer::resume(path.clone(), jiff::Timestamp::UNIX_EPOCH).unwrap();
    writer.bring(&["a", "b"].map(|name| contestant(name, &good)));
    assert_eq!(planned(writer.run()).0, 3);
    run(&mut writer, &stage(), &stop).unwrap();
    let resumed = Run::<Cell>::read(&path).unwrap();
    assert!(resumed.whole() && resumed.cells[..3] == whole[..3]);
    assert_eq!(resumed.header.resumed, ["1970-01-01T00:00:00Z"]);
    let place = |cell: &Cell| (cell.contestant.clone(), cell.twin, cell.block, cell.position);
    let order = |cells: &[Cell]| cells.iter().map(place).collect::<Vec<_>>();
    assert_eq!(order(&resumed.cells), order(&whole));
    assert!(resumed.cells[3..].iter().all(|cell| cell.failure.is_none()));
}

#[test]
fn two_runs_of_one_second_have_folders_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let create = || {
        let header = header(vec![contestant("good", "")], 1);
        Writer::<Cell>::create(folder.path(), jiff::Timestamp::UNIX_EPOCH, header).unwrap()
    };
    let (first, second, third) = (create(), create(), create());
    assert_eq!(second.run().name, format!("{}-2", first.run().name));
    assert_eq!(third.run().name, format!("{}-3", first.run().name));
    assert_eq!(second.folder().file_name().unwrap(), second.run().name.as_str());
}

#[test]
fn where_nothing_can_be_recorded_the_option_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for place in [file.path(), Path::new("/proc/x")] {
        let header = header(vec![contestant("good", "")], 1);
        let made = Writer::<Cell>::create(place, jiff::Timestamp::UNIX_EPOCH, header);
        let error = made.err().expect("nothing can be recorded there");
        assert!(error.is::<crate::Usage>(), "{error}");
        let (said, told) = (error.to_string(), format!("cannot record in {}: ", place.display()));
        assert!(said.starts_with(&told), "{said}");
        assert!(said.ends_with("; give --out a folder that can be written"), "{said}");
    }
}
