//! A process for each connection, forked when it arrives.
//!
//! ```text
//! parent ── accept ──▶ fork ──▶ accept ──▶ fork ──▶ …     (and reaps whoever has ended)
//!                       │                   │
//!                       ▼                   ▼
//!                 child: conversation   child: conversation
//! ```
//!
//! Known weakness: a fork costs many times what a thread does, and each child its own page tables.
//! `preforking` makes the processes ahead.

use std::cell::RefCell;
use std::process::ExitCode;

use common::process::Children;
use common::{Conn, Workers};

fn main() -> ExitCode {
    common::serve(&common::architecture!(Workers::Uncounted), |server| {
        let children = RefCell::new(Children::new()?);
        while let Some(conn) = server.accept_or(|| children.borrow_mut().reap()) {
            // The parent lets go of the socket, and counts the connection until its child ends.
            if let Err(error) = children.borrow_mut().fork(conn, Conn::run, Conn::into_permit) {
                common::back_off(&error);
            }
        }
        children.borrow_mut().wait_all();
        Ok(())
    })
}
