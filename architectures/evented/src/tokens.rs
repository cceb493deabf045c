//! What the poll calls the sockets that it watches.

use std::io;
use std::os::fd::RawFd;

use common::session::Chan;
use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};

pub(crate) const LISTENER: Token = Token(usize::MAX);
pub(crate) const RETURNS: Token = Token(usize::MAX - 1);

/// The two sockets of a connection have neighbouring tokens.
pub(crate) fn token(key: usize, chan: Chan) -> Token {
    Token(key * 2 + usize::from(chan == Chan::Data))
}

/// The connection and the socket that a token is of.
pub(crate) fn owner(token: Token) -> (usize, Chan) {
    let chan = if token.0.is_multiple_of(2) { Chan::Control } else { Chan::Data };
    (token.0 / 2, chan)
}

/// Has each edge of a socket announced once.
pub fn watch(poll: &Poll, socket: RawFd, token: Token) -> io::Result<()> {
    let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
    poll.registry().register(&mut SourceFd(&socket), token, interest)
}
