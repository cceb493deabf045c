//! What a request makes its answer depend on (RFC 9110 §13).
//!
//! **Invariant:** the preconditions are looked at in the order of RFC 9110 §13.2.2, and where a
//! field stands twice, it stands for nothing or, if it is a list, for one list.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

/// A field as it was sent.
type Field<'a> = Option<Cow<'a, [u8]>>;

/// The fields of a request that are about what the client has already. Most requests have none,
/// and pay for none.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions<'a>(Option<Box<Stated<'a>>>);

/// Those fields, where there are some.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stated<'a> {
    pub(super) if_match: Field<'a>,
    pub(super) if_none_match: Field<'a>,
    pub(super) if_modified_since: Field<'a>,
    pub(super) if_unmodified_since: Field<'a>,
    pub(super) if_range: Field<'a>,
    pub(super) range: Field<'a>,
}

/// By what a state of a file is told from others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validators<'a> {
    /// An entity tag with its quotes, and `W/` before them if it is weak.
    pub(super) etag: &'a str,
    pub(super) modified: SystemTime,
}

/// What comes of the preconditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Proceed,
    NotModified,
    Failed,
}

/// Adds what one more field of this name says.
pub(super) fn add<'a>(field: &mut Field<'a>, value: &'a [u8]) {
    *field = Some(match field.take() {
        None => Cow::Borrowed(value),
        Some(before) => Cow::Owned([&before, value].join(&b", "[..])),
    });
}

impl<'a> Conditions<'a> {
    /// To state one more.
    pub(super) fn stated(&mut self) -> &mut Stated<'a> {
        self.0.get_or_insert_default()
    }

    /// The same, to be kept beyond the input.
    pub(super) fn into_owned(self) -> Conditions<'static> {
        Conditions(self.0.map(|stated| Box::new(stated.into_owned())))
    }

    /// Whether a request may be carried out on what there is now, if there is something. Reading
    /// asks for less than writing.
    pub(super) fn verdict(&self, now: Option<Validators<'_>>, reads: bool) -> Verdict {
        self.0.as_ref().map_or(Verdict::Proceed, |stated| stated.verdict(now, reads))
    }

    /// The Range field, if If-Range allows it.
    pub(super) fn range(&self, now: Validators<'_>) -> Option<&[u8]> {
        self.0.as_ref()?.range(now)
    }
}

impl Stated<'_> {
    fn into_owned(self) -> Stated<'static> {
        let own = |field: Field<'_>| field.map(|value| Cow::Owned(value.into_owned()));
        Stated {
            if_match: own(self.if_match),
            if_none_match: own(self.if_none_match),
            if_modified_since: own(self.if_modified_since),
            if_unmodified_since: own(self.if_unmodified_since),
            if_range: own(self.if_range),
            range: own(self.range),
        }
    }

    fn verdict(&self, now: Option<Validators<'_>>, reads: bool) -> Verdict {
        let as_old_as = |field: &Field<'_>| {
            let date = field.as_deref().and_then(date);
            date.zip(now).map(|(date, now)| whole_seconds(now.modified) <= whole_seconds(date))
        };
        let holds = match &self.if_match {
            Some(list) => matches(list, now, true),
            None => as_old_as(&self.if_unmodified_since).unwrap_or(true),
        };
        if !holds {
            return Verdict::Failed;
        }
        let known = match &self.if_none_match {
            Some(list) => matches(list, now, false),
            None => reads && as_old_as(&self.if_modified_since).unwrap_or(false),
        };
        match (known, reads) {
            (false, _) => Verdict::Proceed,
            (true, true) => Verdict::NotModified,
            (true, false) => Verdict::Failed,
        }
    }

    /// What the client has a part of must be what there is now, beyond doubt (RFC 9110 §13.1.5). A
    /// date is as good as a tag that is strong.
    fn range(&self, now: Validators<'_>) -> Option<&[u8]> {
        let range = self.range.as_deref()?;
        let same = match self.if_range.as_deref() {
            None => true,
            Some(tag @ [b'"' | b'W', ..]) if tag.ends_with(b"\"") => {
                is_strong(now.etag.as_bytes()) && tag == now.etag.as_bytes()
            }
            Some(text) => date(text).is_some_and(|date| {
                is_strong(now.etag.as_bytes()) && whole_seconds(date) == whole_seconds(now.modified)
            }),
        };
        same.then_some(range)
    }
}

/// Whether a list of entity tags, or `*`, names what there is now (RFC 9110 §8.8.3.2).
fn matches(list: &[u8], now: Option<Validators<'_>>, strongly: bool) -> bool {
    let Some(now) = now else {
        return false;
    };
    if list.trim_ascii() == b"*" {
        return true;
    }
    let etag = now.etag.as_bytes();
    let same = |tag: &[u8]| {
        if strongly { is_strong(tag) && tag == etag } else { opaque(tag) == opaque(etag) }
    };
    Tags(list).any(same)
}

