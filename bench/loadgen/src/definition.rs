//! What the files that people write have in common: one line that says what is wrong with one.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// A file that cannot be used, in one line.
#[derive(Debug, Eq, PartialEq)]
pub struct Malformed {
    file: PathBuf,
    line: usize,
    key: String,
    expected: String,
}

impl Malformed {
    /// The mistake is in the value of `key`, or in no line of its own if that is empty.
    pub fn new(file: &Path, text: &str, key: &str, expected: impl Into<String>) -> Self {
        let of_key = |line: &str| line.split_once('=').is_some_and(|(left, _)| left.trim() == key);
        let line = text.lines().position(of_key).map_or(1, |index| index + 1);
        Self { file: file.to_owned(), line, key: key.to_owned(), expected: expected.into() }
    }
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

/// Reads the keys of one file; `file` stands in messages.
pub fn parse<T: DeserializeOwned>(file: &Path, text: &str) -> Result<T, Malformed> {
    toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text[..offset].matches('\n').count();
        let key = text.lines().nth(line).and_then(|line| line.split_once('='));
        // A missing key has no line of its own, and the message names it.
        let key = key.filter(|_| !error.message().starts_with("missing field"));
        let key = key.map_or("", |(key, _)| key.trim());
        Malformed {
            file: file.to_owned(),
            line: line + 1,
            key: key.to_owned(),
            expected: error.message().replace('\n', " "),
        }
    })
}
