//! Which bytes of a file a Range field asks for (RFC 9110 §14), and how several are laid out in one
//! body.
//!
//! **Invariant:** no set of ranges makes a reply larger than the file by more than what stands
//! between [`RANGES_MAX`] parts: where it would, the whole file is sent, as a server always may.

use std::ops::Range;

/// The most ranges that a reply has.
const RANGES_MAX: usize = 16;

/// What is to be sent of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// All of it, as if no range had been asked for.
    Whole,
    /// One stretch of it, which is not empty.
    One(Range<u64>),
    /// Several stretches, in the order in which they were asked for.
    Several(Vec<Range<u64>>),
    /// There is nothing at the places that were asked for.
    Nothing,
}

/// What a Range field selects of a file of `length` bytes. A field that cannot be understood means
/// nothing (RFC 9110 §14.2).
pub(super) fn select(field: &[u8], length: u64) -> Selection {
    let Some(mut ranges) = parse(field, length).filter(|_| length > 0) else {
        return Selection::Whole;
    };
    let wanted: u64 = ranges.iter().map(|range| range.end - range.start).sum();
    match ranges.len() {
        0 => Selection::Nothing,
        1 => Selection::One(ranges.swap_remove(0)),
        _ if wanted > length => Selection::Whole,
        _ => Selection::Several(ranges),
    }
}

/// The ranges that can be satisfied; `None` if the field is malformed, or too much is asked.
fn parse(field: &[u8], length: u64) -> Option<Vec<Range<u64>>> {
    let (unit, set) = field.split_at_checked(b"bytes=".len())?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let mut ranges = Vec::new();
    let mut asked = 0;
    for spec in set.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
        if spec.is_empty() {
            continue;
        }
        asked += 1;
        let dash = spec.iter().position(|&byte| byte == b'-')?;
        let (first, last) = (&spec[..dash], &spec[dash + 1..]);
        let range = match (first, last) {
            ([], last) => length.saturating_sub(number(last)?)..length,
            (first, []) => number(first)?..length,
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                if first > last {
                    return None;
                }
                first..last.saturating_add(1).min(length)
            }
        };
        if range.start < range.end {
            ranges.push(range);
        }
    }
    (1..=RANGES_MAX).contains(&asked).then_some(ranges)
}

/// Digits and nothing else; more than can be counted is beyond every end.
fn number(digits: &[u8]) -> Option<u64> {
    let valid = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let digits = str::from_utf8(digits).ok().filter(|_| valid)?;
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// The value of a Content-Range field.
pub(super) fn content_range(range: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", range.start, range.end - 1)
}

/// A body of several parts (RFC 9110 §14.6): what stands before each, and at the end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// Those that are still to be sent, the next one last.
    left: Vec<(String, Range<u64>)>,
    closing: String,
    /// Of the whole body, in bytes.
    pub(super) length: u64,
}

impl Parts {
    pub(super) fn new(
        ranges: &[Range<u64>],
        content_type: &str,
        length: u64,
        boundary: &str,
    ) -> Self {
        let part = |range: &Range<u64>| {
            let of = content_range(range, length);
            let before = format!(
                "\r\n--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {of}\r\n\r\n"
            );
            (before, range.clone())
        };
        let left: Vec<_> = ranges.iter().rev().map(part).collect();
        let closing = format!("\r\n--{boundary}--\r\n");
        let size = |(before, range): &(String, Range<u64>)| {
            before.len() as u64 + (range.end - range.start)
        };
        let length = left.iter().map(size).sum::<u64>() + closing.len() as u64;
        Parts { left, closing, length }
    }

    /// Writes what stands before the next part, and tells which it is; or what stands at the end.
    pub(super) fn next(&mut self, output: &mut Vec<u8>) -> Option<Range<u64>> {
        let next = self.left.pop();
        let text = next.as_ref().map_or(&self.closing, |(before, _)| before);
        output.extend_from_slice(text.as_bytes());
        next.map(|(_, range)| range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_select_what_there_is() {
        let one = |range| Selection::One(range);
        for (field, expected) in [
            ("bytes=0-0", one(0..1)),
            ("bytes=0-99", one(0..10)),
            ("bytes=3-", one(3..10)),
            ("bytes=-3", one(7..10)),
            ("bytes=-99", one(0..10)),
            ("BYTES= 1-2 ", one(1..3)),
            ("bytes=,1-2,", one(1..3)),
            ("bytes=9-18446744073709551616", one(9..10)),
            ("bytes=20-30, 1-2", one(1..3)),
            ("bytes=0-1,4-5", Selection::Several(vec![0..2, 4..6])),
            ("bytes=8-,0-1", Selection::Several(vec![8..10, 0..2])),
            ("bytes=10-", Selection::Nothing),
            ("bytes=-0", Selection::Nothing),
            ("bytes=99999999999999999999999-", Selection::Nothing),
        ] {
            assert_eq!(select(field.as_bytes(), 10), expected, "{field}");
        }
    }

    #[test]
    fn what_is_no_range_or_more_than_the_file_is_ignored() {
        let many = format!("bytes={}", "0-0,".repeat(RANGES_MAX + 1));
        for field in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=1",
            "bytes=2-1",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=1-2-3",
            "bytes=0-1, x",
            "lines=0-1",
            "bytes 0-1",
            "bytes=0-,0-,0-",
            &many,
        ] {
            assert_eq!(select(field.as_bytes(), 10), Selection::Whole, "{field}");
        }
        assert_eq!(select(b"bytes=0-", 0), Selection::Whole);
    }

    #[test]
    fn parts_are_as_long_as_they_say() {
        let mut parts = Parts::new(&[0..2, 7..10], "text/plain", 10, "cut");
        let length = parts.length;
        let mut body = Vec::new();
        while let Some(range) = parts.next(&mut body) {
            body.extend_from_slice(&b"0123456789"[range.start as usize..range.end as usize]);
        }
        let expected = "\r\n--cut\r\nContent-Type: text/plain\r\n\
            Content-Range: bytes 0-1/10\r\n\r\n01\
            \r\n--cut\r\nContent-Type: text/plain\r\nContent-Range: bytes 7-9/10\r\n\r\n789\
            \r\n--cut--\r\n";
        assert_eq!(String::from_utf8(body).unwrap(), expected);
        assert_eq!(length, expected.len() as u64);
    }
}
