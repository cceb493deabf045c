//! What a run answers: who is in the lead in each workload, what the next costs, who is last, and
//! what follows from all of them together.

mod summary;

use std::fmt;

use crate::progress::counted;
use crate::ranking::{End, Ranked, Ranking, interval};
use crate::record::Run;
use crate::stats::{BLOCKS_FOR_AN_INTERVAL, BLOCKS_TO_TELL_APART, Blocks, Comparison, compare};
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
    pub(super) lead: Result<Lead, Nobody>,
}

/// Why nobody is in the lead.
pub(super) enum Nobody {
    For(&'static str),
    /// The blocks that count, and whether more of them were asked for.
    TooFewBlocks(usize, bool),
}

impl fmt::Display for Nobody {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (blocks, rest) = match *self {
            Self::For(why) => return out.write_str(why),
            Self::TooFewBlocks(blocks, true) => (blocks, ", and no more count".to_owned()),
            Self::TooFewBlocks(blocks, false) => {
                (blocks, format!(": use --blocks {BLOCKS_FOR_AN_INTERVAL}"))
            }
        };
        write!(out, "{} can tell nothing apart{rest}", counted(blocks, "block"))
    }
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
        return none(Nobody::For("not measured"));
    }
    // Doing less is cheap but no answer.
    let is_answer =
        |one: &Ranked| ours.iter().any(|line| line.name() == one.name && line.is_answer());
    if !ours.iter().any(|line| line.served_all()) {
        return none(Nobody::For("none served every connection"));
    }
    if !ours.iter().any(|line| line.is_answer()) {
        return none(Nobody::For("none answered all that was due"));
    }
    let ranking = Ranking::with_bounds(run, workload, question.measure, question.at_least);
    // Of a single good block among bad ones, nobody could tell that it is behind.
    let is_enough = |one: &Ranked| one.blocks.len() >= BLOCKS_TO_TELL_APART;
    let are_enough = ranking.members.iter().any(|one| is_answer(one) && is_enough(one));
    let is_answer = |one: &Ranked| is_answer(one) && (is_enough(one) || !are_enough);
    let lead = ranking.nearest(is_answer, question.best);
    let Some(first) = lead.first() else {
        return none(Nobody::For("nothing that counts"));
    };
    let blocks = lead.iter().map(|one| one.blocks.len()).max().unwrap_or(0);
    if blocks < BLOCKS_TO_TELL_APART {
        let more_were_asked = workload.blocks as usize >= BLOCKS_TO_TELL_APART;
        return none(Nobody::TooFewBlocks(blocks, more_were_asked));
    }
    let leads = |one: &Ranked| lead.iter().any(|leader| leader.name == one.name);
    let is_behind = |one: &Ranked| is_answer(one) && !leads(one);
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
    let bound = named(&|line| leads(line) && is_bound(line));
    let few = named(&|line| line.worst() <= Verdict::Starved && !line.served_all());
    let late =
        named(&|line| line.worst() <= Verdict::Starved && line.served_all() && !line.kept_up());
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
        late.map(|names| format!("not ranked, for they did not answer all that was due: {names}.")),
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
        let notes = self.notes.iter().cloned().chain(self.summary());
        lines.extend(notes.chain(self.meaning().map(str::to_owned)).map(|note| (0, note)));
        lines
    }
}

