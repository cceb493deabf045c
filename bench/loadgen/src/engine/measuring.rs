//! What a thread measures of itself: its share of a processor, and how much was in the system.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Driver, Worker};
use crate::client::Session;
use crate::interval::batch_length;
use crate::pace::Pace;
use crate::report::{Began, Pulse, Report, Served, Used};

impl<S: Session, D: Driver> Worker<S, D> {
    /// From now on it counts.
    pub(super) fn measure(&mut self) -> io::Result<Began> {
        let now = Instant::now();
        let now_ns = self.nanoseconds(now);
        self.recorder.measure(now, self.plan.duration);
        self.batch_ends = Some(now + batch_length(self.plan.duration));
        if let Pace::Open { offer, .. } = &mut self.pace {
            offer.count_from(now_ns);
        }
        Began::new(now, self.area_ns(now_ns))
    }

    pub(super) fn report(
        mut self,
        inbox: D::Inbox,
        began: Option<Began>,
        spun: Duration,
    ) -> io::Result<Report> {
        let now = Instant::now();
        self.keep_pace(now);
        let mut used = Used::default();
        let mut in_system = 0.0;
        if let Some(began) = began {
            used = began.used(now, spun)?;
            in_system = began.in_system(now, self.area_ns(self.nanoseconds(now)));
        }
        let mut served = Served::default();
        for connection in &self.connections {
            served.add(connection.served);
        }
        let (waiting, arrivals, shed) = match &self.pace {
            Pace::Open { offer, .. } => (offer.waiting(), offer.arrivals(), offer.shed()),
            Pace::Closed | Pace::Thinking { .. } => (0, 0, 0),
        };
        Ok(Report {
            recorder: self.recorder,
            served,
            used,
            in_system,
            unfinished: self.flow.inside() + waiting,
            arrivals,
            shed,
            _open: self.driver.leave(inbox),
        })
    }

    pub(super) fn publish(&mut self, pulse: &Pulse, now: Instant) {
        pulse.publish(&self.recorder);
        while let Some(ends) = self.batch_ends.filter(|ends| *ends <= now) {
            pulse.batches().push(self.recorder.response_times().clone());
            self.batch_ends = Some(ends + batch_length(self.plan.duration));
        }
        if let Pace::Open { offer, .. } = &self.pace {
            pulse.shed.store(offer.shed(), Ordering::Relaxed);
            pulse.waiting.store(offer.waiting() as u64, Ordering::Relaxed);
        }
    }

    /// The time that requests have spent in the system, those that wait for a connection too.
    fn area_ns(&self, now_ns: u64) -> i128 {
        let waited_ns = match &self.pace {
            Pace::Open { offer, .. } => offer.waited_ns(now_ns),
            Pace::Closed | Pace::Thinking { .. } => 0,
        };
        self.flow.area_ns(now_ns) + waited_ns
    }
}
