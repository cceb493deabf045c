//! The FTP session against whatever libFuzzer thinks of: `cargo +nightly fuzz run ftp`.

#![no_main]

#[path = "../play.rs"]
mod play;

libfuzzer_sys::fuzz_target!(|input: &[u8]| play::ftp(input));
