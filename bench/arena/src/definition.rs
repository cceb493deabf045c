//! What the files that people write have in common: a folder of TOML files, each of which defines
//! one thing.

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) use loadgen::definition::{Malformed, parse, parse_without};

use crate::Usage;

/// Reads every `*.toml` of a folder, in the order of the names. `what` is what one defines.
pub(crate) fn read_folder(folder: &Path, what: &str) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let refused = |error| {
        let why = if folder.is_file() {
            format!("it is a file; give --{what}s the folder that it is in")
        } else {
            format!("{error}; give --{what}s a folder of .toml files")
        };
        Usage(format!("cannot read {what}s in {}: {why}", folder.display()))
    };
    let entries = fs::read_dir(folder).map_err(refused)?.collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    if files.is_empty() {
        let folder = folder.display();
        return Err(Usage(format!("no .toml files in {folder}; a {what} is one such file")).into());
    }
    files.sort();
    let read = |file: PathBuf| {
        let text = fs::read_to_string(&file)
            .map_err(|error| Usage(format!("cannot read {}: {error}", file.display())))?;
        Ok((file, text))
    };
    files.into_iter().map(read).collect()
}

/// The name of what a file defines: the file's stem.
pub(crate) fn name_of(file: &Path) -> String {
    file.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into())
}

/// Prose in one line.
pub(crate) fn unwrapped(prose: &str) -> String {
    prose.split_whitespace().collect::<Vec<_>>().join(" ")
}
