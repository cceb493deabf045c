//! The suite of `classes.rs` with `io_uring`; it needs Linux 6.1 or newer.

#[path = "classes.rs"]
mod classes;
