//! A request in the steady state allocates nothing: the buffers of the ones before suffice.

#![allow(unsafe_code, reason = "an allocator cannot be written without")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use common::ports::Passive;
use common::protocol::Protocol;
use common::session::{Action, Chan, Event, Session, Settings};
use common::users::Users;

/// The system's allocator, which counts what each thread takes from it.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

// SAFETY: everything is passed on to the system's allocator as it came; the counter is a constant
// thread local without a destructor, which itself never allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn session(protocol: Protocol) -> Box<dyn Session> {
    let settings = Settings {
        root: Arc::new(Dir::open_ambient_dir(".", ambient_authority()).unwrap()),
        writable: false,
        users: Users::default(),
        passive: Passive::default(),
        idle_timeout: Duration::from_mins(1),
        backend: None,
        tls: None,
        guestbook: None,
        files: common::http::Files::default(),
        now: || SystemTime::UNIX_EPOCH,
    };
    protocol.session(&Arc::new(settings), IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// One input and all that follows from it; says how many bytes were to be written.
fn turn(session: &mut dyn Session, input: &[u8]) -> usize {
    assert!(matches!(session.poll(), Action::Read(Chan::Control)));
    session.handle(Event::Read(Chan::Control, input));
    let mut written = 0;
    loop {
        let event = match session.poll() {
            Action::Write(_, bytes) => {
                written += bytes.len();
                Event::Wrote(bytes.len())
            }
            Action::Run(job) => Event::Ran(job.run().unwrap()),
            _ => return written,
        };
        session.handle(event);
    }
}

fn check(protocol: Protocol, input: &[u8], replies: usize) {
    let mut session = session(protocol);
    let first = turn(&mut *session, input);
    assert!(first >= replies);
    let before = ALLOCATIONS.get();
    for _ in 0..1000 {
        assert_eq!(turn(&mut *session, input), first);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0, "{protocol:?}");
}

#[test]
fn requests_in_the_steady_state_allocate_nothing() {
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(Box::new(1)));
    assert_ne!(ALLOCATIONS.get(), before, "the counter counts");

    check(Protocol::Echo, b"hello\r\n", 1);
    for path in ["/plaintext", "/json", "/bytes/1024", "/bytes/1000000", "/Cargo.toml"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost:8080\r\n\r\n");
        check(Protocol::Http, request.as_bytes(), 1);
    }
    let request = "GET /plaintext HTTP/1.1\r\nHost: localhost:8080\r\n\r\n";
    check(Protocol::Http, request.repeat(16).as_bytes(), 16);
}
