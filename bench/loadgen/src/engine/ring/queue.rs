//! The two queues of a ring: what is asked of the kernel, and what it has done.
//!
//! Invariant: an operation that is pushed is submitted, whatever the queue has room for.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};
use nix::errno::Errno;

use super::{Kind, Limits};

/// How long the end waits for what it cancels.
const FAREWELL: Duration = Duration::from_secs(1);

pub(super) struct Queue {
    ring: IoUring,
    /// What the ring has had no room for: at most the few operations that each socket can have.
    backlog: VecDeque<Entry>,
    /// Operations that have yet to complete; silent ones do not count.
    under_way: usize,
}

impl Queue {
    /// One for the calling thread, which alone may use it.
    pub(super) fn new(limits: &Limits) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_cqsize(limits.completions)
            .setup_submit_all()
            // Completions are worked off when this thread asks for them, and it never is
            // interrupted for them.
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_defer_taskrun()
            // So that a thread which never sleeps need not enter the kernel to see that there is
            // nothing.
            .setup_taskrun_flag()
            .build(limits.submissions)?;
        Ok(Self { ring, backlog: VecDeque::new(), under_way: 0 })
    }

    pub(super) fn ring(&self) -> &IoUring {
        &self.ring
    }

    /// Queues an operation.
    ///
    /// # Safety
    ///
    /// Whatever it has the address of must stay until it has completed; what only its submission
    /// reads, until then.
    pub(super) unsafe fn push(&mut self, entry: Entry) {
        self.under_way += 1;
        self.queue(entry);
    }

    /// Queues an operation that completes only if it fails, which is of no interest.
    ///
    /// # Safety
    ///
    /// As of [`Queue::push`].
    pub(super) unsafe fn push_silent(&mut self, entry: Entry) {
        self.queue(entry.flags(Flags::SKIP_SUCCESS).user_data(Kind::Silent as u64));
    }

    fn queue(&mut self, entry: Entry) {
        if self.backlog.is_empty() && self.put(&entry) {
            return;
        }
        self.backlog.push_back(entry);
        self.submit();
    }

    /// False if there is no room.
    fn put(&mut self, entry: &Entry) -> bool {
        // SAFETY: whoever pushed the entry has promised what is asked for.
        unsafe { self.ring.submission().push(entry).is_ok() }
    }

    /// Submits what is queued. What is not taken now is tried again by the next call.
    pub(super) fn submit(&mut self) {
        while self.submit_only().is_ok_and(|count| count > 0) {
            while let Some(entry) = self.backlog.pop_front() {
                if !self.put(&entry) {
                    self.backlog.push_front(entry);
                    break;
                }
            }
        }
    }

    /// Submits, and leaves it to the end of the turn to see what has completed meanwhile. Else each
    /// turn would have more to do than the one before, and its last request would wait for longer.
    fn submit_only(&mut self) -> io::Result<usize> {
        let count = self.ring.submission().len();
        // SAFETY: it comes without an argument.
        unsafe { self.ring.submitter().enter::<()>(count as u32, 0, 0, None) }
    }

    /// Submits, and waits for a completion, but no longer than `wait`.
    pub(super) fn enter(&mut self, wait: Duration) -> io::Result<()> {
        if !self.backlog.is_empty() {
            self.submit();
        }
        let entered = if wait.is_zero() {
            let submission = self.ring.submission();
            let is_idle = submission.is_empty() && !submission.taskrun();
            if is_idle && !submission.cq_overflow() {
                return Ok(());
            }
            drop(submission);
            self.ring.submit()
        } else {
            let wait = Timespec::from(wait);
            let arguments = SubmitArgs::new().timespec(&wait);
            self.ring.submitter().submit_with_args(1, &arguments)
        };
        match entered.map_err(|error| error.raw_os_error().map(Errno::from_raw)) {
            // The time is over, or there is no memory or room until completions are taken.
            Ok(_) | Err(Some(Errno::ETIME | Errno::EINTR | Errno::EAGAIN | Errno::EBUSY)) => Ok(()),
            Err(errno) => Err(errno.unwrap_or(Errno::EINVAL).into()),
        }
    }

    /// How many completions wait to be taken.
    pub(super) fn completed(&mut self) -> usize {
        self.ring.completion().len()
    }

    pub(super) fn next(&mut self) -> Option<cqueue::Entry> {
        let completion = self.ring.completion().next()?;
        let is_silent = Kind::from_data(completion.user_data()) == Kind::Silent;
        if !is_silent && !cqueue::more(completion.flags()) {
            self.under_way -= 1;
        }
        Some(completion)
    }

    /// Cancels all that is under way. False if something is still under way after a second.
    pub(super) fn cancel_all(&mut self) -> bool {
        let deadline = Instant::now() + FAREWELL;
        while self.under_way > 0 && Instant::now() < deadline {
            let cancel = opcode::AsyncCancel2::new(CancelBuilder::any().all()).build();
            // SAFETY: no address is handed over.
            unsafe { self.push_silent(cancel) };
            if self.enter(Duration::from_millis(10)).is_err() {
                return false;
            }
            while self.next().is_some() {}
        }
        self.under_way == 0
    }
}
