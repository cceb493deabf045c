//! How far a run is and how long it will still take, on standard error.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Without a terminal there is a line of text now and then instead of a bar.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The progress of a run, in planned milliseconds.
pub(crate) struct Progress {
    bar: ProgressBar,
    started: Instant,
    last_line: Option<Instant>,
    doing: String,
}

impl Progress {
    pub(crate) fn new(planned_ms: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(planned_ms), ProgressDrawTarget::stderr());
        let style =
            ProgressStyle::with_template("[{bar:32}] {wide_msg}").expect("the template is fixed");
        bar.set_style(style.progress_chars("=> "));
        Self { bar, started: Instant::now(), last_line: None, doing: String::new() }
    }

    /// Says what is done now.
    pub(crate) fn doing(&mut self, what: String) {
        self.doing = what;
        self.show();
    }

    /// So much of the plan is behind us.
    pub(crate) fn done(&mut self, planned_ms: u64) {
        self.bar.inc(planned_ms);
        self.show();
    }

    /// A line that stays, such as a failure.
    pub(crate) fn note(&self, line: &str) {
        if self.bar.is_hidden() {
            eprintln!("{line}");
        } else {
            self.bar.println(line);
        }
    }

    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }

    fn show(&mut self) {
        let left = left(self.started.elapsed(), self.bar.position(), self.bar.length());
        let message = format!("{} left · {}", for_people(left), self.doing);
        if self.bar.is_hidden() && self.last_line.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
            eprintln!("{message}");
            self.last_line = Some(Instant::now());
        }
        self.bar.set_message(message);
    }
}

/// The rest of the plan, stretched by how much longer than planned it has taken so far.
fn left(elapsed: Duration, done_ms: u64, planned_ms: Option<u64>) -> Duration {
    let rest = Duration::from_millis(planned_ms.unwrap_or(0).saturating_sub(done_ms));
    if done_ms == 0 { rest } else { rest.mul_f64(elapsed.as_secs_f64() * 1000.0 / done_ms as f64) }
}

/// Minutes and seconds, rounded up.
pub(crate) fn for_people(time: Duration) -> String {
    let seconds = time.as_millis().div_ceil(1000);
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, seconds) => format!("{minutes} min {seconds} s"),
    }
}

/// So many of them, with the plural that there is.
pub(crate) fn counted(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_grows_with_what_the_plan_forgot() {
        let second = Duration::from_secs(1);
        assert_eq!(left(Duration::ZERO, 0, Some(90_000)), second * 90);
        assert_eq!(left(second * 20, 10_000, Some(90_000)), second * 160);
        assert_eq!(left(second, 90_000, Some(90_000)), Duration::ZERO);
    }

    #[test]
    fn times_and_counts_read_as_they_are_said() {
        assert_eq!(for_people(Duration::from_millis(165_100)), "2 min 46 s");
        assert_eq!(for_people(Duration::from_secs(46)), "46 s");
        assert_eq!(counted(1, "cell"), "1 cell");
        assert_eq!(counted(0, "cell"), "0 cells");
    }
}
