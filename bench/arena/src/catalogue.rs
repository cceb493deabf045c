//! Contestants: every architecture that cargo's metadata declares, and the floors. Servers of other
//! people are in `peer`.
//!
//! Nothing lists an architecture by hand: a crate with `[package.metadata.architecture]` is one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use cargo_metadata::MetadataCommand;
use loadgen::Protocol;
use serde::{Deserialize, Serialize};

use crate::Usage;
use crate::contestant::Refusal;
use crate::coverage;
use crate::peer::Peer;

/// How a server waits for its connections, which decides what floor it is compared with.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Io {
    /// Blocking calls, in threads of one process or in one thread alone.
    Threads,
    /// Blocking calls, in processes, between which a switch costs more than between threads.
    Processes,
    /// One poll for all.
    Epoll,
}

/// A server to measure. Where its program lies is a matter of this machine and not recorded.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a claim of its own in a manifest")]
pub(crate) struct Contestant {
    pub(crate) name: String,
    pub(crate) description: String,
    /// Where it stands in a table.
    pub(crate) order: u32,
    pub(crate) io: Io,
    /// A yardstick with a fixed reply, which no answer ranks.
    pub(crate) floor: bool,
    /// Whether it takes `--workers`, each of which has one connection at a time.
    pub(crate) many_workers: bool,
    /// Whether it counts what each of its workers has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) counts_workers: bool,
    /// Whether it is an architecture with other flags of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) variant: bool,
    /// Whether it serves more than one connection at a time.
    pub(crate) concurrent: bool,
    /// What it needs that not every machine has. One that refuses to start for want of it is not
    /// available there, which is nothing wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) needs: Option<String>,
    /// What a server of other people says of itself; ours have the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    /// The SHA-256 of how a server of other people is defined: its file, and those beside it that
    /// this one names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) definition_sha256: Option<String>,
    /// Whether a server of other people speaks within TLS, and in no other way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) tls: bool,
    /// What it speaks; empty: all there is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) protocols: Vec<Protocol>,
    #[serde(skip)]
    pub(crate) program: PathBuf,
    /// Arguments before those that every server gets.
    #[serde(skip)]
    pub(crate) arguments: Vec<String>,
    /// How it is started, where it is a server of other people.
    #[serde(skip)]
    pub(crate) peer: Option<Arc<Peer>>,
}

impl Contestant {
    /// Whether it is a server of other people.
    pub(crate) fn is_peer(&self) -> bool {
        self.version.is_some()
    }

    /// Whether it did not start for want of what not every machine has.
    pub(crate) fn is_unavailable(&self, error: &anyhow::Error) -> bool {
        self.needs.is_some() && error.is::<Refusal>()
    }

    pub(crate) fn speaks(&self, protocol: Protocol) -> bool {
        self.protocols.is_empty() || self.protocols.contains(&protocol)
    }
}

/// What the workspace holds, as cargo tells it.
pub(crate) struct Catalogue {
    pub(crate) root: PathBuf,
    /// The architectures in their order.
    pub(crate) architectures: Vec<Contestant>,
    /// The same with other flags of their own.
    pub(crate) variants: Vec<Contestant>,
    /// Where each comes from, in the words of its manifest: see `coverage`.
    pub(crate) sources: BTreeMap<String, Vec<String>>,
    /// The floors of the I/O models.
    pub(crate) floors: Vec<Contestant>,
}

impl Catalogue {
    /// The architectures, each with its variants behind it.
    pub(crate) fn with_variants(&self) -> Vec<Contestant> {
        let mut all = [&self.architectures[..], &self.variants].concat();
        all.sort_by_key(|one| one.order);
        all
    }
}

/// The table of a crate's manifest that makes it an architecture.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Declaration {
    order: u32,
    io: Io,
    workers: Workers,
    #[serde(default = "yes")]
    concurrent: bool,
    /// The books and papers that it comes from, by their keys.
    #[serde(default)]
    sources: Vec<String>,
    #[serde(default)]
    variants: Vec<Variant>,
    needs: Option<String>,
}

impl Declaration {
    /// Says what is wrong with it beside those before.
    fn check(&self, before: &[Contestant]) -> Result<(), String> {
        if let Some(other) = before.iter().find(|one| one.order == self.order) {
            let highest = before.iter().map(|one| one.order).max().unwrap_or(0);
            return Err(format!(
                "order {} is that of {}; expected one of its own, such as {}",
                self.order,
                other.name,
                highest.saturating_add(1)
            ));
        }
        let of_variants = self.variants.iter().map(|variant| &variant.sources);
        of_variants.chain([&self.sources]).try_for_each(|sources| coverage::check(sources))
    }
}

/// The same architecture with other flags of its own, under a name of its own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Variant {
    name: String,
    arguments: Vec<String>,
    #[serde(default)]
    sources: Vec<String>,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Workers {
    /// One, or one for each connection.
    None,
    /// A number that is given, each of which has one connection at a time.
    Many,
    /// A number that is given, each of which has its share of all connections.
    Shared,
}

