//! What a run answers: who is in the lead in each workload, what the next costs, who is last, and
//! what follows from all of them together.

use std::collections::BTreeMap;

use crate::progress::counted;
use crate::ranking::{End, Ranked, Ranking, interval};
use crate::record::Run;
use crate::stats::{Blocks, Comparison, compare};
use crate::table::{Line, NOTHING, Table, Verdict, lines, number};
use crate::unit::Unit;
use crate::workload::Workload;

/// What can be asked of a workload.
pub(super) struct Question {
    pub(super) title: &'static str,
    is_asked: fn(&Workload) -> bool,
    measure: for<'a> fn(&Line<'a>) -> Blocks,
    /// Whether what was measured of a contestant is only a lower bound.
    at_least: for<'a> fn(&Line<'a>) -> bool,
    best: End,
    unit: fn(Unit) -> &'static str,
}

const CPU: Question = Question {
    title: "lowest CPU",
    is_asked: |_| true,
    measure: |line| line.cost(),
    at_least: |_| false,
    best: End::Least,
    unit: Unit::cost,
};

const MEMORY: Question = Question {
    title: "lowest memory of an idle connection",
    is_asked: |workload| workload.idle_connections > 0,
    measure: |line| line.memory(),
    at_least: |_| false,
    best: End::Least,
    unit: |_| "KiB",
};

const QUESTIONS: [Question; 5] = [
    CPU,
    Question {
        title: "highest throughput",
        // Where a schedule decides how much is asked, throughput is no answer.
        is_asked: |workload| !workload.is_open() && workload.capacity.is_none(),
        measure: |line| line.reached(),
        at_least: |line| line.is_client_bound(),
        best: End::Greatest,
        unit: Unit::speed_column,
    },
    Question {
        title: "highest capacity",
        is_asked: |workload| workload.capacity.is_some(),
        measure: |line| line.held_at_least(),
        at_least: |line| line.holds_at_least(),
        best: End::Greatest,
        unit: Unit::speed_column,
    },
    Question {
        title: "lowest response p99",
        is_asked: Workload::is_open,
        measure: |line| line.response_p99(),
        at_least: |_| false,
        best: End::Least,
        unit: |_| "µs",
    },
    MEMORY,
];

/// The answers of a run, by workload and question.
pub(super) struct Answers<'a> {
    pub(super) rows: Vec<(&'a Workload, Vec<Answer>)>,
    /// What stands beside them of each workload.
    notes: Vec<String>,
}

/// The answer to one question about one workload.
pub(super) struct Answer {
    pub(super) question: &'static str,
    /// Who may be the best, the best by its median first; or why there is nobody.
    pub(super) lead: Result<Lead, &'static str>,
}

/// Those that are not surely behind any other, and who is.
pub(super) struct Lead {
    pub(super) names: Vec<String>,
    /// Of the first, with its unit.
    pub(super) value: String,
    /// The best of those that are surely behind, and the worst.
    pub(super) next: Option<Behind>,
    pub(super) last: Option<Behind>,
    /// All that are surely behind.
    behind: Vec<String>,
}

/// One that is surely behind, with those that may be in its place.
pub(super) struct Behind {
    pub(super) names: Vec<String>,
    /// With the first of the lead.
    comparison: Option<Comparison>,
    /// Whether that one may be more.
    at_most: bool,
}

pub(super) fn of(run: &Run) -> Answers<'_> {
    let (mut rows, mut notes) = (Vec::new(), Vec::new());
    for workload in &run.header.workloads {
        let lines = lines(run, workload);
        // The floors are yardsticks.
        let ours: Vec<&Line<'_>> = lines.iter().filter(|line| !line.contestant.floor).collect();
        let asked = QUESTIONS.iter().filter(|question| (question.is_asked)(workload));
        let answers: Vec<Answer> =
            asked.map(|question| answer(run, workload, question, &ours)).collect();
        let beside = self::notes(&ours, &answers);
        notes.extend(beside.into_iter().map(|note| format!("{}: {note}", workload.name)));
        rows.push((workload, answers));
    }
    Answers { rows, notes }
}

