//! How many connections a server takes, in all and from one address.
//!
//! **Invariant:** whoever holds a [`Permit`] is counted, and is no longer counted when it is
//! dropped.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// The counts of one process.
#[derive(Debug)]
pub(crate) struct Limits {
    max_connections: usize,
    max_per_ip: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection's place among those that are counted.
#[derive(Debug)]
pub struct Permit {
    limits: Arc<Limits>,
    peer: IpAddr,
}

impl Limits {
    pub(crate) fn new(max_connections: usize, max_per_ip: usize) -> Arc<Self> {
        Arc::new(Limits { max_connections, max_per_ip, counts: Mutex::default() })
    }

    /// A place for a client from `peer`, if there is one.
    pub(crate) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Permit> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.all >= self.max_connections {
            return None;
        }
        let from_peer = counts.by_address.entry(peer).or_default();
        if *from_peer >= self.max_per_ip {
            return None;
        }
        *from_peer += 1;
        counts.all += 1;
        Some(Permit { limits: self.clone(), peer })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.limits.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        if let Some(from_peer) = counts.by_address.get_mut(&self.peer) {
            *from_peer -= 1;
            if *from_peer == 0 {
                counts.by_address.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Limits;

    const ONE: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const OTHER: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

    #[test]
    fn an_address_over_its_limit_leaves_room_for_others() {
        let limits = Limits::new(3, 1);
        let first = limits.admit(ONE);
        assert!(first.is_some());
        assert!(limits.admit(ONE).is_none());
        assert!(limits.admit(OTHER).is_some());
        drop(first);
        assert!(limits.admit(ONE).is_some());
    }

    #[test]
    fn a_full_server_has_room_again_when_a_connection_ends() {
        let limits = Limits::new(1, 1);
        let first = limits.admit(ONE);
        assert!(limits.admit(OTHER).is_none());
        drop(first);
        assert!(limits.admit(OTHER).is_some());
    }
}
