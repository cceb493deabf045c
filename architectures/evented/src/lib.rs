//! One thread, one readiness poll: the reactor (Schmidt 1995), also known as SPED (Pai et al.
//! 1999).
//!
//! ```text
//!            ┌──────────────────────────────────────────────┐
//!            ▼                                              │
//!   poll: who is ready? ──▶ listener: accept some ──────────┤
//!                      ├──▶ connection: advance it ─────────┤
//!                      └──▶ nobody for a second: deadlines ─┘
//! ```
//!
//! Edge-triggered: a socket is registered once, for both directions, and each edge lets its
//! connection go as far as it can, within a turn. The loop is in `reactor`.
//!
//! Known weakness: a job that blocks or computes stops everybody, since it runs here.
//! `evented-pool` and `evented-workers-pool` answer it with this very reactor; `jobs` is the way
//! back into it.

mod jobs;
mod reactor;
mod tokens;

use std::io;

use common::Server;

pub use crate::jobs::{Outcome, Ticket};
pub use crate::reactor::run_with;
pub use crate::tokens::watch;

/// Serves until the server leaves and its last conversation has ended.
pub fn run(server: &Server) -> io::Result<()> {
    run_with(server, watch, |job, _| Some(job.run()))
}
