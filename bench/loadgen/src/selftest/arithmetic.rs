//! What the self-test must find, from arithmetic alone.

use crate::schedule::Schedule;

/// The response times in seconds of arrivals within `measured_s`, in order of their length, where
/// nothing is answered within `stall_s`, and at once before and after.
pub(super) fn stalled_arrivals(
    mut schedule: Schedule,
    stall_s: (f64, f64),
    measured_s: (f64, f64),
) -> Vec<f64> {
    let mut responses = Vec::new();
    loop {
        let due_s = schedule.pass() as f64 / 1e9;
        if due_s >= measured_s.1 {
            responses.sort_by(f64::total_cmp);
            return responses;
        }
        if due_s >= measured_s.0 {
            let is_stalled = (stall_s.0..stall_s.1).contains(&due_s);
            responses.push(if is_stalled { stall_s.1 - due_s } else { 0.0 });
        }
    }
}

/// A quantile of the service time, in seconds, in such a stall: only so many requests as there are
/// connections are under way, and they wait for the whole stall.
pub(super) fn stalled_service(
    quantile: f64,
    rate: f64,
    measured_s: f64,
    stall_s: f64,
    connections: f64,
) -> f64 {
    if quantile * rate * measured_s > rate * measured_s - connections { stall_s } else { 0.0 }
}

/// The quantile of an exponential distribution.
pub(super) fn exponential(quantile: f64, mean: f64) -> f64 {
    -(1.0 - quantile).ln() * mean
}

