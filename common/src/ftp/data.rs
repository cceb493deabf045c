//! How the client names the data connection, and how it is told of a port.
//!
//! **Invariant:** we connect to the client's own address only, and to none of the ports of its
//! machine's services. What connects to our port is checked when it does, in `transfer.rs`.

use std::net::{IpAddr, SocketAddr};

use crate::session::Event;

use super::command::{self, ExtendedAddress};
use super::reply;
use super::session::{Session, State};
use super::transfer::Route;

/// Ports below belong to services that no client may point us at (RFC 2577 §3).
const LOWEST_PORT: u16 = 1024;

impl Session {
    pub(super) fn passive(&mut self) {
        if self.extended_only {
            self.say(reply::EXTENDED_ONLY);
        } else if self.peer.is_ipv6() {
            self.say("425 This is IPv6: say EPSV.");
        } else {
            self.state = State::Listening { extended: false };
        }
    }

    pub(super) fn extended_passive(&mut self, argument: &[u8]) {
        let family = if self.peer.is_ipv4() { b"1" } else { b"2" };
        if argument.is_empty() || argument == family {
            self.state = State::Listening { extended: true };
        } else if argument.eq_ignore_ascii_case(b"ALL") {
            self.extended_only = true;
            self.say("200 EPSV it is from now on.");
        } else if command::number(argument).is_some() {
            self.wrong_family();
        } else {
            self.say("501 1, 2 or ALL is expected.");
        }
    }

    pub(super) fn wrong_family(&mut self) {
        let family = if self.peer.is_ipv4() { 1 } else { 2 };
        self.say(&format!("522 Network protocol not supported, use ({family})."));
    }

    /// A port was opened, or not.
    pub(super) fn listening(&mut self, event: &Event<'_>, extended: bool) {
        self.route = Route::Unknown;
        let Event::Listening(address) = event else {
            return self.say(reply::NO_PORT);
        };
        let (ip, port) = (address.ip().to_canonical(), address.port());
        let text = match ip {
            _ if extended => format!("229 Entering extended passive mode (|||{port}|)"),
            IpAddr::V4(ip) => {
                let [a, b, c, d] = self.settings().passive.address.unwrap_or(ip).octets();
                let [high, low] = port.to_be_bytes();
                format!("227 Entering passive mode ({a},{b},{c},{d},{high},{low})")
            }
            IpAddr::V6(_) => return self.say(reply::NO_PORT),
        };
        self.route = Route::Passive;
        self.say(&text);
    }

    pub(super) fn port(&mut self, argument: &[u8]) {
        match command::host_port(argument) {
            Some(address) => self.active(address),
            None => self.say("501 Invalid PORT format."),
        }
    }

    pub(super) fn extended_port(&mut self, argument: &[u8]) {
        match command::extended_port(argument) {
            _ if self.extended_only => self.say(reply::EXTENDED_ONLY),
            Some(ExtendedAddress::Known(address)) if address.is_ipv4() != self.peer.is_ipv4() => {
                self.wrong_family();
            }
            Some(ExtendedAddress::Known(address)) => self.active(address),
            Some(ExtendedAddress::UnknownFamily) => self.wrong_family(),
            None => self.say("501 Invalid EPRT format."),
        }
    }

    /// Only the client itself is connected to, and no service of its machine: a server that
    /// connects to whatever a client names can be made to attack others (RFC 2577 §3).
    pub(super) fn active(&mut self, address: SocketAddr) {
        if self.extended_only {
            self.say(reply::EXTENDED_ONLY);
        } else if address.ip() != self.peer {
            self.say("501 That is a foreign address.");
        } else if address.port() < LOWEST_PORT {
            self.say("501 That is a privileged port.");
        } else {
            self.say("200 So it will be.");
            self.release(Route::Active(address));
        }
    }

    /// Takes another way to the data connection, and closes the port that was open.
    pub(super) fn release(&mut self, route: Route) {
        if self.route == Route::Passive {
            self.state = State::Releasing { then_secure: false };
        }
        self.route = route;
    }
}
