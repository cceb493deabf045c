//! What a thread measures of itself: its share of a processor, and how much was in the system.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Driver, Share, Worker};
use crate::interval::batch_length;
use crate::pace::Pace;
use crate::report::{Began, OfClass, Pulse, Report, Served};

impl<D: Driver> Worker<D> {
    /// From now on it counts.
    pub(super) fn measure(&mut self) -> io::Result<Began> {
        let now = Instant::now();
        let now_ns = self.nanoseconds(now);
        self.batch_ends = Some(now + batch_length(self.plan.duration));
        for share in &mut self.shares {
            share.recorder.measure(now, self.plan.duration);
            if let Pace::Open { offer, .. } = &mut share.pace {
                offer.count_from(now_ns);
            }
        }
        let areas_ns = self.shares.iter().map(|share| share.area_ns(now_ns)).collect();
        Began::new(now, areas_ns)
    }

    pub(super) fn report(
        mut self,
        inbox: D::Inbox,
        began: Option<&Began>,
        spun: Duration,
    ) -> io::Result<Report> {
        let now = Instant::now();
        self.keep_pace(now);
        let used = began.map_or(Ok(None), |began| began.used(now, spun).map(Some))?;
        let now_ns = self.nanoseconds(now);
        let mut served = vec![Served::default(); self.shares.len()];
        for connection in &self.connections {
            served[connection.share].add(connection.served);
        }
        let shares = self.shares.into_iter().zip(served).enumerate();
        let classes = shares.map(|(number, (share, served))| {
            let in_system =
                began.map_or(0.0, |began| began.in_system(number, now, share.area_ns(now_ns)));
            share.report(served, in_system)
        });
        Ok(Report {
            classes: classes.collect(),
            used: used.unwrap_or_default(),
            _open: self.driver.leave(inbox),
        })
    }

    /// What is seen meanwhile is the class that is asked about, and the failures of all.
    pub(super) fn publish(&mut self, pulse: &Pulse, now: Instant) {
        let Some((share, beside)) = self.shares.split_first() else {
            return;
        };
        let errors = beside.iter().map(|share| share.recorder.failed()).sum();
        pulse.publish(&share.recorder, errors);
        while let Some(ends) = self.batch_ends.filter(|ends| *ends <= now) {
            pulse.batches().push(share.recorder.response_times().clone());
            self.batch_ends = Some(ends + batch_length(self.plan.duration));
        }
        if let Pace::Open { offer, .. } = &share.pace {
            pulse.shed.store(offer.shed(), Ordering::Relaxed);
            pulse.waiting.store(offer.waiting() as u64, Ordering::Relaxed);
        }
    }
}

impl Share {
    fn report(self, served: Served, in_system: f64) -> OfClass {
        let (waiting, arrivals, shed) = match &self.pace {
            Pace::Open { offer, .. } => (offer.waiting(), offer.arrivals(), offer.shed()),
            Pace::Closed { .. } => (0, 0, 0),
        };
        OfClass {
            recorder: self.recorder,
            served,
            in_system,
            unfinished: self.flow.inside() + waiting,
            arrivals,
            shed,
        }
    }

    /// The time that requests have spent in the system, those that wait for a connection too.
    fn area_ns(&self, now_ns: u64) -> i128 {
        let waited_ns = match &self.pace {
            Pace::Open { offer, .. } => offer.waited_ns(now_ns),
            Pace::Closed { .. } => 0,
        };
        self.flow.area_ns(now_ns) + waited_ns
    }
}
