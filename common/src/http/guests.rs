//! The guestbook as a page, and an entry as browsers and other clients send it.
//!
//! **Invariant:** whatever a guest has written, it forges no markup.

use std::fmt::Write as _;

use super::index::escaped;
use super::response::{http_date, text};
use crate::guestbook::GuestEntry;

/// The longest entry, in bytes.
const ENTRY_BYTES_MAX: usize = 1024;

const FORM: &str = "<form method=\"post\"><input name=\"entry\" required>\
                    <button>Sign</button></form>\n";

/// The page that shows these entries and, if it `takes_more`, the form for another.
pub(super) fn page(entries: &[GuestEntry], takes_more: bool) -> String {
    let mut page = String::from(
        "<!DOCTYPE html>\n<meta charset=\"utf-8\">\n<title>Guestbook</title>\n\
         <h1>Guestbook</h1>\n",
    );
    if takes_more {
        page.push_str(FORM);
    }
    page.push_str("<dl>\n");
    for entry in entries {
        let (date, entry) = (http_date(entry.at), escaped(entry.text.as_bytes()));
        writeln!(page, "<dt>{}<dd>{entry}", text(&date)).expect("a string takes any text");
    }
    page.push_str("</dl>\n");
    page
}

/// The entry in a body: all of it or, if it is that of a form, the field `entry`.
pub(super) fn entry(body: &[u8], is_form: bool) -> Option<String> {
    let entry = if is_form { field(body)? } else { body.to_vec() };
    let fits = (1..=ENTRY_BYTES_MAX).contains(&entry.len());
    String::from_utf8(entry).ok().filter(|_| fits)
}

/// As forms are encoded (URL Standard, application/x-www-form-urlencoded).
fn field(body: &[u8]) -> Option<Vec<u8>> {
    let mut fields = body.split(|&byte| byte == b'&');
    let value = fields.find_map(|field| field.strip_prefix(b"entry="))?;
    let value: Vec<u8> = value.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    super::wanted::decode(str::from_utf8(&value).ok()?)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn an_entry_is_text_however_it_is_sent() {
        let form = |body: &str| entry(body.as_bytes(), true);
        assert_eq!(form("entry=a+b%26%C3%A9").as_deref(), Some("a b&é"));
        assert_eq!(form("x=y&entry=a&z").as_deref(), Some("a"));
        for body in ["", "entry=", "x=y", "entry=%", "entry=%ff", "entry=%00"] {
            assert_eq!(form(body), None, "{body}");
        }
        assert_eq!(entry("entry=é+".as_bytes(), false).as_deref(), Some("entry=é+"));
        assert_eq!(entry(b"", false), None);
        assert_eq!(entry(b"\xff", false), None);
        assert!(entry(&[b'x'; ENTRY_BYTES_MAX], false).is_some());
        assert!(entry(&[b'x'; ENTRY_BYTES_MAX + 1], false).is_none());
    }

    #[test]
    fn a_guest_forges_no_markup() {
        let text = String::from("<script>\"&'");
        let page = page(&[GuestEntry { at: SystemTime::UNIX_EPOCH, text }], false);
        let shown = "<dt>Thu, 01 Jan 1970 00:00:00 GMT<dd>&lt;script&gt;&quot;&amp;&#39;\n</dl>";
        assert!(page.contains(shown), "{page}");
    }
}
