//! One thread, one readiness poll: the reactor (Schmidt 1995), also known as SPED (Pai et al.
//! 1999).
//!
//! ```text
//!            ┌──────────────────────────────────────────────┐
//!            ▼                                              │
//!   poll: who is ready? ──▶ listener: accept some ──────────┤
//!                      ├──▶ connection: advance it ─────────┤
//!                      └──▶ nobody for a second: deadlines ─┘
//! ```
//!
//! Edge-triggered: a socket is registered once, for both directions, and each edge lets its
//! connection go as far as it can, within a turn. The loop is here; what a turn does is in
//! `reactor`.
//!
//! Known weakness: a job that blocks or computes stops everybody, since it runs here.
//! `evented-pool` and `evented-workers-pool` answer it with this very reactor; `jobs` is the way
//! back into it.
//!
//! **Invariant:** nothing waits but the poll, and all that a turn does has a limit.

mod jobs;
mod reactor;
mod tokens;

use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use common::Server;
use common::job::Job;
use mio::{Events, Poll, Token};

pub use crate::jobs::{Outcome, Ticket};
use crate::reactor::Reactor;
pub use crate::tokens::watch;
use crate::tokens::{LISTENER, RETURNS};

/// How many events a turn takes, and how many new connections: a flood of them stops nobody.
const EVENTS: usize = 1024;
const ACCEPTS: usize = 64;
/// How often deadlines are looked at, all of them: for as many connections as a process has
/// descriptors, that is cheaper than keeping timers, which every request would have to move.
const SWEEP: Duration = Duration::from_secs(1);

/// Serves until the server leaves and its last conversation has ended.
pub fn run(server: &Server) -> io::Result<()> {
    run_with(server, watch, |job, _| Some(job.run()))
}

/// Serves with the listening socket watched in this way. `jobs` has the outcome of a job at once,
/// or none, and its ticket takes it back later. To be called after forking: an epoll set serves
/// whoever made it.
pub fn run_with<Jobs: FnMut(Job, Ticket) -> Option<Outcome>>(
    server: &Server,
    watch_listener: impl FnOnce(&Poll, RawFd, Token) -> io::Result<()>,
    jobs: Jobs,
) -> io::Result<()> {
    let poll = Poll::new()?;
    watch_listener(&poll, server.watch()?, LISTENER)?;
    let mut reactor = Reactor::new(poll, jobs)?;
    let mut events = Events::with_capacity(EVENTS);
    let mut swept = Instant::now();
    while !(common::is_draining() && reactor.connections.is_empty()) {
        reactor.poll(&mut events, SWEEP)?;
        reactor.go_on();
        for event in &events {
            match event.token() {
                LISTENER => reactor.may_accept = true,
                RETURNS => reactor.take_returns(),
                token => reactor.on_event(token, event),
            }
        }
        if swept.elapsed() >= SWEEP {
            swept = Instant::now();
            reactor.sweep(swept);
            // No edge announces that descriptors have become free.
            reactor.may_accept = true;
        }
        if reactor.may_accept {
            reactor.accept(server, ACCEPTS);
        }
    }
    Ok(())
}
