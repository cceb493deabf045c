//! Wakes a thread to the microsecond, where its wait for events has milliseconds or would have to
//! set a timer of its own each time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// Readable when it goes off, until it is set again; it is never read.
pub(super) struct Timer {
    descriptor: TimerFd,
    /// For what it is set already; it never goes off before its time.
    set_for: Option<Instant>,
}

impl Timer {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let descriptor = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        Ok(Self { descriptor, set_for: None })
    }

    /// Sets it for an alarm, if there is to be one within a wait. Returns how long that may be: a
    /// timer that cannot be set must not make anything late.
    pub(super) fn arm(&mut self, alarm: Option<Instant>, wait: Duration) -> Duration {
        match alarm {
            Some(alarm) if !wait.is_zero() && self.set(alarm).is_err() => Duration::ZERO,
            _ => wait,
        }
    }

    fn set(&mut self, alarm: Instant) -> nix::Result<()> {
        if self.set_for == Some(alarm) {
            return Ok(());
        }
        let sleep = alarm.saturating_duration_since(Instant::now());
        // A timer that is set to nothing never goes off.
        let once = Expiration::OneShot(TimeSpec::from_duration(sleep.max(Duration::from_nanos(1))));
        self.descriptor.set(once, TimerSetTimeFlags::empty())?;
        self.set_for = Some(alarm);
        Ok(())
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