fn is_strong(tag: &[u8]) -> bool {
    tag.first() == Some(&b'"')
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The tags of a list, up to its end or to what is no tag. A comma may stand within one.
struct Tags<'a>(&'a [u8]);

impl<'a> Iterator for Tags<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let between = |byte: &u8| !matches!(byte, b' ' | b'\t' | b',');
        let start = self.0.iter().position(between)?;
        let tag = &self.0[start..];
        let quote = if is_strong(tag) { 0 } else { tag.starts_with(b"W/\"").then_some(2)? };
        let length = tag[quote + 1..].iter().position(|&byte| byte == b'"')? + quote + 2;
        let (tag, rest) = tag.split_at(length);
        self.0 = rest;
        Some(tag)
    }
}

fn date(text: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(str::from_utf8(text).ok()?).ok()
}

/// A field has no finer times, and none before 1970.
fn whole_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).as_ref().map_or(0, Duration::as_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETAG: &str = "\"a,b\"";
    const BEFORE: &str = "Thu, 01 Jan 1970 00:00:09 GMT";
    const THEN: &str = "Thu, 01 Jan 1970 00:00:10 GMT";

    fn now() -> Validators<'static> {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_millis(10_900);
        Validators { etag: ETAG, modified }
    }

    fn conditions<'a>(fields: &[(&str, &'a str)]) -> Conditions<'a> {
        let mut conditions = Conditions::default();
        for (name, value) in fields {
            let stated = conditions.stated();
            let field = match *name {
                "match" => &mut stated.if_match,
                "none" => &mut stated.if_none_match,
                "since" => &mut stated.if_modified_since,
                "not since" => &mut stated.if_unmodified_since,
                "if" => &mut stated.if_range,
                _ => &mut stated.range,
            };
            add(field, value.as_bytes());
        }
        conditions
    }

    #[test]
    fn preconditions_hold_or_not() {
        use Verdict::{Failed, NotModified, Proceed};
        for (fields, reading, writing) in [
            (&[][..], Proceed, Proceed),
            (&[("match", ETAG)], Proceed, Proceed),
            (&[("match", "*")], Proceed, Proceed),
            (&[("match", "\"x\", \"a,b\"")], Proceed, Proceed),
            (&[("match", "\"x\""), ("match", ETAG)], Proceed, Proceed),
            (&[("match", "W/\"a,b\"")], Failed, Failed),
            (&[("match", "\"a\"")], Failed, Failed),
            (&[("match", "rubbish")], Failed, Failed),
            (&[("not since", THEN)], Proceed, Proceed),
            (&[("not since", BEFORE)], Failed, Failed),
            (&[("not since", "yesterday")], Proceed, Proceed),
            (&[("match", ETAG), ("not since", BEFORE)], Proceed, Proceed),
            (&[("none", ETAG)], NotModified, Failed),
            (&[("none", "*")], NotModified, Failed),
            (&[("none", "W/\"a,b\"")], NotModified, Failed),
            (&[("none", "\"x\",, \"y\" ,W/\"a,b\"")], NotModified, Failed),
            (&[("none", "\"x\"")], Proceed, Proceed),
            (&[("none", "\"a")], Proceed, Proceed),
            (&[("since", THEN)], NotModified, Proceed),
            (&[("since", BEFORE)], Proceed, Proceed),
            (&[("since", THEN), ("since", THEN)], Proceed, Proceed),
            (&[("none", "\"x\""), ("since", THEN)], Proceed, Proceed),
            (&[("match", "\"x\""), ("none", ETAG)], Failed, Failed),
        ] {
            let conditions = conditions(fields);
            assert_eq!(conditions.verdict(Some(now()), true), reading, "reading: {fields:?}");
            assert_eq!(conditions.verdict(Some(now()), false), writing, "writing: {fields:?}");
        }
    }

    #[test]
    fn what_does_not_exist_matches_nothing() {
        let verdict = |name, value| conditions(&[(name, value)]).verdict(None, false);
        assert_eq!(verdict("match", "*"), Verdict::Failed);
        assert_eq!(verdict("none", "*"), Verdict::Proceed);
        assert_eq!(verdict("not since", BEFORE), Verdict::Proceed);
    }

    #[test]
    fn a_range_is_of_what_the_client_knows() {
        let allows = |value: &str, etag: &str| {
            let now = Validators { etag, ..now() };
            conditions(&[("range", "bytes=0-"), ("if", value)]).range(now).is_some()
        };
        assert!(conditions(&[("range", "bytes=0-")]).range(now()).is_some());
        assert!(allows(ETAG, ETAG));
        assert!(allows(THEN, ETAG));
        assert!(!allows("\"x\"", ETAG));
        assert!(!allows("W/\"a,b\"", "W/\"a,b\""));
        assert!(!allows(THEN, "W/\"a,b\""));
        assert!(!allows(BEFORE, ETAG));
        assert!(!allows("rubbish", ETAG));
    }
}
