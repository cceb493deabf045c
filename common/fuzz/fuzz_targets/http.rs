//! The HTTP session against whatever libFuzzer thinks of: `cargo +nightly fuzz run http`.

#![no_main]

#[path = "../play.rs"]
mod play;

libfuzzer_sys::fuzz_target!(|input: &[u8]| play::http(input));
