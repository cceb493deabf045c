//! One connection after another, on one thread.
//!
//! ```text
//! main ── accept ──▶ the whole conversation ──▶ accept ──▶ …
//!                    (everybody else waits in the backlog)
//! ```
//!
//! Known weakness: a client that is slow, or that merely stays connected, keeps all others waiting.
//! `thread-per-connection` answers it.

use std::process::ExitCode;

use common::Workers;

fn main() -> ExitCode {
    common::serve(&common::architecture!(Workers::One), |server| {
        while let Some(conn) = server.accept() {
            conn.run();
        }
        Ok(())
    })
}
