//! The harness: runs every architecture on the same work, records it and reports it.
//!
//! Its exit code is 0 when all went well, 1 when a contestant did something wrong, 2 when it was
//! asked for what there is not, 3 when `arena doctor` finds the machine unfit, and 130 when it was
//! interrupted.

mod accounting;
mod advise;
mod calibration;
mod capacity;
mod catalogue;
mod certificate;
mod check;
mod contestant;
mod coverage;
mod definition;
mod doctor;
mod machine;
mod netns;
mod peer;
mod progress;
mod ranking;
mod record;
mod report;
mod resume;
mod run;
mod sample;
mod scalability;
mod series;
mod shares;
mod stage;
mod stats;
mod syscalls;
mod table;
mod unit;
mod verify;
mod workload;
mod wrk;

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::calibration::Bench;
use crate::catalogue::{Catalogue, Contestant, pick, require_programs};
use crate::machine::{Counting, Machine};
use crate::peer::{Peer, Sought};
use crate::record::{Header, Writer};
use crate::resume::Present;
use crate::stage::Stage;
use crate::stats::BLOCKS_FOR_AN_INTERVAL;
use crate::workload::Workload;

/// What is put behind the server where a workload has a backend.
const BACKEND: &str = "thread-per-connection";
const INTERRUPTED: u8 = 130;
const UNFIT: u8 = 3;
/// The profile of a run that measures the load generator.
const CALIBRATION: &str = "calibration";

/// Something was asked for that there is not: one line that says what to do, exit code 2.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Measures server architectures on the same work and reports what came out.
#[derive(Parser)]
#[command(version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
    /// The folder of workload files [default: bench/workloads of the repository]
    #[arg(long, global = true, value_name = "DIR")]
    workloads: Option<PathBuf>,
    /// The folder of files that define servers of other people [default: bench/contestants of the
    /// repository]
    #[arg(long, global = true, value_name = "DIR")]
    contestants: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Names the architectures and the workloads
    List {
        /// Print what books and papers know of which architecture: architectures/README.md
        #[arg(long)]
        coverage: bool,
    },
    /// Measures, records, reports
    Run(RunOptions),
    /// Says which architecture suits a work that you describe, by measuring all of them under it
    Advise(advise::Question),
    /// Measures the load generator: beside wrk, against its own schedule, and by what it holds
    Calibrate(CalibrateOptions),
    /// Generates results/README.md, report.html and heat-map.svg from the raw records
    Report {
        /// Where the recorded runs are [default: results of the repository]
        #[arg(long, value_name = "DIR")]
        results: Option<PathBuf>,
    },
    /// Compares two recorded runs: did a change help?
    Diff {
        /// The folder of the run before, or its name in the results
        #[arg(value_name = "A")]
        first: String,
        /// The run after
        #[arg(value_name = "B")]
        second: String,
        /// Where the recorded runs are [default: results of the repository]
        #[arg(long, value_name = "DIR")]
        results: Option<PathBuf>,
    },
    /// Looks whether this machine is fit to measure, and says what to change
    Doctor,
    /// Starts every architecture with every protocol and makes a real request, without timing
    Check,
}

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
struct RunOptions {
    /// Only this workload (may be repeated) [default: those with quick = true, or beside servers
    /// of other people those with peers = true]
    #[arg(long, value_name = "NAME")]
    workload: Vec<String>,
    /// Only this architecture (may be repeated) [default: all]
    #[arg(long, value_name = "NAME")]
    architecture: Vec<String>,
    /// Also the variants of architectures
    #[arg(long)]
    variants: bool,
    /// The longer set of workloads, those with `full_ms`, each measured for so long
    #[arg(long, conflicts_with_all = ["workload", "peers", "peer"])]
    full: bool,
    /// Goes on with a run that was interrupted, if nothing has changed since: a folder, a name in
    /// the results, or the newest
    #[arg(long, value_name = "RUN", num_args = 0..=1, default_missing_value = resume::NEWEST)]
    #[arg(conflicts_with_all = [
        "workload", "architecture", "variants", "full", "peers", "peer", "blocks", "seconds",
        "seed", "plan", "client", "netns",
    ])]
    resume: Option<String>,
    /// Beside the servers of other people that are on this machine
    #[arg(long)]
    peers: bool,
    /// Beside this one of them (may be repeated)
    #[arg(long, value_name = "NAME")]
    peer: Vec<String>,
    /// What loads the servers; wrk has closed loops of GET, and counts from its start on
    #[arg(long, value_enum, default_value_t = LoadedBy::Loadgen)]
    client: LoadedBy,
    /// In a network namespace of its own, whose loopback has this MTU (576 to 65536)
    #[arg(long, value_name = "MTU", num_args = 0..=1, default_missing_value = netns::MTU)]
    #[arg(value_parser = clap::value_parser!(u32).range(576..=65_536))]
    netns: Option<u32>,
    /// Repetitions of everything instead of what the workloads say
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    blocks: Option<u32>,
    /// Seconds to measure each cell instead of what the workloads say (1 to 600)
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: Option<u64>,
    /// The seed of the order of contestants [default: a new one]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Only says what would be measured, and how long it would take
    #[arg(long)]
    plan: bool,
    /// Where to record [default: results of the repository]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum LoadedBy {
    Loadgen,
    Wrk,
}

