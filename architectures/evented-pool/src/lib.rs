//! A reactor for the sockets and a pool of threads for jobs: half-sync/half-async (Schmidt and
//! Cranor 1996), AMPED (Pai et al. 1999).
//!
//! ```text
//!            ┌──────────────────────────────────┐
//!            ▼                                  │ outcome, and a wake-up
//!   poll ──▶ reactor: all connections ──▶ job ──┤
//!                                         job ──┤  (threads of the pool)
//!                                         job ──┘
//! ```
//!
//! The pool's queue has room for all: a connection has one job at a time.
//!
//! Known weakness: each job costs a trip to another thread and back, however short it is, and one
//! reactor has one core for all that is not a job. `evented-workers-pool` answers the second.

use std::io;

use clap::{Args, value_parser};
use common::job::Job;
use evented::{Outcome, Ticket};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// The flags of whoever has a pool.
#[derive(Args)]
pub struct Flags {
    /// How many jobs can run at a time
    #[arg(long, value_name = "N", default_value_t = 64,
          value_parser = value_parser!(u64).range(1..=4096))]
    pool_threads: u64,
}

impl Flags {
    /// Makes the pool, or as much of it as the machine lets us.
    pub fn pool(&self) -> io::Result<ThreadPool> {
        let mut count = self.pool_threads as usize;
        loop {
            match ThreadPoolBuilder::new().num_threads(count).build() {
                Err(error) if count > 1 => {
                    // Those that could be made need time to end.
                    common::back_off(&io::Error::other(error));
                    count /= 2;
                }
                built => return built.map_err(io::Error::other),
            }
        }
    }
}

/// What a reactor does with its jobs: the pool has them, and their tickets.
pub fn jobs(pool: &ThreadPool) -> impl Fn(Job, Ticket) -> Option<Outcome> {
    |job, ticket| {
        pool.spawn(move || ticket.answer(job.run()));
        None
    }
}
