//! Reactors, each in a process or thread of its own: SYMPED (Pariag et al. 2007). Known weakness:
//! who has a connection keeps it, however busy. `async-tasks` answers it.
//!
//! ```text
//!   kernel, or ┌▶ reactor: its connections
//!   acceptor ──┴▶ reactor: its connections      (one that dies is replaced)
//! ```

mod accept;
mod acceptor;
mod exclusive;

use std::process::ExitCode;
use std::sync::OnceLock;

use clap::{Args, ValueEnum};
use common::Workers;
use common::crew::{Crew, Threads};

use crate::accept::{Accept, Sources};

#[derive(Args)]
struct Flags {
    /// What a reactor has of its own
    #[arg(long, value_enum, default_value = "processes")]
    workers_are: Kind,
    /// How a connection comes to its reactor
    #[arg(long, value_enum, default_value = "reuseport")]
    accept: Accept,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Processes,
    Threads,
}

/// What each reactor takes connections from: known when it is known how many there are.
static SOURCES: Sources = OnceLock::new();

fn main() -> ExitCode {
    let workers = Workers::Many(common::processors());
    common::serve_with(&common::architecture!(workers), |server, flags: Flags| {
        let reactor = move |worker: usize| flags.accept.serve(SOURCES.wait()[worker]);
        match flags.workers_are {
            Kind::Processes => {
                let acceptor = flags.accept.sources(server, server.workers(), &SOURCES)?;
                let mut crew = Crew::new(server.workers(), reactor)?;
                acceptor.run(|| crew.tend().clone());
                crew.supervise();
            }
            Kind::Threads => {
                let threads = Threads::supervised(server.workers(), reactor)?;
                flags.accept.sources(server, threads.count(), &SOURCES)?.run(Default::default);
                threads.join();
            }
        }
        Ok(())
    })
}
