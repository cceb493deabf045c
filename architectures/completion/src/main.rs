//! One thread, one `io_uring`: the proactor.
//!
//! ```text
//!            ┌──────────────────────────────────────────────────────────┐
//!            ▼                                                          │
//!   enter: submit all, what is done? ──▶ accepted: a conversation ──────┤
//!                                   ├──▶ input, or work done: drive it ─┤
//!                                   ├──▶ jobs done on threads: drive it ┤
//!                                   └──▶ once a second: deadlines ──────┘
//! ```
//!
//! The kernel is not asked what is ready, but told what is wanted: it accepts and receives by
//! itself, into buffers that it is provided with, and all sends of a turn leave in one system call.
//!
//! Known weakness: each connection that waits has an operation in the kernel, which a reactor's has
//! not; and what the ring may do has often been forbidden for its mistakes. `evented` answers both.

#![allow(unsafe_code, reason = "the kernel is handed addresses")]

mod executor;

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, FromRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use common::{Server, Workers};
use io_uring::opcode;
use io_uring::types::Fd;
use nix::libc;
use slab::Slab;

use crate::executor::{Completion, Conversation, Fate, Kind, Ring, Threads, advice};

/// How often deadlines are looked at, all of them; and how long accepting pauses when the machine
/// has run out of something that it will have again.
const SWEEP: Duration = Duration::from_secs(1);
const BACK_OFF: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    let architecture = common::architecture!(Workers::One);
    if let Err(error) = Ring::new() {
        eprintln!("{}: {}", architecture.name, advice(&error));
        return ExitCode::from(2);
    }
    common::serve(&architecture, |server| Proactor::new(server)?.run())
}

struct Proactor {
    server: &'static Server,
    ring: Ring,
    threads: Threads,
    conversations: Slab<Conversation>,
    /// Whom there was no buffer for.
    starving: Vec<usize>,
    /// When accepting begins again, if it is not under way.
    accept_at: Option<Instant>,
    /// The beginning of this turn.
    now: Instant,
    swept: Instant,
}

impl Proactor {
    fn new(server: &'static Server) -> io::Result<Self> {
        let (ring, threads, now) = (Ring::new()?, Threads::new()?, Instant::now());
        let (conversations, starving, accept_at) = (Slab::new(), Vec::new(), Some(now));
        Ok(Self { server, ring, threads, conversations, starving, accept_at, now, swept: now })
    }

    /// Serves until the server leaves and its last conversation has ended.
    fn run(mut self) -> io::Result<()> {
        self.ring.watch(self.threads.wake());
        while !(common::is_draining() && self.conversations.is_empty()) {
            if self.accept_at.is_some_and(|time| time <= self.now) && !common::is_draining() {
                self.accept();
            }
            let provided = self.ring.data.provided();
            let entered = self.ring.enter(if self.accept_at.is_some() { BACK_OFF } else { SWEEP });
            entered.inspect_err(|error| tracing::error!(%error, "the ring has failed"))?;
            self.now = Instant::now();
            for _ in 0..self.ring.completed() {
                if let Some(completion) = self.ring.next() {
                    self.complete(completion);
                }
            }
            if self.ring.data.provided() != provided {
                for key in std::mem::take(&mut self.starving) {
                    // Who is gone has made room for others, whom it does not harm to be looked at.
                    if self.conversations.contains(key) {
                        self.with(key, Conversation::drive);
                    }
                }
            }
            if self.now - self.swept >= SWEEP {
                self.swept = self.now;
                self.sweep();
            }
        }
        Ok(())
    }

    /// Has the kernel accept, again and again.
    fn accept(&mut self) {
        self.accept_at = None;
        let listener = Fd(self.server.as_fd().as_raw_fd());
        let entry = opcode::AcceptMulti::new(listener).flags(libc::SOCK_CLOEXEC).build();
        // SAFETY: no address is handed over.
        unsafe { self.ring.push(entry, Kind::Accept, 0) };
    }

    fn complete(&mut self, completion: Completion) {
        let Completion { kind, key, result, input, more } = completion;
        match kind {
            Kind::Silent => {}
            Kind::Wake => {
                if !more {
                    self.ring.watch(self.threads.wake());
                }
                for (key, done) in self.threads.done() {
                    self.with(key, |conversation, ring, now| {
                        conversation.finish(done);
                        conversation.drive(ring, now)
                    });
                }
            }
            Kind::Accept => {
                if !more {
                    let pause = result.as_ref().err().and_then(Server::after_failure);
                    self.accept_at = Some(self.now + pause.unwrap_or_default());
                }
                if let Ok(descriptor) = result {
                    self.greet(descriptor as i32);
                }
            }
            Kind::Receive => {
                if result.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::ENOBUFS)) {
                    self.ring.input.provide_more();
                }
                self.with(key, |conversation, ring, now| {
                    conversation.take_input(result, input, more);
                    conversation.drive(ring, now)
                });
            }
            Kind::Work => self.with(key, |conversation, ring, now| {
                match conversation.complete(result, input, ring, now) {
                    Fate::Completion => conversation.drive(ring, now),
                    fate => fate,
                }
            }),
        }
    }

    /// Begins the conversation with whoever has connected.
    fn greet(&mut self, descriptor: i32) {
        // SAFETY: it is new, and nobody else's.
        let control = unsafe { TcpStream::from_raw_fd(descriptor) };
        // Who is gone already is nobody.
        let Ok(peer) = control.peer_addr() else { return };
        if let Some(accepted) = self.server.admit(control, peer.ip()) {
            let entry = self.conversations.vacant_entry();
            let key = entry.key();
            entry.insert(Conversation::new(accepted, key));
            self.with(key, Conversation::drive);
        }
    }

    /// Works on a conversation. A session that panics ends its own and no other.
    fn with(
        &mut self,
        key: usize,
        work: impl FnOnce(&mut Conversation, &mut Ring, Instant) -> Fate,
    ) {
        let conversation = &mut self.conversations[key];
        let (ring, now) = (&mut self.ring, self.now);
        let fate = catch_unwind(AssertUnwindSafe(|| work(conversation, ring, now)));
        let fate = fate.unwrap_or_else(|_| {
            tracing::error!("a session panicked, and is closed");
            conversation.give_up();
            conversation.drive(ring, now)
        });
        match fate {
            Fate::Completion => {}
            Fate::Buffer => {
                self.ring.data.provide_more();
                self.starving.push(key);
            }
            Fate::Job(job) => self.threads.run(key, job),
            Fate::Nothing => drop(self.conversations.remove(key)),
        }
    }

    fn sweep(&mut self) {
        let keys: Vec<usize> = self.conversations.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.with(key, Conversation::look_at_the_clock);
        }
    }
}

/// What the kernel has the addresses of cannot be freed. That it still has some when all this ends
/// is only if the ring has failed, or we have.
impl Drop for Proactor {
    fn drop(&mut self) {
        if !self.conversations.is_empty() {
            std::process::exit(1);
        }
    }
}
