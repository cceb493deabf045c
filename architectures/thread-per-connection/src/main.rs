//! A thread for each connection, made when it arrives and gone when it ends.
//!
//! ```text
//! main ── accept ──▶ spawn ──▶ accept ──▶ spawn ──▶ …
//!                      │                    │
//!                      ▼                    ▼
//!                 conversation         conversation
//! ```
//!
//! Known weakness: as many threads as there are clients, each with a stack, and the making of one
//! for each. `thread-pool` bounds their number; `evented` does without.

use std::process::ExitCode;
use std::thread;

use common::Workers;

/// Plenty for a conversation, and little enough that ten thousand stacks fit into the address space
/// of a small machine.
const STACK_BYTES: usize = 256 * 1024;

fn main() -> ExitCode {
    common::serve(&common::architecture!(Workers::Uncounted), |server| {
        while let Some(conn) = server.accept() {
            let thread = thread::Builder::new().stack_size(STACK_BYTES);
            // Where there can be no thread, dropping the connection tells its client at once.
            if let Err(error) = thread.spawn(move || conn.run()) {
                common::back_off(&error);
            }
        }
        Ok(())
    })
}
