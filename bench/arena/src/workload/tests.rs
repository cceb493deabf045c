//! What a file of a workload says, and what is told of one that says it wrongly.

use super::*;

const GOOD: &str = r#"title = "T"
question = "Q"
expectation = "E"
protocol = "http"
path = "/plaintext"
connections = 64
warm_up_ms = 100
duration_ms = 500
blocks = 5
"#;

fn check(text: &str, expected: &str) {
    let error = parse(Path::new("w/sample.toml"), text).expect_err(text);
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_file_gives_its_name_to_the_workload() {
    let workload = parse(Path::new("w/sample.toml"), GOOD).unwrap();
    assert_eq!(workload.name, "sample");
    assert_eq!(workload.pipeline, 1);
}

#[test]
fn a_file_that_is_made_has_the_size_that_is_expected() {
    let workload = parse(Path::new("f.toml"), &format!("{GOOD}file_bytes = 7\n")).unwrap();
    assert_eq!(workload.expected_bytes, Some(7));
}

#[test]
fn a_rate_opens_the_loop_and_without_one_it_is_closed() {
    let keys = "rate = \"100..500\"\narrivals = \"poisson\"\nbacklog = 7\n";
    let open = parse(Path::new("f.toml"), &format!("{GOOD}{keys}")).unwrap();
    let (rate, arrivals) = (Rate::Ramp(100.0, 500.0), Arrivals::Poisson);
    assert_eq!(open.load(9), Load::Open { rate, arrivals, seed: 9, backlog: 7 });
    let closed = parse(Path::new("f.toml"), &format!("{GOOD}think_ms = 20\n")).unwrap();
    assert_eq!(closed.load(9), Load::Closed { think: Duration::from_millis(20) });
}

const BESIDE: &str = r#"[[beside]]
name = "slow"
protocol = "http"
path = "/bytes/1000"
connections = 3
receive_bytes_per_s = 100
load = { open = { rate = 5 } }
"#;

#[test]
fn classes_beside_the_first_are_those_of_the_load_generator() {
    let workload = parse(Path::new("f.toml"), &format!("{GOOD}{BESIDE}")).unwrap();
    let [slow] = workload.classes_beside(6).try_into().unwrap();
    assert_eq!((slow.connections, slow.receive_bytes_per_s), (3, Some(100)));
    let Load::Open { seed, .. } = slow.load else { panic!("{:?}", slow.load) };
    assert_eq!(seed, 1 ^ 6, "each cell has arrivals of its own");
    let text = format!("{GOOD}{BESIDE}");
    let refused = |from: &str, to: &str, why: &str| {
        check(&text.replace(from, to), &format!("w/sample.toml:{why}"));
    };
    let protocol = "1: class slow: expected the protocol of the workload, \
                    which the server speaks";
    refused("\"http\"\npath = \"/bytes", "\"echo\"\npath = \"/bytes", protocol);
    let many = "1: class slow: expected 1 to 20000 connections";
    refused("connections = 3", "connections = 20001", many);
    let unnamed = "1: each class beside the first needs a name of its own";
    refused("name = \"slow\"", "name = \"\"", unnamed);
    let still = "1: class slow: a slow reader or sender moves at least 1 byte a second";
    refused("per_s = 100", "per_s = 0", still);
}

#[test]
fn only_large_files_are_counted_by_bytes() {
    for (bytes, by_bytes) in [(LARGE_FILE_BYTES, true), (LARGE_FILE_BYTES - 1, false)] {
        let text = format!("{GOOD}file_bytes = {bytes}\n");
        assert_eq!(parse(Path::new("f.toml"), &text).unwrap().retrieves_large_file(), by_bytes);
    }
}

#[test]
fn a_login_needs_no_path_and_an_upload_room_for_two() {
    let login = GOOD.replace("http", "ftp").replace("path = \"/plaintext\"\n", "");
    let login = parse(Path::new("f.toml"), &(login + "operation = \"login\"\n")).unwrap();
    assert_eq!((login.room_bytes(), login.retrieves_large_file()), (0, false));
    let store = GOOD.replace("http", "ftp").replace("= 64", "= 3");
    let keys = "operation = \"store\"\npayload_bytes = 10\n";
    let store = parse(Path::new("f.toml"), &(store + keys)).unwrap();
    assert_eq!((store.room_bytes(), store.retrieves_large_file()), (60, false));
}

#[test]
fn a_malformed_file_is_told_by_file_line_key_and_what_was_expected() {
    check(
        &GOOD.replace("= 64", "= \"many\""),
        "w/sample.toml:6: connections: invalid type: string \"many\", expected usize",
    );
    check(
        &GOOD.replace("\"http\"", "\"gopher\""),
        "w/sample.toml:4: protocol: unknown variant `gopher`, expected one of `http`, `ftp`, \
         `echo`",
    );
    check(&GOOD.replace("connections = 64\n", ""), "w/sample.toml:1: missing field `connections`");
    check(&GOOD.replace("= 64", "= 0"), "w/sample.toml:6: connections: expected 1 to 20000");
    check(&GOOD.replace("= 500", "= 5"), "w/sample.toml:8: duration_ms: expected 100 to 600000");
    check(
        &GOOD.replace("/plaintext", "plaintext"),
        "w/sample.toml:5: path: expected one that begins with /",
    );
    check(&GOOD.replace("path = \"/plaintext\"\n", ""), "w/sample.toml:1: missing field `path`");
    check(
        &GOOD.replace("/plaintext", "/backend/5"),
        "w/sample.toml:5: path: expected backend = true beside /backend/",
    );
    check(
        &format!("{GOOD}payload_bytes = 7\n"),
        "w/sample.toml:10: payload_bytes: expected none, only an echo, a POST and what is \
         stored have a size",
    );
    check(
        &format!("{GOOD}file_bytes = 7\nexpected_bytes = 8\n"),
        "w/sample.toml:11: expected_bytes: expected the same as file_bytes",
    );
    check(
        &format!("{GOOD}name = \"mine\"\n"),
        "w/sample.toml:10: name: unknown field `name`, the file's own name is the workload's",
    );
    let secure = format!("{GOOD}tls = true\nfloor = true\n");
    check(&secure, "w/sample.toml:11: floor: expected false, the floors know no TLS");
    let post = format!("{GOOD}method = \"post\"\n");
    check(&post, "w/sample.toml:1: payload_bytes: expected at least 1 to post");
    check(
        &post.replace("\"http\"", "\"ftp\""),
        "w/sample.toml:10: method: expected none, only HTTP has one",
    );
    let store = GOOD.replace("http", "ftp") + "operation = \"store\"\n";
    check(&store, "w/sample.toml:1: payload_bytes: expected at least 1 to store");
    check(
        &(GOOD.replace("http", "ftp") + "floor = true\n"),
        "w/sample.toml:10: floor: expected false, of FTP the floors know logins only",
    );
    let login = store.replace("store", "login");
    check(&login, "w/sample.toml:5: path: expected none, a login has no path");
    check(
        &format!("{GOOD}operation = \"login\"\n"),
        "w/sample.toml:10: operation: expected none, only FTP has one",
    );
    let unknown = parse(Path::new("w/x.toml"), &format!("{GOOD}color = 1\n")).unwrap_err();
    let text = unknown.to_string();
    assert!(text.starts_with("w/x.toml:10: color: unknown field `color`, expected"), "{text}");
    let broken = parse(Path::new("w/x.toml"), "title = \n").unwrap_err().to_string();
    assert!(broken.starts_with("w/x.toml:1: title: "), "{broken}");
}

#[test]
fn levels_of_connections_make_a_workload_each() {
    let levels = "levels = { connections = [1, 16] }\n";
    let text = GOOD.replace("connections = 64\n", levels);
    let series = parse(Path::new("w/sample.toml"), &text).unwrap().at_each_level();
    let of = |one: &Workload| (one.name.clone(), one.connections, one.varied());
    assert_eq!(of(&series[0]), ("sample-1".to_owned(), 1, Some(Varied::Connections)));
    assert_eq!(of(&series[1]), ("sample-16".to_owned(), 16, Some(Varied::Connections)));
    check(
        &format!("{GOOD}{levels}"),
        "w/sample.toml:6: connections: expected none beside levels of it",
    );
    check(
        &text.replace("[1, 16]", "[1, 1]"),
        "w/sample.toml:6: levels: expected 1 to 32 good ones",
    );
}

#[test]
fn a_key_of_the_other_loop_is_a_mistake() {
    check(
        &format!("{GOOD}rate = \"1000..0\"\n"),
        "w/sample.toml:10: rate: a rate of 0 a second is impossible; give 0.001 to 10000000",
    );
    check(
        &format!("{GOOD}rate = true\n"),
        "w/sample.toml:10: rate: invalid type: boolean `true`, expected a rate: 5000, \
         \"1000..5000\" or \"1000,2000,5000\"",
    );
    check(
        &format!("{GOOD}rate = 5\nthink_ms = 1\n"),
        "w/sample.toml:11: think_ms: expected none beside a rate",
    );
    check(
        &format!("{GOOD}arrivals = \"poisson\"\n"),
        "w/sample.toml:10: arrivals: expected a rate beside it",
    );
}

#[test]
fn every_workload_of_the_project_is_well_formed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads");
    let workloads = load_folder(&folder).unwrap();
    assert!(workloads.iter().any(|workload| workload.quick));
}
