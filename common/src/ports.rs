//! The ports that may be opened for data connections.
//!
//! **Invariant:** a range has at least one port, and 0, which would leave the choice to the kernel,
//! is in none.

use std::net::Ipv4Addr;
use std::str::FromStr;

/// How clients reach the ports that are opened for their data connections.
#[derive(Clone, Copy, Debug, Default)]
pub struct Passive {
    /// Which ports may be opened; with none said, the kernel picks.
    pub ports: Option<PortRange>,
    /// What clients are told to connect to over IPv4, if that is not the address that they reached
    /// us at: behind address translation we do not see it.
    pub address: Option<Ipv4Addr>,
}

/// Ports from the one to the other, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    low: u16,
    high: u16,
}

/// A text is no range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("give two ports from 1 to 65535, the lower one first, such as 20000-20100")]
pub struct NoRange;

impl PortRange {
    /// Every port of the range once, beginning anywhere: `start` may be any number.
    pub fn beginning_at(self, start: u16) -> impl Iterator<Item = u16> {
        let count = u32::from(self.high - self.low) + 1;
        (0..count).map(move |index| self.low + ((u32::from(start) + index) % count) as u16)
    }
}

/// `LOW-HIGH`.
impl FromStr for PortRange {
    type Err = NoRange;

    fn from_str(text: &str) -> Result<Self, NoRange> {
        let port = |text: &str| text.parse().ok().filter(|&port| port > 0);
        let (low, high) = text.split_once('-').ok_or(NoRange)?;
        match (port(low), port(high)) {
            (Some(low), Some(high)) if low <= high => Ok(PortRange { low, high }),
            _ => Err(NoRange),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_has_its_turn_wherever_it_begins() {
        let range: PortRange = "7-9".parse().unwrap();
        for (start, expected) in [(0, [7, 8, 9]), (1, [8, 9, 7]), (65_535, [7, 8, 9])] {
            assert!(range.beginning_at(start).eq(expected), "from {start}");
        }
        let all: PortRange = "1-65535".parse().unwrap();
        let mut ports: Vec<u16> = all.beginning_at(65_535).collect();
        ports.sort_unstable();
        assert!(ports.into_iter().eq(1..=65_535));
        assert!("5-5".parse::<PortRange>().unwrap().beginning_at(3).eq([5]));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "5", "-", "5-", "-5", "9-7", "0-7", "0-0", "1-65536", "a-b", "1-2-3"] {
            assert_eq!(text.parse::<PortRange>(), Err(NoRange), "{text}");
        }
    }
}
