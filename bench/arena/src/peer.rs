//! Servers of other people: one TOML file is one server, how it is started, and where it can be
//! got. A `Peer` that exists has been checked.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::Context as _;
use loadgen::Protocol;
use nix::unistd::{Group, User, getegid, geteuid};
use serde::Deserialize;

use crate::Usage;
use crate::catalogue::{Contestant, Io};
use crate::certificate::Certificate;
use crate::definition::{self, Malformed};
use crate::machine::sha256;

/// One server, as its file says it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Peer {
    /// The file's stem; not a key of the file.
    #[serde(skip)]
    pub(crate) name: String,
    /// The folder of the file.
    #[serde(skip)]
    beside: PathBuf,
    /// What it is defined by: its file, and those beside it that this one names.
    #[serde(skip)]
    definition: Vec<u8>,
    pub(crate) description: String,
    protocols: Vec<Protocol>,
    /// Where it stands where nothing ranks it.
    order: u32,
    io: Io,
    #[serde(default = "yes")]
    concurrent: bool,
    /// Whether it speaks within TLS, and in no other way.
    #[serde(default)]
    tls: bool,
    /// Whether it must be started by root.
    #[serde(default)]
    needs_root: bool,
    /// Names to look for in `PATH`, or paths from the root of the repository; the first that tells
    /// its version is taken.
    programs: Vec<String>,
    arguments: Vec<String>,
    version_arguments: Vec<String>,
    /// A command, or some words, by which one gets it.
    get: String,
    /// Files that are written into a folder of its own before each start.
    #[serde(default)]
    files: BTreeMap<String, String>,
}

/// What stands for what in arguments and files.
const PLACEHOLDERS: [&str; 9] = [
    "{port}",
    "{root}",
    "{folder}",
    BESIDE,
    "{user}",
    "{group}",
    "{certificate}",
    "{key}",
    "{address}",
];
/// The only one of them that stands in version arguments.
const BESIDE: &str = "{beside}";
/// Where every contestant listens.
const ADDRESS: &str = "127.0.0.1";

/// A peer that is on this machine, or why it is not.
pub(crate) enum Sought {
    Found(Contestant),
    Missing(String),
}

/// Reads every `*.toml` of a folder, in the order of the names.
pub(crate) fn load_folder(folder: &Path) -> anyhow::Result<Vec<Peer>> {
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let files = definition::read_folder(&folder, "contestant")?;
    files.into_iter().map(|(file, text)| Ok(parse(&file, &text)?)).collect()
}

/// Parses and checks one file; `file` gives the name and stands in messages.
fn parse(file: &Path, text: &str) -> Result<Peer, Malformed> {
    let mut peer: Peer = definition::parse(file, text)?;
    peer.name = definition::name_of(file);
    file.parent().unwrap_or(Path::new("")).clone_into(&mut peer.beside);
    peer.definition = [text.as_bytes(), &named_beside(text, &peer.beside)].concat();
    peer.description = definition::unwrapped(&peer.description);
    peer.get = definition::unwrapped(&peer.get);
    let malformed = |key: &str, expected: String| Err(Malformed::new(file, text, key, expected));
    for (key, is_empty) in [
        ("protocols", peer.protocols.is_empty()),
        ("programs", peer.programs.is_empty()),
        ("get", peer.get.is_empty()),
    ] {
        if is_empty {
            return malformed(key, "expected at least one".to_owned());
        }
    }
    if let Some(name) = peer.files.keys().find(|name| name.contains('/') || name.starts_with('.')) {
        return malformed("files", format!("expected a plain file name instead of {name:?}"));
    }
    if let Some(one) =
        peer.version_arguments.iter().find(|one| one.replace(BESIDE, "").contains('{'))
    {
        return malformed("version_arguments", format!("expected {BESIDE} at most in {one:?}"));
    }
    let keyed = peer.arguments.iter().map(|argument| ("arguments", argument));
    for (key, template) in keyed.chain(peer.files.values().map(|text| ("files", text))) {
        if let Some(unknown) = unknown_placeholder(template) {
            let known = PLACEHOLDERS.join(" ");
            return malformed(key, format!("expected one of {known} instead of {unknown}"));
        }
    }
    Ok(peer)
}

/// The contents of the files that a definition names by `{beside}/`, as far as they are there.
fn named_beside(text: &str, beside: &Path) -> Vec<u8> {
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let mut contents = Vec::new();
    for rest in text.split(BESIDE).skip(1).filter_map(|rest| rest.strip_prefix('/')) {
        let end = rest.find(|c| !is_of_a_name(c)).unwrap_or(rest.len());
        contents.extend(fs::read(beside.join(&rest[..end])).unwrap_or_default());
    }
    contents
}

/// The first lowercase word in braces that stands for nothing.
fn unknown_placeholder(template: &str) -> Option<&str> {
    template.match_indices('{').find_map(|(start, _)| {
        let end = start + 1 + template[start + 1..].find(|c: char| !c.is_ascii_lowercase())?;
        let is_word = end > start + 1 && template[end..].starts_with('}');
        let word = &template[start..=end];
        (is_word && !PLACEHOLDERS.contains(&word)).then_some(word)
    })
}