#[derive(Args)]
struct CalibrateOptions {
    /// Repetitions of everything; fewer than 5 give no interval
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    blocks: u32,
    /// Seconds that each client works (1 to 600)
    #[arg(long, value_name = "S", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// The seed of the order of clients and of their arrivals [default: a new one]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where to record [default: results of the repository]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => return loadgen::usage::refuse("arena", &error),
    };
    let code = command(line).unwrap_or_else(|error| {
        eprintln!("arena: {error:#}");
        let usage = error.is::<Usage>() || error.is::<definition::Malformed>();
        if usage { 2 } else { 1 }
    });
    ExitCode::from(code)
}

fn command(line: CommandLine) -> anyhow::Result<u8> {
    let catalogue = catalogue::discover()?;
    let own_folder = line.workloads.is_some();
    let folder = line.workloads.unwrap_or_else(|| catalogue.root.join("bench/workloads"));
    let peers = line.contestants.unwrap_or_else(|| catalogue.root.join("bench/contestants"));
    match line.command {
        Command::List { coverage: true } => {
            print!("{}", coverage::text(&catalogue));
            Ok(0)
        }
        Command::List { coverage: false } => {
            match list(&catalogue, &peer::load_folder(&peers)?, &workload::load_folder(&folder)?) {
                // Whoever reads it has seen enough, as `head` does.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
                listed => Ok(listed.map(|()| 0)?),
            }
        }
        Command::Run(options) => {
            let all = workload::load_folder(&folder)?;
            let results = options.out.clone();
            let results = results.unwrap_or_else(|| catalogue.root.join("results"));
            if let Some(wanted) = &options.resume {
                return resume(&catalogue, &peers, &all, &results, wanted);
            }
            options.netns.map_or(Ok(()), netns::enter)?;
            let peers = wanted_peers(&catalogue, &peers, &options)?;
            measure(&catalogue, peers, &all, own_folder, &results, &options)
        }
        Command::Advise(question) => {
            let stop = interrupted_by_signals()?;
            let whole = advise::advise(&catalogue, &question, &stop)?;
            Ok(if whole { 0 } else { INTERRUPTED })
        }
        Command::Calibrate(options) => calibrate(&catalogue, options),
        Command::Report { results } => {
            let results = results.unwrap_or_else(|| catalogue.root.join("results"));
            for file in report::generate(&results)? {
                println!("{}", file.display());
            }
            Ok(0)
        }
        Command::Diff { first, second, results } => {
            let results = results.unwrap_or_else(|| catalogue.root.join("results"));
            let [first, second] = [first, second].map(|run| report::find(&results, &run));
            print!("{}", report::diff(&first?, &second?));
            Ok(0)
        }
        Command::Doctor => {
            let findings = doctor::examine(&workload::load_folder(&folder)?);
            print!("{}", doctor::told(&findings));
            let is_unfit = findings.iter().any(|one| one.fitness == doctor::Fitness::Unfit);
            Ok(if is_unfit { UNFIT } else { 0 })
        }
        Command::Check => {
            let stop = interrupted_by_signals()?;
            check::check(&catalogue, &stop)
        }
    }
}

