//! Readiness: one thread, edge-triggered epoll by mio.
//!
//! ```text
//!  wait ─► listener: accept all ─► register
//!    ▲ └─► connection: read once ─► write once
//!    └──────────────────────────────────┘
//! ```
//!
//! A short read counts as drained. A reply that the socket does not take at once closes the
//! connection: that is not the load this is a yardstick for.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd as _;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::{BUFFER_BYTES, Reply};

const LISTENER: Token = Token(usize::MAX);
/// How long to wait before trying again to accept, when descriptors or memory have run out.
const PAUSE: Duration = Duration::from_millis(10);

pub(crate) fn serve(listener: std::net::TcpListener, reply: Reply) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; BUFFER_BYTES];
    // The place in this table is the connection's token; free places are used again.
    let mut connections: Vec<Option<TcpStream>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut is_drained = true;
    loop {
        match poll.poll(&mut events, (!is_drained).then_some(PAUSE)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            if event.token() == LISTENER {
                is_drained = false;
                continue;
            }
            let index = event.token().0;
            let connection = &mut connections[index];
            let Some(stream) = connection else { continue };
            if event.is_readable() && !answer(stream, reply, event.is_read_closed(), &mut buffer) {
                *connection = None;
                free.push(index);
            }
        }
        if !is_drained {
            is_drained = accept(&listener, &poll, reply, &mut connections, &mut free);
        }
    }
}

/// Accepts all that wait; false if some may still wait.
fn accept(
    listener: &TcpListener,
    poll: &Poll,
    reply: Reply,
    connections: &mut Vec<Option<TcpStream>>,
    free: &mut Vec<usize>,
) -> bool {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => return true,
                ErrorKind::Interrupted | ErrorKind::ConnectionAborted => continue,
                _ => return false,
            },
        };
        let index = free.pop().unwrap_or_else(|| {
            connections.push(None);
            connections.len() - 1
        });
        let registered = poll.registry().register(&mut stream, Token(index), Interest::READABLE);
        let greeting = reply.greeting();
        let greeted = greeting.is_empty() || stream.write(greeting).is_ok();
        if registered.is_ok() && greeted {
            connections[index] = Some(stream);
        } else {
            free.push(index);
        }
    }
}

/// Reads once and writes once, again only while a read fills the buffer or the stream has an end
/// to be read; false if the connection is over.
fn answer(stream: &mut TcpStream, reply: Reply, has_end: bool, buffer: &mut [u8]) -> bool {
    loop {
        match stream.read(buffer) {
            Ok(0) => return false,
            Ok(count) => {
                if !reply.send(stream.as_fd(), &buffer[..count]) {
                    return false;
                }
                if count < buffer.len() && !has_end {
                    return true;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}
