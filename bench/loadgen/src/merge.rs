//! Several outcomes made one: of threads on several machines that loaded the same server at the
//! same time. Histograms are added bucket by bucket, so that nothing is lost; percentiles are never
//! averaged.

use hdrhistogram::Histogram;

use crate::class::Load;
use crate::histogram::{decode, encode, summary};
use crate::outcome::{Outcome, Sessions, StepTimes, Summary};
use crate::verdict::Verdict;

impl Outcome {
    /// Adds another outcome to this one, and judges both together; or says what does not fit.
    pub fn merge(&mut self, other: &Self) -> Result<(), String> {
        if self.rate_intended_per_s.is_some() != other.rate_intended_per_s.is_some() {
            return Err("one is of an open loop and the other of a closed one".to_owned());
        }
        let names = |outcome: &Self| -> Vec<String> {
            outcome.beside.iter().map(|class| class.name.clone()).collect()
        };
        if names(self) != names(other) {
            return Err("they have different classes beside the first".to_owned());
        }
        let squares = self.sum_of_squares() + other.sum_of_squares();
        let cpu_us = self.cpu_us() + other.cpu_us();
        for (mine, theirs) in self.beside.iter_mut().zip(&other.beside) {
            mine.merge(theirs)?;
        }
        merge_blob(&mut self.histogram, &mut self.service_us, &other.histogram)?;
        match (&mut self.response_histogram, &other.response_histogram) {
            (Some(mine), Some(theirs)) => merge_blob(mine, &mut self.response_us, theirs)?,
            _ => self.response_us = self.service_us,
        }
        if let (Some(mine), Some(theirs)) =
            (&mut self.schedule_lag_histogram, &other.schedule_lag_histogram)
        {
            let lag = self.schedule_lag_us.get_or_insert_default();
            merge_blob(mine, lag, theirs)?;
        }
        for (name, theirs) in &other.operation_histograms {
            let mine = self.operation_histograms.entry(name.clone()).or_default();
            let summary = self.operations.entry(name.clone()).or_default();
            merge_blob(mine, summary, theirs)?;
        }
        for theirs in &other.steps {
            self.merge_step(theirs)?;
        }
        if let Some(theirs) = &other.sessions {
            self.sessions.get_or_insert_default().merge(theirs)?;
        }
        self.add(other);
        let requests = self.requests as f64;
        let per = |total: f64, count: f64| if count > 0.0 { total / count } else { 0.0 };
        self.jain = per(requests * requests, self.connections_offered as f64 * squares);
        self.client_cpu_us_per_request = per(cpu_us, self.requests_of_all());
        self.verdict = Some(Verdict::of(self));
        Ok(())
    }

    fn merge_step(&mut self, theirs: &StepTimes) -> Result<(), String> {
        let same = |mine: &&mut StepTimes| mine.name == theirs.name;
        if let Some(mine) = self.steps.iter_mut().find(same) {
            return merge_blob(&mut mine.histogram, &mut mine.service_us, &theirs.histogram);
        }
        self.steps.push(theirs.clone());
        Ok(())
    }

    /// What can be added without looking at histograms.
    fn add(&mut self, other: &Self) {
        // Together they are as constant as the least constant of them.
        if self.load.as_ref().is_none_or(Load::is_constant) {
            self.load.clone_from(&other.load);
        }
        self.requests += other.requests;
        for (kind, count) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
        if self.first_error.is_none() {
            self.first_error.clone_from(&other.first_error);
        }
        self.elapsed_s = self.elapsed_s.max(other.elapsed_s);
        self.rate_per_s += other.rate_per_s;
        if let (Some(mine), Some(theirs)) =
            (&mut self.rate_intended_per_s, other.rate_intended_per_s)
        {
            *mine += theirs;
        }
        self.arrivals += other.arrivals;
        self.sent += other.sent;
        self.shed += other.shed;
        self.unfinished += other.unfinished;
        self.in_system += other.in_system;
        self.bytes_received += other.bytes_received;
        self.bytes_sent += other.bytes_sent;
        self.connections_offered += other.connections_offered;
        self.connections_served += other.connections_served;
        self.connections_never_served += other.connections_never_served;
        self.idle_held += other.idle_held;
        self.idle_ready = match (self.idle_ready, other.idle_ready) {
            (Some(mine), Some(theirs)) => Some(mine + theirs),
            (mine, theirs) => mine.or(theirs),
        };
        // Those that ended when they knew enough have windows that are not of the same time.
        let ends = if self.within.or(other.within).is_some() { 0 } else { other.windows.len() };
        self.windows.truncate(ends);
        for (mine, theirs) in self.windows.iter_mut().zip(&other.windows) {
            mine.add(*theirs);
        }
        self.warm_up_s = self.warm_up_s.max(other.warm_up_s);
        self.warm_up_is_steady = match (self.warm_up_is_steady, other.warm_up_is_steady) {
            (Some(mine), Some(theirs)) => Some(mine && theirs),
            (mine, theirs) => mine.or(theirs),
        };
        if self.warm_up_objection.is_none() {
            self.warm_up_objection.clone_from(&other.warm_up_objection);
        }
        // Intervals of several generators tell nothing of the sum.
        (self.intervals, self.within) = (Vec::new(), None);
        self.client_busy = self.client_busy.max(other.client_busy);
        self.client_delayed = self.client_delayed.max(other.client_delayed);
        self.stolen = self.stolen.max(other.stolen);
        self.stopped |= other.stopped;
    }