fn list(catalogue: &Catalogue, peers: &[Peer], workloads: &[Workload]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "Architectures:")?;
    for one in &catalogue.architectures {
        writeln!(out, "  {:24} {}", one.name, one.description)?;
    }
    writeln!(out, "\nVariants (run where they are named, and with --variants):")?;
    for one in &catalogue.variants {
        writeln!(out, "  {:28} {}", one.name, one.description)?;
    }
    writeln!(out, "\nFloors:")?;
    for one in &catalogue.floors {
        writeln!(out, "  {:24} {}", one.name, one.description)?;
    }
    writeln!(out, "\nServers of other people (run beside ours with --peers):")?;
    for one in peers {
        writeln!(out, "  {:24} {}", one.name, one.description)?;
        match one.seek(&catalogue.root) {
            Sought::Found(found) => {
                writeln!(out, "{:26} {}", "", found.version.unwrap_or_default())?;
            }
            Sought::Missing(why) => writeln!(out, "{:26} not here; {why}", "")?,
        }
    }
    writeln!(
        out,
        "\nWorkloads, in the set that runs when nothing is named (*), of --full (f), of --peers \
         (+), with variants (v):"
    )?;
    let mut known = "";
    for one in workloads {
        // The levels of a series are run together.
        if std::mem::replace(&mut known, one.family()) == one.family() {
            continue;
        }
        let marks =
            [(one.quick, '*'), (one.full_ms.is_some(), 'f'), (one.peers, '+'), (one.variants, 'v')];
        let marks = marks.map(|(is_in, mark)| if is_in { mark } else { ' ' });
        writeln!(out, "{} {:24} {}", String::from_iter(marks), one.family(), one.title)?;
    }
    Ok(())
}

/// The servers of other people that are to be measured; where they are only wanted as far as they
/// are here, a line for each that is not says how to get it.
fn wanted_peers(
    catalogue: &Catalogue,
    folder: &Path,
    options: &RunOptions,
) -> anyhow::Result<Vec<Contestant>> {
    if !options.peers && options.peer.is_empty() {
        return Ok(Vec::new());
    }
    let peers = peer::load_folder(folder)?;
    let tell = |line: &str| eprintln!("{line}");
    let found = peer::seek_all(&peers, &options.peer, &catalogue.root, tell)?;
    if found.is_empty() {
        let why = "no server of other people is on this machine; get one as told above";
        return Err(Usage(why.to_owned()).into());
    }
    Ok(found)
}

