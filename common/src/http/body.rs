//! Where the body of a request ends, and what of the input is its content (RFC 9112 §6, §7.1).
//!
//! **Invariant:** what is decided depends on the bytes alone, not on the pieces in which they
//! arrive; and nothing is taken for a line end but CR LF, nor for a size but hexadecimal digits, so
//! that nobody before this server has seen the body end anywhere else.

use super::response::Status;

/// The most digits of a chunk's size: none that is longer is meant well.
const SIZE_DIGITS_MAX: u8 = 15;
/// The most bytes of chunk extensions and of trailer fields, in a whole body.
const EXTENSION_BYTES_MAX: u16 = 4096;
const TRAILER_BYTES_MAX: u16 = 4096;

/// A body that is being read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// So many more bytes.
    Length(u64),
    /// In chunks, the last of which is empty.
    Chunked(Chunked),
}

/// A body in chunks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chunked {
    state: State,
    /// Of the present chunk: what has been read of its size, or what is left of it, in bytes.
    size: u64,
    digits: u8,
    extension_bytes: u16,
    trailer_bytes: u16,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Extension,
    SizeEnd,
    Content,
    ContentEnd,
    ContentEndLf,
    /// A trailer field, or the empty line that ends the body.
    Line,
    Name,
    Value,
    ValueEnd,
    End,
    Over,
}

impl Body {
    /// An empty one.
    pub(super) const NONE: Body = Body::Length(0);

    /// Whether all of it has been taken.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Body::Length(left) => *left == 0,
            Body::Chunked(chunked) => chunked.state == State::Over,
        }
    }

    /// How many bytes of content there will be at least.
    pub(super) fn known_bytes(&self) -> u64 {
        match self {
            Body::Length(left) => *left,
            Body::Chunked(_) => 0,
        }
    }

    /// Takes something from the start of `input`, and returns what of it is content: often nothing.
    pub(super) fn take<'a>(&mut self, input: &mut &'a [u8]) -> Result<&'a [u8], Status> {
        let left = match self {
            Body::Length(left) => left,
            Body::Chunked(chunked) if chunked.state == State::Content => &mut chunked.size,
            Body::Chunked(chunked) => {
                if let Some((&byte, rest)) = input.split_first() {
                    chunked.step(byte)?;
                    *input = rest;
                }
                return Ok(&[]);
            }
        };
        let (content, rest) = input.split_at((*left).min(input.len() as u64) as usize);
        *left -= content.len() as u64;
        *input = rest;
        if let Body::Chunked(chunked) = self
            && chunked.size == 0
        {
            chunked.state = State::ContentEnd;
        }
        Ok(content)
    }
}

impl Chunked {
    /// Takes a byte of what is around the content.
    fn step(&mut self, byte: u8) -> Result<(), Status> {
        self.state = match (self.state, byte) {
            (State::Size, b'\r') if self.digits > 0 => State::SizeEnd,
            (State::Size, b';') if self.digits > 0 => State::Extension,
            (State::Size, _) => {
                let digit = char::from(byte).to_digit(16).ok_or(Status::BAD_REQUEST)?;
                self.size = self.size * 16 + u64::from(digit);
                self.digits += 1;
                if self.digits > SIZE_DIGITS_MAX {
                    return Err(Status::BAD_REQUEST);
                }
                State::Size
            }
            (State::Extension, b'\r') => State::SizeEnd,
            (State::Extension, _) if is_text(byte) => {
                self.extension_bytes += 1;
                if self.extension_bytes > EXTENSION_BYTES_MAX {
                    return Err(Status::CONTENT_TOO_LARGE);
                }
                State::Extension
            }
            (State::SizeEnd, b'\n') => {
                self.digits = 0;
                if self.size > 0 { State::Content } else { State::Line }
            }
            (State::ContentEnd, b'\r') => State::ContentEndLf,
            (State::ContentEndLf, b'\n') => State::Size,
            (State::Line, b'\r') => State::End,
            (State::End, b'\n') => State::Over,
            (State::Line | State::Name, _) if is_token(byte) => self.trailer(State::Name)?,
            (State::Name, b':') => self.trailer(State::Value)?,
            (State::Value, b'\r') => State::ValueEnd,
            (State::Value, _) if is_text(byte) => self.trailer(State::Value)?,
            (State::ValueEnd, b'\n') => State::Line,
            _ => return Err(Status::BAD_REQUEST),
        };
        Ok(())
    }

    fn trailer(&mut self, next: State) -> Result<State, Status> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(Status::HEAD_TOO_LARGE);
        }
        Ok(next)
    }
}

