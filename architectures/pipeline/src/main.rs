//! Stages joined by bounded queues, each with threads of its own: SEDA (Welsh et al. 2001).
//!
//! ```text
//!   accept ──▶ read and parse ──────▶ [queue] ──▶ write
//!                ▲   │                              │
//!                │   └──▶ [queue] ──▶ run ─┐        │
//!                └─────────────────────────┴────────┘  to the set of those that wait, or go on
//! ```
//!
//! What is bounded makes whoever fills it wait, and so what comes before: under overload nothing
//! more is read. Only forward queues can be full, so that no stage waits for itself.
//!
//! Known weakness: a request changes threads at each stage, and each queue is a lock and a wake-up.
//! `evented` does without.

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::{Args, value_parser};
use common::Workers;
use common::crew::Threads;
use leader_followers::HandleSet;

use pipeline::Stages;

/// How often deadlines are looked at.
const SWEEP: Duration = Duration::from_secs(1);

#[derive(Args)]
struct Flags {
    /// How many jobs can run at a time
    #[arg(long, value_name = "N", default_value_t = 64,
          value_parser = value_parser!(u64).range(1..=4096))]
    run_threads: u64,
}

fn main() -> ExitCode {
    common::serve_with(&common::architecture!(Workers::One), |server, flags: Flags| {
        let handles = Arc::new(HandleSet::new(server)?);
        let stages = Stages::new(handles.clone());
        let (running, writing, reading) = (stages.clone(), stages.clone(), stages.clone());
        thread::Builder::new().spawn(move || writing.write())?;
        thread::Builder::new().spawn(move || reading.read())?;
        thread::Builder::new().spawn(move || stages.accept(server))?;
        Threads::spawn(flags.run_threads as usize, move |_| running.run())?;
        while server.goes_on(SWEEP) {
            handles.sweep();
        }
        Ok(())
    })
}
