//! Latency by percentile: one curve for each contestant, over all blocks in which it counts.
//!
//! The horizontal axis is logarithmic in the share of replies that took longer, as is usual for
//! HDR histograms, and a curve ends where fewer than ten replies lie beyond.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use maud::{Markup, html};

use super::standing::{family, latencies};
use crate::record::Run;
use crate::table::{Line, Table, Verdict, lines, number};
use crate::workload::Workload;

/// As the load generator asks of a percentile.
const REPLIES_BEYOND_MIN: f64 = 10.0;
const DECADES: i32 = 7;

const LEFT: f64 = 58.0;
const RIGHT: f64 = 560.0;
const TOP: f64 = 14.0;
/// Of the labels behind the curves, from line to line.
const LABEL_HEIGHT: f64 = 15.0;
const WIDTH: f64 = 760.0;
const HEIGHT_MIN: f64 = 260.0;

/// The latencies of a workload, as far as they count.
pub(super) struct Curves<'a> {
    workload: &'a Workload,
    drawn: Vec<Curve<'a>>,
    /// Those without latencies that count.
    missing: Vec<String>,
}

struct Curve<'a> {
    line: Line<'a>,
    latencies: Histogram<u64>,
    /// The latency in nanoseconds at each percentile that it knows.
    points: Vec<(Quantile, f64)>,
}

/// A place on the horizontal axis.
struct Quantile {
    /// The share of replies that take longer.
    beyond: f64,
    percent: String,
}

impl Quantile {
    fn x(&self) -> f64 {
        -self.beyond.log10()
    }
}

/// Percentiles that people read, about as far from each other along the axis.
fn quantiles() -> impl Iterator<Item = Quantile> {
    let body = [1.0, 0.9, 0.75, 0.5, 0.25];
    let tail = [1.0, 0.5, 0.2];
    let decade = move |power| tail.into_iter().map(move |digit| (power, digit));
    let all = body.into_iter().map(|beyond| (0, beyond)).chain((1..DECADES).flat_map(decade));
    all.map(|(power, digit)| {
        let beyond = digit / 10_f64.powi(power);
        let percent = format!("{:.*}", power as usize, 100.0 * (1.0 - beyond));
        let trimmed = percent.trim_end_matches('0').trim_end_matches('.');
        let percent = if percent.contains('.') { trimmed } else { &percent };
        Quantile { beyond, percent: percent.to_owned() }
    })
}

impl<'a> Curve<'a> {
    /// None where too little is known to draw a line.
    fn of(line: Line<'a>, latencies: Histogram<u64>) -> Option<Self> {
        let known = quantiles().take_while(|one| knows(&latencies, one.beyond));
        let point = |one: Quantile| {
            let nanoseconds = latencies.value_at_quantile(1.0 - one.beyond);
            (one, nanoseconds.max(1) as f64)
        };
        let points: Vec<_> = known.map(point).collect();
        (points.len() > 1).then_some(Self { line, latencies, points })
    }
}

fn knows(latencies: &Histogram<u64>, beyond: f64) -> bool {
    latencies.len() as f64 * beyond >= REPLIES_BEYOND_MIN
}

impl<'a> Curves<'a> {
    pub(super) fn of(run: &'a Run, workload: &'a Workload) -> Self {
        let (mut drawn, mut missing) = (Vec::new(), Vec::new());
        for line in lines(run, workload) {
            let (name, worst) = (line.name(), line.worst());
            let latencies = latencies(&line);
            let why = match (&latencies, worst) {
                (Some(_), _) => "too few replies",
                (None, Verdict::Valid) => "not recorded",
                (None, verdict) => verdict.code(),
            };
            match latencies.and_then(|latencies| Curve::of(line, latencies)) {
                Some(curve) => drawn.push(curve),
                None => missing.push(format!("{name} ({why})")),
            }
        }
        Self { workload, drawn, missing }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.drawn.is_empty()
    }

    /// Those that are not drawn, with the verdict that says why.
    pub(super) fn missing(&self) -> &[String] {
        &self.missing
    }