/// What a field's value or a chunk's extension consists of (RFC 9110 §5.5).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// What a field's name consists of (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The content, and what follows the body.
    fn read(pieces: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>), Status> {
        let mut body = Body::Chunked(Chunked::default());
        let (mut content, mut after) = (Vec::new(), Vec::new());
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() && !body.is_over() {
                content.extend_from_slice(body.take(&mut rest)?);
            }
            after.extend_from_slice(rest);
        }
        assert!(body.is_over(), "the body has an end");
        Ok((content, after))
    }

    fn encoded(chunks: &[Vec<u8>]) -> Vec<u8> {
        let mut text = Vec::new();
        for (i, chunk) in chunks.iter().enumerate().filter(|(_, chunk)| !chunk.is_empty()) {
            let extension = if i % 2 == 0 { "" } else { ";a=\"b\"" };
            text.extend_from_slice(format!("{:X}{extension}\r\n", chunk.len()).as_bytes());
            text.extend_from_slice(chunk);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"0\r\nChecksum: 1\r\n\r\nafter");
        text
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 256,
            failure_persistence: None,
            ..Default::default()
        })]

        #[test]
        fn any_chunks_in_any_pieces_give_their_content(
            chunks in proptest::collection::vec(
                proptest::collection::vec(any::<u8>(), 0..40), 0..8),
            cut in 1..50_usize,
        ) {
            let text = encoded(&chunks);
            let pieces: Vec<&[u8]> = text.chunks(cut).collect();
            let (content, after) = read(&pieces).unwrap();
            prop_assert_eq!(content, chunks.concat());
            prop_assert_eq!(after, b"after");
        }

        #[test]
        fn what_is_decided_of_rubbish_does_not_depend_on_its_pieces(
            text in "[0-9a-f;:\r\n x]{0,60}", cut in 1..10_usize,
        ) {
            let outcome = |pieces: Vec<&[u8]>| {
                let mut body = Body::Chunked(Chunked::default());
                for piece in pieces {
                    let mut rest = piece;
                    while !rest.is_empty() && !body.is_over() {
                        body.take(&mut rest)?;
                    }
                }
                Ok::<_, Status>(body)
            };
            let bytes = text.as_bytes();
            prop_assert_eq!(outcome(bytes.chunks(cut).collect()), outcome(vec![bytes]));
        }
    }

    #[test]
    fn a_body_has_its_length() {
        let mut body = Body::Length(3);
        let mut input = &b"abcd"[..];
        assert_eq!(body.take(&mut input), Ok(&b"abc"[..]));
        assert!(body.is_over());
        assert_eq!(input, b"d");
    }

    #[test]
    fn framing_that_two_could_read_differently_is_refused() {
        let long = format!("1;{}\r\n", "x".repeat(usize::from(EXTENSION_BYTES_MAX) + 1));
        let wide = format!("0\r\nX: {}\r\n", "x".repeat(usize::from(TRAILER_BYTES_MAX)));
        for (text, status) in [
            ("\r\n", Status::BAD_REQUEST),
            ("x\r\n", Status::BAD_REQUEST),
            ("0x1\r\n", Status::BAD_REQUEST),
            ("+1\r\n", Status::BAD_REQUEST),
            (" 1\r\n", Status::BAD_REQUEST),
            ("1 \r\n", Status::BAD_REQUEST),
            ("1\n", Status::BAD_REQUEST),
            ("1\r\r\n", Status::BAD_REQUEST),
            (";a\r\n", Status::BAD_REQUEST),
            ("1;a\n", Status::BAD_REQUEST),
            ("1;a\0\r\n", Status::BAD_REQUEST),
            ("1\r\nab\r\n", Status::BAD_REQUEST),
            ("1\r\na\n", Status::BAD_REQUEST),
            ("1\r\na\r\n\r\n", Status::BAD_REQUEST),
            ("0000000000000001\r\n", Status::BAD_REQUEST),
            ("0\r\nX : y\r\n\r\n", Status::BAD_REQUEST),
            ("0\r\nX\r\n\r\n", Status::BAD_REQUEST),
            ("0\r\n y\r\n\r\n", Status::BAD_REQUEST),
            ("0\r\nX: y\n\r\n", Status::BAD_REQUEST),
            ("0\r\nX: y\rz\r\n\r\n", Status::BAD_REQUEST),
            ("0\r\n\n", Status::BAD_REQUEST),
            (&long, Status::CONTENT_TOO_LARGE),
            (&wide, Status::HEAD_TOO_LARGE),
        ] {
            assert_eq!(read(&[text.as_bytes()]), Err(status), "{text:?}");
        }
    }
}
