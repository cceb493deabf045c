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
    parse_without(&[], file, text)
}

/// The same where some keys are not for files, and so are not named to whoever mistakes one.
pub fn parse_without<T: DeserializeOwned>(
    hidden: &[&str],
    file: &Path,
    text: &str,
) -> Result<T, Malformed> {
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
            expected: with_the_nearest(&error.message().replace('\n', " "), hidden),
        }
    })
}

/// Of an unknown key, the one that was probably meant, or else all that there are: serde names them
/// all, in an order of its own.
fn with_the_nearest(message: &str, hidden: &[&str]) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let (true, Some(unknown)) = (message.starts_with("unknown field"), quoted.next()) else {
        return message.to_owned();
    };
    let known: Vec<&str> = quoted.filter(|key| !hidden.contains(key)).collect();
    let distance = |key: &&str| strsim::damerau_levenshtein(unknown, key);
    let near = |key: &&str| distance(key) <= unknown.len().max(key.len()) / 3;
    if let Some(nearest) = known.iter().copied().filter(near).min_by_key(distance) {
        return format!("unknown field `{unknown}`; did you mean `{nearest}`?");
    }
    let all: Vec<String> = known.iter().map(|key| format!("`{key}`")).collect();
    format!("unknown field `{unknown}`, expected one of {}", all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_is_answered_with_the_one_that_was_meant() {
        let all = "`conections`, expected one of `name`, `title`, `connections`";
        let check = |message: &str, expected: &str| {
            assert_eq!(with_the_nearest(message, &["name"]), expected);
        };
        check(
            &format!("unknown field {all}"),
            "unknown field `conections`; did you mean `connections`?",
        );
        check(
            "unknown field `nane`, expected one of `name`, `title`, `path`",
            "unknown field `nane`, expected one of `title`, `path`",
        );
        check("missing field `nane`", "missing field `nane`");
    }
}
