//! Directories as text: as `ls -l` prints them, names alone, or facts (RFC 3659 §7).
//!
//! **Invariant:** one entry is one line, whatever its name is, or what it points to.
//!
//! - LIST, NLST and STAT leave out names that begin with a dot, as `ls` does, unless one of their
//!   options is `-a` or `-A`; the other options (`-l`, `-R` …) are understood and change nothing. A
//!   file or directory that is named itself is shown, and so is what a pattern with a dot fits.
//!   MLSD shows all, since no option could ask for more. `.` and `..` are never among the names.
//! - The columns are those of `ls -ln` in the C locale, of a fixed least width: `ls` reads the
//!   whole directory before it knows how wide they must be, and this text is sent while the
//!   directory is read. Dates are in UTC.
//! - A symbolic link is shown with what it points to, and not followed, so that it may point
//!   anywhere. MLSD has facts of the link itself, and MLST of what it stands for.
//! - MLSD has no `cdir` and `pdir` (RFC 3659 §7.5.1 leaves it to us): they are no names in the
//!   directory, and clients that copy a tree leave them out.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

use crate::job::{Entry, Kind, Status};
use crate::partial::is_partial_name;

use super::{glob, reply};

/// How `ls` tells a recent file, whose time of day it shows, from an old one, whose year it shows:
/// half a mean Gregorian year.
const RECENT: Duration = Duration::from_secs(31_556_952 / 2);

/// A file that was made just now is recent, also by a clock that is coarser than the file's.
const CLOCK_SLACK: Duration = Duration::from_secs(1);

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// What a line of a listing looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// LIST and STAT: as `ls -l`.
    Long,
    /// NLST: the name.
    Name,
    /// MLSD: facts and the name.
    Facts,
}

/// A way to write entries down.
#[derive(Debug)]
pub(super) struct Printer {
    pub(super) format: Format,
    pub(super) facts: Facts,
    /// Whether the client may change what it sees.
    pub(super) writable: bool,
    pub(super) now: SystemTime,
    pub(super) selection: Selection,
}

/// Which names of a directory are shown. Those of uploads that are not whole never are.
#[derive(Debug)]
pub(super) enum Selection {
    /// All, as `ls -A`.
    Everything,
    /// Those that do not begin with a dot.
    Visible,
    /// Those that a pattern fits.
    Pattern {
        /// What the client has written before the pattern. NLST puts it before each name, so that
        /// the client can use what it is told.
        folder: Vec<u8>,
        pattern: Vec<u8>,
    },
}

impl Selection {
    fn shows(&self, name: &[u8]) -> bool {
        let fits = match self {
            Selection::Everything => true,
            Selection::Visible => name.first() != Some(&b'.'),
            Selection::Pattern { pattern, .. } => glob::matches(pattern, name),
        };
        fits && !is_partial_name(name)
    }
}

impl Printer {
    /// Adds a line for each entry.
    pub(super) fn print(&self, output: &mut Vec<u8>, entries: &[Entry]) {
        for Entry { name, status, target } in entries {
            let name = name.as_bytes();
            if !self.selection.shows(name) {
                continue;
            }
            match (self.format, &self.selection) {
                (Format::Long, _) => self.long(output, status),
                (Format::Name, Selection::Pattern { folder, .. }) => {
                    reply::foreign(output, folder);
                }
                (Format::Name, _) => {}
                (Format::Facts, _) => self.facts(output, status, target.as_deref()),
            }
            reply::foreign(output, name);
            if let (Format::Long, Some(target)) = (self.format, target) {
                output.extend_from_slice(b" -> ");
                reply::foreign(output, target.as_bytes());
            }
            output.extend_from_slice(b"\r\n");
        }
    }

    /// The facts of a file, and the space that ends them.
    pub(super) fn facts(&self, output: &mut Vec<u8>, status: &Status, target: Option<&OsStr>) {
        let text = self.facts.of(status, target, self.writable);
        output.extend_from_slice(text.as_bytes());
        output.push(b' ');
    }

