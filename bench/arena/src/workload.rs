//! Workloads: one TOML file is one question. A `Workload` that exists has been checked.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use loadgen::Protocol;
use serde::{Deserialize, Serialize};

use crate::Usage;

/// One question, as its file and every record of a run hold it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Workload {
    /// The file's stem; a key of records, not of the file.
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) question: String,
    pub(crate) expectation: String,
    pub(crate) protocol: Protocol,
    /// What is asked for: an HTTP target or a file below the FTP root. Echo has none.
    #[serde(default)]
    pub(crate) path: String,
    pub(crate) connections: usize,
    /// Requests in flight on one connection.
    #[serde(default = "one")]
    pub(crate) pipeline: usize,
    /// Requests after which a connection is closed and made anew; none keeps it.
    #[serde(default)]
    pub(crate) requests_per_connection: Option<u64>,
    /// Bytes of one echo request.
    #[serde(default)]
    pub(crate) payload_bytes: usize,
    /// Connections made before the others that never send anything.
    #[serde(default)]
    pub(crate) idle_connections: usize,
    /// Bytes that every answer must have.
    #[serde(default)]
    pub(crate) expected_bytes: Option<u64>,
    pub(crate) warm_up_ms: u64,
    pub(crate) duration_ms: u64,
    /// Repetitions: each contestant is measured once in each block.
    pub(crate) blocks: u32,
    /// Given by `--workers` to the architectures that have many of something.
    #[serde(default)]
    pub(crate) workers: Option<usize>,
    /// Whether the floors are measured beside the architectures.
    #[serde(default)]
    pub(crate) floor: bool,
    /// The harness makes a file of this size at `path` below the root.
    #[serde(default)]
    pub(crate) file_bytes: Option<u64>,
    /// The harness starts a backend and gives its address by `--backend`.
    #[serde(default)]
    pub(crate) backend: bool,
    /// Whether it belongs to the set that runs when nothing is named.
    #[serde(default)]
    pub(crate) quick: bool,
}

/// A workload file that cannot be used, in one line.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Malformed {
    file: PathBuf,
    line: usize,
    key: String,
    expected: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: ", self.file.display(), self.line)?;
        if !self.key.is_empty() {
            write!(out, "{}: ", self.key)?;
        }
        out.write_str(&self.expected)
    }
}

impl std::error::Error for Malformed {}

/// Reads every `*.toml` of a folder, in the order of the names.
pub(crate) fn load_folder(folder: &Path) -> anyhow::Result<Vec<Workload>> {
    let entries = fs::read_dir(folder)
        .map_err(|error| Usage(format!("cannot read workloads in {}: {error}", folder.display())))?
        .collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    if files.is_empty() {
        let folder = folder.display();
        return Err(
            Usage(format!("no .toml files in {folder}; a workload is one such file")).into()
        );
    }
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file)
                .map_err(|error| Usage(format!("cannot read {}: {error}", file.display())))?;
            Ok(parse(&file, &text)?)
        })
        .collect()
}

/// Parses and checks one file; `file` gives the name and stands in messages.
pub(crate) fn parse(file: &Path, text: &str) -> Result<Workload, Malformed> {
    let malformed = |line, key: &str, expected: String| Malformed {
        file: file.to_owned(),
        line,
        key: key.to_owned(),
        expected,
    };
    let line_of = |key: &str| {
        let of_key = |line: &str| line.split_once('=').is_some_and(|(left, _)| left.trim() == key);
        text.lines().position(of_key).map_or(1, |index| index + 1)
    };
    let mut workload: Workload = toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text[..offset].matches('\n').count();
        let key = text.lines().nth(line).and_then(|line| line.split_once('='));
        // A missing key has no line of its own, and the message names it.
        let key = key.filter(|_| !error.message().starts_with("missing field"));
        let key = key.map_or("", |(key, _)| key.trim());
        malformed(line + 1, key, error.message().replace('\n', " "))
    })?;
    for prose in [&mut workload.question, &mut workload.expectation] {
        *prose = prose.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    if !workload.name.is_empty() {
        let expected = "unknown field `name`, the file's own name is the workload's";
        return Err(malformed(line_of("name"), "name", expected.to_owned()));
    }
    let pathless = workload.protocol == Protocol::Echo;
    if workload.path.is_empty() && !pathless {
        return Err(malformed(1, "", "missing field `path`".to_owned()));
    }
    workload.expected_bytes = workload.expected_bytes.or(workload.file_bytes);
    workload.name = file.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into());
    workload
        .check()
        .map_err(|(key, expected)| malformed(line_of(key), key, format!("expected {expected}")))?;
    Ok(workload)
}

