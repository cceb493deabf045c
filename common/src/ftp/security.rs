//! Security of the connections (RFC 4217): AUTH, PBSZ, PROT.
//!
//! **Invariant:** what came before the control connection was secured counts for nothing
//! afterwards: neither commands that were sent ahead, which somebody else may have slipped in, nor
//! a login.

use std::sync::Arc;

use crate::session::{Event, TlsConfig};

use super::command;
use super::login::Login;
use super::session::{Session, State};

/// What the client has had secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Security {
    /// The control connection is.
    control: bool,
    /// PBSZ was said, which PROT needs.
    buffer_size: bool,
    /// Data connections are to be: PROT P.
    data: bool,
}

impl Session {
    pub(super) fn authenticate(&mut self, argument: &[u8]) {
        if self.settings().tls.is_none() {
            self.say("502 No security here: the server has no certificate.");
        } else if self.security.control {
            self.say("503 This connection is secured already.");
        } else if [&b"TLS"[..], b"TLS-C"].iter().any(|name| name.eq_ignore_ascii_case(argument)) {
            self.reinitialize("234 Go ahead with TLS.", Login::None);
            self.lines.clear();
            self.state = match self.state {
                State::Releasing { .. } => State::Releasing { then_secure: true },
                _ => State::Securing,
            };
        } else {
            self.say("504 TLS is what there is.");
        }
    }

    /// The handshake on the control connection is over.
    pub(super) fn secured(&mut self, event: &Event<'_>) {
        if matches!(event, Event::Secured) {
            self.security.control = true;
        } else {
            self.gone();
        }
    }

    /// TLS protects a stream, and needs no buffer (RFC 4217 §8).
    pub(super) fn protection_buffer(&mut self, argument: &[u8]) {
        if !self.security.control {
            self.say("503 Say AUTH first.");
        } else if command::number(argument).is_none_or(|size| u32::try_from(size).is_err()) {
            self.say("501 Not a size in bytes.");
        } else {
            self.security.buffer_size = true;
            self.say("200 PBSZ=0");
        }
    }

    pub(super) fn protection(&mut self, argument: &[u8]) {
        if !self.security.buffer_size {
            return self.say("503 Say PBSZ first.");
        }
        match argument.to_ascii_uppercase().as_slice() {
            b"C" => {
                self.security.data = false;
                self.say("200 Data goes in clear.");
            }
            b"P" => {
                self.security.data = true;
                self.say("200 Data is private.");
            }
            b"S" | b"E" => self.say("536 TLS has the levels C and P only."),
            _ => self.say("504 There is no such level."),
        }
    }

    /// With what the next data connection is secured, if it is to be.
    pub(super) fn data_security(&self) -> Option<Arc<TlsConfig>> {
        self.settings().tls.clone().filter(|_| self.security.data)
    }

    /// REIN forgets what was agreed, but what is secured stays so.
    pub(super) fn forget_protection(&mut self) {
        self.security = Security { control: self.security.control, ..Security::default() };
    }
}