impl Answer {
    fn texts(&self) -> [String; 3] {
        match &self.lead {
            Ok(lead) => {
                [lead.text(), behind_text(lead.next.as_ref()), behind_text(lead.last.as_ref())]
            }
            Err(why) => [why.to_string(), NOTHING.to_owned(), NOTHING.to_owned()],
        }
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
                 In the lead by processor time: a in 2 of 3 workloads; b in 1.",
                "Never in the lead by that: c.",
                "The dearest choice, beside the cheapest, costs from \
                 1.99 times [1.99–2.02] (a in two) to 12.0 times [11.97–12.12] (c in three).",
            ]
        );
        let one =
            run_of(&[("one", &[("a", 10.0), ("b", 10.01)]), ("two", &[("a", 9.0), ("b", 9.01)])]);
        assert_eq!(
            of(&one).summary(),
            [
                "In the lead by processor time: a and b in all of 2 workloads.",
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
        let told = "In the lead by processor time: a in the only workload.";
        assert_eq!(of(&run).summary()[0], told);
        let mut run =
            run_of(&[("low", &[("a", 10.0), ("b", 30.0)]), ("high", &[("a", 30.0), ("b", 10.0)])]);
        for level in &mut run.header.workloads {
            level.series = Some("rate".to_owned());
        }
        assert_eq!(of(&run).summary()[0], "No architecture is in the lead at every level.");
    }

    #[test]
    fn those_that_lead_too_seldom_to_be_named_are_counted() {
        let [a, b, c, d] = [("a", 10.0), ("b", 10.0), ("c", 10.0), ("d", 10.0)];
        let dear = |name| (name, 30.0);
        let run = run_of(&[
            ("one", &[a, b, c, d]),
            ("two", &[a, b, c, dear("d")]),
            ("three", &[a, b, dear("c"), dear("d")]),
            ("four", &[a, dear("b"), dear("c"), dear("d")]),
        ]);
        let told = "In the lead by processor time: a in all of 4 workloads; b in 3; c in 2; \
                    and 1 other in 1.";
        assert_eq!(of(&run).summary()[0], told);
    }

    #[test]
    fn where_idle_sessions_are_held_the_summary_says_that_memory_ranks() {
        let mut run = run_of(&[("one", &[("a", 10.0), ("b", 20.0)])]);
        run.header.workloads.push(Workload {
            protocol: loadgen::Protocol::Ftp,
            idle_connections: 1,
            ..workload("sessions")
        });
        for (block, name) in (1..=5).flat_map(|block| [(block, "a"), (block, "b")]) {
            let mut cell = cell("sessions", name, block, 10.0, 1000.0);
            cell.outcome.as_mut().unwrap().idle_held = 1;
            run.cells.push(cell);
        }
        let told = "In the lead by processor time, or memory where idle sessions are held: a in";
        assert!(of(&run).summary()[0].starts_with(told), "{:?}", of(&run).summary());
    }

    #[test]
    fn too_few_blocks_find_nothing() {
        let mut run = run_of(&[("one", &[("a", 10.0), ("b", 20.0)])]);
        run.cells.retain(|cell| cell.block <= 2);
        let lead = |run: &Run| of(run).rows[0].1[0].texts()[0].clone();
        assert_eq!(lead(&run), "2 blocks can tell nothing apart, and no more count");
        run.header.workloads[0].blocks = 1;
        run.cells.retain(|cell| cell.block == 1);
        assert_eq!(lead(&run), "1 block can tell nothing apart: use --blocks 5");
        assert_eq!(of(&run).summary(), ["1 block can tell nothing apart: use --blocks 5."]);
        let told = of(&run).lines().into_iter().map(|(_, line)| line).collect::<String>();
        assert!(!told.contains("95%") && !told.contains("surely"), "{told}");
    }

    #[test]
    fn who_does_not_answer_what_is_due_is_in_no_lead() {
        let mut run = run_of(&[("one", &[("a", 10.0), ("idle", 5.0), ("c", 30.0)])]);
        run.header.workloads[0].rate = Some(loadgen::Rate::Constant(1000.0));
        for cell in &mut run.cells {
            let is_late = cell.contestant == "idle" && cell.block == 3;
            let outcome = cell.outcome.as_mut().unwrap();
            (outcome.rate_intended_per_s, outcome.arrivals) = (Some(1000.0), 1000);
            outcome.requests = if is_late { 99 } else { 1000 };
        }
        let answers = of(&run);
        for answer in &answers.rows[0].1 {
            assert!(answer.texts()[0].starts_with("a, "), "{}", answer.texts()[0]);
            assert!(!answer.texts().join(" ").contains("idle"), "{}", answer.question);
        }
        let note = "one: not ranked, for they did not answer all that was due: idle.";
        assert_eq!(answers.notes, [note]);
        run.cells.retain(|cell| cell.contestant == "idle");
        let [lead, ..] = of(&run).rows[0].1[0].texts();
        assert_eq!(lead, "none answered all that was due");
    }

    #[test]
    fn memory_is_not_that_of_connections_which_were_never_accepted() {
        let mut run = run_of(&[("one", &[("a", 10.0), ("b", 20.0)])]);
        run.header.workloads[0].idle_connections = 500;
        for cell in &mut run.cells {
            cell.outcome.as_mut().unwrap().idle_held = 500;
            let accepted = if cell.contestant == "a" { 1 } else { 500 };
            let used = cell.used.as_mut().unwrap();
            used.loaded.descriptors = used.at_rest.descriptors + accepted;
        }
        let answers = of(&run);
        let memory = answers.rows[0].1.last().unwrap();
        assert!(memory.texts()[0].starts_with("b, "), "{}", memory.texts()[0]);
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
