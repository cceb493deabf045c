//! Load generators as children: how each is told what to do, what it used, and what it said.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::ValueEnum;
use loadgen::{Engine, Outcome};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde::{Deserialize, Serialize};

use super::{FEW_CONNECTIONS, Found, HOLDING_RATE_PER_S, Question};
use crate::Usage;
use crate::machine::Placement;
use crate::sample::Footprint;
use crate::wrk::{self, Order};

/// How long a child may take beyond what it was told to.
const PATIENCE: Duration = Duration::from_secs(30);
/// Seldom, since whoever looks may be on the client's processor.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The exit code of a run whose verdict is not `VALID`; the verdict is in what it said.
const VOID: i32 = 3;

/// A load generator.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Client {
    Loadgen { engine: Engine },
    Wrk { version: String },
}

impl Client {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Loadgen { engine } => format!("loadgen ({})", word(*engine)),
            Self::Wrk { .. } => "wrk".to_owned(),
        }
    }

    pub(crate) fn is_wrk(&self) -> bool {
        self.version().is_some()
    }

    /// What wrk says of itself; ours is of the commit.
    pub(crate) fn version(&self) -> Option<&str> {
        match self {
            Self::Loadgen { .. } => None,
            Self::Wrk { version } => Some(version),
        }
    }
}

/// Those that are on this machine; `tell` hears of the others.
pub(crate) fn clients(mut tell: impl FnMut(&str)) -> Vec<Client> {
    let mut found = Vec::new();
    for engine in Engine::value_variants().iter().copied().filter(|one| *one != Engine::Auto) {
        match engine.check() {
            Ok(()) => found.push(Client::Loadgen { engine }),
            Err(why) => tell(&format!("loadgen is not measured with {}: {why}", word(engine))),
        }
    }
    match wrk::version() {
        Some(version) => found.push(Client::Wrk { version }),
        None => tell(&format!("nothing is compared with it: {}", wrk::GET)),
    }
    found
}

/// The name on a command line.
pub(crate) fn word(value: impl ValueEnum + Copy) -> String {
    let value = value.to_possible_value().expect("no variant is skipped");
    value.get_name().to_owned()
}

/// The load generator, which lies beside this program.
pub(super) fn loadgen_program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("the path of this program")?;
    let program = own.with_file_name("loadgen");
    if program.is_file() {
        return Ok(program);
    }
    Err(Usage("not built: loadgen; run `make build` first".to_owned()).into())
}

/// What the load generator is told. `rate` is that of a schedule, `seed` that of its arrivals.
pub(super) fn loadgen(
    program: &Path,
    engine: Engine,
    target: SocketAddr,
    question: Question,
    rate: Option<f64>,
    seed: u64,
) -> anyhow::Result<Command> {
    let mut command = Command::new(program);
    command.args(["run", "--protocol", "http", "--path", "/plaintext", "--json", "-"]);
    let mut give = |flag: &str, value: String| {
        command.args([flag, &value]);
    };
    give("--engine", word(engine));
    give("--target", target.to_string());
    match question {
        Question::Saturate { connections, reconnect } => {
            give("--connections", connections.to_string());
            if reconnect {
                give("--requests-per-connection", "1".to_owned());
            }
        }
        Question::Keep { arrivals } => {
            let rate = rate.context("its capacity was not measured in this block")?;
            give("--connections", FEW_CONNECTIONS.to_string());
            give("--rate", rate.to_string());
            give("--arrivals", word(arrivals));
            give("--seed", seed.to_string());
        }
        Question::Hold { connections } => {
            give("--connections", connections.to_string());
            give("--rate", HOLDING_RATE_PER_S.to_string());
        }
        Question::Truth => bail!("it has a command of its own for this"),
    }
    Ok(command)
}

/// What wrk is told, which has closed loops only.
pub(super) fn by_wrk(target: SocketAddr, question: Question, duration_s: u64) -> Command {
    let (connections, reconnect) = match question {
        Question::Saturate { connections, reconnect } => (connections, reconnect),
        Question::Keep { .. } | Question::Hold { .. } | Question::Truth => (FEW_CONNECTIONS, false),
    };
    let path = "/plaintext";
    wrk::command(target, &Order { path, connections, reconnect, duration_s, script: None })
}