impl Peer {
    /// Looks for it on this machine; `repository` is where relative paths begin.
    pub(crate) fn seek(&self, repository: &Path) -> Sought {
        if self.needs_root && !geteuid().is_root() {
            return Sought::Missing("it must be started by root".to_owned());
        }
        for program in self.programs.iter().flat_map(|name| places(name, repository)) {
            if let Some(version) = self.version(&program) {
                return Sought::Found(self.contestant(program, version));
            }
        }
        Sought::Missing(format!("get it by: {}", self.get))
    }

    fn contestant(&self, program: PathBuf, version: String) -> Contestant {
        Contestant {
            name: self.name.clone(),
            description: self.description.clone(),
            order: self.order,
            io: self.io,
            floor: false,
            many_workers: false,
            counts_workers: false,
            variant: false,
            concurrent: self.concurrent,
            needs: None,
            version: Some(version),
            definition_sha256: Some(sha256(&self.definition)),
            tls: self.tls,
            protocols: self.protocols.clone(),
            program,
            arguments: Vec::new(),
            peer: Some(Arc::new(self.clone())),
        }
    }

    /// The first line with a digit in what it says when it is asked for its version. Some programs
    /// say that on their standard input, so all three streams are one file.
    fn version(&self, program: &Path) -> Option<String> {
        let mut said = tempfile::tempfile().ok()?;
        let stream = || said.try_clone();
        let mut command = Command::new(program);
        let beside = self.beside.display().to_string();
        command.args(self.version_arguments.iter().map(|one| one.replace(BESIDE, &beside)));
        command.stdin(stream().ok()?).stdout(stream().ok()?).stderr(stream().ok()?);
        if !command.status().ok()?.success() {
            return None;
        }
        let mut text = String::new();
        said.rewind().ok()?;
        said.read_to_string(&mut text).ok()?;
        let has_digit = |line: &&str| line.contains(|c: char| c.is_ascii_digit());
        text.lines().find(has_digit).map(|line| line.trim().to_owned())
    }

    /// Writes its files into `folder`, and says with what arguments it is to listen on `port`.
    pub(crate) fn prepare(
        &self,
        port: u16,
        root: &Path,
        folder: &Path,
        certificate: &Certificate,
    ) -> anyhow::Result<Vec<String>> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let user = User::from_uid(geteuid()).context("the name of the user")?;
        let group = Group::from_gid(getegid()).context("the name of the group")?;
        let values = [
            port.to_string(),
            root.display().to_string(),
            folder.display().to_string(),
            self.beside.display().to_string(),
            user.map_or_else(String::new, |user| user.name),
            group.map_or_else(String::new, |group| group.name),
            certificate.file.display().to_string(),
            certificate.key.display().to_string(),
            ADDRESS.to_owned(),
        ];
        let fill = |template: &String| {
            let pairs = PLACEHOLDERS.iter().zip(&values);
            pairs.fold(template.clone(), |text, (name, value)| text.replace(name, value))
        };
        for (name, text) in &self.files {
            let path = folder.join(name);
            fs::write(&path, fill(text)).with_context(|| path.display().to_string())?;
        }
        Ok(self.arguments.iter().map(fill).collect())
    }
}

/// The paths at which a program may be: a name is looked for in `PATH` and in the folders of
/// servers, which are often not in a user's.
fn places(name: &str, repository: &Path) -> Vec<PathBuf> {
    if name.contains('/') {
        return [repository.join(name)].into_iter().filter(|path| path.is_file()).collect();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(name)).filter(|path| path.is_file()).collect()
}