/// Asks cargo for the workspace of the present folder; the programs lie beside our own.
pub(crate) fn discover() -> anyhow::Result<Catalogue> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .other_options(vec!["--offline".to_owned()])
        .exec()
        .map_err(|error| {
            let why = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            Usage(format!("no cargo workspace here; run inside the repository: {why}"))
        })?;
    let own = std::env::current_exe().context("the path of this program")?;
    let programs = own.parent().context("the folder of this program")?;

    let mut architectures: Vec<Contestant> = Vec::new();
    let mut variants = Vec::new();
    let mut sources = BTreeMap::new();
    for package in &metadata.packages {
        let declared = &package.metadata["architecture"];
        if declared.is_null() {
            continue;
        }
        let refused = |why: String| {
            let manifest = &package.manifest_path;
            Usage(format!("{manifest}: [package.metadata.architecture]: {why}"))
        };
        let declaration =
            Declaration::deserialize(declared).map_err(|error| refused(error.to_string()))?;
        declaration.check(&architectures).map_err(refused)?;
        let architecture = Contestant {
            name: package.name.to_string(),
            description: package.description.clone().unwrap_or_default(),
            order: declaration.order,
            io: declaration.io,
            floor: false,
            many_workers: declaration.workers == Workers::Many,
            counts_workers: declaration.workers != Workers::None,
            variant: false,
            concurrent: declaration.concurrent,
            needs: declaration.needs,
            version: None,
            definition_sha256: None,
            protocols: Vec::new(),
            program: programs.join(package.name.as_str()),
            arguments: Vec::new(),
            tls: false,
            peer: None,
        };
        sources.insert(architecture.name.clone(), declaration.sources);
        for variant in declaration.variants {
            sources.insert(variant.name.clone(), variant.sources);
            variants.push(Contestant {
                name: variant.name,
                description: format!("{} with {}", architecture.name, variant.arguments.join(" ")),
                variant: true,
                arguments: variant.arguments,
                ..architecture.clone()
            });
        }
        architectures.push(architecture);
    }
    architectures.sort_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
    variants.sort_by_key(|variant| variant.order);
    let floors = [
        floor(programs, "threads", Io::Threads, "a thread for each connection"),
        floor(programs, "processes", Io::Processes, "a process for each connection"),
        floor(programs, "epoll", Io::Epoll, "one thread with epoll"),
    ];
    let floors = floors.to_vec();
    let root = metadata.workspace_root.into_std_path_buf();
    Ok(Catalogue { root, architectures, variants, sources, floors })
}

fn floor(programs: &Path, model: &str, io: Io, how: &str) -> Contestant {
    Contestant {
        name: format!("floor-{model}"),
        description: format!("A fixed reply, nothing parsed, by {how}"),
        order: u32::MAX,
        io,
        floor: true,
        many_workers: false,
        counts_workers: false,
        variant: false,
        concurrent: true,
        needs: None,
        version: None,
        definition_sha256: None,
        protocols: Vec::new(),
        program: programs.join("floor"),
        arguments: vec!["--model".to_owned(), model.to_owned()],
        tls: false,
        peer: None,
    }
}

/// Picks what was named, all when nothing was; an unknown name gets the list of those there are.
pub(crate) fn pick<T: Clone>(
    what: &str,
    all: &[T],
    names: &[String],
    name_of: impl Fn(&T) -> &str,
) -> Result<Vec<T>, Usage> {
    if let Some(unknown) = names.iter().find(|name| all.iter().all(|one| name_of(one) != **name)) {
        let mut known: Vec<&str> = all.iter().map(&name_of).collect();
        known.dedup();
        return Err(Usage(format!(
            "no {what} is named {unknown}; there are: {}",
            known.join(", ")
        )));
    }
    let chosen = |one: &&T| names.is_empty() || names.iter().any(|name| name == name_of(one));
    Ok(all.iter().filter(chosen).cloned().collect())
}

/// Says what to build when a program is missing.
pub(crate) fn require_programs<'a>(
    contestants: impl IntoIterator<Item = &'a Contestant>,
) -> Result<(), Usage> {
    let missing = |one: &&Contestant| !one.program.is_file();
    let missing: Vec<_> = contestants.into_iter().filter(missing).map(|one| &*one.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Usage(format!("not built: {}; run `make build` first", missing.join(", "))))
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_knows_the_architectures_in_their_order() {
        let found = discover().unwrap().architectures;
        assert!(found.len() >= 2);
        assert!(found.is_sorted_by(|a, b| a.order < b.order), "two have the same order");
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_names_there_are() {
        let all = ["churn".to_owned(), "plaintext".to_owned()];
        let error = pick("workload", &all, &["chrun".to_owned()], |name| name).unwrap_err();
        assert_eq!(error.0, "no workload is named chrun; there are: churn, plaintext");
        assert_eq!(pick("workload", &all, &[], |name| name).unwrap(), all);
    }
}
