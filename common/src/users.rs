//! The users of a server, from the file that `--users` names: one a line,
//! `name:hash:rights:home`, with blank lines and `#` comments between them.
//!
//! ```text
//! alice:$argon2id$v=19$m=19456,t=2,p=1$c2FsdA…$aGFzaA…:write:/srv/alice
//! ```
//!
//! The home comes last, so that it may hold colons. `ftp-user` writes such lines.
//!
//! **Invariant:** a file is taken whole or not at all. Every home is open before the first client
//! comes, and whoever has no line here is nobody.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use clap::ValueEnum;

use crate::job::Root;
use crate::password::{Hash, UnfitHash};

/// Names that everybody may use with any password. In capitals they are nobody's.
const ANONYMOUS: [&[u8]; 2] = [b"anonymous", b"ftp"];

/// How many times the usual work a check may take: some seconds, for which a reactor stands still.
const COST_MAX: u64 = 100;

/// What a user may do in their home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rights {
    /// List and fetch
    Read,
    /// Store, rename and delete as well
    Write,
}

/// Somebody with a password.
#[derive(Debug)]
pub struct User {
    /// What their password is checked against.
    pub hash: Arc<Hash>,
    /// What they may do.
    pub rights: Rights,
    /// What they see as the root.
    pub home: Root,
}

/// Everybody who has a password.
#[derive(Clone, Debug, Default)]
pub struct Users {
    by_name: HashMap<Vec<u8>, Arc<User>>,
    decoy: Option<Arc<Hash>>,
}

/// Why a file of users is refused: a line for whoever wrote it.
#[derive(Debug, thiserror::Error)]
pub enum Mistake {
    /// It cannot be read.
    #[error("cannot read --users {0}: {1}; name a file with lines that ftp-user has printed")]
    File(PathBuf, io::Error),
    /// Clients could fetch it, with the hashes in it.
    #[error("--users {0} lies in {1}, which clients are served; move it elsewhere")]
    Served(PathBuf, PathBuf),
    /// One of its lines is wrong.
    #[error("--users {0}, line {1}: {2}")]
    Line(PathBuf, usize, LineMistake),
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum LineMistake {
    /// It has not four fields.
    #[error("a user is name:hash:rights:home; have ftp-user print the line")]
    Fields,
    /// Nobody can be called so.
    #[error("{0}")]
    Name(#[from] NameMistake),
    /// The name is in an earlier line too.
    #[error("{0} was there before; keep one of the lines")]
    Twice(String),
    /// The second field is no hash of a password.
    #[error("the second field is {0}; have ftp-user print the line")]
    Hash(#[from] UnfitHash),
    /// A check would take minutes, and as long for whoever guesses.
    #[error("its hash takes {0} times the work of one by ftp-user; have ftp-user print the line")]
    Costly(u64),
    /// The third field is not a right.
    #[error("the rights are {0:?}; write read or write")]
    Rights(String),
    /// The home is no folder that can be opened.
    #[error("cannot open the home {0}: {1}; name a folder")]
    Home(PathBuf, io::Error),
}

/// Why nobody can be called so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameMistake {
    /// It is empty.
    #[error("the name is empty; give the user one")]
    Empty,
    /// Everybody may use it.
    #[error("anonymous and ftp need no password; choose another name")]
    Anonymous,
    /// It would not survive the file, or no client could send it.
    #[error(
        "a name has no colon, no control character, no space around it and no # before it; \
         choose another"
    )]
    Characters,
}

/// Whether this name is everybody's.
pub fn is_anonymous(name: &[u8]) -> bool {
    ANONYMOUS.contains(&name)
}

/// Whether a user can be called so.
pub fn check_name(name: &[u8]) -> Result<(), NameMistake> {
    if name.is_empty() {
        Err(NameMistake::Empty)
    } else if is_anonymous(&name.to_ascii_lowercase()) {
        Err(NameMistake::Anonymous)
    } else if name[0] == b'#'
        || name.trim_ascii() != name
        || name.iter().any(|byte| *byte == b':' || byte.is_ascii_control())
    {
        Err(NameMistake::Characters)
    } else {
        Ok(())
    }
}

