//! What the tests of runs share: a run, and servers that live in threads.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use loadgen::{Engine, Outcome, Plan};

/// A correct reply to any request.
pub(crate) const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHello";

/// The engine that the suite is run with: the name of the test says it.
pub(crate) fn engine() -> Engine {
    if env!("CARGO_CRATE_NAME").ends_with("io_uring") { Engine::IoUring } else { Engine::Epoll }
}

/// One run to its end.
pub(crate) fn run(plan: &Plan) -> Outcome {
    let outcome = loadgen::run(plan, &AtomicBool::new(false), &mut |_| {}).unwrap();
    assert_eq!(outcome.engine, Some(plan.engine));
    outcome
}

/// Serves each connection in a thread of its own, until the test ends.
pub(crate) fn serve(
    converse: impl Fn(TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let converse = Arc::new(converse);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let converse = Arc::clone(&converse);
            // Clients leave as they like: an error ends the connection, not the server.
            thread::spawn(move || converse(stream.unwrap()));
        }
    });
    address
}
