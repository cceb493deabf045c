//! What of the rules in CONTRIBUTING.md and the invariants in ARCHITECTURE.md a program can check.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};

const COLUMNS_MAX: usize = 100;
const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 700;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every Rust file below `folder`, but for what cargo builds.
fn rust_files(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            files.push((path, text));
        }
    }
    files
}

fn below(folder: &str) -> Vec<(PathBuf, String)> {
    let files = rust_files(&workspace().join(folder));
    assert!(!files.is_empty(), "{folder} holds Rust files");
    files
}

fn all() -> Vec<(PathBuf, String)> {
    ["common", "architectures", "bench"].into_iter().flat_map(below).collect()
}

/// Fails with all that was found.
fn assert_none(found: &[String]) {
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn every_file_opens_with_what_it_is() {
    let silent = all().into_iter().filter(|(_, text)| !text.starts_with("//!"));
    assert_none(&silent.map(|(path, _)| path.display().to_string()).collect::<Vec<_>>());
}

#[test]
fn lines_and_files_have_an_end() {
    let mut found = Vec::new();
    for (path, text) in all() {
        let path = path.display();
        if text.lines().count() > FILE_LINES_MAX {
            found.push(format!("{path}: more than {FILE_LINES_MAX} lines"));
        }
        let long = text.lines().enumerate().filter(|(_, line)| line.chars().count() > COLUMNS_MAX);
        found.extend(long.map(|(i, _)| format!("{path}:{}: over {COLUMNS_MAX} columns", i + 1)));
    }
    assert_none(&found);
}

#[test]
fn the_packages_that_ci_installs_are_those_that_are_told() {
    let read = |name: &str| fs::read_to_string(workspace().join(name)).unwrap();
    let (ci, told) = (read(".ci/run"), read("CONTRIBUTING.md"));
    let (_, list) = told.split_once("apt-get install ").unwrap();
    let told: Vec<_> = list.split("```").next().unwrap().split_whitespace().collect();
    let (list, _) = ci.split_once("; do").unwrap();
    let pairs = list.split_whitespace().filter_map(|word| word.split_once(':'));
    let missing = pairs.map(|(_, package)| package.to_owned());
    let missing: Vec<_> = missing.filter(|package| !told.contains(&package.as_str())).collect();
    assert!(told.len() > 10, "{told:?}");
    assert_none(&missing);
}

/// Relies on rustfmt, which closes a function at the column where it began.
#[test]
fn functions_fit_a_screen() {
    let mut found = Vec::new();
    for (path, text) in all() {
        let mut open: Option<(String, usize)> = None;
        for (i, line) in text.lines().enumerate() {
            let indent: String = line.chars().take_while(|c| *c == ' ').collect();
            let is_function = line.trim_start().split(' ').take(4).any(|word| word == "fn");
            match &open {
                None if is_function && !line.trim_end().ends_with([';', '}']) => {
                    open = Some((format!("{indent}}}"), i));
                }
                Some((end, start)) if line == end => {
                    if i - start + 1 > FUNCTION_LINES_MAX {
                        found.push(format!(
                            "{}:{}: {} lines",
                            path.display(),
                            start + 1,
                            i - start
                        ));
                    }
                    open = None;
                }
                _ => {}
            }
        }
    }
    assert_none(&found);
}

#[test]
fn an_architecture_fits_a_page() {
    let mut found = Vec::new();
    // What serves a conversation is apart where that is not common's.
    let is_page = |path: &Path| !path.components().any(|part| part.as_os_str() == "executor");
    for (path, text) in below("architectures").into_iter().filter(|(path, _)| is_page(path)) {
        let is_library = path.with_file_name("lib.rs").exists() && !path.ends_with("main.rs");
        let lines_max = match path {
            _ if is_library => 150,
            _ if path.ends_with("completion/src/main.rs") => 250,
            _ => 60,
        };
        if text.lines().count() > lines_max {
            found.push(format!("{}: more than {lines_max} lines", path.display()));
        }
    }
    assert_none(&found);
}

#[test]
fn every_architecture_has_a_page_of_words() {
    for entry in fs::read_dir(workspace().join("architectures")).unwrap() {
        let readme = entry.unwrap().path().join("README.md");
        // The one beside the folders is generated: see bench/arena/src/coverage.rs.
        if !readme.parent().unwrap().is_dir() {
            continue;
        }
        let text = fs::read_to_string(&readme).unwrap_or_default();
        for part in ["```text", "**Good at**", "**Bad at**", "**Where it is used**"] {
            assert!(text.contains(part), "{} has {part}", readme.display());
        }
    }
}

/// The first two invariants of ARCHITECTURE.md.
#[test]
fn protocols_know_no_sockets_clocks_or_threads_and_architectures_no_protocol() {
    let mut found = Vec::new();
    let protocols = ["common/src/ftp", "common/src/http"].into_iter().flat_map(below);
    let echo = workspace().join("common/src/echo.rs");
    let echo = (echo.clone(), fs::read_to_string(echo).unwrap());
    let worldly = [
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "std::thread",
        "::now()",
        "File::open",
        "fs::read",
    ];
    for (path, text) in protocols.chain([echo]) {
        let code = text.split("#[cfg(test)]").next().unwrap();
        found.extend(
            worldly
                .iter()
                .filter(|word| code.contains(**word))
                .map(|word| format!("{}: {word}", path.display())),
        );
    }
    for (path, text) in below("architectures") {
        let spoken = ["common::ftp", "common::http", "common::echo", "Protocol"];
        found.extend(
            spoken
                .iter()
                .filter(|word| text.contains(**word))
                .map(|word| format!("{}: {word}", path.display())),
        );
    }
    assert_none(&found);
}
