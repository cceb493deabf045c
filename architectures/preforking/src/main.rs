//! A fixed number of processes made ahead, and as many ways to share one listening socket as
//! Stevens compares.
//!
//! ```text
//! supervisor ── forks N workers, waits, replaces whoever dies
//!                 │
//!                 ├▶ worker: accept ──▶ conversation ──▶ accept ──▶ …
//!                 ├▶ worker: accept ──▶ conversation ──▶ accept ──▶ …
//!                 └▶ worker: accept ──▶ conversation ──▶ accept ──▶ …
//! ```
//!
//! By default all wait in `accept`, and the kernel wakes one of them for each connection.
//!
//! Known weakness: as in every pool of blocking workers, clients that stay connected keep theirs,
//! and the rest wait in silence. `evented` answers it.

mod accept;
mod lock_file;
mod mutex;
mod turn;

use std::process::ExitCode;

use common::Workers;
use common::crew::Crew;

use crate::accept::Accept;
use crate::turn::Turn;

/// As many as a small server may want to have conversations.
const WORKERS: usize = 64;

#[derive(clap::Args)]
struct Flags {
    /// How a connection comes to its worker
    #[arg(long, value_enum, default_value = "shared")]
    accept: Accept,
}

fn main() -> ExitCode {
    let architecture = common::architecture!(Workers::Many(WORKERS));
    let descriptors_max = |flags: &Flags| flags.accept.descriptors_max();
    common::serve_within(&architecture, descriptors_max, |server, flags| {
        let (sources, outbox) = flags.accept.sources(server)?;
        let turn = Turn::new(flags.accept)?;
        let mut crew = Crew::new(server.workers(), |worker: usize| match sources[worker].open() {
            Ok(()) => turn.work(sources[worker]),
            Err(error) => common::back_off(&error),
        })?;
        if let Some(outbox) = &outbox {
            let outboxes = std::slice::from_ref(outbox);
            while let Some(connection) = server.accept_to_pass(outboxes, || _ = crew.tend()) {
                outbox.pass(&connection);
            }
        }
        crew.supervise();
        Ok(())
    })
}
