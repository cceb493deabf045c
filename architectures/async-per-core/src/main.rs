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

use std::process::ExitCode;

use common::Workers;
use common::crew::Threads;
use tokio::runtime::Builder;

fn main() -> ExitCode {
    let workers = Workers::Many(common::processors());
    common::serve(&common::architecture!(workers), |server| {
        let sources = server.siblings(server.workers())?;
        // They share what blocking threads there may be.
        let blocking_max = (async_tasks::BLOCKING_THREADS_MAX / server.workers()).max(1);
        let threads = Threads::supervised(server.workers(), move |worker| {
            let mut runtime = Builder::new_current_thread();
            let runtime = runtime.max_blocking_threads(blocking_max).enable_all().build();
            let serve = async_tasks::serve(sources[worker]);
            if let Err(error) = runtime.and_then(|runtime| runtime.block_on(serve)) {
                tracing::error!(%error, "a runtime cannot go on");
            }
        })?;
        threads.join();
        Ok(())
    })
}
