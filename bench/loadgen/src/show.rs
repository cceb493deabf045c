//! What a user sees: a line that lives while a run lasts, and the table of its outcome.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::iter;
use std::time::{Duration, Instant};

use console::Term;
use loadgen::{Glimpse, Interval, Outcome, Plan, Sessions, Summary};

const EVERY: Duration = Duration::from_millis(250);
/// Seven of them and their label fit into eighty columns; a minute and a half fits into one.
const COLUMN: usize = 9;

/// The line on standard error, if that is a terminal.
pub(crate) struct Live {
    is_shown: bool,
    duration: Duration,
    began: Instant,
    last: Instant,
    requests: u64,
}

impl Live {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            is_shown: io::stderr().is_terminal(),
            duration: plan.duration,
            began: Instant::now(),
            last: Instant::now(),
            requests: 0,
        }
    }

    pub(crate) fn show(&mut self, glimpse: &Glimpse) {
        let since = self.last.elapsed();
        if !self.is_shown || since < EVERY {
            return;
        }
        let rate = (glimpse.requests - self.requests) as f64 / since.as_secs_f64();
        (self.last, self.requests) = (Instant::now(), glimpse.requests);
        let line = line(glimpse, self.began.elapsed(), self.duration, rate);
        let columns = usize::from(Term::stderr().size().1);
        let _ = write!(io::stderr(), "{}", fit(&line, columns));
    }

    pub(crate) fn clear(&self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[2K");
        }
    }
}

/// Back to the first column, and nothing is left of what was there. A line that is longer than a
/// row of the terminal would stay, and another would follow it.
fn fit(line: &str, columns: usize) -> String {
    let line: String = line.chars().take(columns.saturating_sub(1)).collect();
    format!("\r\x1b[2K{line}")
}

/// The counts that are nothing are left out: what is wrong is seen.
fn line(glimpse: &Glimpse, since: Duration, duration: Duration, rate: f64) -> String {
    let Glimpse { measured, errors, shed, waiting, .. } = *glimpse;
    let progress = match measured {
        None => format!("warming up, {:.0} s: {rate:.0}/s", since.as_secs_f64()),
        Some(measured) => {
            let (measured, duration) = (measured.as_secs_f64(), duration.as_secs_f64());
            format!("{measured:.0} of {duration:.0} s: {rate:.0}/s")
        }
    };
    let counts = [(errors, "errors"), (waiting, "waiting"), (shed, "shed")];
    let wrong = counts.into_iter().filter(|(count, _)| *count > 0);
    let wrong = wrong.map(|(count, what)| format!("{count} {what}"));
    iter::once(progress).chain(wrong).collect::<Vec<_>>().join(", ")
}

/// The outcome for people; a merged one is of no single plan.
pub(crate) fn table(plan: Option<&Plan>, outcome: &Outcome) -> String {
    let mut text = String::new();
    for class in outcome.classes() {
        if !class.name.is_empty() {
            writeln!(text, "\n{}", class.name).expect("a string takes all");
        }
        of_class(&mut text, plan, class);
    }
    text
}

fn of_class(text: &mut String, plan: Option<&Plan>, outcome: &Outcome) {
    if let Some(sessions) = &outcome.sessions {
        became(text, sessions);
    }
    if outcome.requests == 0 {
        text.push_str("no reply arrived within the measurement\n");
        errors(text, outcome);
        judgement(text, outcome);
        return;
    }
    counts(text, plan, outcome);
    errors(text, outcome);
    heads(text);
    if outcome.response_histogram.is_some() {
        row(text, "response", &outcome.response_us);
    }
    row(text, "service", &outcome.service_us);
    if let Some(lag) = &outcome.schedule_lag_us {
        row(text, "sent late", lag);
    }
    known(text, &outcome.intervals);
    for (operation, summary) in &outcome.operations {
        row(text, operation, summary);
    }
    for step in &outcome.steps {
        row(text, &format!("· {}", step.name), &step.service_us);
    }
    text.push('\n');
    judgement(text, outcome);
}

/// How surely the figures are known.
fn known(text: &mut String, intervals: &[Interval]) {
    let known = intervals
        .iter()
        .filter(|interval| interval.share() < 1.0)
        .map(|interval| format!("{} ± {:.1}%", interval.measure.name(), 100.0 * interval.share()));
    let known: Vec<String> = known.collect();
    if !known.is_empty() {
        labelled(text, "known", &format!(" {} (95%)", known.join(", ")));
    }
}

/// What came of clients that are a burden to the server.
fn became(text: &mut String, sessions: &Sessions) {
    let Sessions { begun, served, abandoned, cut, .. } = sessions;
    let cuts: u64 = cut.values().sum();
    let counts = format!("{begun} begun, {served} served, {abandoned} left by us, {cuts} cut");
    labelled(text, "sessions", &counts);
    for (kind, count) in cut {
        labelled(text, "cut", &format!("{count} × {kind}"));
    }
    if let Some(first) = &sessions.first_cut {
        labelled(text, "first cut", first);
        heads(text);
        row(text, "cut after", &sessions.cut_after_us);
    }
}

