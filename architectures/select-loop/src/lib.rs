//! The reactor as it was before epoll: poll(2), or select(2), is told anew in each turn what to
//! watch.
//!
//! ```text
//!            ┌──────────────────────────────────────────────────────────────┐
//!            ▼                                                              │
//!   what does each connection wait for? ──▶ poll ──▶ advance who is ready ──┤
//!            until when?                        ├──▶ listener: accept some ─┤
//!                                               └──▶ who is late ───────────┘
//! ```
//!
//! Level-triggered: what is not done is found again, and nothing is remembered of what was ready.
//!
//! Known weakness: each turn costs as much as there are connections, however few of them are ready,
//! in this process and in the kernel; and select knows no descriptor above 1023. `evented` answers
//! it.

mod wait;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use common::conn::{Awaited, Direction};
use common::session::Chan;
use common::{Conn, Server, Wait};
use slab::Slab;

pub use crate::wait::Mechanism;
use crate::wait::Watched;

/// How many new connections a turn takes: a flood of them stops nobody.
const ACCEPTS: usize = 64;
/// How long at most the poll waits, and how long nobody is accepted where the machine has run out
/// of something.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves until the server leaves and its last conversation has ended.
pub fn run(server: &Server, mechanism: Mechanism) -> io::Result<()> {
    server.watch()?;
    let (connections, again) = (Slab::new(), BTreeSet::new());
    let mut reactor = Reactor { connections, again, accepts_from: Instant::now() };
    while !(common::is_draining() && reactor.connections.is_empty()) {
        let now = Instant::now();
        reactor.end_the_waiting_of_the_late(now);
        let timeout = reactor.timeout(now);
        let accepts = now >= reactor.accepts_from && !common::is_draining();
        let mut watched = Watched::default();
        if accepts {
            watched.add(server.as_fd(), Direction::Input, None);
        }
        reactor.tell(&mut watched);
        let ready = watched.wait(mechanism, timeout)?;
        for key in std::mem::take(&mut reactor.again) {
            reactor.advance(key);
        }
        for owner in ready {
            match owner {
                Some((key, chan)) => reactor.on_ready(key, chan),
                None => reactor.accept(server),
            }
        }
    }
    Ok(())
}

struct Reactor {
    connections: Slab<Conn>,
    /// Who has had a turn and could go on.
    again: BTreeSet<usize>,
    accepts_from: Instant,
}

impl Reactor {
    /// What everybody waits for but those who could go on.
    fn tell<'a>(&'a mut self, watched: &mut Watched<'a>) {
        for (key, conn) in &mut self.connections {
            if self.again.contains(&key) {
                continue;
            }
            let Awaited { control, data } = conn.awaited();
            for (chan, awaited) in [(Chan::Control, control), (Chan::Data, data)] {
                if let Some((socket, direction)) = awaited {
                    watched.add(socket, direction, Some((key, chan)));
                }
            }
        }
    }

    fn timeout(&self, now: Instant) -> Duration {
        if !self.again.is_empty() {
            return Duration::ZERO;
        }
        let deadlines = self.connections.iter().filter_map(|(_, conn)| conn.deadline());
        let first = deadlines.map(|end| end.saturating_duration_since(now)).min();
        first.map_or(PAUSE, |left| left.min(PAUSE))
    }

    fn on_ready(&mut self, key: usize, chan: Chan) {
        // It may have ended in this very turn.
        if let Some(conn) = self.connections.get_mut(key) {
            conn.ready(chan, false);
            self.advance(key);
        }
    }

    /// Takes connections that wait, as many as a turn has, or as the machine lets it.
    fn accept(&mut self, server: &Server) {
        for _ in 0..ACCEPTS {
            match server.accept_ready() {
                Ok(Some(conn)) => {
                    let key = self.connections.insert(conn);
                    self.advance(key);
                }
                Ok(None) => {}
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        self.accepts_from = Instant::now() + PAUSE;
                    }
                    return;
                }
            }
        }
    }

    fn advance(&mut self, key: usize) {
        let Some(conn) = self.connections.get_mut(key) else { return };
        loop {
            match conn.advance() {
                Wait::Ready => return,
                Wait::Job(job) => conn.finish(job.run()),
                Wait::Turn => {
                    self.again.insert(key);
                    return;
                }
                Wait::End => return drop(self.connections.remove(key)),
            }
        }
    }

    fn end_the_waiting_of_the_late(&mut self, now: Instant) {
        let late = |(key, conn): (usize, &Conn)| conn.is_late(now).then_some(key);
        let late: Vec<usize> = self.connections.iter().filter_map(late).collect();
        for key in late {
            self.connections[key].time_out();
            self.advance(key);
        }
    }
}
