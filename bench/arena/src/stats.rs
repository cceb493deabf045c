//! Medians, spreads and paired comparisons over blocks.
//!
//! A block is the unit: contestants are compared within it and resampled by it, never by request.

mod letters;
mod scalability;

use std::collections::BTreeMap;

use statrs::distribution::{ContinuousCDF as _, StudentsT};

pub(crate) use self::letters::letters;
pub(crate) use self::scalability::{LEVELS_MIN, Law};

/// Fewer blocks than this say too little for an interval.
pub(crate) const BLOCKS_FOR_AN_INTERVAL: usize = 5;
/// Fewer than this tell nothing apart that is not several times as much.
pub(crate) const BLOCKS_TO_TELL_APART: usize = 3;
const RESAMPLES: usize = 2000;
/// The resampling must be the same whenever a report is generated.
const BOOTSTRAP_SEED: u64 = 0x0A2E_7A00;

/// Median, least and greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// How a contestant's value relates to another's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Comparison {
    /// Median over the blocks of the ratio of the first to the second.
    pub(crate) ratio: f64,
    /// The 95% bootstrap interval of `ratio`, where there are blocks enough.
    pub(crate) interval: Option<(f64, f64)>,
}

/// One value a block, by block.
pub(crate) type Blocks = Vec<(u32, f64)>;

/// The spread of some values; none of none.
pub(crate) fn spread(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
    let mut values: Vec<f64> = values.into_iter().collect();
    let median = median(&mut values)?;
    Some(Spread { median, low: *values.first()?, high: *values.last()? })
}

/// Compares two contestants over the blocks that both have; none when there is no such block.
pub(crate) fn compare(first: &Blocks, second: &Blocks) -> Option<Comparison> {
    let logs = log_ratios(first, second);
    let ratio = median(&mut logs.clone())?.exp();
    let interval = (logs.len() >= BLOCKS_FOR_AN_INTERVAL)
        .then(|| bootstrap(|random| resampled_median(&logs, random)).map(f64::exp));
    Some(Comparison { ratio, interval: interval.map(|[low, high]| (low, high)) })
}

/// The median of one value a block with its 95% bootstrap interval, where there are blocks enough.
pub(crate) fn estimate(values: &[f64]) -> Option<(f64, Option<[f64; 2]>)> {
    let middle = median(&mut values.to_vec())?;
    let enough = values.len() >= BLOCKS_FOR_AN_INTERVAL;
    Some((middle, enough.then(|| bootstrap(|random| resampled_median(values, random)))))
}

/// The median over the blocks of the ratio of the first to the second, where the interval does not
/// matter.
pub(crate) fn median_ratio(first: &Blocks, second: &Blocks) -> Option<f64> {
    Some(median(&mut log_ratios(first, second))?.exp())
}

/// The comparison of two runs, whose blocks have nothing in common: the ratio of the medians, and
/// blocks of each are drawn for themselves.
pub(crate) fn compare_unpaired(first: &Blocks, second: &Blocks) -> Option<Comparison> {
    let [first, second] = [first, second].map(logs);
    let ratio = (median(&mut first.clone())? - median(&mut second.clone())?).exp();
    let drawn = |random: &mut fastrand::Rng| {
        resampled_median(&first, random) - resampled_median(&second, random)
    };
    let enough = first.len().min(second.len()) >= BLOCKS_FOR_AN_INTERVAL;
    let interval = enough.then(|| bootstrap(drawn).map(f64::exp));
    Some(Comparison { ratio, interval: interval.map(|[low, high]| (low, high)) })
}

/// How probable it is, for each pair of contestants, that two that are alike differ by so much: in
/// the order first and second, first and third, and so on.
///
/// Welch's t test of the logarithms, after what each block did to all of them is taken away; of two
/// contestants, that is Student's paired t test. A bootstrap cannot tell: where all of five blocks
/// agree, which one pair in sixteen of those that are alike does, every resample agrees, too.
pub(crate) fn probabilities_if_alike(contestants: &[&Blocks]) -> Vec<f64> {
    let estimates = estimates(contestants);
    let later = |first: usize| estimates[first + 1..].iter().zip(std::iter::repeat(first));
    let pairs = (0..estimates.len()).flat_map(later);
    pairs.map(|(second, first)| estimates[first].probability_if_alike(second)).collect()
}

