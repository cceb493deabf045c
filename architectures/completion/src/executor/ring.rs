//! The ring: what is asked of the kernel, and what has come of it.
//!
//! **Invariant:** what is pushed is submitted, and each of its completions names who asked.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::eventfd::EventFd;
use nix::unistd::pipe2;

use super::buffers::{Buffers, Filled};

/// The most that one system call submits.
const SUBMISSIONS: u32 = 1024;
/// What completes beyond that is kept by the kernel until there is room.
const COMPLETIONS: u32 = 4096;
/// A thread's buffer for what is decrypted, or was put by.
const TEXT_BYTES: usize = 64 * 1024;

/// In what pieces files are moved into pipes, and read.
pub(crate) const PIPE_BYTES: usize = 1024 * 1024;
pub(crate) const PIECE_BYTES: usize = 64 * 1024;
/// How many of both are kept.
const SPARE_MAX: usize = 16;
/// How many pipes there may be. Each has two descriptors and a megabyte at most, and a thread of
/// the kernel's may wait at its end for a slow client. More files are copied.
const PIPES_MAX: usize = 64;

/// What a file passes through without being copied.
pub(crate) struct Pipe {
    pub(crate) output: OwnedFd,
    pub(crate) input: OwnedFd,
    _place: Rc<()>,
}

/// Whose operation it is. In the user data, beside the key of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// The listening socket's.
    Accept,
    /// Jobs are done on other threads.
    Wake,
    /// The receive of a control connection, which goes on by itself.
    Receive,
    /// Whatever a session waits for.
    Work,
    /// Nobody's: it completes only if it fails, and then all the same.
    Silent,
}

/// What has become of an operation.
pub(crate) struct Completion {
    pub(crate) kind: Kind,
    pub(crate) key: usize,
    /// What the system call would have returned.
    pub(crate) result: io::Result<usize>,
    /// What was received, unless that was nothing.
    pub(crate) input: Option<Filled>,
    /// The operation goes on.
    pub(crate) more: bool,
}

pub(crate) struct Ring {
    queues: IoUring,
    /// What the submission queue has had no room for.
    backlog: VecDeque<Entry>,
    /// For control input: small, and taken by the receives that go on by themselves.
    pub(crate) input: Rc<Buffers>,
    /// For the data connections.
    pub(crate) data: Rc<Buffers>,
    /// Text on its way to a session.
    pub(crate) text: Vec<u8>,
    /// Pieces that nobody uses.
    pieces: Vec<Vec<u8>>,
    /// Pipes that are empty.
    pipes: Vec<Pipe>,
    /// Of all pipes, each of which has a clone.
    pipe_places: Rc<()>,
}

impl Ring {
    /// One that only the calling thread may use.
    pub(crate) fn new() -> io::Result<Self> {
        let queues = IoUring::builder()
            .setup_cqsize(COMPLETIONS)
            .setup_submit_all()
            // Completions are worked off when this thread asks for them, which nothing interrupts.
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .build(SUBMISSIONS)?;
        let input = Buffers::new(&queues, 0, 1024, 16 * 1024)?;
        let data = Buffers::new(&queues, 1, 16, 256 * 1024)?;
        let text = Vec::with_capacity(TEXT_BYTES);
        Ok(Ring {
            queues,
            backlog: VecDeque::new(),
            input,
            data,
            text,
            pieces: Vec::new(),
            pipes: Vec::new(),
            pipe_places: Rc::new(()),
        })
    }

    /// An empty piece, with room for [`PIECE_BYTES`].
    pub(crate) fn take_piece(&mut self) -> Vec<u8> {
        self.pieces.pop().unwrap_or_else(|| Vec::with_capacity(PIECE_BYTES))
    }

    /// Keeps it for the next, if there are not enough.
    pub(crate) fn put_back(&mut self, mut piece: Vec<u8>) {
        if self.pieces.len() < SPARE_MAX {
            piece.clear();
            self.pieces.push(piece);
        }
    }

