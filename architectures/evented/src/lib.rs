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
//! connection go as far as it can, within a turn.
//!
//! Known weakness: a job that blocks or computes stops everybody, since it runs here. Reactors with
//! a pool for jobs answer it.

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use common::session::Chan;
use common::{Conn, Server, Wait};
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX);
/// How many events a turn takes, and how many new connections: a flood of them stops nobody.
const EVENTS: usize = 1024;
const ACCEPTS: usize = 64;
/// How often deadlines are looked at, all of them: for as many connections as a process has
/// descriptors, that is cheaper than keeping timers, which every request would have to move.
const SWEEP: Duration = Duration::from_secs(1);

/// Serves until the server leaves and its last conversation has ended.
pub fn run(server: &Server) -> io::Result<()> {
    let (connections, again) = (Slab::new(), BTreeSet::new());
    let mut reactor = Reactor { poll: Poll::new()?, connections, again, may_accept: false };
    reactor.register(server.watch()?, LISTENER)?;
    let mut events = Events::with_capacity(EVENTS);
    let mut swept = Instant::now();
    while !(common::is_draining() && reactor.connections.is_empty()) {
        let may_go_on = reactor.may_accept || !reactor.again.is_empty();
        let timeout = if may_go_on { Duration::ZERO } else { SWEEP };
        match reactor.poll.poll(&mut events, Some(timeout)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for key in std::mem::take(&mut reactor.again) {
            reactor.advance(key);
        }
        for event in &events {
            match event.token() {
                LISTENER => reactor.may_accept = true,
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

struct Reactor {
    poll: Poll,
    connections: Slab<Conn>,
    /// Who has had a turn and could go on.
    again: BTreeSet<usize>,
    may_accept: bool,
}

impl Reactor {
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
            match self.register(descriptor, token(key, Chan::Control)) {
                Ok(()) => self.advance(key),
                Err(_) => drop(self.connections.remove(key)),
            }
        }
    }

    fn on_event(&mut self, token: Token, event: &Event) {
        let chan = if token.0.is_multiple_of(2) { Chan::Control } else { Chan::Data };
        // A connection may have ended in this very turn, with an event still to come.
        if let Some(conn) = self.connections.get_mut(token.0 / 2) {
            conn.ready(chan, event.is_read_closed() || event.is_priority());
            self.advance(token.0 / 2);
        }
    }

    fn advance(&mut self, key: usize) {
        let Some(conn) = self.connections.get_mut(key) else {
            return;
        };
        loop {
            match conn.advance() {
                Wait::Ready => break,
                Wait::Job(job) => conn.finish(job.run()),
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
            let _ = self.register(descriptor, token(key, Chan::Data));
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

    fn register(&self, descriptor: i32, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        self.poll.registry().register(&mut SourceFd(&descriptor), token, interest)
    }
}

/// The two sockets of a connection have neighbouring tokens.
fn token(key: usize, chan: Chan) -> Token {
    Token(key * 2 + usize::from(chan == Chan::Data))
}
