//! Reactors in threads of their own, and one pool of threads for all their jobs.
//!
//! ```text
//!            ┌▶ listener ─▶ reactor: its connections ─┐             ┌▶ thread: job
//!   kernel ──┼▶ listener ─▶ reactor: its connections ─┼▶ the pool ──┼▶ thread: job
//!            └▶ listener ─▶ reactor: its connections ─┘             └▶ thread: job
//! ```
//!
//! Each outcome goes back to the reactor that its job came from, by its ticket.
//!
//! Known weakness: who has a connection keeps it, however busy, and all threads want the pool's
//! queue. `async-tasks` answers the first.

use std::process::ExitCode;
use std::sync::Arc;

use common::Workers;
use common::crew::Threads;
use evented_pool::{Flags, jobs};

fn main() -> ExitCode {
    let workers = Workers::Many(common::processors());
    common::serve_with(&common::architecture!(workers), |server, flags: Flags| {
        let pool = Arc::new(flags.pool()?);
        let sources = server.siblings(server.workers())?;
        let threads = Threads::supervised(server.workers(), move |worker| {
            if let Err(error) = evented::run_with(sources[worker], evented::watch, jobs(&pool)) {
                tracing::error!(%error, "a reactor cannot go on");
            }
        })?;
        threads.join();
        Ok(())
    })
}
