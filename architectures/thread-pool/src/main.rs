//! A fixed number of threads made ahead, fed with connections by a queue.
//!
//! ```text
//!                        ┌▶ worker: conversation
//! main ── accept ─▶ queue ─▶ worker: conversation
//!                        └▶ worker: conversation
//! ```
//!
//! The queue holds nothing: main keeps the one connection that it has accepted until a worker is
//! free, and all others queue in one place, the kernel's backlog, which has a limit and tells the
//! client when it is reached.
//!
//! Known weakness: clients that stay connected keep their workers, and whoever comes after the last
//! worker waits in silence. `evented` answers it.

use std::process::ExitCode;
use std::thread;

use common::Workers;
use crossbeam::channel;

/// As many as a small server may want to have conversations.
const WORKERS: usize = 64;

fn main() -> ExitCode {
    common::serve(&common::architecture!(Workers::Many(WORKERS)), |server| {
        let (queue, connections) = channel::bounded::<common::Conn>(0);
        for _ in 0..server.workers() {
            let connections = connections.clone();
            thread::Builder::new().spawn(move || {
                for conn in connections {
                    conn.run();
                }
            })?;
        }
        while let Some(conn) = server.accept() {
            queue.send(conn).expect("this thread holds a receiver itself");
        }
        Ok(())
    })
}
