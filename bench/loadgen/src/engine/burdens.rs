//! Clients that are a burden: slow ones, and those that leave before their time.
//!
//! What the server does to them after the connect is no failure, but what is to be seen.

use std::time::{Duration, Instant};

use super::driver::{Driver, Slot};
use super::{LONGEST_PAUSE, Worker};
use crate::class::Manner;
use crate::client::Channel;
use crate::connection::Socket;
use crate::pace::{Errand, Pace};
use crate::record::Failure;

impl<D: Driver> Worker<D> {
    /// Counts a failure, or what the server has done to a burden.
    pub(super) fn record_failure(&mut self, index: usize, failure: Failure) {
        let connection = &mut self.connections[index];
        let recorder = &mut self.shares[connection.share].recorder;
        match (&connection.burden, &mut recorder.burdens) {
            (Some(burden), Some(burdens)) if connection.control == Socket::Open => {
                let lasted = burden.opened.elapsed();
                burdens.cut(failure, lasted);
                if lasted > LONGEST_PAUSE {
                    connection.failures = 0;
                }
            }
            _ => recorder.failure(failure),
        }
    }

    pub(super) fn opened_as_burden(&mut self, slot: Slot, now: Instant) {
        let connection = &mut self.connections[slot.index];
        let recorder = &mut self.shares[connection.share].recorder;
        if let (Some(burden), Some(burdens)) = (&mut connection.burden, &mut recorder.burdens)
            && slot.channel == Channel::Control
        {
            burden.begin(now);
            burdens.begun += 1;
        }
        self.receive(slot);
    }

    /// Takes what has arrived, or leaves because something has.
    pub(super) fn take_as_burden(&mut self, slot: Slot, bytes: &[u8]) -> Result<(), Failure> {
        let Slot { index, channel } = slot;
        let now_ns = self.nanoseconds(Instant::now());
        let connection = &mut self.connections[index];
        let generation = connection.generation;
        if let Some(burden) = &mut connection.burden
            && burden.replies_on == channel
        {
            if burden.manner.cuts_replies() && !connection.in_flight.is_empty() {
                return self.abandon(index);
            }
            if let Some(trickle) = &mut burden.receive {
                trickle.passed(bytes.len(), now_ns);
            }
        }
        self.take(index, channel, bytes)?;
        if self.connections[index].generation == generation {
            self.receive(slot);
        }
        Ok(())
    }

    /// Asks for the next piece of what a slow reader takes, now or when it is time.
    pub(super) fn receive(&mut self, slot: Slot) {
        let Slot { index, channel } = slot;
        let now_ns = self.nanoseconds(Instant::now());
        let connection = &mut self.connections[index];
        let Some(burden) = &connection.burden else {
            return;
        };
        let Some(trickle) = burden.receive.filter(|_| burden.replies_on == channel) else {
            return;
        };
        if *connection.socket(channel) != Socket::Open {
            return;
        }
        match trickle.allowance(now_ns) {
            0 => self.put_off(index, trickle.next_ns(), Errand::Receive(channel)),
            at_most => self.driver.receive(slot, at_most),
        }
    }

    /// Nothing may be sent now: it is not yet time, or never will be.
    pub(super) fn hold_back(&mut self, index: usize) -> Result<(), Failure> {
        let Some(burden) = &mut self.connections[index].burden else {
            return Ok(());
        };
        if burden.has_cut() {
            return if burden.manner == Manner::HalfOpen { Ok(()) } else { self.abandon(index) };
        }
        if let Some(again_ns) = burden.sends_again_ns() {
            self.put_off(index, again_ns, Errand::Send);
        }
        Ok(())
    }

    fn put_off(&mut self, index: usize, until_ns: u64, errand: Errand) {
        let connection = &mut self.connections[index];
        // One appointment for each direction at a time.
        if let Some(burden) = &mut connection.burden
            && burden.puts_off(errand)
            && let Some(at) = self.epoch.checked_add(Duration::from_nanos(until_ns))
        {
            self.calendar.add(at, index, connection.generation, errand);
        }
    }

    /// Leaves the server in the midst of a request, or of its reply. The next session comes as the
    /// load says.
    fn abandon(&mut self, index: usize) -> Result<(), Failure> {
        let share = self.share(index);
        let manner = share.class.manner;
        let think = match share.pace {
            Pace::Closed { think } => think,
            Pace::Open { .. } => Duration::ZERO,
        };
        if let Some(burdens) = &mut share.recorder.burdens {
            burdens.abandoned += 1;
        }
        for channel in [Channel::Control, Channel::Data] {
            let slot = Slot::new(index, channel);
            if std::mem::take(self.connections[index].socket(channel)) == Socket::Closed {
                continue;
            }
            // A socket of no more use has nothing to be told.
            let _ = match manner {
                _ if manner.resets() => self.driver.reset_on_close(slot),
                _ if manner.cuts_replies() => self.driver.end_stream(slot),
                _ => Ok(()),
            };
            self.driver.finish(slot);
        }
        if think.is_zero() {
            return self.begin(index);
        }
        self.close(index);
        let generation = self.connections[index].generation;
        self.calendar.add(Instant::now() + think, index, generation, Errand::Open);
        Ok(())
    }
}
