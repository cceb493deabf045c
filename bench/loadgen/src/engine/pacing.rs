//! Which request goes when, over which connection.
//!
//! In a closed loop a place in flight that is free is used at once, or after a pause. In an open
//! loop the connections that have one stand in a list: the one that is free the longest gets what
//! is due, so that all are used alike. What is due and finds the list empty waits in the schedule's
//! backlog.

use std::time::{Duration, Instant};

use super::driver::Slot;
use super::{Driver, Share, Worker};
use crate::client::{Channel, Session as _};
use crate::connection::{Request, Socket};
use crate::pace::{Errand, Pace};
use crate::record::Failure;

impl<D: Driver> Worker<D> {
    /// A request is in flight from now on.
    pub(super) fn enter(&mut self, index: usize, request: Request) {
        let due_ns = self.nanoseconds(request.due);
        self.share(index).flow.enter(due_ns);
        self.requested += 1;
        self.connections[index].in_flight.push_back(request);
    }

    /// Whether a server may close this connection: nothing is asked, and it has answered before.
    pub(super) fn may_end(&self, index: usize) -> bool {
        let connection = &self.connections[index];
        let pace = &self.shares[connection.share].pace;
        let asks_at_once = matches!(pace, Pace::Closed { think } if think.is_zero());
        !asks_at_once
            && connection.in_flight.is_empty()
            && connection.requested > 0
            && connection.session.is_ready()
    }

    /// Sends what may be sent now, or reopens a connection that has done its part.
    pub(super) fn send(&mut self, index: usize, now: Instant) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        let (number, share) = (connection.share, &self.shares[connection.share]);
        let is_over = connection.session.is_over();
        if is_over && !connection.in_flight.is_empty() {
            return Err(Failure::closed_early());
        }
        let is_used_up = share
            .class
            .requests_per_connection
            .is_some_and(|limit| connection.requested == limit && connection.in_flight.is_empty());
        if (is_over || is_used_up) && connection.thinking > 0 {
            // It leaves now, and the next comes after the pause.
            self.close_sockets(index);
            return Ok(());
        }
        if is_over || is_used_up {
            return self.begin(index);
        }
        if matches!(share.pace, Pace::Open { .. }) {
            self.flush(index)?;
            self.list(index, self.nanoseconds(now));
            self.dispatch(number, now);
            return Ok(());
        }
        for _ in 0..connection.allowance(&share.class) {
            self.request(index, Request::at(now));
        }
        self.flush(index)
    }

    fn request(&mut self, index: usize, request: Request) {
        self.enter(index, request);
        let connection = &mut self.connections[index];
        connection.session.request();
        connection.requested += 1;
        connection.phase_began = request.sent;
    }

    /// Does what has become due.
    pub(super) fn keep_pace(&mut self, now: Instant) {
        while let Some((index, generation, errand)) = self.calendar.pop(now) {
            if self.connections[index].generation == generation {
                self.attempt(index, |worker| worker.run_errand(index, errand, now));
            }
        }
        for share in 0..self.shares.len() {
            self.dispatch(share, now);
        }
    }

    fn run_errand(&mut self, index: usize, errand: Errand, now: Instant) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        if let Some(burden) = &mut connection.burden {
            burden.resume(errand);
        }
        match errand {
            Errand::Open => self.begin(index),
            Errand::Request => {
                connection.thinking -= 1;
                self.send(index, now)
            }
            Errand::Resume => {
                connection.is_pausing = false;
                connection.begin_step(now);
                connection.session.resume();
                self.take(index, Channel::Control, &[])
            }
            Errand::Receive(channel) => {
                self.receive(Slot::new(index, channel));
                Ok(())
            }
            Errand::Send => {
                let generation = connection.generation;
                self.flush(index)?;
                if self.connections[index].generation == generation {
                    self.upload(index)?;
                }
                Ok(())
            }
        }
    }

    /// Gives what is due to connections that are free; the rest waits.
    fn dispatch(&mut self, number: usize, now: Instant) {
        let mut now_ns = self.nanoseconds(now);
        while let Share { pace: Pace::Open { offer, free }, recorder, .. } =
            &mut self.shares[number]
        {
            let Some(index) = free.front().copied() else {
                offer.wait(now_ns);
                return;
            };
            let Some(due_ns) = offer.take(now_ns) else {
                return;
            };
            let is_counted = offer.is_counted(due_ns);
            free.pop_front();
            let sent = Instant::now();
            now_ns = (sent - self.epoch).as_nanos() as u64;
            let connection = &mut self.connections[index];
            connection.is_listed = false;
            let free_since_ns = connection.free_since_ns;
            recorder.sent += u64::from(is_counted);
            if free_since_ns <= due_ns {
                recorder.lag(Duration::from_nanos(now_ns.saturating_sub(due_ns)));
            }
            let request = Request { due: self.epoch + Duration::from_nanos(due_ns), sent };
            self.attempt(index, |worker| worker.serve(index, request, free_since_ns));
        }
    }

    /// Serves an arrival by a connection that is free.
    fn serve(&mut self, index: usize, request: Request, free_since_ns: u64) -> Result<(), Failure> {
        if self.connections[index].session.is_one_request() {
            return self.open(index, request);
        }
        self.request(index, request);
        self.flush(index)?;
        self.list(index, free_since_ns);
        Ok(())
    }

    /// Arrivals may have this connection, if it has a place in flight.
    pub(super) fn list(&mut self, index: usize, since_ns: u64) {
        let connection = &mut self.connections[index];
        let Share { class, pace: Pace::Open { free, .. }, .. } = &mut self.shares[connection.share]
        else {
            return;
        };
        let has_place = if connection.session.is_one_request() {
            connection.control == Socket::Closed
        } else {
            connection.control == Socket::Open && connection.allowance(class) > 0
        };
        if has_place && !connection.is_listed {
            connection.is_listed = true;
            connection.free_since_ns = since_ns;
            free.push_back(index);
        }
    }
}