fn measure(
    catalogue: &Catalogue,
    peers: Vec<Contestant>,
    all: &[Workload],
    own_folder: bool,
    results: &Path,
    options: &RunOptions,
) -> anyhow::Result<u8> {
    let chosen_by_hand = own_folder
        || !options.workload.is_empty()
        || !options.architecture.is_empty()
        || options.variants
        || !options.peer.is_empty()
        || options.blocks.is_some()
        || options.seconds.is_some();
    let set = match (own_folder, options.full, peers.is_empty()) {
        (true, ..) => Set::All,
        (_, true, _) => Set::Full,
        (.., false) => Set::Peers,
        (.., true) => Set::Quick,
    };
    let client = (options.client == LoadedBy::Wrk).then(wrk::insist).transpose()?;
    let profile = set.profile(client.is_some(), chosen_by_hand);
    let mut workloads = chosen_workloads(all, &options.workload, set)?;
    if client.is_some() {
        wrk::keep_what_it_can_ask(&mut workloads, all, !options.workload.is_empty())?;
    }
    for workload in &mut workloads {
        let least_blocks = if options.full { BLOCKS_FOR_AN_INTERVAL as u32 } else { 1 };
        workload.blocks = options.blocks.unwrap_or(workload.blocks.max(least_blocks));
        let full_ms = workload.full_ms.filter(|_| options.full);
        let chosen_ms = options.seconds.map(|seconds| seconds * 1000).or(full_ms);
        workload.duration_ms = chosen_ms.unwrap_or(workload.duration_ms);
    }
    let all = catalogue.with_variants();
    let mut contestants = pick("architecture", &all, &options.architecture, |one| &one.name)?;
    let named = contestants.iter().any(|one| one.variant) && !options.architecture.is_empty();
    for workload in &mut workloads {
        workload.variants |= options.variants || named;
    }
    // wrk does not tell who was never served.
    contestants.retain(|one| one.concurrent || client.is_none());
    contestants.retain(|one| !one.variant || workloads.iter().any(|workload| workload.variants));
    if workloads.iter().any(|workload| workload.floor) {
        contestants.extend(catalogue.floors.clone());
    }
    let is_asked = |one: &Contestant| workloads.iter().any(|workload| workload.is_for(one));
    contestants.extend(peers.into_iter().filter(is_asked));
    let backend = backend(catalogue, &workloads)?;
    require_programs(contestants.iter().chain(&backend))?;

    let started = jiff::Timestamp::now();
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    let mut header = Header::new(started, profile, seed, contestants, workloads);
    let mut stage = stage(&mut header.machine, backend.clone(), &header.workloads)?;
    stage.by_wrk = client.is_some();
    header.client = client;
    header.machine.netns_mtu = options.netns;
    if profile != "quick" {
        header.machine.syscalls = Some(Counting::now());
    }
    if options.plan {
        let run = record::Run { name: String::new(), header, cells: Vec::new() };
        print!("{}", run::plan_in_words(&run));
        return Ok(0);
    }
    header.programs = programs(header.contestants.iter().chain(&backend))?;
    carry_out(Writer::create(results, started, header)?, &stage, results)
}

/// Goes on with a run that was interrupted.
fn resume(
    catalogue: &Catalogue,
    peers: &Path,
    workloads: &[Workload],
    results: &Path,
    wanted: &str,
) -> anyhow::Result<u8> {
    let folder = resume::find(results, wanted)?;
    let header = record::read_header(&folder)?;
    let netns_mtu = header.machine.netns_mtu;
    netns_mtu.map_or(Ok(()), netns::enter)?;
    let mut present = [catalogue.with_variants(), catalogue.floors.clone()].concat();
    let names = header.contestants.iter().filter(|one| one.is_peer()).map(|one| one.name.clone());
    let names: Vec<String> = names.collect();
    if !names.is_empty() {
        let peers = peer::load_folder(peers)?;
        let tell = |line: &str| eprintln!("{line}");
        present.extend(peer::seek_all(&peers, &names, &catalogue.root, tell)?);
    }
    present.retain(|one| header.contestants.iter().any(|recorded| recorded.name == one.name));
    let backend = backend(catalogue, &header.workloads)?;
    require_programs(present.iter().chain(&backend))?;

    let mut machine = Machine { netns_mtu, ..Machine::describe() };
    let mut stage = stage(&mut machine, backend.clone(), &header.workloads)?;
    let client = header.client.as_ref().map(|_| wrk::insist()).transpose()?;
    stage.by_wrk = client.is_some();
    machine.syscalls = header.machine.syscalls.as_ref().map(|_| Counting::now());
    let programs = programs(present.iter().chain(&backend))?;
    let now = Present {
        machine: &machine,
        contestants: &present,
        workloads,
        programs: &programs,
        client,
    };
    resume::require_the_same(&header, &now)?;
    let mut writer = Writer::resume(folder, jiff::Timestamp::now())?;
    writer.bring(&present);
    carry_out(writer, &stage, results)
}

