//! Which contestants of a workload are told apart, and what the A/A twin says of that.

use std::collections::BTreeSet;

use crate::record::Run;
use crate::stats::{
    Blocks, Comparison, compare, compare_unpaired, holm, letters, median_ratio,
    probabilities_if_alike, probabilities_if_no_greater, probability_if_alike_unpaired, spread,
    typical_ratio,
};
use crate::table::{Line, lines, number, twin};
use crate::workload::Workload;

/// Two are told apart where this or less is how probable such a difference is between two alike.
const SIGNIFICANCE: f64 = 0.05;
/// A difference below this is of no practical weight, however sure it is.
const PRACTICAL_RATIO: f64 = 1.02;

/// What contestants are compared by: a value for each block.
pub(crate) type Measure<'a> = fn(&Line<'a>) -> Blocks;

/// The contestants of a workload by one measure, the floors aside, from the least value up.
pub(crate) struct Ranking {
    pub(crate) members: Vec<Ranked>,
    /// Pairs of members, the lesser first.
    told_apart: BTreeSet<(usize, usize)>,
    /// Ratios below this count for nothing.
    threshold: f64,
}

/// A contestant that has a value.
pub(crate) struct Ranked {
    /// As it stands in the tables.
    pub(crate) name: String,
    pub(crate) blocks: Blocks,
    pub(crate) median: f64,
    /// Whether what was found is only a lower bound: what it can do is that or more.
    pub(crate) at_least: bool,
}

/// Which end of a ranking is meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    Least,
    Greatest,
}

impl End {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Least => Self::Greatest,
            Self::Greatest => Self::Least,
        }
    }
}

impl Ranking {
    pub(crate) fn of<'a>(run: &'a Run, workload: &'a Workload, measure: Measure<'a>) -> Self {
        Self::with_bounds(run, workload, measure, |_| false)
    }

    /// The same where the values of some are only lower bounds.
    pub(crate) fn with_bounds<'a>(
        run: &'a Run,
        workload: &'a Workload,
        measure: Measure<'a>,
        at_least: fn(&Line<'a>) -> bool,
    ) -> Self {
        let threshold = threshold(run, workload, measure);
        let lines = lines(run, workload);
        let ranked = lines.iter().filter(|line| !line.contestant.floor);
        let mut ranking = Self::new(ranked.map(|line| (line.name(), measure(line))), threshold);
        for line in lines.iter().filter(|line| at_least(line)) {
            let name = line.name();
            let mut members = ranking.members.iter_mut();
            if let Some(member) = members.find(|member| member.name == name) {
                member.at_least = true;
            }
        }
        ranking
    }

    fn new(values: impl IntoIterator<Item = (String, Blocks)>, threshold: f64) -> Self {
        let ranked = |(name, blocks): (String, Blocks)| {
            let median = middle(&blocks)?;
            Some(Ranked { name, blocks, median, at_least: false })
        };
        let mut members: Vec<Ranked> = values.into_iter().filter_map(ranked).collect();
        members.sort_by(|a, b| a.median.total_cmp(&b.median));
        let count = members.len();
        let pairs: Vec<(usize, usize)> = (0..count)
            .flat_map(|first| (first + 1..count).map(move |second| (first, second)))
            .collect();
        let blocks: Vec<&Blocks> = members.iter().map(|member| &member.blocks).collect();
        let corrected = holm(&probabilities_if_alike(&blocks));
        let weighs = |&(first, second): &(usize, usize)| {
            weighs(median_ratio(blocks[first], blocks[second]), threshold)
        };
        let sure = pairs.into_iter().zip(corrected).filter(|(_, alike)| *alike <= SIGNIFICANCE);
        let told_apart = sure.map(|(pair, _)| pair).filter(weighs).collect();
        Self { members, told_apart, threshold }
    }

    /// Those of some members that may have the least or the greatest value of these, the nearest to
    /// that end first: all but those that are surely behind some other of them. The one that has it
    /// in truth is among them in 95% of runs or more, as Hsu's multiple comparisons with the best
    /// have it: it is left out by mistake only where it looks worse than one of the others by
    /// chance, which are fewer comparisons than all pairs are, and one-sided.
    ///
    /// What is at least something is never behind, and nothing is known to be above it.
    pub(crate) fn nearest(&self, among: impl Fn(&Ranked) -> bool, end: End) -> Vec<&Ranked> {
        let members = self.members.iter().enumerate();
        let some: Vec<(usize, &Ranked)> = members.filter(|(_, member)| among(member)).collect();
        let all: Vec<&Blocks> = self.members.iter().map(|member| &member.blocks).collect();
        let if_no_greater = probabilities_if_no_greater(&all);
        let comparisons = some.len().saturating_sub(1) as f64;
        let is_behind = |(one, member): (usize, &Ranked), (other, than): (usize, &Ranked)| {
            // By mistake, if the first of the two is in truth no greater.
            let (greater, less, is_known) = match end {
                End::Least => ((one, member), (other, than), !than.at_least),
                End::Greatest => ((other, than), (one, member), !member.at_least),
            };
            let ratio = median_ratio(&greater.1.blocks, &less.1.blocks);
            one != other
                && is_known
                && if_no_greater[greater.0][less.0] * comparisons <= SIGNIFICANCE
                && ratio.is_some_and(|ratio| ratio >= self.threshold)
        };
        let may_be = |one: &(usize, &Ranked)| !some.iter().any(|other| is_behind(*one, *other));
        let mut nearest: Vec<&Ranked> =
            some.iter().copied().filter(may_be).map(|(_, member)| member).collect();
        if end == End::Greatest {
            nearest.reverse();
        }
        nearest
    }

    /// Whether two contestants are told apart, by their names in the tables.
    pub(crate) fn tells_apart(&self, one: &str, other: &str) -> bool {
        let place = |name: &str| self.members.iter().position(|member| member.name == name);
        let (Some(a), Some(b)) = (place(one), place(other)) else { return false };
        self.told_apart.contains(&(a.min(b), a.max(b)))
    }

    /// The letters of each member; those of the least value come first.
    pub(crate) fn letters(&self) -> impl Iterator<Item = (&str, String)> {
        let letters = letters(self.members.len(), |a, b| self.told_apart.contains(&(a, b)));
        self.members.iter().map(|member| member.name.as_str()).zip(letters)
    }
}

