//! The suite of `open_loop.rs` with `io_uring`; it needs Linux 6.1 or newer.

#[path = "open_loop.rs"]
mod open_loop;
