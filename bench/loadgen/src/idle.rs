//! The idle herd: connections that are opened before the measurement and then never say anything.
//! Those of FTP log in first; a login that a server lets wait is no failure, for waiting is what
//! some architectures do.

mod login;

use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::class::Protocol;
use crate::plan::Plan;
use crate::record::{Failure, Recorder};

pub(crate) struct Herd {
    connections: Vec<TcpStream>,
    /// Opened, but not logged in. They stay, so that nobody takes their place.
    _waiting: Vec<TcpStream>,
}

impl Herd {
    /// Opens the herd within one timeout of the plan. What cannot be opened is counted.
    pub(crate) fn open(plan: &Plan, stop: &AtomicBool, recorder: &mut Recorder) -> Self {
        if plan.class.protocol == Protocol::Ftp {
            return login::all(plan, stop, recorder);
        }
        let deadline = Instant::now() + plan.timeout;
        let mut connections = Vec::with_capacity(plan.idle_connections);
        while connections.len() < plan.idle_connections && !stop.load(Ordering::Relaxed) {
            let left = deadline.saturating_duration_since(Instant::now());
            let opened = if left.is_zero() {
                Err(io::ErrorKind::TimedOut.into())
            } else {
                TcpStream::connect_timeout(&plan.target, left)
            };
            match opened.and_then(|connection| {
                connection.set_nonblocking(true)?;
                Ok(connection)
            }) {
                Ok(connection) => connections.push(connection),
                Err(error) => {
                    let missing = plan.idle_connections - connections.len();
                    let mut failure = Failure::from(error);
                    failure.detail = format!(
                        "{} of {} idle connections opened, then: {}",
                        connections.len(),
                        plan.idle_connections,
                        failure.detail
                    );
                    recorder.failures(failure, missing as u64);
                    break;
                }
            }
        }
        Self { connections, _waiting: Vec::new() }
    }

    /// How many were opened, and for FTP logged in.
    pub(crate) fn ready(&self) -> usize {
        self.connections.len()
    }

    /// How many the server has not closed.
    pub(crate) fn held(&self) -> usize {
        let is_open = |connection: &&TcpStream| match connection.peek(&mut [0]) {
            Ok(bytes) => bytes > 0,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        };
        self.connections.iter().filter(is_open).count()
    }
}
