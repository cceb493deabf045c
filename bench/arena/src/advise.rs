//! Which architecture for this work: the work is composed from what is known of it, every
//! architecture is measured under it, and the answer says why.

mod answer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use loadgen::{Arrivals, Protocol, Rate};

use crate::Usage;
use crate::capacity::{ARRIVALS, Bound};
use crate::catalogue::{Catalogue, pick, require_programs};
use crate::progress::{counted, for_people};
use crate::record::{Header, Writer};
use crate::stage::Stage;
use crate::table::number;
use crate::workload::{CONNECTIONS_MAX, Workload};
use crate::{machine, programs, report, run};

/// How its runs are called.
pub(crate) const PROFILE: &str = "advise";
/// What a run may take, so that all is told within two minutes.
const BUDGET_MS: u64 = 108_000;
const WARM_UP_MS: u64 = 200;
const SHORTEST_MS: u64 = 400;
/// Longer than this only where the blocks together would have too few replies for a 99th
/// percentile.
const COMFORTABLE_MS: u64 = 1000;
/// Poisson arrivals may be fewer than they are on average.
const MORE_ARRIVALS: f64 = 1.1;
/// A cell has time for so many requests one after the other, and its warm-up for two.
const REQUESTS_LONG: f64 = 5.0;
/// Starting, verifying and stopping.
const OVERHEAD_MS: u64 = 150;
const BLOCKS: u32 = 3;
/// Beside what is asked for, to see how much room there is.
pub(super) const MORE: f64 = 1.5;
/// A pool that gives each connection a worker has no more than this.
pub(super) const WORKERS_MAX: usize = 1024;

/// What is known of the work.
#[derive(Args, Clone, Debug)]
pub(crate) struct Question {
    /// Connections that are open at a time (1 to 20000)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    connections: u32,
    /// The share of them that are idle (0 to 1)
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    idle_share: f64,
    /// Requests a second of all connections together
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    rate: f64,
    /// Processor time of a request, in microseconds, beside what the server itself needs
    #[arg(long, value_name = "US", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=10_000_000))]
    cpu_us: u64,
    /// How long a request blocks its thread, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=10_000))]
    block_ms: u64,
    /// Processors for the server
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    cores: u16,
    /// The response time that 99 of 100 requests must have at most, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 100.0, value_parser = bound)]
    p99_ms: f64,
    /// Only this architecture (may be repeated) [default: all]
    #[arg(long, value_name = "NAME")]
    architecture: Vec<String>,
    /// The seed of the order and of the arrivals [default: a new one]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where to record [default: results of the repository]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn share(text: &str) -> Result<f64, &'static str> {
    let share = text.parse().ok().filter(|share| (0.0..1.0).contains(share));
    share.ok_or("give the part of all connections that is idle: 0 to less than 1, such as 0.9")
}

fn rate(text: &str) -> Result<f64, &'static str> {
    let rate = text.parse().ok().filter(|rate| (0.1..=1e6).contains(rate));
    rate.ok_or("give requests a second, 0.1 to 1000000")
}

fn bound(text: &str) -> Result<f64, &'static str> {
    let bound = text.parse().ok().filter(|bound| (0.01..=10_000.0).contains(bound));
    bound.ok_or("give milliseconds, 0.01 to 10000")
}

/// Measures and answers; true if it came to its end.
pub(crate) fn advise(
    catalogue: &Catalogue,
    question: &Question,
    stop: &AtomicBool,
) -> anyhow::Result<bool> {
    question.check(machine::processors())?;
    let all = &catalogue.architectures;
    let contestants = pick("architecture", all, &question.architecture, |one| &one.name)?;
    require_programs(&contestants)?;
    for line in question.arithmetic() {
        println!("{line}");
    }
    let started = jiff::Timestamp::now();
    let seed = question.seed.unwrap_or_else(|| fastrand::u64(..));
    let workloads = question.workloads(contestants.len());
    let mut header = Header::new(started, PROFILE, seed, contestants, workloads);
    header.machine.placement.keep_off_the_server()?;
    let stage = Stage::new(header.machine.placement.clone(), None, 0)?;
    stage.describe(&mut header.machine);
    header.programs = programs(&header.contestants)?;

    let results = question.out.clone().unwrap_or_else(|| catalogue.root.join("results"));
    let mut writer = Writer::create(&results, started, header)?;
    let (cells, planned_ms) = run::planned(writer.run());
    let planned = Duration::from_millis(planned_ms);
    eprintln!("{}, about {}", counted(cells, "cell"), for_people(planned));
    run::run(&mut writer, &stage, stop)?;
    let files = report::generate(&results)?;
    let how_it_fails = |name: &str| answer::how_it_fails(&catalogue.root, name);
    // Half of the cells are no evidence.
    if !stop.load(Ordering::SeqCst) {
        let table = answer::table(question, writer.run());
        let columns = report::terminal_columns();
        print!("{}", report::table_for_terminal(&table, writer.run(), columns));
        for line in answer::answer(question, writer.run(), how_it_fails) {
            println!("{line}");
        }
    }
    println!("{}", report::written(&files, writer.folder()));
    Ok(!stop.load(Ordering::SeqCst))
}