fn counts(text: &mut String, plan: Option<&Plan>, outcome: &Outcome) {
    let mut line = |label: &str, value: String| labelled(text, label, &value);
    let stopped = if outcome.stopped { ", stopped early" } else { "" };
    line("requests", format!("{} in {:.2} s{stopped}", outcome.requests, outcome.elapsed_s));
    match outcome.rate_intended_per_s {
        None => line("rate", format!("{:.1} /s", outcome.rate_per_s)),
        Some(intended) => {
            line("rate", format!("{:.1} /s of {intended:.1} /s intended", outcome.rate_per_s));
            let Outcome { arrivals, sent, shed, unfinished, .. } = outcome;
            line("arrivals", format!("{arrivals}: {sent} sent, {shed} shed"));
            line("unfinished", format!("{unfinished} had no reply yet at the end"));
        }
    }
    let megabytes = outcome.bytes_received as f64 / 1e6;
    line("received", format!("{megabytes:.1} MB, {:.1} MB/s", megabytes / outcome.elapsed_s));
    if outcome.bytes_sent > 0 {
        let megabytes = outcome.bytes_sent as f64 / 1e6;
        line("stored", format!("{megabytes:.1} MB, {:.1} MB/s", megabytes / outcome.elapsed_s));
    }
    let (served, offered) = (outcome.connections_served, outcome.connections_offered);
    let fairness = outcome.jain;
    line("connections", format!("{served} served of {offered}, fairness {fairness:.3} (Jain)"));
    // Only the first class has an idle herd beside it.
    if let Some(ready) = outcome.idle_ready {
        let planned = plan.map_or(ready, |plan| plan.idle_connections);
        if planned > 0 {
            line("idle", format!("{} held of {ready} opened of {planned}", outcome.idle_held));
        }
    }
    let (cpu, busy) = (outcome.client_cpu_us_per_request, 100.0 * outcome.client_busy);
    line("client", format!("{cpu:.2} µs of CPU a request, busiest thread {busy:.0}% busy"));
    match (outcome.engine, &outcome.no_ring) {
        (Some(_), Some(why)) => line("engine", format!("epoll, for {why}")),
        (Some(engine), None) => line("engine", engine.to_string()),
        (None, _) => {}
    }
}

fn judgement(text: &mut String, outcome: &Outcome) {
    if let Some(verdict) = &outcome.verdict {
        labelled(text, "verdict", &format!("{}: {}", verdict.word, verdict.reason));
        for objection in &verdict.also {
            labelled(text, "", objection);
        }
    }
}

fn errors(text: &mut String, outcome: &Outcome) {
    for (kind, count) in &outcome.errors {
        labelled(text, "error", &format!("{count} × {kind}"));
    }
    if let Some(first) = &outcome.first_error {
        labelled(text, "first error", first);
    }
}

fn labelled(text: &mut String, label: &str, value: &str) {
    writeln!(text, "{label:<12}{value}").expect("a string takes all");
}

/// What stands above rows.
fn heads(text: &mut String) {
    let columns = ["p50", "p90", "p99", "p99.9", "p99.99", "max", "mean"];
    let heads = columns.map(|column| format!("{column:>COLUMN$}")).concat();
    labelled(text, "\nµs", &format!(" {heads}"));
}

/// Microseconds; of a tenth of a second nobody asks for tenths of them.
fn cell(us: f64) -> String {
    let digits = usize::from(us < 1e5);
    format!("{us:>COLUMN$.digits$}")
}

/// A name that is longer than its column has a line of its own.
fn row(text: &mut String, label: &str, summary: &Summary) {
    let Summary { p50, p90, p99, p999, p9999, max, mean, .. } = *summary;
    let values = [p50, p90, p99, p999, p9999, max, mean].map(cell).concat();
    if label.chars().count() > 12 {
        text.push_str(label);
        text.push('\n');
        labelled(text, "", &values);
    } else {
        labelled(text, label, &values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(glimpse: Glimpse, expected: &str) {
        let (since, duration) = (Duration::from_secs(4), Duration::from_secs(10));
        assert_eq!(line(&glimpse, since, duration, 1234.4), expected);
    }

    #[test]
    fn the_line_says_how_far_it_is_and_what_is_wrong() {
        check(Glimpse::default(), "warming up, 4 s: 1234/s");
        let measured = Some(Duration::from_secs(3));
        check(Glimpse { measured, ..Glimpse::default() }, "3 of 10 s: 1234/s");
        let glimpse = Glimpse { measured, errors: 2, shed: 7, waiting: 1, requests: 9 };
        check(glimpse, "3 of 10 s: 1234/s, 2 errors, 1 waiting, 7 shed");
    }

    #[test]
    fn rows_of_figures_fit_into_eighty_columns() {
        let minute = 6e7;
        let [p50, p90, p99] = [0.1, 99_999.94, 100_000.4];
        let (p999, p9999, max, mean) = (minute, minute, minute, minute);
        let summary = Summary { count: 1, p50, p90, p99, p999, p9999, max, mean };
        let mut text = String::new();
        heads(&mut text);
        row(&mut text, "schedule lag", &summary);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains(" 0.1  99999.9   100000 60000000 60000000 "), "{text}");
    }

    #[test]
    fn the_line_never_reaches_the_last_column() {
        let shown = |columns| fit("3 of 10 s: 1234/s, 2 errors", columns).replace("\r\x1b[2K", "");
        assert_eq!(shown(80), "3 of 10 s: 1234/s, 2 errors");
        assert_eq!(shown(20), "3 of 10 s: 1234/s, ");
        assert_eq!(shown(0), "");
    }
}
