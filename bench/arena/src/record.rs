//! The raw records of a run: one folder, `machine.json` and one line of `cells.jsonl` a cell.
//!
//! Cells are only ever appended and each is on disk before the next begins, so that a run that
//! was cut short keeps what it measured.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use loadgen::Outcome;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Usage;
use crate::calibration;
use crate::capacity::Capacity;
use crate::catalogue::Contestant;
use crate::machine::Machine;
use crate::sample::Used;
use crate::shares::Share;
use crate::workload::Workload;

/// So many recorded runs are named where there is not the one that was wanted.
const RUNS_TOLD: usize = 20;

/// The format of the two files; a reader refuses any other.
const FORMAT: u32 = 1;

/// With records that this program does not know.
const WHAT_TO_DO: &str = "use the program that wrote it, or move the run away";

const HEADER_FILE: &str = "machine.json";
const CELLS_FILE: &str = "cells.jsonl";

/// What a run set out to do and where: `machine.json`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Header {
    pub(crate) format: u32,
    /// Start, in UTC.
    pub(crate) started: String,
    /// `quick` for the default set, `selected` for one that was chosen by hand, `calibration` where
    /// it is the load generator that was measured.
    pub(crate) profile: String,
    pub(crate) seed: u64,
    pub(crate) machine: Machine,
    pub(crate) contestants: Vec<Contestant>,
    pub(crate) workloads: Vec<Workload>,
    /// By workload, the contestant that is measured twice in each block: the A/A twin tells what
    /// differs where nothing does. Records of before there were any have none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) twins: BTreeMap<String, String>,
    /// When it went on after an interruption, in UTC.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) resumed: Vec<String>,
    #[serde(default, skip_serializing_if = "Programs::is_empty")]
    pub(crate) programs: Programs,
    /// The load generator and its version, where it was not ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) client: Option<String>,
    /// What the load generator was asked, where it is what was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) calibration: Option<calibration::Plan>,
}

/// The SHA-256 of each program that runs, this one among them, by its name.
pub(crate) type Programs = BTreeMap<String, String>;

/// One contestant under one workload in one block.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Cell {
    pub(crate) workload: String,
    pub(crate) contestant: String,
    pub(crate) block: u32,
    /// Its place in the block's order.
    pub(crate) position: u32,
    /// Whether it is the second of its contestant in this block.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) twin: bool,
    /// Why there is nothing measured.
    #[serde(default)]
    pub(crate) failure: Option<String>,
    /// Why there cannot be on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unavailable: Option<String>,
    /// What it did wrong beside that, such as processes left behind.
    #[serde(default)]
    pub(crate) faults: Vec<String>,
    #[serde(default)]
    pub(crate) outcome: Option<Outcome>,
    /// System calls of the server for each request, or for each MB where files are counted by
    /// bytes, from a short cell of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) syscalls: Option<f64>,
    /// What was found where it is the capacity that is looked for; the outcome is then that of the
    /// run that confirmed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) capacity: Option<Capacity>,
    #[serde(default)]
    pub(crate) used: Option<Used>,
    /// What each of the server's workers has had, where it has workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) workers: Option<Vec<Share>>,
}

/// A run as its folder tells it.
#[derive(Clone, Debug)]
pub(crate) struct Run<C = Cell> {
    /// The folder's name.
    pub(crate) name: String,
    pub(crate) header: Header,
    pub(crate) cells: Vec<C>,
}

/// A folder that takes a run's records as they come.
pub(crate) struct Writer<C = Cell> {
    folder: PathBuf,
    cells: File,
    run: Run<C>,
}

impl Header {
    pub(crate) fn new(
        started: jiff::Timestamp,
        profile: &str,
        seed: u64,
        contestants: Vec<Contestant>,
        workloads: Vec<Workload>,
    ) -> Self {
        Self {
            format: FORMAT,
            started: in_words(started),
            profile: profile.to_owned(),
            seed,
            machine: Machine::describe(),
            twins: draw_twins(seed, &contestants, &workloads),
            contestants,
            workloads,
            resumed: Vec::new(),
            programs: Programs::new(),
            client: None,
            calibration: None,
        }
    }

    /// Those that a workload is run against: all that speak its protocol, and the floors where it
    /// says so.
    pub(crate) fn contestants_of<'a>(
        &'a self,
        workload: &'a Workload,
    ) -> impl Iterator<Item = &'a Contestant> {
        self.contestants.iter().filter(|contestant| workload.is_for(contestant))
    }

    /// How many cells the run has when it is whole.
    pub(crate) fn planned(&self) -> usize {
        if let Some(plan) = &self.calibration {
            return plan.cells();
        }
        let cells = |workload: &Workload| {
            let twins = usize::from(self.twins.contains_key(&workload.name));
            (self.contestants_of(workload).count() + twins) * workload.blocks as usize
        };
        self.workloads.iter().map(cells).sum()
    }
}

impl Header {
    /// Whether it is the servers that were measured.
    pub(crate) fn is_of_servers(&self) -> bool {
        self.calibration.is_none()
    }