    /// An empty pipe, as large as the user may have it, if there is one to be had.
    pub(crate) fn take_pipe(&mut self) -> Option<Pipe> {
        self.pipes.pop().or_else(|| {
            let place = Rc::clone(&self.pipe_places);
            if Rc::strong_count(&place) > 1 + PIPES_MAX {
                return None;
            }
            let (output, input) = pipe2(OFlag::O_CLOEXEC).ok()?;
            let _ = fcntl(&input, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES as i32));
            Some(Pipe { output, input, _place: place })
        })
    }

    /// Keeps it for the next, if there are not enough.
    pub(crate) fn put_back_pipe(&mut self, pipe: Pipe) {
        if self.pipes.len() < SPARE_MAX {
            self.pipes.push(pipe);
        }
    }

    /// Queues an operation for the next [`enter`](Self::enter).
    ///
    /// # Safety
    ///
    /// What it has the address of must stay until it has completed.
    pub(crate) unsafe fn push(&mut self, entry: Entry, kind: Kind, key: usize) {
        self.queue(entry.user_data(user_data(kind, key)));
    }

    /// Has [`Kind::Wake`] complete whenever this counts up. Nobody needs to read how far.
    pub(crate) fn watch(&mut self, counter: &EventFd) {
        let descriptor = Fd(counter.as_fd().as_raw_fd());
        let poll = opcode::PollAdd::new(descriptor, libc::POLLIN as u32).multi(true).build();
        // SAFETY: no address is handed over.
        unsafe { self.push(poll, Kind::Wake, 0) };
    }

    /// Has an operation complete soon: as cancelled, if it has not come to anything yet.
    pub(crate) fn cancel(&mut self, kind: Kind, key: usize) {
        let cancel = opcode::AsyncCancel::new(user_data(kind, key)).build();
        self.queue(cancel.flags(Flags::SKIP_SUCCESS).user_data(user_data(Kind::Silent, 0)));
    }

    fn queue(&mut self, entry: Entry) {
        if !(self.backlog.is_empty() && self.put(&entry)) {
            self.backlog.push_back(entry);
            self.submit();
        }
    }

    fn put(&mut self, entry: &Entry) -> bool {
        // SAFETY: whoever pushed it has promised what is asked for.
        unsafe { self.queues.submission().push(entry).is_ok() }
    }

    /// Makes room for the backlog.
    fn submit(&mut self) {
        while !self.backlog.is_empty() && self.queues.submit().is_ok_and(|count| count > 0) {
            while let Some(entry) = self.backlog.pop_front() {
                if !self.put(&entry) {
                    self.backlog.push_front(entry);
                    break;
                }
            }
        }
    }

    /// The one system call of a turn: submits all that was pushed, and waits for a completion, but
    /// no longer than `timeout`.
    pub(crate) fn enter(&mut self, timeout: Duration) -> io::Result<()> {
        self.submit();
        let timeout = Timespec::from(timeout);
        let arguments = SubmitArgs::new().timespec(&timeout);
        let entered = self.queues.submitter().submit_with_args(1, &arguments);
        match entered.map_err(|error| error.raw_os_error().map(Errno::from_raw)) {
            // The time is over, a signal came, or completions are to be taken first.
            Ok(_) | Err(Some(Errno::ETIME | Errno::EINTR | Errno::EAGAIN | Errno::EBUSY)) => Ok(()),
            Err(errno) => Err(errno.unwrap_or(Errno::EINVAL).into()),
        }
    }

    /// How many completions wait to be taken.
    pub(crate) fn completed(&mut self) -> usize {
        self.queues.completion().len()
    }

    /// The next of them.
    pub(crate) fn next(&mut self) -> Option<Completion> {
        let entry = self.queues.completion().next()?;
        let kind = match entry.user_data() as u8 {
            0 => Kind::Accept,
            1 => Kind::Wake,
            2 => Kind::Receive,
            3 => Kind::Work,
            _ => Kind::Silent,
        };
        let result = entry.result();
        let buffers = if kind == Kind::Receive { &self.input } else { &self.data };
        let input = cqueue::buffer_select(entry.flags()).map(|buffer| {
            // SAFETY: this is how the kernel tells of it.
            unsafe { buffers.filled(buffer, result.max(0) as usize) }
        });
        Some(Completion {
            kind,
            key: (entry.user_data() >> 8) as usize,
            result: usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result)),
            input: input.filter(|input| !input.is_empty()),
            more: cqueue::more(entry.flags()),
        })
    }
}

/// Why there is no ring, and what to do.
pub(crate) fn advice(error: &io::Error) -> String {
    let advice = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOSYS) => "this kernel has none",
        Some(Errno::EPERM | Errno::EACCES) => {
            "it is forbidden: see the sysctl kernel.io_uring_disabled, or the container's seccomp \
             profile"
        }
        Some(Errno::EINVAL) => "it needs Linux 6.1 or newer",
        Some(Errno::ENOMEM) => "raise the limit of locked memory with `ulimit -l`",
        _ => "choose another architecture",
    };
    format!("no io_uring here: {error}; {advice}")
}

fn user_data(kind: Kind, key: usize) -> u64 {
    (key as u64) << 8 | kind as u64
}