impl Question {
    /// What a request takes at least.
    fn service_s(&self) -> f64 {
        self.cpu_us as f64 / 1e6 + self.block_ms as f64 / 1e3
    }

    /// Connections that ask.
    fn active(&self) -> usize {
        let active = f64::from(self.connections) * (1.0 - self.idle_share);
        (active.round() as usize).max(1)
    }

    fn idle(&self) -> usize {
        self.connections as usize - self.active()
    }

    /// Processors that the requests keep busy.
    fn processors_needed(&self) -> f64 {
        self.rate * self.cpu_us as f64 / 1e6
    }

    /// Requests that are being served on average, by Little's law.
    fn in_flight(&self) -> f64 {
        self.rate * self.service_s()
    }

    fn bound(&self) -> Bound {
        Bound { p99_ms: self.p99_ms }
    }

    /// Refuses what no server can do, by arithmetic.
    fn check(&self, processors: usize) -> Result<(), Usage> {
        let refuse = |why: String| Err(Usage(why));
        let (rate, cores) = (self.rate, f64::from(self.cores));
        if usize::from(self.cores) > processors {
            let there = counted(processors, "processor");
            return refuse(format!("this machine has {there}: give --cores {processors} at most"));
        }
        let needed = self.processors_needed();
        if needed >= cores {
            let most = cores * 1e6 / self.cpu_us as f64;
            return refuse(format!(
                "{rate} requests a second × {} µs of processor time keep {needed:.2} processors \
                 busy, and the server has {cores}: no architecture can do that; \
                 ask for less than {most:.0} a second, or give it more --cores",
                self.cpu_us
            ));
        }
        let service = number(self.service_s() * 1e3);
        if self.service_s() * 1e3 > self.p99_ms {
            return refuse(format!(
                "a request takes {service} ms, which is more than the p99 of {} ms: \
                 no architecture can do that; raise --p99-ms",
                self.p99_ms
            ));
        }
        if self.in_flight() > self.active() as f64 {
            let most = self.active() as f64 / self.service_s();
            return refuse(format!(
                "{rate} requests a second × {service} ms are {:.1} requests at a time, \
                 and {} of the connections ask: no architecture can do that; \
                 ask for less than {most:.0} a second, or over more connections",
                self.in_flight(),
                self.active()
            ));
        }
        Ok(())
    }

    /// What can be said without measuring.
    fn arithmetic(&self) -> Vec<String> {
        let (rate, cores) = (self.rate, f64::from(self.cores));
        let mut lines = vec!["By arithmetic:".to_owned()];
        if self.cpu_us > 0 {
            lines.push(format!(
                "- The requests' own processor time is {:.2} of {cores}: {rate} a second × {} µs. \
                 The ceiling of every architecture is {:.0} a second.",
                self.processors_needed(),
                self.cpu_us,
                cores * 1e6 / self.cpu_us as f64
            ));
        }
        if self.service_s() > 0.0 {
            lines.push(format!(
                "- {:.1} requests are served at a time on average (Little's law: {rate} a second × \
                 {} ms), so fewer workers than that cannot do it.",
                self.in_flight(),
                number(self.service_s() * 1e3)
            ));
            lines.push(format!(
                "- The ceiling of whoever serves one request at a time is {:.0} a second \
                 (1 / {} ms): of one event loop that runs jobs itself, and of serial.",
                1.0 / self.service_s(),
                number(self.service_s() * 1e3)
            ));
        }
        lines.push(format!(
            "- Where each connection holds a worker, {} are needed, of which {} idle.",
            counted(self.connections as usize, "worker"),
            self.idle()
        ));
        lines.push(String::new());
        lines
    }

    /// The work at what is asked for, and at more where that is possible.
    fn workloads(&self, candidates: usize) -> Vec<Workload> {
        let more = self.rate * MORE;
        let possible = Self { rate: more, ..self.clone() }.check(usize::MAX).is_ok();
        // One of them is measured twice.
        let cells = (candidates as u64 + 1) * u64::from(BLOCKS);
        let around_ms = self.warm_up_ms() + OVERHEAD_MS;
        let least_ms = SHORTEST_MS.max((self.service_s() * 1e3 * REQUESTS_LONG) as u64);
        let wanted_ms = |rate: f64| {
            let enough_ms = ARRIVALS * MORE_ARRIVALS / f64::from(BLOCKS) / rate * 1e3;
            (enough_ms as u64).max(COMFORTABLE_MS)
        };
        // What is asked for comes first; the other has what is left of the time.
        let each_ms = BUDGET_MS / cells;
        let other_ms = if possible { around_ms + least_ms } else { 0 };
        let left_ms = each_ms.saturating_sub(other_ms + around_ms);
        let asked_ms = wanted_ms(self.rate).min(left_ms).max(least_ms);
        let left_ms = each_ms.saturating_sub(asked_ms + 2 * around_ms);
        let more_ms = wanted_ms(more).min(left_ms).max(least_ms);
        let asked = self.workload(self.rate, asked_ms);
        let more = possible.then(|| self.workload(more, more_ms));
        [asked].into_iter().chain(more).collect()
    }