    /// Whether it is the load generator that was measured.
    pub(crate) fn is_of_the_client(&self) -> bool {
        self.calibration.is_some()
    }
}

/// One contestant for each workload that ranks any, by lot: one of ours that serves many at a time
/// and needs nothing special.
fn draw_twins(
    seed: u64,
    contestants: &[Contestant],
    workloads: &[Workload],
) -> BTreeMap<String, String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut twins = BTreeMap::new();
    for workload in workloads {
        let is_ranked = |one: &&Contestant| workload.is_for(one) && !one.floor;
        if contestants.iter().filter(is_ranked).count() < 2 {
            continue;
        }
        let may_be = |one: &&Contestant| one.concurrent && one.needs.is_none() && !one.is_peer();
        let candidates: Vec<_> = contestants.iter().filter(is_ranked).filter(may_be).collect();
        let drawn = random.choice(candidates);
        twins.extend(drawn.map(|one| (workload.name.clone(), one.name.clone())));
    }
    twins
}

impl Cell {
    /// What the contestant did wrong, each in words: what the exit code is to tell.
    pub(crate) fn wrongs(&self) -> Vec<String> {
        let outcome = self.outcome.iter();
        let errors = outcome.filter_map(|outcome| {
            let first = outcome.first_error.as_deref().unwrap_or("not told");
            let count = outcome.errors.values().sum::<u64>();
            (count > 0).then(|| format!("{count} requests failed, the first: {first}"))
        });
        self.failure.iter().chain(&self.faults).cloned().chain(errors).collect()
    }
}

impl<C: DeserializeOwned> Run<C> {
    /// Reads a recorded run. A last line that was cut short is the mark of an interruption.
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Self> {
        let header = read_header(folder)?;
        let named = |file: &str| folder.join(file).display().to_string();
        let text = fs::read_to_string(folder.join(CELLS_FILE)).unwrap_or_default();
        let cells = whole_lines(&text)
            .lines()
            .enumerate()
            .map(|(index, line)| {
                serde_json::from_str(line).map_err(|error| {
                    let place = format!("{}:{}", named(CELLS_FILE), index + 1);
                    Usage(format!("{place}: {error}; {WHAT_TO_DO}")).into()
                })
            })
            .collect::<anyhow::Result<_>>()?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, header, cells })
    }
}

impl<C> Run<C> {
    pub(crate) fn whole(&self) -> bool {
        self.header.planned() > 0 && self.cells.len() == self.header.planned()
    }
}

/// What is behind the last line's end was cut short.
fn whole_lines(text: &str) -> &str {
    text.rfind('\n').map_or("", |end| &text[..=end])
}

/// Whether a folder is a recorded run.
fn is_run(folder: &Path) -> bool {
    folder.join(HEADER_FILE).is_file()
}

/// The folder of a recorded run, which is named by it or by its name below `results`.
pub(crate) fn find(results: &Path, wanted: &str) -> Result<PathBuf, Usage> {
    let folders = [PathBuf::from(wanted), results.join(wanted)];
    folders.into_iter().find(|folder| is_run(folder)).ok_or_else(|| {
        let why = format!("no recorded run {wanted}, neither a folder nor a name below");
        let there = match self::folders(results).unwrap_or_default() {
            none if none.is_empty() => "there is none; make one with `arena run`".to_owned(),
            all => newest_in_words(&all),
        };
        Usage(format!("{why} {}; {there}", results.display()))
    })
}

/// The names of the newest, the newest first.
fn newest_in_words(folders: &[PathBuf]) -> String {
    let names = folders.iter().rev().take(RUNS_TOLD).filter_map(|folder| folder.file_name());
    let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
    let which = if folders.len() > RUNS_TOLD { "the newest are" } else { "there are" };
    format!("{which} {}", names.join(", "))
}

/// The folders of the recorded runs below `results`, oldest first: the names begin with the time.
fn folders(results: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut folders: Vec<PathBuf> = match fs::read_dir(results) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).with_context(|| results.display().to_string()),
    };
    folders.retain(|folder| is_run(folder));
    folders.sort();
    Ok(folders)
}

/// What a run set out to do, if this program knows the format of its records.
pub(crate) fn read_header(folder: &Path) -> anyhow::Result<Header> {
    let file = folder.join(HEADER_FILE);
    let named = || file.display().to_string();
    let text = fs::read_to_string(&file).with_context(named)?;
    let unknown = |what: String| Usage(format!("{}: {what}; {WHAT_TO_DO}", named()));
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| unknown(error.to_string()))?;
    let format = value["format"].as_u64().unwrap_or(0);
    if format != u64::from(FORMAT) {
        let what = format!("its format is {format}, this program reads {FORMAT}");
        return Err(unknown(what).into());
    }
    Ok(serde_json::from_value(value).map_err(|error| unknown(error.to_string()))?)
}