/// Where the servers of these workloads run, as the machine's description then tells.
fn stage(
    machine: &mut Machine,
    backend: Option<Contestant>,
    workloads: &[Workload],
) -> anyhow::Result<Stage> {
    machine.placement.keep_off_the_server()?;
    let room = workloads.iter().map(Workload::room_bytes).sum();
    let stage = Stage::new(machine.placement.clone(), backend, room)?;
    stage.describe(machine);
    Ok(stage)
}

/// What runs, by its contents.
pub(crate) fn programs<'a>(
    contestants: impl IntoIterator<Item = &'a Contestant>,
) -> anyhow::Result<record::Programs> {
    let own = std::env::current_exe().context("the path of this program")?;
    let mut programs = record::Programs::new();
    for path in contestants.into_iter().map(|one| &one.program).chain([&own]) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let program = fs::read(path).with_context(|| path.display().to_string())?;
        programs.insert(name, machine::sha256(&program));
    }
    Ok(programs)
}

/// Measures what is not recorded yet, and reports; the exit code.
fn carry_out(mut writer: Writer, stage: &Stage, results: &Path) -> anyhow::Result<u8> {
    let stop = interrupted_by_signals()?;
    let (cells, planned_ms) = run::planned(writer.run());
    let time = progress::for_people(Duration::from_millis(planned_ms));
    eprintln!("{}, about {time}", progress::counted(cells, "cell"));
    run::run(&mut writer, stage, &stop)?;
    let run = writer.run();
    print!("{}", report::for_terminal(run, report::terminal_columns()));
    println!("{}", report::written(&report::generate(results)?, writer.folder()));
    if stop.load(Ordering::SeqCst) {
        let has_whole = report::has_whole_run(results, &run.header.profile)?;
        let code = interrupted(run.cells.len(), run.header.planned(), has_whole);
        eprintln!("`arena run --resume` goes on with it");
        return Ok(code);
    }
    Ok(u8::from(run.cells.iter().any(|cell| !cell.wrongs().is_empty())))
}

/// Says what there is of a run that was interrupted; the exit code.
fn interrupted(done: usize, planned: usize, has_whole: bool) -> u8 {
    let shown = if has_whole {
        "the report still shows the last whole run"
    } else {
        "the report shows this run, as there is no whole one"
    };
    eprintln!("interrupted after {done} of {}; {shown}", progress::counted(planned, "cell"));
    INTERRUPTED
}

fn calibrate(catalogue: &Catalogue, options: CalibrateOptions) -> anyhow::Result<u8> {
    let clients = calibration::clients(|line| eprintln!("{line}"));
    let stop = interrupted_by_signals()?;
    let started = jiff::Timestamp::now();
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    let plan = calibration::Plan { blocks: options.blocks, duration_s: options.seconds, clients };
    let planned = Duration::from_millis(plan.planned_ms());
    let mut header = Header::new(started, CALIBRATION, seed, Vec::new(), Vec::new());
    header.calibration = Some(plan);
    header.machine.placement.keep_off_the_server()?;
    let stage = Stage::new(header.machine.placement.clone(), None, 0)?;
    stage.describe(&mut header.machine);
    let bench = Bench::new(&stage, catalogue)?;
    let cells = progress::counted(header.planned(), "cell");
    eprintln!("{cells}, about {}", progress::for_people(planned));

    let results = options.out.unwrap_or_else(|| catalogue.root.join("results"));
    let mut writer = Writer::create(&results, started, header)?;
    bench.run(&mut writer, &stop)?;
    let run = writer.run();
    print!("{}", report::calibration_for_terminal(run, report::terminal_columns()));
    println!("{}", report::written(&report::generate(&results)?, writer.folder()));
    if stop.load(Ordering::SeqCst) {
        let has_whole = report::has_whole_run(&results, CALIBRATION)?;
        return Ok(interrupted(run.cells.len(), run.header.planned(), has_whole));
    }
    Ok(u8::from(run.cells.iter().any(|cell| cell.failure.is_some())))
}