fn answer(run: &Run, workload: &Workload, question: &Question, ours: &[&Line<'_>]) -> Answer {
    let none = |why| Answer { question: question.title, lead: Err(why) };
    if ours.iter().all(|line| line.worst() >= Verdict::Failed) {
        return none("not measured");
    }
    // Serving few is cheap but no answer.
    let served_all =
        |one: &Ranked| ours.iter().any(|line| line.name() == one.name && line.served_all());
    if !ours.iter().any(|line| line.served_all()) {
        return none("none served every connection");
    }
    let ranking = Ranking::with_bounds(run, workload, question.measure, question.at_least);
    let lead = ranking.nearest(served_all, question.best);
    let Some(first) = lead.first() else {
        return none("nothing that counts");
    };
    let leads = |one: &Ranked| lead.iter().any(|leader| leader.name == one.name);
    let is_behind = |one: &Ranked| served_all(one) && !leads(one);
    let behind = |end| {
        let members = ranking.nearest(is_behind, end);
        let comparison = compare(&members.first()?.blocks, &first.blocks);
        Some(Behind { names: names(&members), comparison, at_most: first.at_least })
    };
    let mark = if first.at_least { "≥ " } else { "" };
    let value = format!("{mark}{} {}", number(first.median), (question.unit)(Unit::of(workload)));
    let lead = Lead {
        names: names(&lead),
        value,
        next: behind(question.best),
        last: behind(question.best.other()),
        behind: names(&ranking.members.iter().filter(|one| is_behind(one)).collect::<Vec<_>>()),
    };
    Answer { question: question.title, lead: Ok(lead) }
}

fn names(members: &[&Ranked]) -> Vec<String> {
    members.iter().map(|member| member.name.clone()).collect()
}

/// What a reader of a workload's answers must know beside them.
fn notes(ours: &[&Line<'_>], answers: &[Answer]) -> Vec<String> {
    let named = |is: &dyn Fn(&Line<'_>) -> bool| {
        let named: Vec<String> =
            ours.iter().filter(|line| is(line)).map(|line| line.name()).collect();
        (!named.is_empty()).then(|| named.join(", "))
    };
    let leads = |line: &Line<'_>| {
        let mut leads = answers.iter().filter_map(|answer| answer.lead.as_ref().ok());
        leads.any(|lead| lead.names.contains(&line.name()))
    };
    let is_bound = |line: &Line<'_>| line.is_client_bound() || line.holds_at_least();
    let bound = named(&|line| line.served_all() && leads(line) && is_bound(line));
    let few = named(&|line| line.worst() <= Verdict::Starved && !line.served_all());
    let void = named(&|line| line.worst() > Verdict::Starved);
    let notes = [
        bound.map(|names| {
            format!(
                "the load generator was at its end before {names}: these can answer more than was \
                 measured (≥), nobody knows how much; their processor time counts all the same."
            )
        }),
        few.map(|names| {
            format!("not ranked, for they left connections without an answer: {names}.")
        }),
        void.map(|names| format!("nothing that counts: {names}.")),
    ];
    notes.into_iter().flatten().collect()
}

impl Lead {
    /// The first with its value, and who is with it.
    pub(super) fn text(&self) -> String {
        let (first, others) = self.names.split_first().expect("a lead has somebody");
        with(format!("{first}, {}", self.value), others)
    }
}

impl Behind {
    pub(super) fn text(&self) -> String {
        let (first, others) = self.names.split_first().expect("it has somebody");
        with(format!("{first}, {}", self.ratio()), others)
    }

    /// To the first of the lead.
    fn ratio(&self) -> String {
        self.comparison.map_or("not compared".to_owned(), |comparison| {
            let mark = if self.at_most { "≤ " } else { "" };
            format!("{mark}{} times{}", number(comparison.ratio), interval(comparison))
        })
    }
}

fn with(text: String, others: &[String]) -> String {
    if others.is_empty() { text } else { format!("{text}; with it {}", others.join(", ")) }
}

/// Of one that is behind, or that nobody is.
pub(super) fn behind_text(behind: Option<&Behind>) -> String {
    behind.map_or(NOTHING.to_owned(), Behind::text)
}

impl Answers<'_> {
    pub(super) fn table(&self) -> Table {
        let columns = vec!["workload", "question", "in the lead", "the next", "the last"];
        let row = |workload: &Workload, answer: &Answer| {
            let [lead, next, last] = answer.texts();
            vec![workload.name.clone(), answer.question.to_owned(), lead, next, last]
        };
        let rows = self.rows.iter().flat_map(|(workload, answers)| {
            answers.iter().map(move |answer| row(workload, answer))
        });
        Table { columns, rows: rows.collect(), remarks: self.notes.clone() }
    }

    /// The same for a terminal: lines, each with its indent.
    pub(super) fn lines(&self) -> Vec<(usize, String)> {
        let mut lines: Vec<(usize, String)> = Vec::new();
        for (workload, answers) in &self.rows {
            lines.push((0, format!("{}:", workload.name)));
            for answer in answers {
                let [lead, next, last] = answer.texts();
                lines.push((2, format!("{}: {lead}", answer.question)));
                for (what, text) in [("next", next), ("last", last)] {
                    if text != NOTHING {
                        lines.push((4, format!("{what}: {text}")));
                    }
                }
            }
        }
        let notes = self.notes.iter().cloned().chain(self.summary()).chain([MEANING.to_owned()]);
        lines.extend(notes.map(|note| (0, note)));
        lines
    }

    /// The whole run in a few sentences, by the number that ranks.
    pub(super) fn summary(&self) -> Vec<String> {
        let ranked: Vec<(&Workload, &Lead)> = self.rows.iter().filter_map(ranked).collect();
        if ranked.is_empty() {
            return vec!["Nothing was measured that counts.".to_owned()];
        }
        let mut sentences = vec![in_the_lead(&ranked)];
        sentences.extend(never_in_the_lead(&ranked));
        sentences.extend(what_the_last_costs(&ranked));
        sentences
    }
}

