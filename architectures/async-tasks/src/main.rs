//! A task for each connection, on a runtime whose threads steal work from each other.
//!
//! ```text
//! task: accept ──▶ spawn ──▶ accept ──▶ …
//!                    │
//!                    ▼
//!      ┌ worker: task, task, task ┐   steals from the other when it has none
//!      └ worker: task, task, task ┘
//!                    │ job
//!                    ▼
//!      blocking threads, as many as there are jobs that block
//! ```
//!
//! Known weakness: a task may wake on another core than it slept on, with its data in the cache of
//! the first, and each wake goes through queues that threads share. `async-per-core` answers it.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::{io, thread};

use common::Workers;
use common::crew::Threads;
use tokio::runtime::Builder;

fn main() -> ExitCode {
    let workers = Workers::Many(common::processors());
    common::serve(&common::architecture!(workers), |server| {
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.worker_threads(possible(server.workers())?);
        // Those that are made first; threads for what blocks come later, and have no number.
        let worker = AtomicUsize::new(0);
        let runtime =
            runtime.on_thread_start(move || common::work_as(worker.fetch_add(1, Relaxed)));
        let runtime =
            runtime.max_blocking_threads(async_tasks::BLOCKING_THREADS_MAX).enable_all().build()?;
        // As a task, so that this thread is not one more that connections come from.
        runtime.block_on(runtime.spawn(async_tasks::serve(server)))?
    })
}

/// As many workers as the machine lets us have: a runtime that cannot make all of its own panics.
fn possible(wanted: usize) -> io::Result<usize> {
    static GATE: Mutex<()> = Mutex::new(());
    let shut = GATE.lock();
    let trial = Threads::spawn(wanted, |_| drop(GATE.lock()))?;
    let count = trial.count();
    drop(shut);
    trial.join();
    if count < wanted {
        // What has ended still counts for a moment.
        thread::sleep(async_tasks::BACK_OFF);
    }
    Ok(count)
}
