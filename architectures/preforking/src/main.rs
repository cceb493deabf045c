//! A fixed number of processes made ahead, which all wait in `accept` on the one listening socket.
//!
//! ```text
//! supervisor ── forks N workers, waits, replaces whoever dies
//!                 │
//!                 ├▶ worker: accept ──▶ conversation ──▶ accept ──▶ …
//!                 ├▶ worker: accept ──▶ conversation ──▶ accept ──▶ …
//!                 └▶ worker: accept ──▶ conversation ──▶ accept ──▶ …
//! ```
//!
//! The kernel wakes one of the waiting workers for each connection, so that no lock is needed
//! around `accept`.
//!
//! Known weakness: as in every pool of blocking workers, clients that stay connected keep theirs,
//! and the rest wait in silence. `evented` answers it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use common::process::Children;
use common::{Conn, Server, Workers};

/// As many as a small server may want to have conversations.
const WORKERS: usize = 64;
/// A worker that dies sooner than this after its birth is replaced only after as long, lest a fault
/// that kills each of them turns into an endless fork.
const LIFE_MIN: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    common::serve(&common::architecture!(Workers::Many(WORKERS)), |server| {
        let mut workers = Children::new()?;
        while !common::is_draining() {
            while workers.len() < server.workers() && !common::is_draining() {
                if let Err(error) = workers.fork((), |()| work(server), |()| Instant::now()) {
                    common::back_off(&error);
                }
            }
            if let Some(born) = workers.wait_next() {
                std::thread::sleep(LIFE_MIN.saturating_sub(born.elapsed()));
            }
        }
        workers.wait_all();
        Ok(())
    })
}

fn work(server: &Server) {
    std::iter::from_fn(|| server.accept()).for_each(Conn::run);
}