/// How probable it is, for each contestant and beside it each other, that it is so much greater by
/// chance if in truth it is not: the same test, one-sided.
pub(crate) fn probabilities_if_no_greater(contestants: &[&Blocks]) -> Vec<Vec<f64>> {
    let estimates = estimates(contestants);
    let beside_each = |one: &Estimate| {
        estimates.iter().map(|other| one.probability_if_no_greater(other)).collect()
    };
    estimates.iter().map(beside_each).collect()
}

/// The mean logarithm of each, after what each block did to all of them is taken away.
fn estimates(contestants: &[&Blocks]) -> Vec<Estimate> {
    let deviations = contestants.iter().flat_map(|blocks| {
        let mean = mean(&logs(blocks));
        let positive = blocks.iter().filter(|(_, value)| *value > 0.0);
        positive.map(move |&(block, value)| (block, value.ln() - mean))
    });
    let mut effects: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for (block, deviation) in deviations {
        effects.entry(block).or_default().push(deviation);
    }
    let effects: BTreeMap<u32, f64> =
        effects.into_iter().map(|(block, deviations)| (block, mean(&deviations))).collect();
    // So much of its own variance each has left, as it has a part in what is taken away.
    let share = 1.0 - 1.0 / contestants.len() as f64;
    let estimate = |blocks: &&Blocks| {
        let positive = blocks.iter().filter(|(_, value)| *value > 0.0);
        let rest = positive.map(|(block, value)| value.ln() - effects[block]);
        Estimate::of(&rest.collect::<Vec<f64>>(), share)
    };
    contestants.iter().map(estimate).collect()
}

/// The same of one contestant in two runs, whose blocks have nothing in common.
pub(crate) fn probability_if_alike_unpaired(first: &Blocks, second: &Blocks) -> f64 {
    let [first, second] = [first, second].map(|blocks| Estimate::of(&logs(blocks), 1.0));
    first.probability_if_alike(&second)
}

/// A mean, and how sure it is.
struct Estimate {
    mean: f64,
    squared_error: f64,
    /// The degrees of freedom of the error.
    freedom: f64,
}

impl Estimate {
    /// From values that have kept this share of their variance.
    fn of(values: &[f64], share: f64) -> Self {
        let (mean, count) = (mean(values), values.len() as f64);
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let freedom = (count - 1.0) * share;
        Self { mean, squared_error: squares / freedom / count, freedom }
    }

    /// Welch's t test, two-sided.
    fn probability_if_alike(&self, other: &Self) -> f64 {
        let [greater, less] =
            [self.probability_if_no_greater(other), other.probability_if_no_greater(self)];
        (2.0 * greater.min(less)).min(1.0)
    }

    /// The same, one-sided. A single block, or none, has no spread and tells nothing.
    fn probability_if_no_greater(&self, other: &Self) -> f64 {
        let (a, b) = (self.squared_error, other.squared_error);
        let difference = self.mean - other.mean;
        if a + b == 0.0 {
            return if difference > 0.0 { 0.0 } else { 1.0 };
        }
        let freedom = (a + b).powi(2) / (a.powi(2) / self.freedom + b.powi(2) / other.freedom);
        let student = StudentsT::new(0.0, 1.0, freedom);
        student.map_or(1.0, |student| student.sf(difference / (a + b).sqrt()))
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Holm's correction (1979) of probabilities for their number: among those that remain under 5%,
/// the chance that any is of two that are alike is under 5%.
pub(crate) fn holm(probabilities: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b]));
    let mut corrected = vec![0.0; probabilities.len()];
    let mut greatest = 0.0_f64;
    for (rank, index) in order.into_iter().enumerate() {
        let remaining = (probabilities.len() - rank) as f64;
        greatest = greatest.max((probabilities[index] * remaining).min(1.0));
        corrected[index] = greatest;
    }
    corrected
}

