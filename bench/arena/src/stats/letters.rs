//! Compact letter displays: which of many are told apart, in a few letters for each.

use std::collections::BTreeSet;

/// The letters of each of `count`: two share one if and only if they are not told apart. Those that
/// come first get the first letters.
///
/// By inserting and absorbing, as H.-P. Piepho, "An Algorithm for a Letter-Based Representation of
/// All-Pairwise Comparisons", Journal of Computational and Graphical Statistics 13 (2004).
pub(crate) fn letters(count: usize, told_apart: impl Fn(usize, usize) -> bool) -> Vec<String> {
    let mut groups = vec![(0..count).collect::<BTreeSet<usize>>()];
    for first in 0..count {
        for second in (first + 1..count).filter(|&second| told_apart(first, second)) {
            let is_split =
                |group: &BTreeSet<usize>| group.contains(&first) && group.contains(&second);
            let (split, whole): (Vec<_>, Vec<_>) = groups.into_iter().partition(is_split);
            groups = whole;
            let without = |one: usize| {
                split.iter().map(move |group| group.iter().copied().filter(|&m| m != one).collect())
            };
            for half in without(first).chain(without(second)) {
                absorb(&mut groups, half);
            }
        }
    }
    groups.sort();
    let lettered = |member: usize| {
        let of = groups.iter().enumerate().filter(|(_, group)| group.contains(&member));
        of.map(|(index, _)| letter(index)).collect()
    };
    (0..count).map(lettered).collect()
}

/// Adds a group, unless one has all its members, and drops those whose members it all has.
fn absorb(groups: &mut Vec<BTreeSet<usize>>, added: BTreeSet<usize>) {
    if groups.iter().any(|group| added.is_subset(group)) {
        return;
    }
    groups.retain(|group| !group.is_subset(&added));
    groups.push(added);
}

/// From `a` to `z`, then from `a1`.
fn letter(index: usize) -> String {
    let letter = char::from(b'a' + (index % 26) as u8);
    match index / 26 {
        0 => letter.to_string(),
        round => format!("{letter}{round}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_share_a_letter_exactly_if_they_are_not_told_apart() {
        let near = |a: usize, b: usize| a.abs_diff(b) >= 2;
        assert_eq!(letters(4, near), ["a", "ab", "bc", "c"]);
        assert_eq!(letters(3, |_, _| true), ["a", "b", "c"]);
        assert_eq!(letters(3, |_, _| false), ["a", "a", "a"]);
        // Not the next but the last is like the first, as happens where one is noisy.
        assert_eq!(letters(3, |a, b| (a, b) != (0, 2)), ["a", "b", "a"]);
        assert_eq!(letters(0, near), [""; 0]);
        assert_eq!(letters(28, |_, _| true)[25..], ["z", "a1", "b1"]);
    }
}
