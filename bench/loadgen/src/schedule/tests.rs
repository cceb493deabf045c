//! The schedule in virtual time.

use proptest::prelude::*;

use super::*;

const SECOND_NS: u64 = 1_000_000_000;

fn constant(rate: f64) -> Schedule {
    steady(&Rate::Constant(rate), Arrivals::Constant, 1)
}

fn poisson(rate: f64, seed: u64) -> Schedule {
    steady(&Rate::Constant(rate), Arrivals::Poisson, seed)
}

#[test]
fn constant_arrivals_do_not_drift_in_thirty_days() {
    // A sum of gaps in nanoseconds would lose a third of one each time.
    let mut schedule = constant(3000.0);
    schedule.advance(3000.0 * 86_400.0 * 30.0);
    for expected_ns in [0, 333_333, 666_667, 1_000_000] {
        assert!(schedule.pass().abs_diff(30 * 86_400 * SECOND_NS + expected_ns) <= 1);
    }
}

#[test]
fn poisson_gaps_are_exponential() {
    let mut schedule = poisson(1000.0, 7);
    let mut gaps = Vec::new();
    let mut last = 0;
    for _ in 0..100_000 {
        let due = schedule.pass();
        gaps.push((due - last) as f64 / 1e6);
        last = due;
    }
    gaps.sort_by(f64::total_cmp);
    // The greatest distance between the two distribution functions, by Kolmogorov and Smirnov: more
    // than 1.95/√n has a chance of 1 in 1000, and the seed is fixed.
    let count = gaps.len() as f64;
    let distance = |(number, gap): (usize, &f64)| {
        let expected = 1.0 - (-gap).exp();
        (expected - number as f64 / count).abs().max((number as f64 + 1.0) / count - expected)
    };
    let distance = gaps.iter().enumerate().map(distance).fold(0.0, f64::max);
    assert!(distance < 1.95 / count.sqrt(), "{distance}");
    let mean = gaps.iter().sum::<f64>() / count;
    assert!((mean - 1.0).abs() < 0.01, "{mean}");
}

#[test]
fn threads_together_send_what_one_would() {
    let profile = || Rate::Constant(900.0).profile(Duration::ZERO, Duration::from_secs(1));
    let mut all = Vec::new();
    for thread in 0..4 {
        let mut schedule = Schedule::new(profile(), Arrivals::Constant, 1, thread, 4);
        all.extend((0..25).map(|_| schedule.pass()));
    }
    all.sort_unstable();
    let mut one = Schedule::new(profile(), Arrivals::Constant, 1, 0, 1);
    assert_eq!(all, (0..100).map(|_| one.pass()).collect::<Vec<_>>());

    let poisson = |thread| Schedule::new(profile(), Arrivals::Poisson, 1, thread, 4);
    let in_100_s = |mut schedule: Schedule| {
        std::iter::repeat_with(|| schedule.pass()).take_while(|due| *due < 100 * SECOND_NS).count()
    };
    let sum: usize = (0..4).map(|thread| in_100_s(poisson(thread))).sum();
    // Within four standard deviations of 90,000.
    assert!((88_800..91_200).contains(&sum), "{sum}");
    assert_ne!(poisson(0).pass(), poisson(1).pass());
}

#[test]
fn the_same_seed_gives_the_same_arrivals() {
    let times = |seed| {
        let mut schedule = poisson(10.0, seed);
        (0..10).map(|_| schedule.pass()).collect::<Vec<_>>()
    };
    assert_eq!(times(1), times(1));
    assert_ne!(times(1), times(2));
}

#[test]
fn a_pause_of_the_client_loses_no_arrival() {
    let mut offer = Offer::new(constant(1000.0), 0);
    offer.count_from(0);
    // Nobody looks for ten seconds, but connections are free.
    let now = 10 * SECOND_NS;
    let mut due = 0;
    for number in 0..=10_000 {
        due = offer.take(now).unwrap();
        assert_eq!(due, number * 1_000_000);
    }
    assert_eq!((due, offer.take(now)), (now, None));
    assert_eq!((offer.arrivals(), offer.shed()), (10_001, 0));
}

#[test]
fn arrivals_wait_in_order_and_are_shed_beyond_the_bound() {
    let mut offer = Offer::new(constant(1000.0), 3);
    offer.count_from(0);
    offer.wait(9_000_000);
    assert_eq!((offer.arrivals(), offer.waiting(), offer.shed()), (10, 3, 7));
    assert_eq!(offer.waited_ns(9_000_000), 9_000_000 + 8_000_000 + 7_000_000);
    let taken: Vec<_> = std::iter::from_fn(|| offer.take(10_000_000)).collect();
    // The oldest are kept; those in the middle were shed.
    assert_eq!(taken, [0, 1_000_000, 2_000_000, 10_000_000]);
}

#[test]
fn what_was_due_before_the_measurement_is_not_counted() {
    let mut offer = Offer::new(constant(1000.0), 1);
    offer.wait(4_000_000);
    offer.count_from(5_000_000);
    offer.wait(9_000_000);
    assert_eq!((offer.arrivals(), offer.shed()), (5, 5));
}

proptest! {
    #[test]
    fn the_mean_rate_is_the_rate(rate in 0.01_f64..1e6, seed: u64) {
        let count = 10_000_u32;
        for (mut schedule, tolerance) in [
            (constant(rate), 1e-6),
            // Five standard deviations.
            (poisson(rate, seed), 5.0 / f64::from(count).sqrt()),
        ] {
            let last = (0..count).map(|_| schedule.pass()).last().unwrap();
            let seconds = last as f64 / 1e9;
            let expected = f64::from(count - 1) / rate;
            prop_assert!(((seconds - expected) / expected).abs() < tolerance + 1e-3);
        }
    }

    #[test]
    fn due_times_never_go_back(
        from in 0.1_f64..1e5, to in 0.1_f64..1e5, seed: u64, thread in 0_usize..4,
    ) {
        let second = Duration::from_secs(1);
        for arrivals in [Arrivals::Constant, Arrivals::Poisson] {
            let profile = Rate::Ramp(from, to).profile(second, second);
            let mut schedule = Schedule::new(profile, arrivals, seed, thread, 4);
            let mut last = 0;
            for _ in 0..2000 {
                let due = schedule.pass();
                prop_assert!(due >= last);
                last = due;
            }
        }
    }

    /// However the client is delayed and however many connections are free whenever it looks.
    #[test]
    fn every_arrival_is_taken_waits_or_is_shed(
        looks in prop::collection::vec((0_u64..20_000_000, 0_usize..30), 1..100),
        bound in 0_usize..20,
    ) {
        let mut offer = Offer::new(constant(1000.0), bound);
        offer.count_from(0);
        let mut now = 0;
        let mut taken = Vec::new();
        for (pause, free) in looks {
            now += pause;
            let more = std::iter::from_fn(|| offer.take(now)).take(free).collect::<Vec<_>>();
            let is_busy = more.len() == free;
            taken.extend(more);
            if is_busy {
                offer.wait(now);
            }
        }
        offer.wait(now);
        prop_assert!(taken.is_sorted());
        prop_assert!(taken.iter().all(|due| *due <= now));
        let due = now / 1_000_000 + 1;
        prop_assert_eq!(offer.arrivals(), due);
        prop_assert_eq!(taken.len() as u64 + offer.waiting() as u64 + offer.shed(), due);
    }
}
