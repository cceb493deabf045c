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

/// Names that everybody may use with any password, in any case.
const ANONYMOUS: [&[u8]; 2] = [b"anonymous", b"ftp"];

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
    ANONYMOUS.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Whether a user can be called so.
pub fn check_name(name: &[u8]) -> Result<(), NameMistake> {
    if name.is_empty() {
        Err(NameMistake::Empty)
    } else if is_anonymous(name) {
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
    /// Reads a file of users, and opens their homes.
    pub fn open(file: &Path) -> Result<Self, Mistake> {
        let text = std::fs::read(file).map_err(|error| Mistake::File(file.to_owned(), error))?;
        let mut users = Users::default();
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !matches!(line.trim_ascii_start(), [] | [b'#', ..]) {
                users
                    .add(line)
                    .map_err(|mistake| Mistake::Line(file.to_owned(), index + 1, mistake))?;
            }
        }
        Ok(users)
    }

    /// Who is called so.
    pub fn find(&self, name: &[u8]) -> Option<&Arc<User>> {
        self.by_name.get(name)
    }

    /// The costliest hash of all, to spend on the password of somebody who is not there as much
    /// time as on one who is. The outcome means nothing. Where there are no users, there is none
    /// to hide.
    pub fn decoy(&self) -> Option<&Arc<Hash>> {
        self.decoy.as_ref()
    }

    fn add(&mut self, line: &[u8]) -> Result<(), LineMistake> {
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
        let hash = Arc::new(hash);
        if self.decoy.as_ref().is_none_or(|costliest| hash.cost() > costliest.cost()) {
            self.decoy = Some(hash.clone());
        }
        let user = User { hash, rights, home: Arc::new(root) };
        self.by_name.insert(name.to_vec(), Arc::new(user));
        Ok(())
    }
}

/// For a message: names are bytes, and a mistake may be anything.
fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
