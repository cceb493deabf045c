//! The suite of `servers.rs` with `io_uring`; it needs Linux 6.1 or newer.

#[path = "servers.rs"]
mod servers;
