//! Blocking: a thread for each connection.
//!
//! ```text
//!  accept ─► thread: read ─► write ─┐
//!                     ▲─────────────┘
//! ```

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::thread;
use std::time::Duration;

use crate::{BUFFER_BYTES, Reply};

pub(crate) fn serve(listener: &TcpListener, reply: Reply) {
    loop {
        let Ok((stream, _)) = listener.accept() else {
            // Out of descriptors or memory: connections that end give some back.
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        // A connection that gets no thread is closed.
        let _ =
            thread::Builder::new().stack_size(128 * 1024).spawn(move || converse(stream, reply));
    }
}

pub(crate) fn converse(mut stream: TcpStream, reply: Reply) {
    let greeting = reply.greeting();
    if !greeting.is_empty() && stream.write_all(greeting).is_err() {
        return;
    }
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if !reply.send(stream.as_fd(), &buffer[..count]) {
            return;
        }
    }
}
