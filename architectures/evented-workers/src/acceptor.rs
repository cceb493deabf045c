//! One that accepts for all, and decides which reactor gets a connection.

use common::{Outbox, Server};

/// Accepts, and passes connections on.
pub(crate) struct Acceptor {
    pub(crate) server: &'static Server,
    pub(crate) outboxes: Vec<Outbox>,
    /// Whether the one with the fewest connections has the next, or each in turn.
    pub(crate) least: bool,
}

impl Acceptor {
    /// Does so until the server leaves, and `tend` before and between; nothing where reactors do it
    /// themselves.
    pub(crate) fn run(&self, mut tend: impl FnMut()) {
        for turn in (0..self.outboxes.len()).cycle() {
            let Some(connection) = self.server.accept_to_pass(&mut tend) else { return };
            let least = self.outboxes.iter().min_by_key(|outbox| outbox.open());
            let outbox = least.filter(|_| self.least).unwrap_or(&self.outboxes[turn]);
            outbox.pass(&connection, &mut tend);
        }
    }
}
