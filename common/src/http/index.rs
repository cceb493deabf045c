//! A folder as a page: its names as links, with their size and the time of their last change.
//!
//! **Invariant:** whatever a name is, it forges no markup and leads nowhere but to itself; and a
//! folder of any size takes no more memory than [`SORTED_NAMES_MAX`] names do. Up to so many are
//! sorted; a larger folder comes in stretches of so many, each sorted in itself.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;

use super::response::http_date;
use super::wanted::encode;
use crate::job::{Entry, Job, Kind, Listing};
use crate::partial::is_partial_name;

/// How many names are sorted together.
pub(super) const SORTED_NAMES_MAX: usize = 4096;

/// About how many bytes are written at a time.
const PIECE_BYTES: usize = 16 * 1024;

/// A page that is being made.
#[derive(Debug)]
pub(super) struct Index {
    /// As clients see it, with a slash at both ends.
    folder: Vec<u8>,
    /// Of this stretch, in reverse once they are sorted.
    entries: Vec<Entry>,
    sorted: bool,
    more: Option<Listing>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Head,
    Rows,
    Over,
}

impl Index {
    /// The page of a folder that is named so below the root, without a slash at its ends.
    pub(super) fn new(folder: &[u8]) -> Self {
        let folder = match folder {
            b"" | b"." => b"/".to_vec(),
            folder => [b"/", folder, b"/"].concat(),
        };
        Index { folder, entries: Vec::new(), sorted: false, more: None, stage: Stage::Head }
    }

    /// Takes more names. Those that begin with a dot are not shown, as `ls` has it.
    pub(super) fn add(&mut self, entries: Vec<Entry>, more: Option<Listing>) {
        let shown = |entry: &Entry| {
            let name = entry.name.as_bytes();
            !name.starts_with(b".") && !is_partial_name(name)
        };
        self.entries.extend(entries.into_iter().filter(shown));
        self.more = more;
    }

    /// What must be done before the page can go on.
    pub(super) fn job(&mut self) -> Option<Job> {
        if self.sorted || self.entries.len() >= SORTED_NAMES_MAX {
            return None;
        }
        self.more.take().map(Job::ListMore)
    }

    /// Whether all of the page has been written.
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Writes the next piece of the page, which is never empty.
    pub(super) fn write(&mut self, page: &mut String) {
        if self.stage == Stage::Head {
            self.stage = Stage::Rows;
            write_head(page, &self.folder);
        }
        if !self.sorted {
            self.sorted = true;
            // In reverse, since they are taken from the end.
            let rank = |entry: &Entry| entry.status.kind != Kind::Directory;
            self.entries.sort_unstable_by(|a, b| (rank(b), &b.name).cmp(&(rank(a), &a.name)));
        }
        while page.len() < PIECE_BYTES
            && let Some(entry) = self.entries.pop()
        {
            write_row(page, &entry);
        }
        if self.entries.is_empty() {
            self.sorted = false;
            self.entries = Vec::new();
            if self.more.is_none() {
                self.stage = Stage::Over;
                page.push_str("</table>\n");
            }
        }
    }
}

fn write_head(page: &mut String, folder: &[u8]) {
    let name = escaped(folder);
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<meta charset=\"utf-8\">\n<title>{name}</title>\n<h1>{name}</h1>\n\
         <table>\n"
    );
    if folder != b"/" {
        page.push_str("<tr><td><a href=\"../\">../</a>\n");
    }
}

fn write_row(page: &mut String, entry: &Entry) {
    let name = entry.name.as_bytes();
    let (slash, size) = match entry.status.kind {
        Kind::Directory => ("/", String::new()),
        Kind::File => ("", entry.status.length.to_string()),
        _ => ("", String::new()),
    };
    let mut link = String::new();
    encode(name, &mut link);
    let (name, time) = (escaped(name), http_date(entry.status.modified));
    let time = String::from_utf8_lossy(&time);
    let _ = writeln!(
        page,
        "<tr><td><a href=\"{link}{slash}\">{name}{slash}</a><td align=\"right\">{size}<td>{time}"
    );
}

/// As text between tags or within quotes; what is no text of UTF-8, or controls something, shows as
/// a replacement character.
pub(super) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for character in String::from_utf8_lossy(bytes).chars() {
        match character {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&quot;"),
            '\'' => text.push_str("&#39;"),
            _ if character.is_control() => text.push(char::REPLACEMENT_CHARACTER),
            _ => text.push(character),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::job::Status;

    fn entry(name: &str, kind: Kind) -> Entry {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_mins(1);
        let (mode, links, uid, gid, unique) = (0o644, 1, 0, 0, (0, 0));
        let status = Status { kind, length: 7, modified, mode, links, uid, gid, unique };
        Entry { name: name.into(), status, target: None }
    }

    fn text(mut index: Index) -> String {
        let mut page = String::new();
        while !index.is_over() {
            assert!(index.job().is_none());
            let before = page.len();
            let mut piece = String::new();
            index.write(&mut piece);
            page.push_str(&piece);
            assert!(page.len() > before, "a piece is not empty");
        }
        page
    }

    #[test]
    fn a_page_shows_folders_first_and_hides_what_is_hidden() {
        let mut index = Index::new(b"a/b");
        let names = ["z", "b c", ".hidden", ".upload-1-2.part"];
        let mut entries = names.map(|name| entry(name, Kind::File)).to_vec();
        entries.push(entry("y", Kind::Directory));
        index.add(entries, None);
        let time = "Thu, 01 Jan 1970 00:01:00 GMT";
        let expected = format!(
            "<!DOCTYPE html>\n<meta charset=\"utf-8\">\n<title>/a/b/</title>\n<h1>/a/b/</h1>\n\
             <table>\n<tr><td><a href=\"../\">../</a>\n\
             <tr><td><a href=\"y/\">y/</a><td align=\"right\"><td>{time}\n\
             <tr><td><a href=\"b%20c\">b c</a><td align=\"right\">7<td>{time}\n\
             <tr><td><a href=\"z\">z</a><td align=\"right\">7<td>{time}\n</table>\n"
        );
        assert_eq!(text(index), expected);
    }

    #[test]
    fn a_name_forges_neither_markup_nor_a_link() {
        let mut index = Index::new(b"<i>");
        index.add(vec![entry("\"><script>&'", Kind::File)], None);
        index.add(vec![entry("javascript:x\n", Kind::File)], None);
        let page = text(index);
        assert!(page.contains("<h1>/&lt;i&gt;/</h1>"), "{page}");
        assert!(page.contains("href=\"%22%3E%3Cscript%3E%26%27\""), "{page}");
        assert!(page.contains(">&quot;&gt;&lt;script&gt;&amp;&#39;</a>"), "{page}");
        assert!(page.contains("href=\"javascript%3Ax%0A\">javascript:x\u{fffd}<"), "{page}");
    }

    #[test]
    fn a_page_comes_in_pieces() {
        let mut index = Index::new(b"");
        index.add((0..2000).map(|i| entry(&format!("{i:04}"), Kind::File)).collect(), None);
        let mut first = String::new();
        index.write(&mut first);
        assert!(first.len() < 2 * PIECE_BYTES);
        let rest = text(index);
        let shown = |i| {
            let link = format!("<a href=\"{i:04}\">");
            first.contains(&link) || rest.contains(&link)
        };
        assert!((0..2000).all(shown));
        assert!(!first.contains("../"), "nothing is above the root");
    }
}
