//! The fuzzer's seeds, and the inputs by which it has once found something, on a stable compiler.

use std::fs;

#[path = "../../fuzz/play.rs"]
mod play;

#[test]
fn every_input_of_the_corpus_keeps_what_must_hold() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/ftp");
    let inputs: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(inputs.len() >= 10, "{folder} holds {}", inputs.len());
    for path in inputs {
        eprintln!("{}", path.display());
        play::ftp(&fs::read(path).unwrap());
    }
}