/// How far apart two are in a typical block, whichever is greater: the median over the blocks, as a
/// ratio of at least 1.
pub(crate) fn typical_ratio(first: &Blocks, second: &Blocks) -> Option<f64> {
    let mut distances: Vec<f64> = log_ratios(first, second).into_iter().map(f64::abs).collect();
    Some(median(&mut distances)?.exp())
}

/// Of the blocks in which there is anything.
fn logs(blocks: &Blocks) -> Vec<f64> {
    blocks.iter().filter(|(_, value)| *value > 0.0).map(|(_, value)| value.ln()).collect()
}

fn log_ratios(first: &Blocks, second: &Blocks) -> Vec<f64> {
    paired(first, second).map(|(a, b)| (a / b).ln()).collect()
}

/// The 95% interval of what is drawn from resampled blocks.
fn bootstrap(mut draw: impl FnMut(&mut fastrand::Rng) -> f64) -> [f64; 2] {
    let mut random = fastrand::Rng::with_seed(BOOTSTRAP_SEED);
    let mut drawn: Vec<f64> = (0..RESAMPLES).map(|_| draw(&mut random)).collect();
    drawn.sort_by(f64::total_cmp);
    [0.025, 0.975].map(|share| drawn[(share * (RESAMPLES - 1) as f64).round() as usize])
}

/// The median of as many blocks, drawn from them with replacement; there must be some.
fn resampled_median(values: &[f64], random: &mut fastrand::Rng) -> f64 {
    let mut resample: Vec<f64> =
        (0..values.len()).map(|_| values[random.usize(..values.len())]).collect();
    median(&mut resample).expect("a resample is as long as its sample")
}

/// Values of the same block, positive ones only: a ratio needs both.
fn paired(first: &Blocks, second: &Blocks) -> impl Iterator<Item = (f64, f64)> {
    first.iter().filter_map(|&(block, a)| {
        let &(_, b) = second.iter().find(|(other, _)| *other == block)?;
        (a > 0.0 && b > 0.0).then_some((a, b))
    })
}