/// What the words of the summary mean.
pub(super) const MEANING: &str = "In the lead: with 95% confidence the cheapest of the workload is \
     among these, by processor time for each request or byte, or by memory where idle sessions are \
     held. All others are surely dearer.";

impl Answer {
    fn texts(&self) -> [String; 3] {
        match &self.lead {
            Ok(lead) => {
                [lead.text(), behind_text(lead.next.as_ref()), behind_text(lead.last.as_ref())]
            }
            Err(why) => [(*why).to_owned(), NOTHING.to_owned(), NOTHING.to_owned()],
        }
    }
}

/// The answer by the number that ranks.
fn ranked<'a>(
    (workload, answers): &'a (&Workload, Vec<Answer>),
) -> Option<(&'a Workload, &'a Lead)> {
    let title = if workload.idle_ones_log_in() { MEMORY.title } else { CPU.title };
    let answer = answers.iter().find(|answer| answer.question == title)?;
    Some((workload, answer.lead.as_ref().ok()?))
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
    let workloads = counted(all, "workload");
    let told = by_count.iter().rev().take(COUNTS_TOLD).enumerate();
    let told = told.map(|(place, (count, names))| match (place, *count) {
        _ if all == 1 => format!("{} in the only workload", listed(names)),
        (_, count) if count == all => format!("{} in all of {workloads}", listed(names)),
        (0, count) => format!("{} in {count} of {workloads}", listed(names)),
        (_, count) => format!("{} in {count}", listed(names)),
    });
    let told = told.collect::<Vec<String>>().join("; ");
    if by_count.contains_key(&all) {
        format!("In the lead: {told}.")
    } else {
        format!("No architecture is best at everything. In the lead: {told}.")
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
    (!behind.is_empty()).then(|| format!("Never in the lead: {}.", listed(&behind)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Io;
    use crate::report::tests::{cell, contestant, run, workload};

    /// Workloads by name, in each of which these have such costs, give or take a hundredth.
    fn run_of(workloads: &[(&str, &[(&str, f64)])]) -> Run {
        let mut run = run();
        run.header.workloads = workloads.iter().map(|(name, _)| workload(name)).collect();
        run.header.contestants.clear();
        run.cells.clear();
        for (workload, costs) in workloads {
            for (order, (name, cpu_us)) in costs.iter().enumerate() {
                if run.header.contestants.iter().all(|known| known.name != *name) {
                    run.header.contestants.push(contestant(name, order as u32, Io::Epoll, false));
                }
                for block in 1..=5 {
                    // Each has its own order of blocks.
                    let noise = 1.0 + 0.01 * f64::from((block + order as u32 * 2) % 5) / 4.0;
                    let cell = cell(workload, name, block, cpu_us * noise, 1e6 / cpu_us);
                    run.cells.push(cell);
                }
            }
        }
        run
    }

    #[test]
    fn who_leads_who_is_next_and_who_is_last_is_told_with_what_it_costs() {
        let run = run_of(&[(
            "one",
            &[("dear", 30.0), ("best", 10.0), ("as good", 10.01), ("next", 15.0)],
        )]);
        let answers = of(&run);
        let [lead, next, last] = answers.rows[0].1[0].texts();
        assert_eq!(lead, "best, 10.0 µs; with it as good");
        assert_eq!(next, "next, 1.50 times [1.50–1.51]");
        assert_eq!(last, "dear, 2.99 times [2.99–3.02]");
        // Of throughput more is better, and a ratio is below 1.
        let [lead, _, last] = answers.rows[0].1[1].texts();
        assert_eq!(lead, "best, 100,000 requests/s; with it as good");
        assert_eq!(last, "dear, 0.33 times [0.33–0.33]");
    }

    #[test]
    fn the_summary_counts_leads_and_names_what_a_wrong_choice_costs() {
        let all_over = run_of(&[
            ("one", &[("a", 10.0), ("b", 20.0), ("c", 30.0)]),
            ("two", &[("a", 20.0), ("b", 10.0), ("c", 15.0)]),
            ("three", &[("a", 10.0), ("b", 12.0), ("c", 120.0)]),
        ]);
        assert_eq!(
            of(&all_over).summary(),
            [
                "No architecture is best at everything. \
                 In the lead: a in 2 of 3 workloads; b in 1.",
                "Never in the lead: c.",
                "The dearest choice, beside the cheapest, costs from \
                 1.99 times [1.99–2.02] (a in two) to 12.0 times [11.97–12.12] (c in three).",
            ]
        );
        let one =
            run_of(&[("one", &[("a", 10.0), ("b", 10.01)]), ("two", &[("a", 9.0), ("b", 9.01)])]);
        assert_eq!(
            of(&one).summary(),
            [
                "In the lead: a and b in all of 2 workloads.",
                "Nobody is surely dearer than another in one and two.",
            ]
        );
    }

    #[test]
    fn all_levels_of_a_series_count_as_one_workload() {
        let mut run = run_of(&[
            ("rate-1", &[("a", 10.0), ("b", 20.0)]),
            ("rate-2", &[("a", 10.0), ("b", 10.01)]),
        ]);
        for level in &mut run.header.workloads {
            level.series = Some("rate".to_owned());
        }
        assert_eq!(of(&run).summary()[0], "In the lead: a in the only workload.");
    }

    #[test]
    fn a_lower_bound_never_loses_and_is_told() {
        let mut run = run_of(&[("one", &[("a", 10.0), ("b", 20.0), ("c", 30.0)])]);
        for cell in run.cells.iter_mut().filter(|cell| cell.contestant == "b") {
            cell.outcome.as_mut().unwrap().client_busy = 0.97;
        }
        let answers = of(&run);
        let [lead, next, _] = answers.rows[0].1[1].texts();
        assert_eq!(lead, "a, 100,000 requests/s; with it b");
        assert_eq!(next, "c, 0.33 times [0.33–0.33]");
        assert!(answers.notes[0].starts_with("one: the load generator was at its end before b:"));
        // The lower bound is the greatest: all others are behind it, at most by so much.
        for cell in run.cells.iter_mut().filter(|cell| cell.contestant == "b") {
            cell.outcome.as_mut().unwrap().rate_per_s = 200_000.0;
        }
        let answers = of(&run);
        let [lead, next, last] = answers.rows[0].1[1].texts();
        assert_eq!(lead, "b, ≥ 200,000 requests/s");
        assert_eq!(next, "a, ≤ 0.50 times [0.50–0.50]");
        assert_eq!(last, "c, ≤ 0.17 times [0.17–0.17]");
    }

    #[test]
    fn the_highest_capacity_is_that_which_held_and_a_bound_does_not_lose() {
        let run = crate::capacity::table::tests::run();
        let answers = of(&run);
        let titles: Vec<&str> = answers.rows[0].1.iter().map(|answer| answer.question).collect();
        assert_eq!(titles, ["lowest CPU", "highest capacity"]);
        let [lead, ..] = answers.rows[0].1[1].texts();
        assert_eq!(lead, "threads, 1,003 requests/s; with it pool");
    }

    #[test]
    fn who_is_not_ranked_is_named() {
        let run = run();
        let answers = of(&run);
        assert!(answers.notes.iter().any(|note| {
            note == "plaintext: not ranked, for they left connections without an answer: serial."
        }));
        assert!(answers.notes.contains(&"plaintext: nothing that counts: broken.".to_owned()));
    }
}
