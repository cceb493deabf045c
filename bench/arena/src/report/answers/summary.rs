//! What follows from the answers of all workloads together, in a few sentences.

use std::collections::BTreeMap;

use super::{Answer, Answers, CPU, Lead, MEMORY, Nobody};
use crate::progress::counted;
use crate::workload::Workload;

const MEANING: &str = "In the lead: with 95% confidence the cheapest of the workload is \
     among these, by processor time for each request or byte, or by memory where idle sessions are \
     held. All others that are ranked are surely dearer.";

impl Answers<'_> {
    /// The whole run in a few sentences, by the number that ranks.
    pub(in crate::report) fn summary(&self) -> Vec<String> {
        let ranked = self.ranked();
        if ranked.is_empty() {
            let mut whys = self.rows.iter().filter_map(ranking_answer);
            let too_few = whys.find_map(|answer| match &answer.lead {
                Err(why @ Nobody::TooFewBlocks(..)) => Some(format!("{why}.")),
                _ => None,
            });
            return vec![too_few.unwrap_or("Nothing was measured that counts.".to_owned())];
        }
        let mut sentences = vec![in_the_lead(&ranked)];
        sentences.extend(never_in_the_lead(&ranked));
        sentences.extend(what_the_last_costs(&ranked));
        sentences
    }

    /// What the words of the summary mean, where it has them.
    pub(in crate::report) fn meaning(&self) -> Option<&'static str> {
        (!self.ranked().is_empty()).then_some(MEANING)
    }

    /// The leads by the number that ranks.
    fn ranked(&self) -> Vec<(&Workload, &Lead)> {
        let rows = self.rows.iter();
        rows.filter_map(|row| Some((row.0, ranking_answer(row)?.lead.as_ref().ok()?))).collect()
    }
}

/// The answer by the number that ranks.
fn ranking_answer<'a>((workload, answers): &'a (&Workload, Vec<Answer>)) -> Option<&'a Answer> {
    let title = if workload.idle_ones_log_in() { MEMORY.title } else { CPU.title };
    answers.iter().find(|answer| answer.question == title)
}

/// What that number is in these workloads.
fn ranked_by(ranked: &[(&Workload, &Lead)]) -> &'static str {
    let by_memory = ranked.iter().filter(|(workload, _)| workload.idle_ones_log_in()).count();
    match by_memory {
        0 => "by processor time",
        all if all == ranked.len() => "by memory of an idle session",
        _ => "by processor time, or memory where idle sessions are held",
    }
}

/// How many workloads each leads, all levels of a series being one, and how many there are.
fn led<'a>(ranked: &[(&'a Workload, &'a Lead)]) -> (BTreeMap<&'a str, usize>, usize) {
    let mut families: Vec<(&str, Vec<&str>)> = Vec::new();
    for (workload, lead) in ranked {
        let names = lead.names.iter().map(String::as_str);
        match families.last_mut().filter(|(family, _)| *family == workload.family()) {
            Some((_, known)) => known.retain(|name| lead.names.iter().any(|one| one == name)),
            None => families.push((workload.family(), names.collect())),
        }
    }
    let mut led = BTreeMap::new();
    for name in families.iter().flat_map(|(_, names)| names) {
        *led.entry(*name).or_default() += 1;
    }
    (led, families.len())
}

/// Of those that lead most often, so many counts are told.
const COUNTS_TOLD: usize = 3;

fn in_the_lead(ranked: &[(&Workload, &Lead)]) -> String {
    let (led, all) = led(ranked);
    let mut by_count: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    for (name, count) in led {
        by_count.entry(count).or_default().push(name);
    }
    if by_count.is_empty() {
        return "No architecture is in the lead at every level.".to_owned();
    }
    let workloads = counted(all, "workload");
    let others = others(by_count.iter().rev().skip(COUNTS_TOLD));
    let told = by_count.iter().rev().take(COUNTS_TOLD).enumerate();
    let told = told.map(|(place, (count, names))| match (place, *count) {
        _ if all == 1 => format!("{} in the only workload", listed(names)),
        (_, count) if count == all => format!("{} in all of {workloads}", listed(names)),
        (0, count) => format!("{} in {count} of {workloads}", listed(names)),
        (_, count) => format!("{} in {count}", listed(names)),
    });
    let told = told.chain(others).collect::<Vec<String>>().join("; ");
    let told = format!("In the lead {}: {told}.", ranked_by(ranked));
    if by_count.contains_key(&all) {
        told
    } else {
        format!("No architecture is best at everything. {told}")
    }
}

/// Those that lead, but less often than those whose names are told.
fn others<'a>(rest: impl Iterator<Item = (&'a usize, &'a Vec<&'a str>)>) -> Option<String> {
    let (counts, names): (Vec<usize>, Vec<usize>) =
        rest.map(|(count, names)| (*count, names.len())).unzip();
    let others = counted(names.iter().sum(), "other");
    match counts[..] {
        [] => None,
        [count] => Some(format!("and {others} in {count}")),
        _ => Some(format!("and {others} in fewer")),
    }
}

fn never_in_the_lead(ranked: &[(&Workload, &Lead)]) -> Option<String> {
    let mut behind: Vec<&str> = Vec::new();
    for name in ranked.iter().flat_map(|(_, lead)| &lead.behind) {
        let leads = |(_, lead): &(&Workload, &Lead)| lead.names.contains(name);
        if !ranked.iter().any(leads) && !behind.contains(&name.as_str()) {
            behind.push(name);
        }
    }
    (!behind.is_empty()).then(|| format!("Never in the lead by that: {}.", listed(&behind)))
}

/// From the workload in which the choice matters least to that in which it matters most.
fn what_the_last_costs(ranked: &[(&Workload, &Lead)]) -> Vec<String> {
    let cost = |(workload, lead): &(&Workload, &Lead)| {
        let last = lead.last.as_ref()?;
        let told = format!("{} ({} in {})", last.ratio(), last.names[0], workload.name);
        Some((last.comparison?.ratio, told))
    };
    let mut costs: Vec<(f64, String)> = ranked.iter().filter_map(cost).collect();
    costs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut sentences = Vec::new();
    match &costs[..] {
        [] => {}
        [(_, only)] => {
            sentences.push(format!("The dearest choice, beside the cheapest, costs {only}."));
        }
        [(_, least), .., (_, most)] => sentences.push(format!(
            "The dearest choice, beside the cheapest, costs from {least} to {most}."
        )),
    }
    let is_alike = |(_, lead): &&(&Workload, &Lead)| lead.next.is_none() && lead.names.len() > 1;
    let all_alike = ranked.iter().filter(is_alike);
    let all_alike: Vec<&str> = all_alike.map(|(workload, _)| workload.name.as_str()).collect();
    if !all_alike.is_empty() {
        sentences.push(format!("Nobody is surely dearer than another in {}.", listed(&all_alike)));
    }
    sentences
}

/// As people list names.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}
