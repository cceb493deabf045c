//! What a session of ours that panics takes with it.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use super::*;
use crate::limits::Limits;
use crate::session::Deadline;

/// Waits for this, and panics at whatever comes of it.
struct Clumsy(fn() -> Action<'static>);

impl Session for Clumsy {
    fn poll(&mut self) -> Action<'_> {
        self.0()
    }

    fn handle(&mut self, event: Event<'_>) {
        panic!("{event:?} is too much for it");
    }

    fn deadline(&self) -> Deadline {
        Deadline { phase: 0, limit: Duration::from_hours(1) }
    }

    fn requests(&self) -> u32 {
        0
    }
}

/// A conversation that has begun to wait, and its client.
fn waiting(action: fn() -> Action<'static>) -> (Conn, TcpStream) {
    crate::drain::install(1024, Duration::from_secs(1)).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (control, peer) = listener.accept().unwrap();
    control.set_nonblocking(true).unwrap();
    let live = Live::new(control.as_raw_fd());
    let permit = Limits::new(1, 1).admit(peer.ip()).unwrap();
    let session = Box::new(Clumsy(action));
    let mut conn = Conn::new(Accepted { live, session, control, permit }, None);
    assert!(matches!(conn.advance(), Wait::Ready | Wait::Job(_)));
    (conn, client)
}

#[test]
fn a_session_that_panics_at_the_outcome_of_its_job_ends_itself_only() {
    let (mut conn, _client) =
        waiting(|| Action::Run(Job::Work { compute: Duration::ZERO, block: Duration::ZERO }));
    conn.finish(Err(io::ErrorKind::Other.into()));
    assert!(matches!(conn.advance(), Wait::End));
}

#[test]
fn a_session_that_panics_at_the_end_of_its_time_ends_itself_only() {
    let (mut conn, _client) = waiting(|| Action::Read(Chan::Control));
    conn.time_out();
    assert!(matches!(conn.advance(), Wait::End));
}
