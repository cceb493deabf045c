//! Medians, spreads and paired comparisons over blocks.
//!
//! A block is the unit: contestants are compared within it and resampled by it, never by request.

/// Fewer blocks than this say too little for an interval; then ranges are compared.
pub(crate) const BLOCKS_FOR_AN_INTERVAL: usize = 5;
/// A difference below this is of no practical weight, however sure it is.
pub(crate) const PRACTICAL_RATIO: f64 = 1.02;

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
    pub(crate) told_apart: bool,
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
    let logs: Vec<f64> = paired(first, second).map(|(a, b)| (a / b).ln()).collect();
    let ratio = median(&mut logs.clone())?.exp();
    if logs.len() >= BLOCKS_FOR_AN_INTERVAL {
        let (low, high) = bootstrap(&logs);
        let excludes_one = low > 1.0 || high < 1.0;
        let told_apart = excludes_one && ratio.max(1.0 / ratio) >= PRACTICAL_RATIO;
        return Some(Comparison { ratio, interval: Some((low, high)), told_apart });
    }
    let a = spread(paired(first, second).map(|(a, _)| a))?;
    let b = spread(paired(first, second).map(|(_, b)| b))?;
    // A single block has no spread, so it tells nothing apart.
    let overlap = logs.len() < 2 || (a.low <= b.high && b.low <= a.high);
    let told_apart = !overlap && ratio.max(1.0 / ratio) >= PRACTICAL_RATIO;
    Some(Comparison { ratio, interval: None, told_apart })
}

/// The 95% interval of the median ratio, from resampled blocks.
fn bootstrap(logs: &[f64]) -> (f64, f64) {
    let mut random = fastrand::Rng::with_seed(BOOTSTRAP_SEED);
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let mut resample: Vec<f64> =
                (0..logs.len()).map(|_| logs[random.usize(..logs.len())]).collect();
            median(&mut resample).expect("a resample is as long as its sample")
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    let at = |share: f64| medians[(share * (RESAMPLES - 1) as f64).round() as usize].exp();
    (at(0.025), at(0.975))
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
        assert!(comparison.told_apart);
        // Too few blocks for an interval: only the ranges are left, and they overlap.
        let few = compare(&slow[..3].to_vec(), &fast[..3].to_vec()).unwrap();
        assert!(!few.told_apart && few.interval.is_none());
    }

    #[test]
    fn a_difference_that_changes_its_sign_is_none() {
        let one = blocks(&[1.0, 1.2, 1.0, 1.2, 1.0, 1.2]);
        let other = blocks(&[1.2, 1.0, 1.2, 1.0, 1.2, 1.0]);
        let comparison = compare(&one, &other).unwrap();
        let (low, high) = comparison.interval.unwrap();
        assert!(low < 1.0 && high > 1.0);
        assert!(!comparison.told_apart);
    }

    #[test]
    fn a_sure_difference_of_no_weight_is_none() {
        let one = blocks(&[1.01; 6]);
        let other = blocks(&[1.0; 6]);
        assert!(!compare(&one, &other).unwrap().told_apart);
    }

    #[test]
    fn only_blocks_that_both_have_count() {
        let one = vec![(1, 2.0), (2, 2.0)];
        let other = vec![(2, 1.0), (3, 9.0), (1, 0.0)];
        let comparison = compare(&one, &other).unwrap();
        assert!((comparison.ratio - 2.0).abs() < 1e-9);
        assert!(!comparison.told_apart, "one block has no spread");
        assert_eq!(compare(&one, &vec![(7, 1.0)]), None);
    }
}
