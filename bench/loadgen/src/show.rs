//! What a user sees: a line that lives while a run lasts, and the table of its outcome.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::time::{Duration, Instant};

use loadgen::{Glimpse, Interval, Outcome, Plan, Sessions, Summary};

const EVERY: Duration = Duration::from_millis(250);

/// The line on standard error, if that is a terminal.
pub(crate) struct Live {
    is_shown: bool,
    duration: Duration,
    last: Instant,
    requests: u64,
}

impl Live {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            is_shown: io::stderr().is_terminal(),
            duration: plan.duration,
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
        let line = line(glimpse, self.duration, rate);
        // Back to the first column, and nothing is left of what was there.
        let _ = write!(io::stderr(), "\r\x1b[2K{line}");
    }

    pub(crate) fn clear(&self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[2K");
        }
    }
}

fn line(glimpse: &Glimpse, duration: Duration, rate: f64) -> String {
    let Glimpse { measured, errors, shed, waiting, .. } = glimpse;
    let Some(measured) = measured else {
        return format!("warming up, {errors} errors");
    };
    format!(
        "{:.0} s of {:.0} s: {rate:.0}/s, {errors} errors, {waiting} waiting, {shed} shed",
        measured.as_secs_f64(),
        duration.as_secs_f64()
    )
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
    let heads = columns.map(|column| format!("{column:>11}")).concat();
    labelled(text, "\nµs", &format!(" {heads}"));
}

/// A name that is longer than its column has a line of its own.
fn row(text: &mut String, label: &str, summary: &Summary) {
    let Summary { p50, p90, p99, p999, p9999, max, mean, .. } = *summary;
    let values = [p50, p90, p99, p999, p9999, max, mean].map(|us| format!("{us:>11.1}")).concat();
    if label.chars().count() > 12 {
        text.push_str(label);
        text.push('\n');
        labelled(text, "", &values);
    } else {
        labelled(text, label, &values);
    }
}
