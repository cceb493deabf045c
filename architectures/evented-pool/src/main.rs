//! A reactor for the sockets, and a pool of threads for jobs.

use std::process::ExitCode;

use common::Workers;
use evented_pool::{Flags, jobs};

fn main() -> ExitCode {
    common::serve_with(&common::architecture!(Workers::One), |server, flags: Flags| {
        let pool = flags.pool()?;
        evented::run_with(server, evented::watch, jobs(&pool))
    })
}