/// The contestants that two runs have, each compared with itself by one measure.
pub(crate) struct Unpaired {
    members: Vec<Itself>,
}

/// A contestant in two runs.
pub(crate) struct Itself {
    name: String,
    /// The medians of both.
    pub(crate) first: f64,
    pub(crate) second: f64,
    /// Of the second to the first.
    pub(crate) comparison: Comparison,
    pub(crate) told_apart: bool,
}

impl Unpaired {
    /// Of a workload that both runs have.
    pub(crate) fn of<'a>(
        first: (&'a Run, &'a Workload),
        second: (&'a Run, &'a Workload),
        measure: Measure<'a>,
    ) -> Self {
        let threshold = threshold(first.0, first.1, measure);
        let threshold = threshold.max(self::threshold(second.0, second.1, measure));
        let before = lines(first.0, first.1);
        let mut alike = Vec::new();
        let mut members = Vec::new();
        for line in lines(second.0, second.1) {
            let name = line.name();
            let Some(before) = before.iter().find(|before| before.name() == name) else { continue };
            let (a, b) = (measure(before), measure(&line));
            let (Some(first), Some(second)) = (middle(&a), middle(&b)) else { continue };
            let Some(comparison) = compare_unpaired(&b, &a) else { continue };
            alike.push(probability_if_alike_unpaired(&b, &a));
            members.push(Itself { name, first, second, comparison, told_apart: false });
        }
        for (member, alike) in members.iter_mut().zip(holm(&alike)) {
            member.told_apart =
                alike <= SIGNIFICANCE && weighs(Some(member.comparison.ratio), threshold);
        }
        Self { members }
    }

    pub(crate) fn member(&self, name: &str) -> Option<&Itself> {
        self.members.iter().find(|member| member.name == name)
    }
}

/// Ratios below this count for nothing.
fn threshold<'a>(run: &'a Run, workload: &'a Workload, measure: Measure<'a>) -> f64 {
    let differed = twin(run, workload)
        .and_then(|[double, twin]| typical_ratio(&measure(&twin), &measure(&double)));
    differed.unwrap_or(1.0).max(PRACTICAL_RATIO)
}

