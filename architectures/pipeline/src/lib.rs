//! The stages, and the queues between them.

use std::sync::Arc;

use common::conn::Direction;
use common::job::Job;
use common::{Server, Wait};
use crossbeam::channel::{Receiver, Sender, bounded};
use leader_followers::{Handle, HandleSet};

/// How many wait before a stage.
const QUEUE: usize = 256;

/// A connection that waits for what it asked to be done.
type Task = (Arc<Handle>, Job);

/// Both ends of each queue, for every stage.
#[derive(Clone)]
pub struct Stages {
    handles: Arc<HandleSet>,
    to_run: (Sender<Task>, Receiver<Task>),
    to_write: (Sender<Arc<Handle>>, Receiver<Arc<Handle>>),
}

impl Stages {
    /// Over these connections.
    pub fn new(handles: Arc<HandleSet>) -> Self {
        Stages { handles, to_run: bounded(QUEUE), to_write: bounded(QUEUE) }
    }

    /// Takes connections, until the server leaves.
    pub fn accept(&self, server: &Server) {
        while let Some(conn) = server.accept_nonblocking() {
            let handle = self.handles.add(conn);
            self.handles.go_on(handle);
        }
    }

    /// Finds who can go on, reads and parses.
    pub fn read(&self) {
        while let Ok(handle) = self.handles.next() {
            if self.advance(&handle, Direction::Input) {
                self.to_write.0.send(handle).expect("this stage holds a receiver itself");
            }
        }
    }

    /// Does jobs.
    pub fn run(&self) {
        for (handle, job) in &self.to_run.1 {
            handle.run(job);
            self.handles.go_on(handle);
        }
    }

    /// Sends replies.
    pub fn write(&self) {
        for handle in &self.to_write.1 {
            if self.advance(&handle, Direction::Output) {
                self.handles.go_on(handle);
            }
        }
    }

    /// Does what goes that way; true where it is the other way's turn. Nobody waits for a queue
    /// with the connection in hand, for which the stage behind it might be waiting.
    fn advance(&self, handle: &Arc<Handle>, way: Direction) -> bool {
        let mut place = handle.lock();
        let Some(conn) = &mut *place else { return false };
        match conn.advance_only(way) {
            Wait::Ready => self.handles.arm(handle, conn),
            Wait::Turn => return true,
            Wait::End => self.handles.remove(handle, &mut place),
            Wait::Job(job) => {
                drop(place);
                self.to_run.0.send((handle.clone(), job)).expect("each stage holds a receiver");
            }
        }
        false
    }
}
