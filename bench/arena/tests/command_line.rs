//! What a user who asks for the wrong thing is told: one line, exit code 2.

use std::fs;
use std::path::Path;
use std::process::Command;

fn check(arguments: &[&str], expected: &str) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_arena")).args(arguments).output().expect("arena runs");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(expected), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn an_unknown_workload_gets_the_names_there_are() {
    check(&["run", "--workload", "plantext"], "no workload is named plantext; there are: ");
}

#[test]
fn an_unknown_architecture_gets_the_names_there_are() {
    check(&["run", "--architecture", "apache"], "no architecture is named apache; there are: ");
}

#[test]
fn an_unknown_server_of_other_people_gets_the_names_there_are() {
    check(&["run", "--peer", "apache"], "no peer is named apache; there are: ");
}

#[test]
fn a_malformed_file_of_a_contestant_is_told_by_its_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("odd.toml"), "description = \"D\"\nport = 21\n").unwrap();
    let path = folder.path().display().to_string();
    check(&["run", "--peers", "--contestants", &path], "odd.toml:2: port: unknown field `port`");
}

#[test]
fn a_server_of_other_people_that_is_not_here_is_told_with_the_way_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    let text = "description = \"D\"\nprotocols = [\"ftp\"]\norder = 101\nio = \"epoll\"\n\
                programs = [\"no-such-program\"]\narguments = []\nversion_arguments = []\n\
                get = \"apt-get install it\"\n";
    fs::write(folder.path().join("absent.toml"), text).unwrap();
    let path = folder.path().display().to_string();
    let said = "absent is not here; get it by: apt-get install it";
    check(&["run", "--peer", "absent", "--contestants", &path], said);
}

#[test]
fn a_malformed_workload_file_is_told_by_its_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("odd.toml"), "title = \"T\"\nconections = 3\n").unwrap();
    let path = folder.path().display().to_string();
    let told = "odd.toml:2: conections: unknown field `conections`; did you mean `connections`?";
    check(&["run", "--workloads", &path], told);
}

#[test]
fn a_folder_that_is_not_there_or_has_no_workload_is_told() {
    check(&["list", "--workloads", "/nope"], "cannot read workloads in /nope: ");
    check(&["list", "--workloads", "/nope"], "; give --workloads a folder of .toml files");
    check(&["list", "--contestants", "/nope"], "; give --contestants a folder of .toml files");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    check(&["run", "--workloads", &path], "no .toml files in ");
    let file = folder.path().join("one.toml");
    fs::write(&file, "").unwrap();
    let file = file.display().to_string();
    let told = "it is a file; give --workloads the folder that it is in";
    check(&["list", "--workloads", &file], told);
    let told = "it is a file; give --contestants the folder that it is in";
    check(&["list", "--contestants", &file], told);
}

/// What the harness says of a workspace of one's own, whose architectures are declared like this.
fn said_of(declarations: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |file: &str, text: &str| {
        let file = folder.path().join(file);
        fs::create_dir_all(file.parent().expect("a folder")).expect("it is made");
        fs::write(file, text).expect("it is written");
    };
    write("Cargo.toml", "[workspace]\nmembers = [\"*\"]\nresolver = \"3\"\n");
    for (name, declared) in declarations {
        let package = format!("[package]\nname = \"{name}\"\nedition = \"2024\"\n");
        let declared = format!("[package.metadata.architecture]\n{declared}\n");
        write(&format!("{name}/Cargo.toml"), &(package + &declared));
        write(&format!("{name}/src/main.rs"), "fn main() {}\n");
    }
    let mut arena = Command::new(env!("CARGO_BIN_EXE_arena"));
    let output = arena.arg("list").current_dir(folder.path()).output().expect("arena runs");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

#[test]
fn a_declaration_that_cannot_be_is_told_with_its_file() {
    let good = "order = 3\nio = \"threads\"\nworkers = \"none\"\n";
    let said = said_of(&[("one", &format!("{good}sources = [\"B\", \"Q\"]"))]);
    let expected = "there is no source \"Q\"; there are B, U";
    assert!(said.contains("one/Cargo.toml: ") && said.contains(expected), "{said}");
    let variant = "[[package.metadata.architecture.variants]]\nname = \"v\"\narguments = []\n\
                   sources = [\"X1\"]";
    let said = said_of(&[("one", &format!("{good}{variant}"))]);
    assert!(said.contains("there is no source \"X1\""), "{said}");
    let said = said_of(&[("one", good), ("two", good)]);
    let expected = "two/Cargo.toml: [package.metadata.architecture]: order 3 is that of one; \
                    expected one of its own, such as 4";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn a_mistake_on_the_command_line_is_told_in_one_line() {
    check(&["run", "--blocks", "0"], "invalid value '0' for '--blocks <N>'");
    check(&["calibrate", "--blocks", "0"], "invalid value '0' for '--blocks <N>'");
    check(&["run", "--colour"], "unexpected argument '--colour' found; --help shows what there is");
    check(&["measure"], "unrecognized subcommand 'measure'");
}

#[test]
fn work_that_no_server_can_do_is_refused_before_anything_is_measured() {
    let busy = ["advise", "--connections", "10", "--rate", "3000", "--cpu-us", "500"];
    check(&busy, "keep 1.50 processors busy, and the server has 1");
    check(&["advise", "--connections", "10", "--rate", "0"], "give requests a second");
}

#[test]
fn outside_the_repository_one_line_says_where_to_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut arena = Command::new(env!("CARGO_BIN_EXE_arena"));
    let output = arena.arg("list").current_dir(folder.path()).output().expect("arena runs");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("run inside the repository"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn results_without_a_run_are_told_how_to_get_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    check(&["report", "--results", &path], "make one with `arena run`");
}

#[test]
fn a_run_that_is_not_recorded_cannot_be_compared() {
    check(&["diff", "yesterday", "today"], "no recorded run yesterday, neither a folder nor");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    check(&["diff", "a", "b", "--results", &path], "there is none; make one with `arena run`");
    for name in ["20200101T000000Z-quick", "20200102T000000Z-quick"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("machine.json"), "{}").unwrap();
    }
    let there = "; there are 20200102T000000Z-quick, 20200101T000000Z-quick";
    check(&["diff", "a", "b", "--results", &path], there);
    check(&["run", "--resume", "nope", "--out", &path], there);
    check(&["diff", "yesterday"], "required arguments were not provided");
}

#[test]
fn what_cannot_be_resumed_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    check(&["run", "--resume", "--out", &path], "is whole; nothing to resume");
    check(&["run", "--resume", "yesterday"], "no recorded run yesterday, neither a folder nor");
    check(&["run", "--resume", "--blocks", "3"], "cannot be used with");
    check(&["run", "--full", "--workload", "churn"], "cannot be used with");
}

