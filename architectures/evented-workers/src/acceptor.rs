//! One that accepts for all, and decides which reactor gets a connection.

use std::collections::BTreeSet;

use common::{Outbox, Server};

/// Accepts, and passes connections on.
pub(crate) struct Acceptor {
    pub(crate) server: &'static Server,
    pub(crate) outboxes: Vec<Outbox>,
    /// Whether the one with the fewest connections has the next, or each in turn.
    pub(crate) least: bool,
}

impl Acceptor {
    /// Does so until the server leaves; nothing where reactors do it themselves. `tend` is done
    /// before and between, and tells who is missing.
    pub(crate) fn run(&self, mut tend: impl FnMut() -> BTreeSet<usize>) {
        let mut turn = 0;
        while !self.outboxes.is_empty() {
            let mut missing = BTreeSet::new();
            let accepted = self.server.accept_to_pass(|| missing = tend());
            let Some(connection) = accepted else { return };
            let count = self.outboxes.len();
            let in_turn = (turn..turn + count).map(|worker| worker % count);
            let mut there = in_turn.filter(|worker| !missing.contains(worker));
            let least = |worker: &usize| self.outboxes[*worker].open();
            let next = if self.least { there.min_by_key(least) } else { there.next() };
            // Without anybody, it waits for whoever comes first.
            let worker = next.unwrap_or(turn);
            turn = (worker + 1) % count;
            self.outboxes[worker].pass(&connection, || drop(tend()));
        }
    }
}
