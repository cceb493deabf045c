//! The fuzzer's seeds, and the inputs by which it has once found something, on a stable compiler.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::path::Path;

#[path = "../fuzz/play.rs"]
mod play;

fn each(protocol: &str, play: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(protocol);
    let inputs: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(inputs.len() >= 10, "{} holds {}", folder.display(), inputs.len());
    for path in inputs {
        eprintln!("{}", path.display());
        play(&fs::read(path).unwrap());
    }
}

#[test]
fn every_input_of_the_corpora_keeps_what_must_hold() {
    each("ftp", play::ftp);
    each("http", play::http);
}