    fn long(&self, output: &mut Vec<u8>, status: &Status) {
        let time = utc(status.modified);
        let month = MONTHS[usize::from(u8::from(time.month())) - 1];
        let age = (self.now + CLOCK_SLACK).duration_since(status.modified);
        let clock_or_year = if age.is_ok_and(|age| age < RECENT) {
            format!("{:02}:{:02}", time.hour(), time.minute())
        } else {
            format!("{:>5}", time.year())
        };
        let text = format!(
            "{} {:>4} {:<8} {:<8} {:>12} {month} {:>2} {clock_or_year} ",
            mode(status),
            status.links,
            status.uid,
            status.gid,
            status.length,
            time.day(),
        );
        output.extend_from_slice(text.as_bytes());
    }
}

/// Which facts a client wants of MLST and MLSD, as bits in the order of [`Facts::NAMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts(u8);

impl Default for Facts {
    fn default() -> Self {
        Facts((1 << Facts::NAMES.len()) - 1)
    }
}

impl Facts {
    const NAMES: [&str; 6] = ["type", "size", "modify", "perm", "unique", "UNIX.mode"];

    /// Those of a list as of `OPTS MLST type;size;` that are known here.
    pub(super) fn parse(list: &[u8]) -> Self {
        let asked = |name: &str| {
            let same = |part: &[u8]| part.eq_ignore_ascii_case(name.as_bytes());
            list.split(|&byte| byte == b';').any(same)
        };
        let bits = Facts::NAMES.iter().enumerate();
        Facts(bits.fold(0, |all, (bit, name)| all | u8::from(asked(name)) << bit))
    }

    /// As OPTS MLST answers it.
    pub(super) fn chosen(self) -> String {
        self.join(|name, chosen| chosen.then(|| format!("{name};")))
    }

    /// As FEAT shows it: those that are chosen have an asterisk.
    pub(super) fn feature(self) -> String {
        self.join(|name, chosen| Some(format!("{name}{};", if chosen { "*" } else { "" })))
    }

    fn of(self, status: &Status, target: Option<&OsStr>, writable: bool) -> String {
        self.join(|name, chosen| {
            let value = if chosen { fact(name, status, target, writable) } else { None };
            value.map(|value| format!("{name}={value};"))
        })
    }

    fn join(self, text: impl Fn(&'static str, bool) -> Option<String>) -> String {
        let bits = Facts::NAMES.iter().enumerate();
        bits.filter_map(|(bit, name)| text(name, self.0 >> bit & 1 == 1)).collect()
    }
}

fn fact(name: &str, status: &Status, target: Option<&OsStr>, writable: bool) -> Option<String> {
    let (device, inode) = status.unique;
    match name {
        "type" => Some(type_fact(status.kind, target)),
        "size" => (status.kind == Kind::File).then(|| status.length.to_string()),
        "modify" => Some(timestamp(status.modified)),
        "perm" => Some(permission_fact(status.kind, writable).to_owned()),
        "unique" => Some(format!("{device:x}g{inode:x}")),
        "UNIX.mode" => Some(format!("{:04o}", status.mode)),
        _ => None,
    }
}

/// A link is `OS.unix=symlink` by the grammar of RFC 3659 §7.5.1, and `OS.unix=slink:target` by its
/// examples, which are what clients copy links by. A target that would not fit among facts is left
/// out.
fn type_fact(kind: Kind, target: Option<&OsStr>) -> String {
    let fits = |target: &&str| !target.contains([' ', ';']) && !target.contains(char::is_control);
    match (kind, target.and_then(OsStr::to_str).filter(fits)) {
        (Kind::File, _) => "file".to_owned(),
        (Kind::Directory, _) => "dir".to_owned(),
        (Kind::Link, Some(target)) => format!("OS.unix=slink:{target}"),
        (Kind::Link, None) => "OS.unix=symlink".to_owned(),
        (Kind::Other(_), _) => "OS.unix=special".to_owned(),
    }
}

/// RFC 3659 §7.5.5.
fn permission_fact(kind: Kind, writable: bool) -> &'static str {
    match (kind, writable) {
        (Kind::Directory, true) => "cdeflmp",
        (Kind::Directory, false) => "el",
        (_, true) => "adfrw",
        (_, false) => "r",
    }
}

/// `YYYYMMDDHHMMSS`, in UTC.
pub(super) fn timestamp(time: SystemTime) -> String {
    let time = utc(time);
    format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
    )
}