    fn warm_up_ms(&self) -> u64 {
        WARM_UP_MS.max((self.service_s() * 2e3) as u64)
    }

    fn workload(&self, rate: f64, duration_ms: u64) -> Workload {
        let path = match (self.cpu_us, self.block_ms) {
            (0, 0) => "/plaintext".to_owned(),
            (cpu_us, block_ms) => format!("/work/{cpu_us}/{block_ms}"),
        };
        let question = format!(
            "{} connections, {} of them idle; {} requests a second, each with {} µs of processor \
             time and {} ms in which it blocks; {}; p99 within {} ms.",
            self.connections,
            self.idle(),
            self.rate,
            self.cpu_us,
            self.block_ms,
            counted(self.cores.into(), "processor"),
            self.p99_ms
        );
        let workers = (self.connections as usize).clamp(1, WORKERS_MAX);
        Workload {
            name: format!("advise-{rate}"),
            series: Some("advise".to_owned()),
            title: "Advice: which architecture for this work".to_owned(),
            question,
            expectation: "What arithmetic allows.".to_owned(),
            path,
            connections: self.active().min(CONNECTIONS_MAX),
            idle_connections: self.idle(),
            rate: Some(Rate::Constant(rate)),
            arrivals: Some(Arrivals::Poisson),
            workers: Some(workers),
            cores: Some(self.cores.into()).filter(|cores| *cores > 1),
            warm_up_ms: self.warm_up_ms(),
            duration_ms,
            blocks: BLOCKS,
            ..Workload::new(Protocol::Http)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn question() -> Question {
        Question {
            connections: 100,
            idle_share: 0.5,
            rate: 400.0,
            cpu_us: 200,
            block_ms: 20,
            cores: 1,
            p99_ms: 100.0,
            architecture: Vec::new(),
            seed: None,
            out: None,
        }
    }

    #[test]
    fn what_no_server_can_do_is_refused_by_arithmetic() {
        let check = |question: Question, expected: &str| {
            let said = question.check(2).unwrap_err().0;
            assert!(said.contains(expected), "{said}");
        };
        assert!(question().check(2).is_ok());
        let busy = Question { rate: 6000.0, block_ms: 0, ..question() };
        check(busy, "keep 1.20 processors busy, and the server has 1");
        let late = Question { p99_ms: 15.0, ..question() };
        check(late, "a request takes 20.2 ms, which is more than the p99 of 15 ms");
        let few = Question { connections: 10, ..question() };
        check(few, "are 8.1 requests at a time, and 5 of the connections ask");
        check(Question { cores: 4, ..question() }, "this machine has 2 processors");
    }

    #[test]
    fn the_arithmetic_names_the_ceilings() {
        let said = question().arithmetic().join("\n");
        for expected in ["0.08 of 1", "is 5000 a second", "8.1 requests", "is 50 a second"] {
            assert!(said.contains(expected), "{said}");
        }
    }

    #[test]
    fn the_work_is_composed_as_it_was_told_and_takes_two_minutes_at_most() {
        for candidates in [1, 12, 40] {
            let workloads = question().workloads(candidates);
            let rates: Vec<String> = workloads.iter().map(|one| one.name.clone()).collect();
            assert_eq!(rates, ["advise-400", "advise-600"]);
            let first = &workloads[0];
            assert_eq!((first.connections, first.idle_connections), (50, 50));
            assert_eq!((first.path.as_str(), first.workers), ("/work/200/20", Some(100)));
            let cells = (candidates as u64 + 1) * u64::from(BLOCKS);
            let cell_ms = |one: &Workload| one.warm_up_ms + one.duration_ms + OVERHEAD_MS;
            let all_ms = cells * workloads.iter().map(cell_ms).sum::<u64>();
            assert!(all_ms <= 110_000 || first.duration_ms == SHORTEST_MS, "{all_ms}");
        }
        // Of sixteen, the blocks together have replies enough for a 99th percentile.
        let first = &question().workloads(16)[0];
        let replies = 400.0 * first.duration_ms as f64 / 1e3 * f64::from(first.blocks);
        assert!(replies > ARRIVALS, "{replies}");
        // Half as much again would keep the processor busy.
        let full = Question { rate: 4000.0, block_ms: 0, ..question() };
        assert_eq!(full.workloads(12).len(), 1);
    }
}