    /// What kind of latency it is.
    pub(super) fn kind(&self) -> &'static str {
        let is_open = self.workload.is_open() || self.workload.capacity.is_some();
        if is_open { "Response time" } else { "Service time" }
    }

    /// The same as numbers.
    pub(super) fn table(&self) -> Table {
        let columns =
            vec!["architecture", "replies", "p50 µs", "p90 µs", "p99 µs", "p99.9 µs", "p99.99 µs"];
        let row = |curve: &Curve<'_>| {
            let at = |beyond: f64| {
                let us = curve.latencies.value_at_quantile(1.0 - beyond) as f64 / 1e3;
                if knows(&curve.latencies, beyond) { number(us) } else { "–".to_owned() }
            };
            let replies = number(curve.latencies.len() as f64);
            let percentiles = [0.5, 0.1, 0.01, 1e-3, 1e-4].map(at);
            [curve.line.name(), replies].into_iter().chain(percentiles).collect()
        };
        let rows = self.drawn.iter().map(row).collect();
        Table { columns, rows, remarks: Vec::new() }
    }

    pub(super) fn chart(&self) -> Markup {
        let axes = Axes::of(&self.drawn);
        let labels = self.labels(&axes);
        let percents: Vec<String> = quantiles().map(|one| one.percent).collect();
        let places: Vec<String> = quantiles().map(|one| axes.x(&one)).collect();
        let height = axes.bottom + 40.0;
        let title = format!("{} by percentile, {}", self.kind(), self.workload.name);
        html! {
            svg.curves role="img" tabindex="0" viewBox=(format!("0 0 {WIDTH} {height}"))
                aria-label=(format!("{title}. The table below it has the numbers."))
                data-percents=(percents.join("|")) data-places=(places.join("|")) {
                (axes.draw())
                @for (curve, label) in self.drawn.iter().zip(labels) {
                    (curve.draw(&axes, label))
                }
                line.cursor x1="0" x2="0" y1=(TOP) y2=(axes.bottom) visibility="hidden" {}
            }
        }
    }

    /// Where the label of each curve stands: beside its end, as far as they leave room for each
    /// other.
    fn labels(&self, axes: &Axes) -> Vec<f64> {
        let end = |curve: &Curve<'_>| curve.points.last().map_or(TOP, |(_, y)| axes.y(*y));
        let ends: Vec<f64> = self.drawn.iter().map(end).collect();
        let mut order: Vec<usize> = (0..ends.len()).collect();
        order.sort_by(|a, b| ends[*a].total_cmp(&ends[*b]));
        let mut places = ends;
        let mut free = TOP;
        for index in &order {
            places[*index] = places[*index].max(free);
            free = places[*index] + LABEL_HEIGHT;
        }
        let mut free = axes.bottom;
        for index in order.iter().rev() {
            places[*index] = places[*index].min(free);
            free = places[*index] - LABEL_HEIGHT;
        }
        places
    }
}

impl Curve<'_> {
    fn draw(&self, axes: &Axes, label: f64) -> Markup {
        let (mut path, mut values, mut end) = (String::new(), Vec::new(), (LEFT, axes.bottom));
        for (index, (quantile, nanoseconds)) in self.points.iter().enumerate() {
            let (x, y) = (axes.x(quantile), axes.y(*nanoseconds));
            let command = if index == 0 { 'M' } else { 'L' };
            write!(path, "{command}{x} {y:.1}").expect("a string takes all");
            values.push(for_people(*nanoseconds));
            end = (axes.x_of(quantile.x()), y);
        }
        let (x, y) = end;
        let leader = format!("M{x:.0} {y:.1}L{:.0} {label:.0}H{:.0}", RIGHT + 12.0, RIGHT + 18.0);
        let peer = if self.line.contestant.is_peer() { "peer" } else { "" };
        html! {
            g.curve.(family(self.line.contestant)) .(peer)
                data-architecture=(self.line.contestant.name) data-values=(values.join("|")) {
                path.line d=(path) {}
                path.leader d=(leader) {}
                text x=(RIGHT + 22.0) y=(format!("{:.0}", label + 4.0)) { (self.line.name()) }
            }
        }
    }
}