/// What runs where no workload is named.
#[derive(Clone, Copy)]
enum Set {
    Quick,
    Full,
    Peers,
    /// Whoever brings a folder means all that are in it.
    All,
}

impl Set {
    /// The profile of its run.
    fn profile(self, by_wrk: bool, chosen_by_hand: bool) -> &'static str {
        match self {
            _ if by_wrk => "wrk",
            _ if chosen_by_hand => "selected",
            Self::Quick => "quick",
            Self::Full => "full",
            Self::Peers => "peers",
            Self::All => "selected",
        }
    }
}

/// Those that were named, or those of the set.
fn chosen_workloads(all: &[Workload], names: &[String], set: Set) -> Result<Vec<Workload>, Usage> {
    let mut workloads = pick("workload", all, names, Workload::family)?;
    workloads.retain(|one| one.cores.is_none_or(|cores| cores <= machine::processors()));
    if names.is_empty() {
        workloads.retain(|one| match set {
            Set::Quick => one.quick,
            Set::Full => one.full_ms.is_some(),
            Set::Peers => one.peers,
            Set::All => true,
        });
    }
    if workloads.is_empty() {
        let key = match set {
            Set::Peers => "peers = true",
            Set::Full => "full_ms",
            Set::Quick | Set::All => "quick = true",
        };
        let why = format!("nothing to measure: no workload file says {key}");
        return Err(Usage(format!("{why}; name a workload with --workload")));
    }
    Ok(workloads)
}

/// The server behind the servers, if one of the workloads needs it.
fn backend(catalogue: &Catalogue, workloads: &[Workload]) -> anyhow::Result<Option<Contestant>> {
    if !workloads.iter().any(|workload| workload.backend) {
        return Ok(None);
    }
    let backend = catalogue.architectures.iter().find(|one| one.name == BACKEND);
    Ok(Some(backend.with_context(|| format!("there is no {BACKEND} to be the backend"))?.clone()))
}

/// A flag that Ctrl-C, SIGTERM and a closed terminal set.
fn interrupted_by_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("watching for signals")?;
    }
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(name: &str, quick: bool) -> Workload {
        let text = "title = 'T'\nquestion = 'Q'\nexpectation = 'E'\nprotocol = 'http'\n\
                    path = '/plaintext'\nconnections = 1\nwarm_up_ms = 0\nduration_ms = 500\n\
                    blocks = 1\n";
        let file = format!("{name}.toml");
        let parsed = workload::parse(Path::new(&file), text).unwrap();
        Workload { quick, ..parsed }
    }

    #[test]
    fn a_folder_of_ones_own_is_run_whole_and_the_projects_only_where_it_is_quick() {
        let mut all = [workload("fast", true), workload("slow", false)];
        all[1].peers = true;
        let names = |set| {
            let chosen = chosen_workloads(&all, &[], set).unwrap();
            chosen.into_iter().map(|one| one.name).collect::<Vec<_>>()
        };
        assert_eq!(names(Set::All), ["fast", "slow"]);
        assert_eq!(names(Set::Quick), ["fast"]);
        assert_eq!(names(Set::Peers), ["slow"]);
    }

    #[test]
    fn a_plan_of_nothing_is_refused() {
        let said = chosen_workloads(&[workload("slow", false)], &[], Set::Quick).unwrap_err();
        assert!(said.0.starts_with("nothing to measure: "), "{said}");
        assert!(said.0.ends_with("; name a workload with --workload"), "{said}");
    }
}