/// File systems keep times that no calendar of four digits has; those become 1970.
fn utc(time: SystemTime) -> OffsetDateTime {
    let seconds = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()),
        Err(before) => i64::try_from(before.duration().as_secs()).map(|seconds| -seconds),
    };
    let time = OffsetDateTime::from_unix_timestamp(seconds.unwrap_or(0));
    time.ok().filter(|time| time.year() >= 0).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// As `drwxr-xr-x`.
fn mode(status: &Status) -> String {
    let mut text = String::with_capacity(10);
    text.push(match status.kind {
        Kind::File => '-',
        Kind::Directory => 'd',
        Kind::Link => 'l',
        Kind::Other(letter) => letter,
    });
    // The special bits (set user, set group, sticky) show in the place of an `x`.
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = status.mode >> shift;
        text.push(if bits & 4 == 0 { '-' } else { 'r' });
        text.push(if bits & 2 == 0 { '-' } else { 'w' });
        text.push(match (status.mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, false) => letter.to_ascii_uppercase(),
            (true, true) => letter,
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2001-09-09 01:46:40 UTC.
    const MODIFIED_SECONDS: u64 = 1_000_000_000;

    fn check(format: Format, now_seconds: u64, name: &[u8], expected: &[u8]) {
        let status = Status {
            kind: Kind::File,
            length: 12,
            modified: SystemTime::UNIX_EPOCH + Duration::from_secs(MODIFIED_SECONDS),
            mode: 0o4644,
            links: 1,
            uid: 1000,
            gid: 0,
            unique: (0x10, 0xff),
        };
        let name = std::ffi::OsStr::from_bytes(name).to_owned();
        let printer = Printer {
            format,
            facts: Facts::default(),
            writable: true,
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(now_seconds),
            selection: Selection::Everything,
        };
        let mut output = Vec::new();
        printer.print(&mut output, &[Entry { name, status, target: None }]);
        let text = String::from_utf8_lossy(&output);
        assert_eq!(text, String::from_utf8_lossy(expected));
    }

    #[test]
    fn a_long_line_shows_the_hour_of_recent_files_and_the_year_of_others() {
        let recent = b"-rwSr--r--    1 1000     0                  12 Sep  9 01:46 a b\r\n";
        check(Format::Long, MODIFIED_SECONDS + 1, b"a b", recent);
        let old = b"-rwSr--r--    1 1000     0                  12 Sep  9  2001 a b\r\n";
        check(Format::Long, MODIFIED_SECONDS * 2, b"a b", old);
        // A coarse clock is a little behind; one that is far behind says nothing.
        check(Format::Long, MODIFIED_SECONDS - 1, b"a b", recent);
        check(Format::Long, MODIFIED_SECONDS - 60, b"a b", old);
    }

    #[test]
    fn facts_precede_the_name() {
        let line = b"type=file;size=12;modify=20010909014640;perm=adfrw;unique=10gff;\
            UNIX.mode=4644; a\r\n";
        check(Format::Facts, 0, b"a", line);
    }

    #[test]
    fn a_line_end_in_a_name_forges_no_line() {
        check(Format::Name, 0, b"a\r\nb\xff", b"a??b\xff\r\n");
    }

    #[test]
    fn a_link_tells_its_target_where_that_forges_no_fact() {
        let link = |target: &[u8]| type_fact(Kind::Link, Some(OsStr::from_bytes(target)));
        assert_eq!(link(b"../a"), "OS.unix=slink:../a");
        for target in [&b"a b"[..], b"a;type=dir", b"a\r\nb", b"\xff"] {
            assert_eq!(link(target), "OS.unix=symlink");
        }
    }

    #[test]
    fn facts_are_chosen_by_name() {
        let facts = Facts::parse(b"SIZE;nonsense;modify");
        assert_eq!(facts.chosen(), "size;modify;");
        let feature = "type;size*;modify*;perm;unique;UNIX.mode;";
        assert_eq!(facts.feature(), feature);
        assert_eq!(Facts::parse(b"").chosen(), "");
    }

    #[test]
    fn times_beyond_the_calendar_do_no_harm() {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 60);
        assert_eq!(timestamp(end), "19700101000000");
    }
}
