//! A task for each connection, on runtimes that share nothing: one for each core.
//!
//! ```text
//!            ┌▶ listener ─▶ runtime on one thread: task, task, task
//! kernel ────┤   (connections are shared out by a hash of their addresses)
//!            └▶ listener ─▶ runtime on one thread: task, task, task
//!                                 │ job
//!                                 ▼
//!                           blocking threads
//! ```
//!
//! Known weakness: what the hash has given to a core stays there, however busy it is and however
//! idle the others are. `async-tasks` answers it.

use std::io;
use std::process::ExitCode;
use std::thread;

use common::Workers;
use tokio::runtime::{Builder, Runtime};

fn main() -> ExitCode {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    common::serve(&common::architecture!(Workers::Many(cores)), |server| {
        let own = runtime(server.workers())?;
        let mut others = Vec::new();
        for worker in 1..server.workers() {
            let (runtime, sibling) = (runtime(server.workers())?, server.sibling()?);
            let work = move || {
                common::work_as(worker);
                runtime.block_on(async_tasks::serve(sibling))
            };
            others.push(thread::Builder::new().spawn(work)?);
        }
        common::work_as(0);
        own.block_on(async_tasks::serve(server))?;
        let mut others = others.into_iter();
        others.try_for_each(|other| other.join().expect("a panic stays in its task"))
    })
}

/// One of so many, which share what blocking threads there may be.
fn runtime(count: usize) -> io::Result<Runtime> {
    let threads_max = (async_tasks::BLOCKING_THREADS_MAX / count).max(1);
    Builder::new_current_thread().max_blocking_threads(threads_max).enable_all().build()
}