/// A user's line, with its end. The home must have no end of a line in it.
pub fn line(name: &[u8], hash: &Hash, rights: Rights, home: &[u8]) -> Vec<u8> {
    let rights = match rights {
        Rights::Read => "read",
        Rights::Write => "write",
    };
    let middle = format!(":{hash}:{rights}:");
    [name, middle.as_bytes(), home, b"\n"].concat()
}

impl Users {
    /// Reads a file of users, of a server that serves `root`, and opens their homes.
    pub fn open(file: &Path, root: &Path) -> Result<Self, Mistake> {
        let text = std::fs::read(file).map_err(|error| Mistake::File(file.to_owned(), error))?;
        let place = std::fs::canonicalize(file);
        let (mut users, mut folders) = (Users::default(), vec![root.to_owned()]);
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !matches!(line.trim_ascii_start(), [] | [b'#', ..]) {
                let home = users.add(line);
                folders.push(
                    home.map_err(|mistake| Mistake::Line(file.to_owned(), index + 1, mistake))?,
                );
            }
        }
        let holds = |folder: &PathBuf| match (&place, std::fs::canonicalize(folder)) {
            (Ok(place), Ok(folder)) => place.starts_with(folder),
            _ => false,
        };
        match folders.into_iter().find(holds) {
            Some(folder) => Err(Mistake::Served(file.to_owned(), folder)),
            None => Ok(users),
        }
    }

    /// Who is called so.
    pub fn find(&self, name: &[u8]) -> Option<&Arc<User>> {
        self.by_name.get(name)
    }

    /// How many there are, and so how many homes are open.
    pub fn count(&self) -> usize {
        self.by_name.len()
    }

    /// The costliest hash of all, to spend on the password of somebody who is not there as much
    /// time as on one who is, if all hashes cost the same, as those of `ftp-user` do. The outcome
    /// means nothing. Where there are no users, there is none to hide.
    pub fn decoy(&self) -> Option<&Arc<Hash>> {
        self.decoy.as_ref()
    }

    /// Adds a line's user, and tells their home.
    fn add(&mut self, line: &[u8]) -> Result<PathBuf, LineMistake> {
        let fields: Vec<&[u8]> = line.splitn(4, |&byte| byte == b':').collect();
        let [name, hash, rights, home] = fields[..] else {
            return Err(LineMistake::Fields);
        };
        check_name(name)?;
        if self.by_name.contains_key(name) {
            return Err(LineMistake::Twice(lossy(name)));
        }
        let hash: Hash = std::str::from_utf8(hash).map_err(|_| UnfitHash)?.parse()?;
        let rights = Rights::from_str(&lossy(rights), false)
            .map_err(|_| LineMistake::Rights(lossy(rights)))?;
        let home = Path::new(OsStr::from_bytes(home));
        let root = Dir::open_ambient_dir(home, ambient_authority())
            .map_err(|error| LineMistake::Home(home.to_owned(), error))?;
        if hash.cost() > COST_MAX * Hash::usual_cost() {
            return Err(LineMistake::Costly(hash.cost() / Hash::usual_cost()));
        }
        let hash = Arc::new(hash);
        if self.decoy.as_ref().is_none_or(|costliest| hash.cost() > costliest.cost()) {
            self.decoy = Some(hash.clone());
        }
        let user = User { hash, rights, home: Arc::new(root) };
        self.by_name.insert(name.to_vec(), Arc::new(user));
        Ok(home.to_owned())
    }
}