fn weighs(ratio: Option<f64>, threshold: f64) -> bool {
    ratio.is_some_and(|ratio| ratio.max(1.0 / ratio) >= threshold)
}

fn middle(blocks: &Blocks) -> Option<f64> {
    Some(spread(blocks.iter().map(|(_, value)| *value))?.median)
}

/// An interval in brackets behind its ratio; nothing where there are too few blocks.
pub(crate) fn interval(comparison: Comparison) -> String {
    let text = |(low, high)| format!(" [{low:.2}–{high:.2}]");
    comparison.interval.map_or(String::new(), text)
}

/// How a workload's twin stands to its double by what the table ranks, and what follows from that.
pub(crate) fn twin_remark<'a>(
    run: &'a Run,
    workload: &'a Workload,
    measure: Measure<'a>,
    ranking: &Ranking,
) -> Option<String> {
    let [double, twin] = twin(run, workload)?;
    let comparison = compare(&measure(&twin), &measure(&double))?;
    let (name, interval) = (double.name(), interval(comparison));
    let ratio = format!("A/A: {name} measured twice differs by {:.2}{interval}", comparison.ratio);
    let threshold = ranking.threshold;
    Some(if threshold > PRACTICAL_RATIO {
        format!("{ratio}, by {threshold:.2} in a typical block: less tells nothing apart here.")
    } else {
        format!("{ratio}.")
    })
}