/// Those of the names, all when none is named, as far as they are here; `tell` hears of the others.
/// One that was asked for by name must be here.
pub(crate) fn seek_all(
    peers: &[Peer],
    names: &[String],
    repository: &Path,
    mut tell: impl FnMut(&str),
) -> Result<Vec<Contestant>, Usage> {
    let mut found = Vec::new();
    for peer in crate::catalogue::pick("peer", peers, names, |peer| &peer.name)? {
        match peer.seek(repository) {
            Sought::Found(contestant) => found.push(contestant),
            Sought::Missing(why) if names.is_empty() => {
                tell(&format!("{} is not here; {why}", peer.name));
            }
            Sought::Missing(why) => {
                return Err(Usage(format!("{} is not here; {why}", peer.name)));
            }
        }
    }
    found.sort_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
    Ok(found)
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"description = "D"
protocols = ["ftp"]
order = 101
io = "processes"
programs = ["sh"]
arguments = ["-p", "{port}", "{folder}/a.conf"]
version_arguments = ["-c", "echo Copyright; echo sample 1.2"]
get = "apt-get install sample"
[files]
"a.conf" = "port={port} root={root} not={{}} nor={Upper}"
"#;

    fn check(text: &str, expected: &str) {
        let error = parse(Path::new("c/sample.toml"), text).expect_err(text);
        assert_eq!(error.to_string(), expected);
    }

    fn sample(text: &str) -> Peer {
        parse(Path::new("c/sample.toml"), text).unwrap()
    }

    #[test]
    fn a_peer_that_is_here_tells_its_version() {
        let Sought::Found(found) = sample(GOOD).seek(Path::new("/")) else {
            panic!("there is a shell everywhere");
        };
        assert_eq!((found.name.as_str(), found.version.as_deref()), ("sample", Some("sample 1.2")));
        assert!(found.peer.is_some() && !found.floor);
    }

    #[test]
    fn a_version_on_standard_input_is_read_too() {
        let quirk = sample(&GOOD.replace("echo sample 1.2", "echo sample 3 >&0"));
        assert_eq!(quirk.version(Path::new("/bin/sh")).as_deref(), Some("sample 3"));
    }

    #[test]
    fn a_peer_that_is_not_here_is_told_with_the_way_to_get_it() {
        let missing = [
            sample(&GOOD.replace("[\"sh\"]", "[\"no-such-program\", \"no/such/file\"]")),
            sample(&GOOD.replace("echo Copyright", "exit 1")),
        ];
        for peer in missing {
            let mut told = Vec::new();
            let here = seek_all(std::slice::from_ref(&peer), &[], Path::new("/"), |line| {
                told.push(line.to_owned());
            });
            assert!(here.unwrap().is_empty());
            assert_eq!(told, ["sample is not here; get it by: apt-get install sample"]);
            let named = seek_all(&[peer], &["sample".to_owned()], Path::new("/"), |_| {});
            assert_eq!(
                named.unwrap_err().0,
                "sample is not here; get it by: apt-get install sample"
            );
        }
    }

    #[test]
    fn placeholders_are_filled_in_arguments_and_files_and_other_braces_stay() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own");
        let certificate = Certificate::make(folder.path()).unwrap();
        let arguments = sample(&GOOD.replace("not={{}}", "key={key} not={{}}"));
        let arguments = arguments.prepare(2121, Path::new("/srv"), &own, &certificate).unwrap();
        let file = own.join("a.conf");
        assert_eq!(arguments, ["-p", "2121", file.to_str().unwrap()]);
        let text = fs::read_to_string(file).unwrap();
        let key = certificate.key.display();
        assert_eq!(text, format!("port=2121 root=/srv key={key} not={{{{}}}} nor={{Upper}}"));
    }

    #[test]
    fn what_a_server_is_defined_by_is_its_file_and_those_that_it_names() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sample.toml");
        let text = GOOD.replace("not={{}}", "include {beside}/all.conf;");
        let digest = |text: &str, conf: &str| {
            fs::write(folder.path().join("all.conf"), conf).unwrap();
            let Sought::Found(found) = parse(&file, text).unwrap().seek(Path::new("/")) else {
                panic!("there is a shell everywhere");
            };
            found.definition_sha256.unwrap()
        };
        let first = digest(&text, "workers 1;");
        assert_eq!(first, digest(&text, "workers 1;"));
        assert_ne!(first, digest(&text, "workers 2;"));
        assert_ne!(first, digest(&text.replace("port=", "port ="), "workers 1;"));
    }

    #[test]
    fn a_malformed_file_is_told_by_file_line_key_and_what_was_expected() {
        let known = PLACEHOLDERS.join(" ");
        check(
            &GOOD.replace("\"{port}\"", "\"{prot}\""),
            &format!("c/sample.toml:6: arguments: expected one of {known} instead of {{prot}}"),
        );
        check(
            &GOOD.replace("{root}", "{rot}"),
            &format!("c/sample.toml:1: files: expected one of {known} instead of {{rot}}"),
        );
        check(
            &GOOD.replace("\"a.conf\" =", "\"../a.conf\" ="),
            "c/sample.toml:1: files: expected a plain file name instead of \"../a.conf\"",
        );
        check(&GOOD.replace("[\"sh\"]", "[]"), "c/sample.toml:5: programs: expected at least one");
        check(
            &GOOD.replace("\"processes\"", "\"fibres\""),
            "c/sample.toml:4: io: unknown variant `fibres`, expected one of `threads`, \
             `processes`, `epoll`",
        );
        check(&GOOD.replace("order = 101\n", ""), "c/sample.toml:1: missing field `order`");
        let text = GOOD.replace("order", "odor");
        let unknown = parse(Path::new("c/x.toml"), &text).unwrap_err().to_string();
        assert!(
            unknown.starts_with("c/x.toml:3: odor: unknown field `odor`, expected one of"),
            "{unknown}"
        );
    }

    #[test]
    fn every_contestant_of_the_project_is_well_formed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contestants");
        let peers = load_folder(&folder).unwrap();
        assert!(peers.iter().all(|peer| peer.order > 1000), "ours come first");
    }
}