#[test]
fn a_run_in_a_format_that_is_not_known_is_told_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("20200101T000000Z-quick");
    fs::create_dir(&run).unwrap();
    let path = folder.path().display().to_string();
    for (text, expected) in [
        ("{\"format\": 7}", "machine.json: its format is 7, this program reads 1; use the program"),
        ("{\"form", "machine.json: EOF while parsing"),
        ("{\"format\": 1}", "machine.json: missing field `started`"),
    ] {
        fs::write(run.join("machine.json"), text).unwrap();
        check(&["report", "--results", &path], expected);
        check(&["diff", &run.display().to_string(), "other"], expected);
    }
}

#[test]
fn records_of_older_programs_are_read_and_a_cell_that_is_none_is_told_by_its_line() {
    let committed = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../results"));
    let runs = fs::read_dir(committed).unwrap().map(|entry| entry.unwrap().path());
    let oldest = runs.filter(|run| run.join("machine.json").exists()).min().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join(oldest.file_name().unwrap());
    fs::create_dir(&run).unwrap();
    for file in ["machine.json", "cells.jsonl"] {
        fs::copy(oldest.join(file), run.join(file)).unwrap();
    }
    let path = folder.path().display().to_string();
    let mut report = Command::new(env!("CARGO_BIN_EXE_arena"));
    assert!(report.args(["report", "--results", &path]).status().unwrap().success());
    let text = fs::read_to_string(folder.path().join("README.md")).unwrap();
    assert!(text.contains("In the lead: "), "{text}");
    let cells = fs::read_to_string(run.join("cells.jsonl")).unwrap();
    let first = cells.lines().next().unwrap();
    fs::write(run.join("cells.jsonl"), format!("{first}\n{{}}\n")).unwrap();
    let told = "cells.jsonl:2: missing field `workload` at line 1 column 2; use the program";
    check(&["report", "--results", &path], told);
}

/// No number in the committed report was typed by hand.
#[test]
fn the_committed_report_is_what_its_records_say_byte_for_byte() {
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../results");
    let folder = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-r").arg(committed).arg(folder.path()).status().unwrap();
    assert!(copied.success());
    let results = folder.path().join("results");
    let files = ["README.md", "report.html", "heat-map.svg"].map(|name| results.join(name));
    let before = files.each_ref().map(|file| fs::read_to_string(file).unwrap());
    for file in &files {
        fs::remove_file(file).unwrap();
    }
    let mut report = Command::new(env!("CARGO_BIN_EXE_arena"));
    let status = report.arg("report").arg("--results").arg(&results).status().unwrap();
    assert!(status.success());
    for (file, before) in files.iter().zip(before) {
        let is_alike = fs::read_to_string(file).unwrap() == before;
        assert!(is_alike, "{}: run `make report`", file.display());
    }
}