impl Workload {
    /// The limits that keep a run bounded: the key at fault and what was expected of it.
    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let in_range = [
            (self.connections >= 1 && self.connections <= 20_000, "connections", "1 to 20000"),
            (self.idle_connections <= 20_000, "idle_connections", "0 to 20000"),
            (self.pipeline >= 1 && self.pipeline <= 1024, "pipeline", "1 to 1024"),
            (self.requests_per_connection != Some(0), "requests_per_connection", "at least 1"),
            (self.payload_bytes <= 1 << 20, "payload_bytes", "at most 1048576"),
            (self.warm_up_ms <= 600_000, "warm_up_ms", "at most 600000"),
            (
                self.duration_ms >= 100 && self.duration_ms <= 600_000,
                "duration_ms",
                "100 to 600000",
            ),
            (self.blocks >= 1 && self.blocks <= 100, "blocks", "1 to 100"),
            (self.workers.is_none_or(|n| (1..=4096).contains(&n)), "workers", "1 to 4096"),
            (self.file_bytes.is_none_or(|n| n <= 1 << 31), "file_bytes", "at most 2147483648"),
        ];
        if let Some((_, key, expected)) = in_range.iter().find(|(good, _, _)| !good) {
            return Err((key, expected));
        }
        match self.protocol {
            Protocol::Echo if !self.path.is_empty() => Err(("path", "none, echo has no paths")),
            Protocol::Echo if self.payload_bytes == 0 => {
                Err(("payload_bytes", "at least 1 for echo"))
            }
            Protocol::Http | Protocol::Ftp if self.payload_bytes > 0 => {
                Err(("payload_bytes", "none, only an echo has a payload"))
            }
            Protocol::Http if self.path.starts_with("/backend/") && !self.backend => {
                Err(("path", "backend = true beside /backend/"))
            }
            Protocol::Http | Protocol::Ftp if !self.path.starts_with('/') => {
                Err(("path", "one that begins with /"))
            }
            _ if self.file_bytes.is_some() && self.path.matches('/').count() != 1 => {
                Err(("path", "a file directly below the root, as file_bytes makes it"))
            }
            _ if self.file_bytes.is_some() && self.expected_bytes != self.file_bytes => {
                Err(("expected_bytes", "the same as file_bytes"))
            }
            _ => Ok(()),
        }
    }
}

fn one() -> usize {
    1
}

#[cfg(test)]
mod tests {
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
        check(
            &GOOD.replace("connections = 64\n", ""),
            "w/sample.toml:1: missing field `connections`",
        );
        check(&GOOD.replace("= 64", "= 0"), "w/sample.toml:6: connections: expected 1 to 20000");
        check(
            &GOOD.replace("= 500", "= 5"),
            "w/sample.toml:8: duration_ms: expected 100 to 600000",
        );
        check(
            &GOOD.replace("/plaintext", "plaintext"),
            "w/sample.toml:5: path: expected one that begins with /",
        );
        check(
            &GOOD.replace("path = \"/plaintext\"\n", ""),
            "w/sample.toml:1: missing field `path`",
        );
        check(
            &GOOD.replace("/plaintext", "/backend/5"),
            "w/sample.toml:5: path: expected backend = true beside /backend/",
        );
        check(
            &format!("{GOOD}payload_bytes = 7\n"),
            "w/sample.toml:10: payload_bytes: expected none, only an echo has a payload",
        );
        check(
            &format!("{GOOD}file_bytes = 7\nexpected_bytes = 8\n"),
            "w/sample.toml:11: expected_bytes: expected the same as file_bytes",
        );
        check(
            &format!("{GOOD}name = \"mine\"\n"),
            "w/sample.toml:10: name: unknown field `name`, the file's own name is the workload's",
        );
        let unknown = parse(Path::new("w/x.toml"), &format!("{GOOD}color = 1\n")).unwrap_err();
        let text = unknown.to_string();
        assert!(text.starts_with("w/x.toml:10: color: unknown field `color`, expected"), "{text}");
        let broken = parse(Path::new("w/x.toml"), "title = \n").unwrap_err().to_string();
        assert!(broken.starts_with("w/x.toml:1: title: "), "{broken}");
    }

    #[test]
    fn every_workload_of_the_project_is_well_formed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads");
        let workloads = load_folder(&folder).unwrap();
        assert!(workloads.iter().any(|workload| workload.quick));
    }
}
