//! The one table of protocols: a name, and the session it stands for. A new protocol is a module
//! and its row here.

use std::net::IpAddr;

use crate::implicit_tls::Secured;
use crate::session::{Session, SharedSettings};
use crate::{echo, ftp, http};

/// The protocols that every server speaks, one at a time (`--protocol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// Whatever arrives is sent back (RFC 862).
    Echo,
    /// The file transfer protocol (RFC 959 and what has been added to it since).
    Ftp,
    /// Files below the root, and paths of known cost (RFC 9110, RFC 9112).
    Http,
}

impl Protocol {
    /// A session for a client that has just connected from `peer`.
    pub fn session(self, settings: &SharedSettings, peer: IpAddr) -> Box<dyn Session> {
        match self {
            Protocol::Echo => Secured::or_plain(settings, Box::new(echo::Session::new(settings))),
            Protocol::Ftp => Box::new(ftp::Session::new(settings, peer)),
            Protocol::Http => Secured::or_plain(settings, Box::new(http::Session::new(settings))),
        }
    }

    /// The options, as their fields are called, that mean nothing here. They are refused, for
    /// whoever names one believes that it does something.
    pub(crate) fn foreign_options(self) -> &'static [&'static str] {
        match self {
            Protocol::Echo => {
                &["writable", "users", "passive_ports", "passive_address", "backend", "guestbook"]
            }
            Protocol::Ftp => &["backend", "guestbook"],
            Protocol::Http => &["users", "passive_ports", "passive_address"],
        }
    }

    /// What a client is told that comes when there is no room, before its connection is closed.
    pub fn refusal(self) -> &'static [u8] {
        match self {
            Protocol::Echo => b"",
            Protocol::Ftp => ftp::REFUSAL,
            Protocol::Http => http::REFUSAL,
        }
    }
}