/// A child that has ended.
pub(crate) struct Child {
    pub(crate) said: String,
    /// User and system time.
    pub(crate) cpu_s: f64,
    pub(super) elapsed_s: f64,
    /// The most that it was seen to hold, if that was asked.
    pub(super) pss_bytes: Option<u64>,
}

impl Child {
    /// Runs a child on the client's processor to its end, `limit` and some patience from now at
    /// most.
    pub(crate) fn run(
        command: &mut Command,
        placement: &Placement,
        limit: Duration,
        weigh: bool,
        stop: &AtomicBool,
    ) -> anyhow::Result<Self> {
        let start = |command: &mut Command| placement.at_the_client(|| command.spawn());
        Self::run_started_by(start, command, limit, weigh, stop)
    }

    /// The same, started otherwise. No other child of this program may be waited for meanwhile:
    /// what it used is what the kernel adds when it has ended.
    pub(super) fn run_started_by(
        start: impl FnOnce(&mut Command) -> anyhow::Result<io::Result<process::Child>>,
        command: &mut Command,
        limit: Duration,
        weigh: bool,
        stop: &AtomicBool,
    ) -> anyhow::Result<Self> {
        let (mut out, mut err) = (tempfile::tempfile()?, tempfile::tempfile()?);
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(err.try_clone()?);
        let name = command.get_program().display().to_string();
        let before = cpu_of_children()?;
        let began = Instant::now();
        let mut child = start(command)?.with_context(|| format!("cannot start {name}"))?;
        let mut pss_bytes = None;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            let stopped = stop.load(Ordering::SeqCst);
            if stopped || began.elapsed() > limit + PATIENCE {
                child.kill()?;
                child.wait()?;
                bail!(if stopped { "stopped" } else { "it did not end: killed" });
            }
            if weigh {
                let now = Footprint::read(child.id() as i32, None).pss_bytes;
                pss_bytes = pss_bytes.max(Some(now));
            }
            thread::sleep(LOOK_EVERY);
        };
        let elapsed_s = began.elapsed().as_secs_f64();
        let cpu_s = cpu_of_children()? - before;
        let (said, complaint) = (text(&mut out)?, text(&mut err)?);
        let last = complaint.lines().last().unwrap_or_default();
        let is_good = matches!(status.code(), Some(0 | VOID));
        ensure!(is_good, "it ended with {}; its last words: {last}", how(status));
        Ok(Self { said, cpu_s, elapsed_s, pss_bytes })
    }
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (_, signal) => format!("signal {}", signal.unwrap_or(0)),
    }
}

fn text(file: &mut File) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn cpu_of_children() -> anyhow::Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

/// What the load generator says as JSON.
pub(super) fn found_by_loadgen(said: &str) -> anyhow::Result<Found> {
    let outcome: Outcome = serde_json::from_str(said).context("what it said is no outcome")?;
    Ok(Found {
        requests: outcome.requests,
        errors: outcome.errors.values().sum(),
        rate_per_s: outcome.rate_per_s,
        outcome: Some(outcome),
        ..Found::default()
    })
}

/// What wrk says for people.
pub(super) fn found_by_wrk(said: &str) -> anyhow::Result<Found> {
    let said = wrk::Said::read(said)?;
    ensure!(said.requests > 0, "it made no request");
    Ok(Found {
        requests: said.requests,
        errors: said.errors.values().sum(),
        rate_per_s: said.rate_per_s,
        ..Found::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, stop: bool) -> anyhow::Result<Child> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        let (anywhere, limit) = (Placement::unpinned(), Duration::from_mins(1));
        Child::run(&mut command, &anywhere, limit, true, &AtomicBool::new(stop))
    }

    #[test]
    fn a_child_is_known_by_what_it_used_and_said() {
        let work = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done; exit 3";
        let child = run(work, false).unwrap();
        assert_eq!(child.said, "done\n");
        assert!(child.cpu_s > 0.0 && child.elapsed_s > 0.0 && child.pss_bytes > Some(0));
    }

    #[test]
    fn a_child_that_goes_wrong_is_told_in_words() {
        let said = |script, stop| run(script, stop).err().unwrap().to_string();
        let bad = said("echo nothing; echo no such target >&2; exit 2", false);
        assert_eq!(bad, "it ended with exit code 2; its last words: no such target");
        assert_eq!(said("kill -9 $$", false), "it ended with signal 9; its last words: ");
        assert_eq!(said("sleep 60", true), "stopped");
    }
}