/// In one step, so that no reader ever finds half of it.
fn write_header(folder: &Path, header: &Header) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(header)? + "\n";
    let (file, new) = (folder.join(HEADER_FILE), folder.join("machine.json.new"));
    fs::write(&new, text).and_then(|()| fs::rename(&new, &file))?;
    Ok(())
}

fn in_words(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A key of two records that differs.
#[derive(Debug)]
pub(crate) struct Difference {
    key: String,
    first: String,
    second: String,
}

impl Difference {
    /// Something that the second does not have at all.
    pub(crate) fn missing(key: &str) -> Self {
        let [first, second] = ["there", "missing"].map(str::to_owned);
        Self { key: key.to_owned(), first, second }
    }

    /// With the words for where the first stands, and the second.
    pub(crate) fn told(&self, first: &str, second: &str) -> String {
        format!("{} is {} {first}, {} {second}", self.key, self.first, self.second)
    }
}

/// The keys of two records that differ, but for those that may.
pub(crate) fn differences<T: Serialize>(first: &T, second: &T, may: &[&str]) -> Vec<Difference> {
    use serde_json::Value;
    let keys = |record: &T| match serde_json::to_value(record) {
        Ok(Value::Object(keys)) => keys,
        _ => unreachable!("a record is an object of JSON"),
    };
    let (first, second) = (keys(first), keys(second));
    let all: BTreeSet<&String> = first.keys().chain(second.keys()).collect();
    let told = |value: Option<&Value>| match value {
        None | Some(Value::Null) => "not told".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let difference = |key: &String| Difference {
        key: key.clone(),
        first: told(first.get(key)),
        second: told(second.get(key)),
    };
    let all = all.into_iter().filter(|key| !may.contains(&key.as_str())).map(difference);
    all.filter(|one| one.first != one.second).collect()
}

/// Every recorded run below `results` that has such cells, oldest first.
pub(crate) fn read_all<C: DeserializeOwned>(
    results: &Path,
    has_such_cells: fn(&Header) -> bool,
) -> anyhow::Result<Vec<Run<C>>> {
    let mut runs = Vec::new();
    for folder in folders(results)? {
        if has_such_cells(&read_header(&folder)?) {
            runs.push(Run::read(&folder)?);
        }
    }
    Ok(runs)
}

impl<C: DeserializeOwned> Writer<C> {
    /// Goes on with a run that was cut short. What is whole in it stays, half a line goes.
    pub(crate) fn resume(folder: PathBuf, now: jiff::Timestamp) -> anyhow::Result<Self> {
        let cells = locked(&folder)?;
        let mut run = Run::read(&folder)?;
        let text = fs::read_to_string(folder.join(CELLS_FILE))?;
        cells.set_len(whole_lines(&text).len() as u64)?;
        run.header.resumed.push(in_words(now));
        write_header(&folder, &run.header)?;
        Ok(Self { folder, cells, run })
    }
}

/// The file of the cells, for as long as it is open for nobody else.
fn locked(folder: &Path) -> anyhow::Result<File> {
    let file = folder.join(CELLS_FILE);
    let cells = OpenOptions::new().append(true).create(true).open(&file)?;
    if cells.try_lock().is_err() {
        let why = format!("{} is being written by another arena; wait for it", file.display());
        return Err(Usage(why).into());
    }
    Ok(cells)
}

impl<C: Serialize> Writer<C> {
    /// Makes `<results>/<UTC timestamp>-<profile>` with its header; a second run of the same
    /// second gets a number behind it.
    pub(crate) fn create(
        results: &Path,
        started: jiff::Timestamp,
        header: Header,
    ) -> anyhow::Result<Self> {
        let first = format!("{}-{}", started.strftime("%Y%m%dT%H%M%SZ"), header.profile);
        let mut name = first.clone();
        let mut folder = results.join(&name);
        let refused = |error| {
            let why = format!("cannot record in {}: {error}", results.display());
            Usage(format!("{why}; give --out a folder that can be written"))
        };
        fs::create_dir_all(results).map_err(refused)?;
        for number in 2.. {
            match fs::create_dir(&folder) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    name = format!("{first}-{number}");
                    folder = results.join(&name);
                }
                made => {
                    made.map_err(refused)?;
                    break;
                }
            }
        }
        write_header(&folder, &header)?;
        let cells = locked(&folder)?;
        Ok(Self { folder, cells, run: Run { name, header, cells: Vec::new() } })
    }

    pub(crate) fn append(&mut self, cell: C) -> anyhow::Result<()> {
        let line = serde_json::to_string(&cell)? + "\n";
        self.cells.write_all(line.as_bytes()).context("writing a cell")?;
        self.cells.sync_data().context("writing a cell")?;
        self.run.cells.push(cell);
        Ok(())
    }

    /// The contestants again, with all that is not recorded of them.
    pub(crate) fn bring(&mut self, contestants: &[Contestant]) {
        for recorded in &mut self.run.header.contestants {
            if let Some(present) = contestants.iter().find(|one| one.name == recorded.name) {
                recorded.clone_from(present);
            }
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What was recorded so far.
    pub(crate) fn run(&self) -> &Run<C> {
        &self.run
    }
}
