//! Text as TYPE A has it (NVT-ASCII, RFC 959 §3.1.1.1): a line ends with CRLF on the wire, and with
//! LF in a file.
//!
//! **Invariant:** what comes out depends on the bytes alone, never on the pieces in which they
//! come.
//!
//! A CRLF that a file has already is sent as it is, so that a file from another system arrives
//! with its lines whole, and an upload leaves a CR alone unless an LF follows. So text without a
//! CR survives the way to a client and back; other files ask for TYPE I.

/// From a file to the wire.
#[derive(Debug, Default)]
pub(super) struct ToWire {
    /// The last byte was a CR.
    after_cr: bool,
}

impl ToWire {
    /// Adds the next piece of a file as it is sent, at most twice as long.
    pub(super) fn convert(&mut self, file: &[u8], wire: &mut Vec<u8>) {
        for line in file.split_inclusive(|&byte| byte == b'\n') {
            match line {
                [text @ .., b'\n'] => {
                    let has_cr = text.last().map_or(self.after_cr, |&byte| byte == b'\r');
                    wire.extend_from_slice(text);
                    wire.extend_from_slice(if has_cr { b"\n" } else { b"\r\n" });
                }
                text => wire.extend_from_slice(text),
            }
            self.after_cr = line.ends_with(b"\r");
        }
    }
}

/// From the wire to a file.
#[derive(Debug, Default)]
pub(super) struct FromWire {
    /// A CR has come, and what follows it will decide whether it is kept.
    held_cr: bool,
}

impl FromWire {
    /// Adds the next piece that has arrived as it is stored, at most one byte longer. A CR at its
    /// end is held back.
    pub(super) fn convert(&mut self, wire: &[u8], file: &mut Vec<u8>) {
        for part in wire.split_inclusive(|&byte| byte == b'\r') {
            if self.held_cr && part[0] != b'\n' {
                file.push(b'\r');
            }
            let (text, ends_with_cr) = match part {
                [text @ .., b'\r'] => (text, true),
                text => (text, false),
            };
            file.extend_from_slice(text);
            self.held_cr = ends_with_cr;
        }
    }

    /// Nothing more comes: a CR that was held back is the last byte.
    pub(super) fn end(&mut self, file: &mut Vec<u8>) {
        if std::mem::take(&mut self.held_cr) {
            file.push(b'\r');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn to_wire<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let (mut ending, mut wire) = (ToWire::default(), Vec::new());
        for piece in pieces {
            let before = wire.len();
            ending.convert(piece, &mut wire);
            assert!(wire.len() - before <= 2 * piece.len());
        }
        wire
    }

    fn from_wire<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let (mut ending, mut file) = (FromWire::default(), Vec::new());
        for piece in pieces {
            let before = file.len();
            ending.convert(piece, &mut file);
            assert!(file.len() - before <= piece.len() + 1);
        }
        ending.end(&mut file);
        file
    }

    /// Both ways, whole and byte by byte.
    fn check(file: &[u8], wire: &[u8], back: &[u8]) {
        assert_eq!(to_wire([file]), wire);
        assert_eq!(to_wire(file.chunks(1)), wire);
        assert_eq!(from_wire([wire]), back);
        assert_eq!(from_wire(wire.chunks(1)), back);
    }

    #[test]
    fn lines_end_with_crlf_on_the_wire_and_with_lf_in_a_file() {
        check(b"", b"", b"");
        check(b"a\nb\n\nc", b"a\r\nb\r\n\r\nc", b"a\nb\n\nc");
        check(b"\n", b"\r\n", b"\n");
    }

    #[test]
    fn a_crlf_stays_on_its_way_out_and_a_lone_cr_both_ways() {
        check(b"a\r\nb\n", b"a\r\nb\r\n", b"a\nb\n");
        check(b"a\rb\r", b"a\rb\r", b"a\rb\r");
        check(b"\r\r\n\r", b"\r\r\n\r", b"\r\n\r");
    }

    /// Bytes among which line ends are frequent.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(b'\r'), Just(b'\n'), any::<u8>()];
        vec(byte, 0..200)
    }

    fn cut<'a>(bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
        let (mut pieces, mut rest) = (Vec::new(), bytes);
        for &length in lengths {
            let (piece, after) = rest.split_at(length.min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces.push(rest);
        pieces
    }

    /// The same, a byte at a time and without a thought of pieces.
    fn plainly(bytes: &[u8], wire: bool) -> Vec<u8> {
        let mut result = Vec::new();
        for (i, &byte) in bytes.iter().enumerate() {
            let after_cr = i > 0 && bytes[i - 1] == b'\r';
            match byte {
                b'\n' if wire && !after_cr => result.extend(b"\r\n"),
                b'\r' if !wire && bytes.get(i + 1) == Some(&b'\n') => {}
                _ => result.push(byte),
            }
        }
        result
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn pieces_make_no_difference(bytes in bytes(), lengths in vec(0_usize..20, 0..40)) {
            let pieces = cut(&bytes, &lengths);
            prop_assert_eq!(to_wire(pieces.iter().copied()), plainly(&bytes, true));
            prop_assert_eq!(from_wire(pieces), plainly(&bytes, false));
        }

        #[test]
        fn text_without_cr_survives_the_way_to_a_client_and_back(
            bytes in bytes(), lengths in vec(0_usize..20, 0..40)
        ) {
            let text: Vec<u8> = bytes.into_iter().filter(|&byte| byte != b'\r').collect();
            let wire = to_wire(cut(&text, &lengths));
            prop_assert_eq!(from_wire(cut(&wire, &lengths)), text);
        }
    }
}