/// How often a run tells a twin from its double: as the tables do, among all others, and by the
/// test of the single pair, which is wrong in one of twenty by its definition.
pub(crate) fn twins(run: &Run) -> Option<String> {
    let measures: [Measure<'_>; 3] = [Line::cost, Line::speed, Line::p99];
    let (mut all, mut in_tables, mut as_pairs) = (0_usize, 0_usize, 0_usize);
    for workload in &run.header.workloads {
        let Some([double, twin]) = twin(run, workload) else { continue };
        let lines = lines(run, workload);
        for measure in measures {
            let pair = [("double", measure(&double)), ("twin", measure(&twin))];
            if pair.iter().any(|(_, blocks)| blocks.len() < 2) {
                continue;
            }
            let pair = pair.map(|(name, blocks)| (name.to_owned(), blocks));
            let is_other =
                |line: &&Line<'_>| !line.contestant.floor && line.name() != double.name();
            let others = lines.iter().filter(is_other).map(|line| (line.name(), measure(line)));
            let tells_apart = |ranking: Ranking| ranking.tells_apart("double", "twin");
            all += 1;
            as_pairs += usize::from(tells_apart(Ranking::new(pair.clone(), PRACTICAL_RATIO)));
            let among_others = pair.into_iter().chain(others);
            in_tables += usize::from(tells_apart(Ranking::new(among_others, PRACTICAL_RATIO)));
        }
    }
    let percent = |count: usize| number(count as f64 / all as f64 * 100.0);
    (all > 0).then(|| {
        format!(
            "A/A twins: {in_tables} of {all} comparisons with their doubles, by CPU, throughput \
             and p99, told them apart as the tables do ({}%); as single pairs, of which one in \
             twenty is to be expected, {as_pairs} ({}%).",
            percent(in_tables),
            percent(as_pairs)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(name: &str, values: &[f64]) -> (String, Blocks) {
        (name.to_owned(), (1..).zip(values.iter().copied()).collect())
    }

    #[test]
    fn those_that_differ_surely_and_by_enough_are_told_apart() {
        let all = vec![
            values("dear", &[2.0, 2.1, 1.9, 2.0, 2.05]),
            values("cheap", &[1.0, 1.01, 0.99, 1.0, 1.005]),
            values("a hair dearer", &[1.01, 1.0201, 0.9999, 1.0101, 1.015]),
        ];
        let ranking = Ranking::new(all.clone(), PRACTICAL_RATIO);
        assert!(ranking.tells_apart("dear", "cheap") && ranking.tells_apart("cheap", "dear"));
        assert!(!ranking.tells_apart("cheap", "a hair dearer"), "sure, but of no weight");
        assert!(!ranking.tells_apart("cheap", "nobody"));
        let letters: Vec<_> =
            ranking.letters().map(|(name, letters)| format!("{name} {letters}")).collect();
        assert_eq!(letters, ["cheap a", "a hair dearer a", "dear b"]);
        // Where two that are the same differ by more than that, nothing is told.
        assert!(!Ranking::new(all, 2.5).tells_apart("dear", "cheap"));
    }

    fn nearest(ranking: &Ranking, end: End) -> Vec<&str> {
        ranking.nearest(|_| true, end).iter().map(|member| member.name.as_str()).collect()
    }

    #[test]
    fn the_nearest_are_all_but_those_that_are_surely_behind_another() {
        let ranking = Ranking::new(
            [
                values("dear", &[2.0, 2.1, 1.9, 2.0, 2.05]),
                values("cheap", &[1.0, 1.01, 0.99, 1.0, 1.005]),
                values("a hair dearer", &[1.01, 1.0201, 0.9999, 1.0101, 1.015]),
                values("unsteady", &[1.0, 3.0, 0.9, 1.2, 1.9]),
            ],
            PRACTICAL_RATIO,
        );
        let end = |end| nearest(&ranking, end);
        assert_eq!(end(End::Least), ["cheap", "a hair dearer", "unsteady"]);
        assert_eq!(end(End::Greatest), ["dear", "unsteady"]);
        let some = ranking.nearest(|one| one.name != "dear", End::Greatest);
        assert_eq!(some[0].name, "unsteady");
        assert!(ranking.nearest(|_| false, End::Least).is_empty());
    }

    #[test]
    fn what_is_at_least_something_is_never_behind_and_never_the_last_that_others_are_above() {
        let all = [
            values("slow", &[1.0, 1.01, 0.99, 1.0, 1.005]),
            values("slow or more", &[1.0, 1.01, 0.99, 1.0, 1.004]),
            values("fast", &[2.0, 2.1, 1.9, 2.0, 2.05]),
        ];
        let mut ranking = Ranking::new(all, PRACTICAL_RATIO);
        let bound = ranking.members.iter_mut().find(|one| one.name == "slow or more").unwrap();
        bound.at_least = true;
        assert_eq!(nearest(&ranking, End::Greatest), ["fast", "slow or more"]);
        assert!(!nearest(&ranking, End::Least).contains(&"fast"), "it is above a value");
        ranking.members.retain(|one| one.name != "slow");
        assert_eq!(nearest(&ranking, End::Least).len(), 2, "it is above a bound alone");
    }

    /// However many there are: the best in truth is left out once in twenty times at most.
    #[test]
    fn the_least_in_truth_is_among_the_nearest() {
        let mut random = fastrand::Rng::with_seed(2);
        for (contestants, blocks) in [(4, 3), (16, 5), (30, 5)] {
            let families = 500;
            let mut erring = 0;
            for _ in 0..families {
                let mut value = |one: usize| {
                    let normal = (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
                    (normal * 0.05 * (1 + one % 3) as f64).exp()
                };
                let all = (0..contestants).map(|one| {
                    values(&one.to_string(), &(0..blocks).map(|_| value(one)).collect::<Vec<_>>())
                });
                // All are as good as the least, which makes an error the likeliest.
                let ranking = Ranking::new(all, 1.0);
                erring += usize::from(!nearest(&ranking, End::Least).contains(&"0"));
            }
            let share = erring as f64 / f64::from(families);
            assert!(share < 0.075, "{contestants} over {blocks} blocks: {share}");
        }
    }

    /// Whatever their number and that of the blocks: one family in twenty may err.
    #[test]
    fn of_contestants_that_are_alike_few_families_tell_any_apart() {
        let mut random = fastrand::Rng::with_seed(1);
        for (contestants, blocks) in [(6, 3), (9, 5), (17, 5), (6, 10)] {
            let mut value = |one: usize| {
                // The sum of twelve is nearly normal; some are noisier than others.
                let normal = (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
                (normal * 0.05 * (1 + one % 3) as f64).exp()
            };
            let families = 1000;
            let mut erring = 0;
            for _ in 0..families {
                let all = (0..contestants).map(|one| {
                    values(&one.to_string(), &(0..blocks).map(|_| value(one)).collect::<Vec<_>>())
                });
                erring += usize::from(!Ranking::new(all, 1.0).told_apart.is_empty());
            }
            let share = erring as f64 / f64::from(families);
            assert!(share < 0.075, "{contestants} over {blocks} blocks: {share}");
        }
    }
}
