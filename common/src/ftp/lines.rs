//! The control connection's bytes as lines.
//!
//! **Invariant:** a line that is not complete holds at most [`LINE_BYTES`], whatever arrives, and
//! the same bytes give the same lines, in whatever pieces they come.

use zeroize::Zeroize;

/// The longest line, in bytes: a command with a path of the longest that Linux knows.
pub(super) const LINE_BYTES: usize = 4096 + 16;

/// As many bytes are kept between two commands: an idle session shall cost next to nothing.
const KEPT_BYTES: usize = 256;

/// Stands in the queue for a line that was too long. A client that sends this NUL itself is told
/// the same: 500.
const OVERLONG: u8 = 0;

/// Interpret As Command (RFC 854): the byte that begins every Telnet sequence.
const IAC: u8 = 255;
/// The first of the Telnet commands. Smaller bytes after an IAC make no sequence.
const FIRST_COMMAND: u8 = 240;
/// WILL, WON'T, DO and DON'T, which an option follows.
const NEGOTIATION: std::ops::RangeInclusive<u8> = 251..=254;

/// A queue of lines, the last of which may be incomplete.
#[derive(Debug, Default)]
pub(super) struct Lines {
    bytes: Vec<u8>,
    /// Where the first line that is still to be taken begins.
    start: usize,
    /// Where the incomplete line begins.
    tail: usize,
    telnet: Telnet,
    /// The incomplete line is too long; the rest of it is dropped.
    overlong: bool,
}

/// How far into a Telnet sequence the input is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Telnet {
    #[default]
    Text,
    Command,
    Option,
}

impl Lines {
    /// Takes in what has arrived.
    pub(super) fn push(&mut self, input: &[u8]) {
        for &byte in input {
            match self.telnet {
                Telnet::Text if byte == IAC => self.telnet = Telnet::Command,
                Telnet::Text => self.push_text(byte),
                Telnet::Option => self.telnet = Telnet::Text,
                Telnet::Command => self.push_after_iac(byte),
            }
        }
    }

    /// The next complete line, without its end.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        let line = self.complete().next()?;
        let (line, length) = (trim(line).to_vec(), line.len());
        // It may have been a password.
        self.bytes[self.start..self.start + length].zeroize();
        self.start += length + 1;
        if self.start == self.bytes.len() {
            self.start = 0;
            self.tail = 0;
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BYTES);
        }
        Some(line)
    }

    /// The complete lines in their order, without their ends.
    pub(super) fn peek(&self) -> impl Iterator<Item = &[u8]> {
        self.complete().map(trim)
    }

    /// How many bytes wait to be taken.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn complete(&self) -> impl Iterator<Item = &[u8]> {
        let lines = &self.bytes[self.start..self.tail];
        lines.split_inclusive(|&byte| byte == b'\n').map(|line| &line[..line.len() - 1])
    }

    /// An IAC before a byte that is no command is text: clients send names that hold the byte 255
    /// without doubling it.
    fn push_after_iac(&mut self, byte: u8) {
        self.telnet = Telnet::Text;
        if NEGOTIATION.contains(&byte) {
            self.telnet = Telnet::Option;
        } else if byte == IAC {
            self.push_text(IAC);
        } else if byte < FIRST_COMMAND {
            self.push_text(IAC);
            self.push_text(byte);
        }
    }

    fn push_text(&mut self, byte: u8) {
        if byte == b'\n' {
            if self.overlong {
                self.bytes.push(OVERLONG);
                self.overlong = false;
            }
            self.compact();
            self.bytes.push(byte);
            self.tail = self.bytes.len();
        } else if !self.overlong {
            self.bytes.push(byte);
            if self.bytes.len() - self.tail > LINE_BYTES {
                self.bytes.truncate(self.tail);
                self.overlong = true;
            }
        }
    }

    /// Forgets the lines that were taken once they are the larger part.
    fn compact(&mut self) {
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.tail -= self.start;
            self.start = 0;
        }
    }
}

/// Drops the CR before the LF, and what is left at a line's beginning of a Telnet sequence whose
/// urgent byte did not come with the others.
fn trim(line: &[u8]) -> &[u8] {
    let mut line = line.strip_suffix(b"\r").unwrap_or(line);
    while let [FIRST_COMMAND..=u8::MAX, rest @ ..] = line {
        line = rest;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &[u8], expected: &[&[u8]]) {
        for piece in [1, 2, 3, input.len().max(1)] {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for bytes in input.chunks(piece) {
                lines.push(bytes);
                found.extend(std::iter::from_fn(|| lines.next()));
            }
            assert_eq!(found, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_line_ends_with_lf_and_may_have_a_cr_before_it() {
        check(b"NOOP\r\nPWD\nQUI", &[b"NOOP", b"PWD"]);
        check(b"CWD a\rb\n\r\n\n", &[b"CWD a\rb", b"", b""]);
    }

    #[test]
    fn telnet_sequences_are_decoded() {
        check(b"CWD \xff\xff\r\n", &[b"CWD \xff"]);
        check(b"\xff\xf4\xff\xf2ABOR\r\n", &[b"ABOR"]);
        check(b"NO\xff\xf1OP\r\n", &[b"NOOP"]);
        check(b"\xff\xfb\x18NOOP\r\n", &[b"NOOP"]);
        check(b"CWD \xffa\r\n", &[b"CWD \xffa"]);
    }

    #[test]
    fn a_telnet_sequence_may_have_lost_its_urgent_byte() {
        check(b"\xff\xf4\xffABOR\r\n", &[b"ABOR"]);
        check(b"\xff\xf4\xf2ABOR\r\n", &[b"ABOR"]);
    }

    #[test]
    fn an_overlong_line_is_one_line_and_takes_bounded_memory() {
        let mut lines = Lines::default();
        for _ in 0..100 {
            lines.push(&[b'x'; 1000]);
            assert!(lines.len() <= LINE_BYTES);
        }
        lines.push(b"\r\nNOOP\r\n");
        assert_eq!(lines.next(), Some(vec![OVERLONG]));
        assert_eq!(lines.next(), Some(b"NOOP".to_vec()));
        assert_eq!(lines.next(), None);
    }

    #[test]
    fn what_was_taken_is_forgotten() {
        let mut lines = Lines::default();
        for _ in 0..10_000 {
            lines.push(b"NOOP\r\nNO");
            assert!(lines.next().is_some());
            lines.push(b"OP\r\n");
            assert!(lines.next().is_some());
        }
        assert_eq!(lines.len(), 0);
        assert!(lines.bytes.capacity() <= KEPT_BYTES);
    }
}