struct Axes {
    /// The right end, in decades.
    decades: f64,
    /// Both ends in nanoseconds.
    low: f64,
    high: f64,
    bottom: f64,
}

impl Axes {
    fn of(curves: &[Curve<'_>]) -> Self {
        let points = || curves.iter().flat_map(|curve| &curve.points);
        let decades = points().map(|(one, _)| one.x()).fold(1.0, f64::max);
        let low = points().map(|(_, y)| *y).fold(f64::MAX, f64::min);
        let high = points().map(|(_, y)| *y).fold(1.0, f64::max);
        let bottom = TOP + HEIGHT_MIN.max(LABEL_HEIGHT * curves.len() as f64);
        // A distribution that is nearly flat is to look so.
        let (low, high) = (low * 0.95, (high * 1.05).max(low * 3.0));
        Self { decades, low, high, bottom }
    }

    fn x(&self, quantile: &Quantile) -> String {
        format!("{:.0}", self.x_of(quantile.x()))
    }

    fn x_of(&self, decades: f64) -> f64 {
        LEFT + decades / self.decades * (RIGHT - LEFT)
    }

    fn y(&self, nanoseconds: f64) -> f64 {
        let share = (nanoseconds / self.low).ln() / (self.high / self.low).ln();
        self.bottom - share * (self.bottom - TOP)
    }

    /// 1, 2 and 5 of each decade, or only the decades where there are many.
    fn ticks(&self) -> impl Iterator<Item = f64> {
        let is_wide = self.high / self.low > 200.0;
        let digits: &[f64] = if is_wide { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let all = (0..12).flat_map(|power| digits.iter().map(move |one| one * 10_f64.powi(power)));
        all.filter(|tick| (self.low..=self.high).contains(tick))
    }

    fn draw(&self) -> Markup {
        let percents = ["0", "50", "90", "99", "99.9", "99.99", "99.999", "99.9999"];
        let named = |one: &Quantile| percents.contains(&one.percent.as_str());
        let shown = quantiles().filter(named).filter(|one| one.x() <= self.decades + 1e-9);
        let (below, middle) = (self.bottom + 17.0, f64::midpoint(LEFT, RIGHT));
        html! {
            g.axes {
                @for tick in self.ticks() {
                    @let y = format!("{:.1}", self.y(tick));
                    line.grid x1=(LEFT) x2=(RIGHT) y1=(y) y2=(y) {}
                    text.left x=(LEFT - 8.0) y=(format!("{:.1}", self.y(tick) + 4.0)) {
                        (for_people(tick))
                    }
                }
                @for one in shown {
                    @let x = self.x(&one);
                    line.grid x1=(x) x2=(x) y1=(TOP) y2=(self.bottom) {}
                    text.below x=(x) y=(below) { (one.percent) }
                }
                text.below x=(middle) y=(below + 17.0) { "percentile" }
            }
        }
    }
}

/// With the unit in which it has few digits.
fn for_people(nanoseconds: f64) -> String {
    let (value, unit) = match nanoseconds {
        small if small < 999_500.0 => (nanoseconds / 1e3, "µs"),
        middling if middling < 999_500_000.0 => (nanoseconds / 1e6, "ms"),
        _ => (nanoseconds / 1e9, "s"),
    };
    let text = number(value);
    let short = text.trim_end_matches('0').trim_end_matches('.');
    format!("{} {unit}", if text.contains('.') { short } else { &text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_that_people_read() {
        let percents: Vec<String> = quantiles().map(|one| one.percent).collect();
        assert_eq!(percents[..3], ["0", "10", "25"]);
        for percent in ["50", "75", "90", "98", "99", "99.9", "99.95", "99.9998"] {
            assert!(percents.iter().any(|one| one == percent), "{percent} in {percents:?}");
        }
    }

    #[test]
    fn times_have_the_unit_that_suits_them() {
        assert_eq!(for_people(1000.0), "1 µs");
        assert_eq!(for_people(12_340.0), "12.3 µs");
        assert_eq!(for_people(5_000_000.0), "5 ms");
        assert_eq!(for_people(100_000_000.0), "100 ms");
        assert_eq!(for_people(1_500_000_000.0), "1.5 s");
    }
}