/// For a message: names are bytes, and a mistake may be anything.
fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str =
        "$argon2id$v=19$m=8,t=1,p=1$YSBmaXhlZCBzYWx0$ZdxW6tkjqaaRT54leQFEQD0hS+erohxgTV1gKYXeQ0U";

    fn open(text: &[u8]) -> Result<Users, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users");
        std::fs::write(&file, text).unwrap();
        Users::open(&file, Path::new(".")).map_err(|mistake| {
            let message = mistake.to_string();
            assert_eq!(message.lines().count(), 1, "{message}");
            let place = format!("--users {}, line ", file.display());
            message.strip_prefix(&place).unwrap().to_owned()
        })
    }

    #[test]
    fn a_file_has_users_comments_and_blank_lines() {
        let costly = HASH.replace("m=8", "m=64");
        let text = format!("# nobody\r\n\n  # me:too\na:{HASH}:read:.\r\nb c:{costly}:write:/dev");
        let users = open(text.as_bytes()).unwrap();
        assert_eq!(users.count(), 2);
        assert_eq!(users.find(b"a").unwrap().rights, Rights::Read);
        assert_eq!(users.find(b"b c").unwrap().rights, Rights::Write);
        assert!(users.find(b"A").is_none() && users.find(b"b").is_none());
        assert_eq!(users.decoy().unwrap().to_string(), costly);
        let nobody = open(b"# nobody\n").unwrap();
        assert!(nobody.decoy().is_none());
    }

    #[test]
    fn a_file_that_clients_could_fetch_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let file = inner.join("users");
        let served = |home: &Path, root: &Path| {
            std::fs::write(&file, format!("a:{HASH}:read:{}\n", home.display())).unwrap();
            matches!(Users::open(&file, root), Err(Mistake::Served(..)))
        };
        let elsewhere = Path::new("/dev");
        assert!(served(elsewhere, folder.path()));
        assert!(served(&inner.join("../inner"), elsewhere));
        assert!(!served(elsewhere, elsewhere));
    }

    #[test]
    fn a_hash_that_would_stop_a_server_is_refused() {
        let costly = HASH.replace("m=8,t=1", "m=8,t=4000000000");
        let message = open(format!("a:{costly}:read:/dev\n").as_bytes()).unwrap_err();
        assert!(message.contains("times the work"), "{message}");
    }

    #[test]
    fn what_is_written_as_a_line_is_read_as_one() {
        let home = tempfile::Builder::new().prefix("a:b: #").tempdir().unwrap();
        let hash: Hash = HASH.parse().unwrap();
        let home = home.path().as_os_str().as_bytes();
        let users = open(&line(b"\xff name", &hash, Rights::Write, home)).unwrap();
        let user = users.find(b"\xff name").unwrap();
        assert_eq!((&*user.hash, user.rights), (&hash, Rights::Write));
    }

    #[test]
    fn every_mistake_is_named_with_its_line_and_what_to_do() {
        let check = |line: &str, expected: &str| {
            let line = line.replace("HASH", HASH);
            let message = open(format!("# first\nok:{HASH}:read:.\n{line}\n").as_bytes());
            let message = message.expect_err(&line);
            assert!(message.starts_with("3: ") && message.contains(expected), "{message}");
            assert!(!message.contains("argon2id$v=19$m=8"), "it shows a hash: {message}");
        };
        check("a", "have ftp-user print the line");
        check("a:HASH:read", "name:hash:rights:home");
        check(":HASH:read:.", "the name is empty");
        check("ok:HASH:read:.", "ok was there before");
        check("a:secret:read:.", "the second field is not an Argon2 hash");
        check("a::read:.", "have ftp-user print the line");
        check("a:HASH:both:.", "write read or write");
        check("a:HASH:Read:.", "\"Read\"");
        check("a:HASH:read:/no/such/folder", "/no/such/folder: No such file");
        check("a:HASH:read:", "name a folder");
        check("a:HASH:read:/dev/null", "name a folder");
        check("Anonymous:HASH:read:.", "choose another name");
        check("ftp:HASH:read:.", "choose another name");
        check(" a:HASH:read:.", "choose another");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let message =
            Users::open(Path::new("/no/such/file"), Path::new(".")).unwrap_err().to_string();
        assert!(
            message.starts_with("cannot read --users /no/such/file: No such file"),
            "{message}"
        );
    }
}
