//! A fixed number of threads made ahead, fed with connections by a queue.
//!
//! ```text
//!                        ┌▶ worker: conversation
//! main ── accept ─▶ queue ─▶ worker: conversation
//! ```
//!
//! The queue holds nothing: main keeps the one connection that it has accepted until a worker is
//! free, and all others wait in the kernel's backlog, which has a limit.
//! Known weakness: clients that stay connected keep their workers. `evented` answers it.

use std::process::ExitCode;
use std::sync::Mutex;

use common::{Conn, Workers, crew::Threads};
use crossbeam::channel;

const WORKERS: usize = 64;
static TURN: Mutex<()> = Mutex::new(());

#[derive(clap::Args)]
struct Flags {
    /// How a connection comes to its worker
    #[arg(long, value_enum, default_value = "queue")]
    accept: Accept,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Accept {
    /// The main thread accepts, and hands the connection to whoever is free
    Queue,
    /// One worker waits in accept(2), the others for a mutex
    Mutex,
    /// All workers wait in accept
    Shared,
}

fn main() -> ExitCode {
    common::serve_with(&common::architecture!(Workers::Many(WORKERS)), |server, flags: Flags| {
        let (queue, connections) = channel::bounded::<Conn>(0);
        let next = move || match flags.accept {
            Accept::Queue => connections.recv().ok(),
            Accept::Mutex => {
                let _turn = TURN.lock();
                server.accept()
            }
            Accept::Shared => server.accept(),
        };
        let work = move |_| std::iter::from_fn(&next).for_each(Conn::run);
        let threads = Threads::spawn(server.workers(), work)?;
        while let Accept::Queue = flags.accept
            && let Some(conn) = server.accept()
        {
            queue.send(conn).expect("workers are there for as long as there is a queue");
        }
        drop(queue);
        threads.join();
        Ok(())
    })
}
