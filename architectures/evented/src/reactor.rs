//! What the loop does in a turn, and the connections that it serves.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind::Interrupted};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::job::Job;
use common::session::Chan;
use common::{Conn, Server, Wait};
use mio::{Events, Poll, Token, event::Event};
use slab::Slab;

use crate::jobs::{Outcome, Returns, Ticket};
use crate::tokens::{self, RETURNS, token, watch};

pub(crate) struct Reactor<Jobs> {
    poll: Poll,
    jobs: Jobs,
    returns: Arc<Returns>,
    pub(crate) connections: Slab<Conn>,
    /// Who has had a turn and could go on.
    again: BTreeSet<usize>,
    /// Somebody may be waiting at the listener.
    pub(crate) may_accept: bool,
}

impl<Jobs: FnMut(Job, Ticket) -> Option<Outcome>> Reactor<Jobs> {
    pub(crate) fn new(poll: Poll, jobs: Jobs) -> io::Result<Self> {
        let returns = Returns::new(&poll, RETURNS)?;
        let connections = Slab::new();
        Ok(Reactor { poll, jobs, returns, connections, again: BTreeSet::new(), may_accept: false })
    }

    /// Waits for events, for no longer than `timeout`, and not at all if somebody could go on.
    pub(crate) fn poll(&mut self, events: &mut Events, timeout: Duration) -> io::Result<()> {
        let may_go_on = self.may_accept || !self.again.is_empty();
        let timeout = if may_go_on { Duration::ZERO } else { timeout };
        let polled = self.poll.poll(events, Some(timeout));
        polled.or_else(|error| if error.kind() == Interrupted { Ok(()) } else { Err(error) })
    }

    pub(crate) fn go_on(&mut self) {
        for key in mem::take(&mut self.again) {
            self.advance(key);
        }
    }

    /// Takes connections that wait, no more than `count`, or as the machine lets it.
    pub(crate) fn accept(&mut self, server: &Server, count: usize) {
        for _ in 0..count {
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

    pub(crate) fn on_event(&mut self, token: Token, event: &Event) {
        let (key, chan) = tokens::owner(token);
        // A connection may have ended in this very turn, with an event still to come.
        if let Some(conn) = self.connections.get_mut(key) {
            conn.ready(chan, event.is_read_closed() || event.is_priority());
            self.advance(key);
        }
    }

    pub(crate) fn take_returns(&mut self) {
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

    pub(crate) fn sweep(&mut self, now: Instant) {
        let late = |(key, conn): (usize, &Conn)| conn.is_late(now).then_some(key);
        let late: Vec<usize> = self.connections.iter().filter_map(late).collect();
        for key in late {
            self.connections[key].time_out();
            self.advance(key);
        }
    }
}