    /// Of the replies of each connection: from Jain's index.
    fn sum_of_squares(&self) -> f64 {
        let requests = self.requests as f64;
        let divisor = self.connections_offered as f64 * self.jain;
        if divisor > 0.0 { requests * requests / divisor } else { 0.0 }
    }

    fn cpu_us(&self) -> f64 {
        self.client_cpu_us_per_request * self.requests_of_all()
    }

    fn requests_of_all(&self) -> f64 {
        self.classes().map(|class| class.requests as f64).sum()
    }
}

impl Sessions {
    fn merge(&mut self, other: &Self) -> Result<(), String> {
        self.begun += other.begun;
        self.served += other.served;
        self.abandoned += other.abandoned;
        for (kind, count) in &other.cut {
            *self.cut.entry(kind.clone()).or_default() += count;
        }
        if self.first_cut.is_none() {
            self.first_cut.clone_from(&other.first_cut);
        }
        let blob = &mut self.cut_after_histogram;
        merge_blob(blob, &mut self.cut_after_us, &other.cut_after_histogram)
    }
}

/// Adds the histogram in a blob to that in another. An empty text is an empty histogram.
fn merge_blob(mine: &mut String, read_off: &mut Summary, theirs: &str) -> Result<(), String> {
    let theirs = decode(theirs)?;
    let mut sum: Histogram<u64> =
        if mine.is_empty() { Histogram::new_from(&theirs) } else { decode(mine)? };
    sum.auto(true);
    sum.add(&theirs).map_err(|error| format!("histograms that cannot be added: {error}"))?;
    *mine = encode(&sum);
    *read_off = summary(&sum);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn outcome(values_us: std::ops::Range<u64>, connections: usize) -> Outcome {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        values_us.clone().for_each(|us| histogram.record(us * 1000).unwrap());
        let blob = encode(&histogram);
        Outcome {
            requests: histogram.len(),
            rate_per_s: 100.0,
            elapsed_s: 10.0,
            connections_offered: connections,
            connections_served: connections,
            jain: 1.0,
            service_us: summary(&histogram),
            response_us: summary(&histogram),
            histogram: blob.clone(),
            operation_histograms: [("connect".to_owned(), blob)].into(),
            client_cpu_us_per_request: 10.0,
            ..Outcome::default()
        }
    }

    #[test]
    fn merged_percentiles_are_those_of_all_requests() {
        let mut merged = outcome(1..500, 4);
        merged.merge(&outcome(500..2001, 12)).unwrap();
        let whole = outcome(1..2001, 16);
        assert_eq!(merged.service_us, whole.service_us);
        assert_eq!(merged.response_us, whole.service_us);
        assert_eq!(decode(&merged.histogram), decode(&whole.histogram));
        assert_eq!(merged.operations["connect"], whole.service_us);
        assert_eq!((merged.requests, merged.connections_offered), (2000, 16));
        assert!((merged.rate_per_s - 200.0).abs() < 1e-9);
        assert!((merged.client_cpu_us_per_request - 10.0).abs() < 1e-9);
        assert!(merged.verdict.is_some());
    }

    #[test]
    fn fairness_is_that_of_all_connections() {
        // One connection has 999 replies, the other 1: (1000)²/(2·(999² + 1²)).
        let mut merged = outcome(1..1000, 1);
        merged.merge(&outcome(1..2, 1)).unwrap();
        assert!((merged.jain - 1e6 / (2.0 * 998_002.0)).abs() < 1e-9, "{}", merged.jain);
    }

    #[test]
    fn classes_steps_and_sessions_are_merged_each_with_its_own() {
        let with = |name: &str, values_us: std::ops::Range<u64>| {
            let mut outcome = outcome(values_us, 2);
            let (histogram, service_us) = (outcome.histogram.clone(), outcome.service_us);
            outcome.steps.push(StepTimes { name: "noop".to_owned(), service_us, histogram });
            let cut_after_histogram = outcome.histogram.clone();
            let cut = BTreeMap::from([("reset".to_owned(), 3)]);
            let sessions = Sessions { begun: 5, cut, cut_after_histogram, ..Sessions::default() };
            outcome.sessions = Some(sessions);
            Outcome { name: name.to_owned(), ..outcome }
        };
        let run = |values_us: std::ops::Range<u64>| Outcome {
            beside: vec![with("slow", values_us.clone())],
            ..outcome(values_us, 4)
        };
        let mut merged = run(1..500);
        merged.merge(&run(500..2001)).unwrap();
        let (slow, whole) = (&merged.beside[0], outcome(1..2001, 2));
        assert_eq!((slow.requests, slow.connections_offered), (2000, 4));
        assert_eq!(slow.steps[0].service_us, whole.service_us);
        let sessions = slow.sessions.as_ref().unwrap();
        assert_eq!((sessions.begun, sessions.cut["reset"]), (10, 6));
        assert_eq!(sessions.cut_after_us, whole.service_us);
        // Of all classes: 10 for each of their requests.
        assert!((merged.client_cpu_us_per_request - 10.0).abs() < 1e-9);
    }

    #[test]
    fn what_does_not_fit_is_refused_in_words() {
        let mut closed = outcome(1..10, 1);
        let mut open = outcome(1..10, 1);
        open.rate_intended_per_s = Some(1.0);
        assert!(closed.merge(&open).unwrap_err().contains("open loop"));
        let mut two = outcome(1..10, 1);
        two.beside.push(Outcome { name: "slow".to_owned(), ..outcome(1..10, 1) });
        assert!(closed.merge(&two).unwrap_err().contains("different classes"));
        let broken = Outcome { histogram: "?".to_owned(), ..closed.clone() };
        assert!(closed.merge(&broken).unwrap_err().contains("histogram"));
    }
}
