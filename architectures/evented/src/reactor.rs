//! The loop, and the connections that it serves.
//!
//! **Invariant:** nothing waits but the poll, and all that a turn does has a limit.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind::Interrupted};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::job::Job;
use common::session::Chan;
use common::{Conn, Server, Wait};
use mio::{Events, Poll, Token, event::Event};
use slab::Slab;

use crate::jobs::{Outcome, Returns, Ticket};
use crate::tokens::{self, LISTENER, RETURNS, token, watch};

/// How many events a turn takes, and how many new connections: a flood of them stops nobody.
const EVENTS: usize = 1024;
const ACCEPTS: usize = 64;
/// How often deadlines are looked at, all of them: for as many connections as a process has
/// descriptors, that is cheaper than keeping timers, which every request would have to move.
const SWEEP: Duration = Duration::from_secs(1);

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
    let returns = Returns::new(&poll, RETURNS)?;
    let (connections, again) = (Slab::new(), BTreeSet::new());
    let mut reactor = Reactor { poll, jobs, returns, connections, again, may_accept: false };
    let mut events = Events::with_capacity(EVENTS);
    let mut swept = Instant::now();
    while !(common::is_draining() && reactor.connections.is_empty()) {
        let may_go_on = reactor.may_accept || !reactor.again.is_empty();
        let timeout = if may_go_on { Duration::ZERO } else { SWEEP };
        let polled = reactor.poll.poll(&mut events, Some(timeout));
        polled.or_else(|error| if error.kind() == Interrupted { Ok(()) } else { Err(error) })?;
        for key in std::mem::take(&mut reactor.again) {
            reactor.advance(key);
        }
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
            reactor.accept(server);
        }
    }
    Ok(())
}

struct Reactor<Jobs> {
    poll: Poll,
    jobs: Jobs,
    returns: Arc<Returns>,
    connections: Slab<Conn>,
    /// Who has had a turn and could go on.
    again: BTreeSet<usize>,
    may_accept: bool,
}

impl<Jobs: FnMut(Job, Ticket) -> Option<Outcome>> Reactor<Jobs> {
    /// Takes connections that wait, as many as a turn has, or as the machine lets it.
    fn accept(&mut self, server: &Server) {
        for _ in 0..ACCEPTS {
            let Ok(accepted) = server.accept_ready() else {
                self.may_accept = false;
                return;
            };
            let Some(conn) = accepted else { continue };
            let descriptor = conn.control_descriptor();
            let key = self.connections.insert(conn);
            match watch(&self.poll, descriptor, token(key, Chan::Control)) {
                Ok(()) => self.advance(key),
                Err(_) => drop(self.connections.remove(key)),
            }
        }
    }

    fn on_event(&mut self, token: Token, event: &Event) {
        let (key, chan) = tokens::owner(token);
        // A connection may have ended in this very turn, with an event still to come.
        if let Some(conn) = self.connections.get_mut(key) {
            conn.ready(chan, event.is_read_closed() || event.is_priority());
            self.advance(key);
        }
    }

    fn take_returns(&mut self) {
        for (key, outcome) in self.returns.take() {
            // It has not ended: a connection waits for its job.
            self.connections[key].finish(outcome);
            self.advance(key);
        }
    }

    fn advance(&mut self, key: usize) {
        let Some(conn) = self.connections.get_mut(key) else {
            return;
        };
        loop {
            match conn.advance() {
                Wait::Ready => break,
                Wait::Job(job) => match (self.jobs)(job, self.returns.ticket(key)) {
                    Some(outcome) => conn.finish(outcome),
                    None => break,
                },
                Wait::Turn => {
                    self.again.insert(key);
                    break;
                }
                Wait::End => {
                    self.connections.remove(key);
                    return;
                }
            }
        }
        for descriptor in conn.new_data_descriptors().into_iter().flatten() {
            // A data socket that cannot be watched ends with its deadline.
            let _ = watch(&self.poll, descriptor, token(key, Chan::Data));
        }
    }

    fn sweep(&mut self, now: Instant) {
        let late = |(key, conn): (usize, &Conn)| conn.is_late(now).then_some(key);
        let late: Vec<usize> = self.connections.iter().filter_map(late).collect();
        for key in late {
            self.connections[key].time_out();
            self.advance(key);
        }
    }
}
