//! Conversations as tasks of tokio, on whichever runtime runs them.
//!
//! ```text
//! advance ──▶ not ready: await a socket or the deadline ──┐
//!    ▲  ├───▶ job: await a blocking thread ───────────────┤
//!    │  └───▶ had its turn: yield ────────────────────────┤
//!    └────────────────────────────────────────────────────┘
//! ```
//!
//! **Invariant:** the runtime watches a descriptor only for as long as it is open. The control
//! socket is watched all its life, data sockets while they are waited for.

#![allow(unsafe_code, reason = "the runtime watches descriptors that others own")]

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::os::fd::BorrowedFd;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use common::conn::{Awaited, Direction};
use common::session::Chan;
use common::{Conn, Server, Wait};
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};
use tokio::sync::mpsc;
use tokio::task::{coop, spawn_blocking, yield_now};
use tokio::time::{Sleep, sleep};

/// A socket that the runtime watches: edge-triggered, and registered until it is dropped.
type Watched<'a> = AsyncFd<BorrowedFd<'a>>;

/// The most blocking threads; further jobs wait for one.
pub const BLOCKING_THREADS_MAX: usize = 512;
/// How long to wait when the machine has run out of something that it will have again.
pub const BACK_OFF: Duration = Duration::from_millis(50);
/// Urgent data is input as well.
const INPUT: Interest = Interest::READABLE.add(Interest::PRIORITY);

/// Accepts until the server leaves, each connection as a task, and awaits the last of them.
pub async fn serve(server: &'static Server) -> io::Result<()> {
    // SAFETY: the server listens for as long as the process lives.
    let listener = unsafe { BorrowedFd::borrow_raw(server.watch()?) };
    let listener = watch(listener)?;
    // Nothing is ever sent: the channel is closed when the last task has let go of it.
    let (running, mut over) = mpsc::channel::<Infallible>(1);
    while !common::is_draining() {
        // A flood of connections stops nobody.
        coop::consume_budget().await;
        match server.accept_ready() {
            Ok(None) => {}
            Ok(Some(conn)) => drop(tokio::spawn(converse(conn, running.clone()))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                listener.readable().await?.clear_ready();
            }
            Err(_) => sleep(BACK_OFF).await,
        }
    }
    drop(running);
    over.recv().await;
    Ok(())
}

/// Holds the whole conversation.
async fn converse(mut conn: Conn, _running: mpsc::Sender<Infallible>) {
    // SAFETY: its connection has it open, and is dropped after it.
    let control = unsafe { BorrowedFd::borrow_raw(conn.control_descriptor()) };
    let Ok(control) = watch(control) else {
        return;
    };
    let mut timer = pin!(sleep(Duration::MAX));
    loop {
        match conn.advance() {
            Wait::Ready => wait(&mut conn, &control, timer.as_mut()).await,
            Wait::Job(job) => {
                let done = spawn_blocking(|| job.run()).await;
                conn.finish(done.unwrap_or_else(|panicked| Err(io::Error::other(panicked))));
            }
            Wait::Turn => {
                yield_now().await;
                // Whoever never waits does not see how late it is.
                if conn.is_late(Instant::now()) {
                    conn.time_out();
                }
            }
            Wait::End => return,
        }
    }
}

/// Waits until there is something to go on with.
async fn wait(conn: &mut Conn, control: &Watched<'_>, mut timer: Pin<&mut Sleep>) {
    // One that ends too early is then set again: most phases are over long before their deadline,
    // and each would have to move it otherwise.
    if let Some(end) = conn.deadline().map(tokio::time::Instant::from)
        && (end < timer.deadline() || timer.is_elapsed())
    {
        timer.as_mut().reset(end);
    }
    let Awaited { control: on_control, data: on_data } = conn.awaited();
    let on_control = on_control.map(|(_, direction)| direction);
    let on_data = async move {
        let (socket, direction) = on_data?;
        // What cannot be watched ends with its deadline.
        let socket = watch(socket).ok()?;
        Some(ready(&socket, Some(direction)).await)
    };
    tokio::select! {
        biased;
        found = ready(control, on_control) => {
            conn.ready(Chan::Control, found.is_read_closed() || found.is_priority());
        }
        Some(_) = on_data => {}
        () = timer => {
            if conn.is_late(Instant::now()) {
                conn.time_out();
            }
        }
    }
}

/// Waits for an edge, and tells what it was. What is tried from now on may find the next one.
async fn ready(socket: &Watched<'_>, direction: Option<Direction>) -> Ready {
    let interest = match direction {
        Some(Direction::Input) => INPUT,
        Some(Direction::Output) => Interest::WRITABLE,
        None => return pending().await,
    };
    match socket.ready(interest).await {
        Ok(mut edge) => {
            let found = edge.ready();
            edge.clear_ready();
            found
        }
        // The runtime has ended, and nobody is told anything any more.
        Err(_) => pending().await,
    }
}

fn watch(socket: BorrowedFd<'_>) -> io::Result<Watched<'_>> {
    let interest = INPUT.add(Interest::WRITABLE);
    // SAFETY: a descriptor that is borrowed is open for as long as that.
    Ok(unsafe { AsyncFd::register_with_interest(socket, interest) }?)
}