/// Sorts the values and takes their middle.
fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(values: &[f64]) -> Blocks {
        values.iter().enumerate().map(|(block, &value)| (block as u32, value)).collect()
    }

    /// Of two contestants alone.
    fn alike(first: &Blocks, second: &Blocks) -> f64 {
        probabilities_if_alike(&[first, second])[0]
    }

    #[test]
    fn a_median_is_the_middle_or_between_the_two_middles() {
        assert_eq!(spread([]), None);
        assert_eq!(spread([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, low: 1.0, high: 3.0 }));
        assert_eq!(spread([4.0, 2.0]), Some(Spread { median: 3.0, low: 2.0, high: 4.0 }));
    }

    #[test]
    fn blocks_pair_away_what_the_machine_did_to_both() {
        // The machine's speed doubles from block to block, the ratio stays.
        let slow = blocks(&[1.1, 2.2, 4.4, 8.8, 17.6]);
        let fast = blocks(&[1.0, 2.0, 4.0, 8.0, 16.0]);
        let comparison = compare(&slow, &fast).unwrap();
        assert!((comparison.ratio - 1.1).abs() < 1e-9);
        assert!(alike(&slow, &fast) < 1e-6);
        assert_eq!(compare(&slow[..3].to_vec(), &fast).unwrap().interval, None);
    }

    #[test]
    fn between_runs_nothing_pairs_the_machine_away() {
        let slow = blocks(&[1.1, 2.2, 4.4, 8.8, 17.6]);
        let fast = blocks(&[1.0, 2.0, 4.0, 8.0, 16.0]);
        let comparison = compare_unpaired(&slow, &fast).unwrap();
        let (low, high) = comparison.interval.unwrap();
        assert!((comparison.ratio - 1.1).abs() < 1e-9 && low < 0.5 && high > 2.0);
        assert!(probability_if_alike_unpaired(&slow, &fast) > 0.5);
        assert!(probability_if_alike_unpaired(&slow[..1].to_vec(), &fast) > 0.99);
        assert_eq!(compare_unpaired(&Blocks::new(), &fast), None);
    }

    #[test]
    fn a_difference_that_changes_its_sign_is_none() {
        let one = blocks(&[1.0, 1.2, 1.0, 1.2, 1.0, 1.2]);
        let other = blocks(&[1.2, 1.0, 1.2, 1.0, 1.2, 1.0]);
        let (low, high) = compare(&one, &other).unwrap().interval.unwrap();
        assert!(low < 1.0 && high > 1.0);
        assert!(alike(&one, &other) > 0.99);
        assert!(alike(&one, &one) > 0.99);
    }

    /// What R says of a family of contestants, of each pair in the order 1-2, 1-3, 2-3, and so on.
    #[derive(serde::Deserialize)]
    struct Experiment {
        values: Vec<Vec<f64>>,
        alike: Vec<f64>,
        /// The same for each pair alone, by Student's paired t test.
        paired: Vec<f64>,
        /// The same for the pairs as two runs.
        unpaired: Vec<f64>,
        corrected: Vec<f64>,
        letters: Vec<String>,
        /// Of each contestant, the least probability that it is greater than another by chance
        /// alone, after Bonferroni's correction for all others.
        least: Vec<f64>,
        /// Of the median ratio of the first two.
        interval: (f64, f64),
    }

    #[test]
    fn r_says_the_same() {
        let fixture = include_str!("stats/fixtures/comparisons.json");
        let experiments: Vec<Experiment> = serde_json::from_str(fixture).unwrap();
        assert!(!experiments.is_empty());
        let near = |ours: &[f64], theirs: &[f64]| {
            let is_near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-9 * b.abs();
            assert!(ours.len() == theirs.len() && ours.iter().zip(theirs).all(is_near));
        };
        for experiment in experiments {
            let of: Vec<Blocks> = experiment.values.iter().map(|one| blocks(one)).collect();
            let pairs: Vec<(usize, usize)> =
                (0..of.len()).flat_map(|a| (a + 1..of.len()).map(move |b| (a, b))).collect();
            let paired = pairs.iter().map(|&(a, b)| alike(&of[a], &of[b]));
            near(&paired.collect::<Vec<f64>>(), &experiment.paired);
            let alike = probabilities_if_alike(&of.iter().collect::<Vec<_>>());
            near(&alike, &experiment.alike);
            let unpaired =
                pairs.iter().map(|&(a, b)| probability_if_alike_unpaired(&of[a], &of[b]));
            near(&unpaired.collect::<Vec<f64>>(), &experiment.unpaired);
            let corrected = holm(&alike);
            near(&corrected, &experiment.corrected);
            let told_apart = |a, b| {
                let index = pairs.iter().position(|&pair| pair == (a, b)).unwrap();
                corrected[index] < 0.05
            };
            assert_eq!(letters(of.len(), told_apart), experiment.letters);
            let all: Vec<&Blocks> = of.iter().collect();
            let beside_others = probabilities_if_no_greater(&all).into_iter().enumerate();
            let least = beside_others.map(|(one, mut beside)| {
                beside.remove(one);
                let others = beside.len() as f64;
                (beside.into_iter().fold(1.0, f64::min) * others).min(1.0)
            });
            near(&least.collect::<Vec<f64>>(), &experiment.least);
            if let Some((low, high)) = compare(&of[0], &of[1]).unwrap().interval {
                near(&[low, high], &[experiment.interval.0, experiment.interval.1]);
            }
        }
    }

    #[test]
    fn only_blocks_that_both_have_count() {
        let one = vec![(1, 2.0), (2, 2.0)];
        let other = vec![(2, 1.0), (3, 9.0), (1, 0.0)];
        let comparison = compare(&one, &other).unwrap();
        assert!((comparison.ratio - 2.0).abs() < 1e-9);
        assert!(alike(&one[..1].to_vec(), &other) > 0.99, "one block has no spread");
        assert_eq!(compare(&one, &vec![(7, 1.0)]), None);
    }
}
