//! An interrupted run goes on where it stopped, if all is as it was: a run is one machine, one
//! build and one set of questions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;

use crate::Usage;
use crate::advise::PROFILE as ADVISE;
use crate::catalogue::Contestant;
use crate::machine::Machine;
use crate::record::{self, Header, differences};
use crate::workload::Workload;

/// What may have been chosen on the command line, and so need not be as the file says.
const CHOSEN: [&str; 3] = ["blocks", "duration_ms", "variants"];

/// How the newest run that is not whole is called.
pub(crate) const NEWEST: &str = "newest";

/// The folder of the run that is to go on, which is named by it or by its name below `results`.
pub(crate) fn find(results: &Path, wanted: &str) -> anyhow::Result<PathBuf> {
    if wanted == NEWEST {
        let runs = record::read_all::<IgnoredAny>(results, Header::is_of_servers)?;
        // What was advised has no file of a workload; it is asked again.
        let goes_on = |run: &&record::Run<IgnoredAny>| !run.whole() && run.header.profile != ADVISE;
        let Some(run) = runs.iter().rev().find(goes_on) else {
            let why = format!("every run in {} is whole; nothing to resume", results.display());
            return Err(Usage(why).into());
        };
        return Ok(results.join(&run.name));
    }
    let folder = record::find(results, wanted)?;
    let run = record::Run::<IgnoredAny>::read(&folder)?;
    if run.header.is_of_the_client() {
        let why = format!("{wanted} is a run of the load generator, which is made anew");
        return Err(Usage(why).into());
    }
    if run.whole() {
        return Err(Usage(format!("{wanted} is whole; nothing to resume")).into());
    }
    Ok(folder)
}

/// What is there now of what a run was made with.
pub(crate) struct Present<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) contestants: &'a [Contestant],
    pub(crate) workloads: &'a [Workload],
    pub(crate) programs: &'a record::Programs,
    /// The load generator, where it is not ours.
    pub(crate) client: Option<String>,
}

/// Refuses in words if anything is not as it was.
pub(crate) fn require_the_same(header: &Header, present: &Present<'_>) -> Result<(), Usage> {
    let mut differing = Vec::new();
    let mut compare = |what: &str, found: Vec<record::Difference>| {
        let of = if what.is_empty() { String::new() } else { format!("{what}: ") };
        differing.extend(found.into_iter().map(|one| format!("{of}{}", one.told("then", "now"))));
    };
    compare("", differences(&header.machine, present.machine, &[]));
    for workload in &header.workloads {
        match present.workloads.iter().find(|one| one.name == workload.name) {
            Some(now) => compare(&workload.name, differences(workload, now, &CHOSEN)),
            None => compare(&workload.name, vec![record::Difference::missing("its file")]),
        }
    }
    for contestant in &header.contestants {
        match present.contestants.iter().find(|one| one.name == contestant.name) {
            Some(now) => compare(&contestant.name, differences(contestant, now, &[])),
            None => compare(&contestant.name, vec![record::Difference::missing("its program")]),
        }
    }
    let client = |one: &Option<String>| BTreeMap::from([("client", one.clone())]);
    compare("", differences(&client(&header.client), &client(&present.client), &[]));
    compare("program", differences(&header.programs, present.programs, &[]));
    match differing.len() {
        0 => Ok(()),
        _ => Err(Usage(format!(
            "not resumed, since it would not be one run: {}; begin a new one",
            differing.join("; ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::run;

    fn require(change: impl FnOnce(&mut Header)) -> Result<(), String> {
        let (then, mut now) = (run().header, run().header);
        change(&mut now);
        let Header { machine, contestants, workloads, programs, .. } = &now;
        let client = now.client.clone();
        let present = Present { machine, contestants, workloads, programs, client };
        require_the_same(&then, &present).map_err(|usage| usage.0)
    }

    #[test]
    fn only_a_run_of_the_same_machine_build_and_questions_goes_on() {
        assert_eq!(require(|_| {}), Ok(()));
        let chosen = |now: &mut Header| {
            now.workloads[0].blocks = 99;
            now.workloads[0].duration_ms = 99;
            now.workloads.push(now.workloads[1].clone());
        };
        assert_eq!(require(chosen), Ok(()), "what the command line may have chosen");
        let refused = |change: fn(&mut Header), why: &str| {
            let said = require(change).unwrap_err();
            let expected = format!("not resumed, since it would not be one run: {why}");
            assert_eq!(said, format!("{expected}; begin a new one"));
        };
        refused(
            |now| now.machine.commit = "abc+".to_owned(),
            "commit is 0123456789ab then, abc+ now",
        );
        refused(
            |now| now.workloads[1].path = "/".to_owned(),
            "herd: path is /plaintext then, / now",
        );
        refused(|now| now.workloads.truncate(1), "herd: its file is there then, missing now");
        refused(
            |now| now.client = Some("wrk 4.2".to_owned()),
            "client is not told then, wrk 4.2 now",
        );
        refused(
            |now| now.programs = record::Programs::from([("evented".to_owned(), "00".to_owned())]),
            "program: evented is not told then, 00 now",
        );
    }
}
