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
            let accepted = self.server.accept_to_pass(&self.outboxes, || missing = tend());
            let Some(connection) = accepted else { return };
            let count = self.outboxes.len();
            let mut order: Vec<usize> = (turn..turn + count).map(|worker| worker % count).collect();
            // Whoever is missing has what nobody else has room for, and it waits there.
            order.sort_by_key(|worker| {
                let open = if self.least { self.outboxes[*worker].open() } else { 0 };
                (missing.contains(worker), open)
            });
            let taker = order.into_iter().find(|worker| self.outboxes[*worker].pass(&connection));
            turn = taker.map_or(turn, |worker| worker + 1) % count;
        }
    }
}