/// The response times in seconds of arrivals from `from_s` to `to_s`, in order of their length,
/// when one connection serves one after the other, each for as long as `services_s` says (Lindley's
/// recursion). What nobody has served is left out.
pub(super) fn queue(
    mut schedule: Schedule,
    services_s: impl IntoIterator<Item = f64>,
    from_s: f64,
    to_s: f64,
) -> Vec<f64> {
    let mut free_s = 0.0_f64;
    let mut responses = Vec::new();
    for service_s in services_s {
        let due_s = schedule.pass() as f64 / 1e9;
        if due_s >= to_s {
            break;
        }
        free_s = free_s.max(due_s) + service_s;
        if due_s >= from_s {
            responses.push(free_s - due_s);
        }
    }
    responses.sort_by(f64::total_cmp);
    responses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate::Rate;
    use crate::schedule::{Arrivals, Offer, steady};

    /// The response time at a quantile, in seconds, of a server that answers at once but for one
    /// stall, when requests are sent at a constant rate: those of the stall wait for its end, and
    /// their times are spread evenly from nothing to its length.
    fn stalled(quantile: f64, rate: f64, measured_s: f64, stall_s: f64) -> f64 {
        let (all, stalled) = (rate * measured_s, rate * stall_s);
        let rank = quantile * all - (all - stalled);
        (rank / rate).max(0.0)
    }

    fn schedule(arrivals: Arrivals) -> Schedule {
        steady(&Rate::Constant(1000.0), arrivals, 1)
    }

    /// Plays a stall in virtual time with the schedule and the backlog of the engine: `connections`
    /// that answer at once, but not from 5 s to 6 s. Gives response and service times in seconds.
    fn play(arrivals: Arrivals, connections: usize, backlog: usize) -> (Vec<f64>, Vec<f64>, u64) {
        let schedule = schedule(arrivals);
        let mut offer = Offer::new(schedule, backlog);
        offer.count_from(0);
        let (mut responses, mut services) = (Vec::new(), Vec::new());
        let mut busy = Vec::new();
        let mut reply = |due: u64, sent: u64, now: u64| {
            responses.push((now - due) as f64 / 1e9);
            services.push((now - sent) as f64 / 1e9);
        };
        for millisecond in 0..10_000 {
            let now = millisecond * 1_000_000;
            let is_stalled = (5000..6000).contains(&millisecond);
            if !is_stalled {
                busy.drain(..).for_each(|(due, sent)| reply(due, sent, now));
            }
            while busy.len() < connections
                && let Some(due) = offer.take(now)
            {
                if is_stalled { busy.push((due, now)) } else { reply(due, now, now) }
            }
            if busy.len() == connections {
                offer.wait(now);
            }
        }
        responses.sort_by(f64::total_cmp);
        services.sort_by(f64::total_cmp);
        (responses, services, offer.shed())
    }

    fn at(sorted: &[f64], quantile: f64) -> f64 {
        sorted[(quantile * sorted.len() as f64).ceil() as usize - 1]
    }

    #[test]
    fn a_stall_of_a_second_is_seen_by_every_request_that_should_have_been_sent() {
        let (responses, services, shed) = play(Arrivals::Constant, 64, 10_000);
        assert_eq!((responses.len(), shed), (10_000, 0));
        for quantile in [0.5, 0.9, 0.95, 0.99, 0.999, 1.0] {
            let expected = stalled(quantile, 1000.0, 10.0, 1.0);
            assert!((at(&responses, quantile) - expected).abs() < 0.0011, "{quantile}");
        }
        assert!((stalled(0.99, 1000.0, 10.0, 1.0) - 0.9).abs() < 1e-9);
        // Service time hides it: 64 requests of 10,000 have seen it.
        for (quantile, expected) in [(0.99, 0.0), (1.0, 1.0)] {
            let said = stalled_service(quantile, 1000.0, 10.0, 1.0, 64.0);
            assert!((said - expected).abs() < 1e-9, "{quantile}: {said}");
            assert!((at(&services, quantile) - expected).abs() < 1e-9, "{quantile}");
        }
    }

    #[test]
    fn what_a_stall_does_to_arrivals_is_what_the_formula_says() {
        let constant = schedule(Arrivals::Constant);
        let responses = stalled_arrivals(constant, (5.0, 6.0), (1.0, 11.0));
        for quantile in [0.5, 0.9, 0.95, 0.99, 1.0] {
            let expected = stalled(quantile, 1000.0, 10.0, 1.0);
            assert!((at(&responses, quantile) - expected).abs() < 0.0011, "{quantile}");
        }
        // About a tenth of random arrivals wait, too, and evenly up to a second.
        let poisson = schedule(Arrivals::Poisson);
        let responses = stalled_arrivals(poisson, (5.0, 6.0), (1.0, 11.0));
        assert!((at(&responses, 0.95) - 0.5).abs() < 0.05);
        assert!((at(&responses, 0.99) - 0.9).abs() < 0.05);
    }

    #[test]
    fn random_arrivals_see_the_stall_as_arithmetic_says() {
        let (responses, _, shed) = play(Arrivals::Poisson, 64, 10_000);
        let expected = stalled_arrivals(schedule(Arrivals::Poisson), (5.0, 6.0), (0.0, 10.0));
        assert!(responses.len().abs_diff(expected.len()) <= 2 && shed == 0);
        for quantile in [0.5, 0.9, 0.95, 0.99, 1.0] {
            let (found, expected) = (at(&responses, quantile), at(&expected, quantile));
            // What is due in the millisecond before the stall meets it here.
            assert!((found - expected).abs() < 0.01, "{quantile}: {found}, expected {expected}");
        }
    }

    #[test]
    fn without_a_backlog_the_stall_is_counted_as_shed() {
        let (responses, _, shed) = play(Arrivals::Constant, 64, 0);
        assert_eq!((responses.len(), shed), (10_000 - (1000 - 64), 1000 - 64));
    }

    #[test]
    fn one_connection_is_the_queue_that_theory_knows() {
        // M/D/1 at half its capacity: the mean is service · (1 + load / (2 · (1 - load))).
        let schedule = steady(&Rate::Constant(50.0), Arrivals::Poisson, 3);
        let responses = queue(schedule, std::iter::repeat(0.01), 0.0, 20_000.0);
        let mean = responses.iter().sum::<f64>() / responses.len() as f64;
        assert!((mean - 0.015).abs() < 0.0002, "{mean}");
    }

    #[test]
    fn exponential_quantiles_are_those_of_the_tables() {
        assert!((exponential(0.5, 10.0) - 6.931_472).abs() < 1e-6);
        assert!((exponential(0.99, 10.0) - 46.051_702).abs() < 1e-6);
    }
}
