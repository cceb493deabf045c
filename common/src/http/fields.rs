//! The header fields of a request that this server understands.
//!
//! **Invariant:** a field that bears on where the request ends is sound, or the request is refused.

use super::conditional::{self, Conditions};
use super::response::Status;

/// What browsers send forms as.
const FORM: &[u8] = b"application/x-www-form-urlencoded";

/// What the fields of a request say.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is said by another field, or option")]
pub(super) struct Fields<'a> {
    pub(super) hosts: u32,
    pub(super) content_length: Option<u64>,
    /// Whether the one transfer coding is that of chunks.
    pub(super) chunked: Option<bool>,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
    /// The body is that of a form.
    pub(super) is_form: bool,
    /// The body is a part of something, which nothing here takes.
    pub(super) has_content_range: bool,
    pub(super) conditions: Conditions<'a>,
}

impl<'a> Fields<'a> {
    /// Reads them all. `old` says that the client speaks HTTP/1.0, which has no expectations.
    pub(super) fn read(headers: &[httparse::Header<'a>], old: bool) -> Result<Self, Status> {
        let mut fields = Fields::default();
        for header in headers {
            fields.add(header.name.as_bytes(), header.value, old)?;
        }
        Ok(fields)
    }

    fn add(&mut self, name: &[u8], value: &'a [u8], old: bool) -> Result<(), Status> {
        // The length is compared first, and tells nearly all the others from these.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                self.hosts += 1;
                check_host(value)?;
            }
            5 if name.eq_ignore_ascii_case(b"range") => {
                conditional::add(&mut self.conditions.stated().range, value);
            }
            6 if name.eq_ignore_ascii_case(b"expect") && !old => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Status::EXPECTATION_FAILED);
                }
                self.expects_continue = true;
            }
            8 if name.eq_ignore_ascii_case(b"if-match") => {
                conditional::add(&mut self.conditions.stated().if_match, value);
            }
            8 if name.eq_ignore_ascii_case(b"if-range") => {
                conditional::add(&mut self.conditions.stated().if_range, value);
            }
            10 if name.eq_ignore_ascii_case(b"connection") => self.connection(value),
            12 if name.eq_ignore_ascii_case(b"content-type") => {
                let start = value.get(..FORM.len()).unwrap_or_default();
                self.is_form = start.eq_ignore_ascii_case(FORM);
            }
            13 if name.eq_ignore_ascii_case(b"content-range") => self.has_content_range = true,
            13 if name.eq_ignore_ascii_case(b"if-none-match") => {
                conditional::add(&mut self.conditions.stated().if_none_match, value);
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = content_length(value)?;
                if self.content_length.is_some_and(|before| before != length) {
                    return Err(Status::BAD_REQUEST);
                }
                self.content_length = Some(length);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                let chunked = value.eq_ignore_ascii_case(b"chunked");
                self.chunked = Some(chunked && self.chunked.is_none());
            }
            17 if name.eq_ignore_ascii_case(b"if-modified-since") => {
                conditional::add(&mut self.conditions.stated().if_modified_since, value);
            }
            19 if name.eq_ignore_ascii_case(b"if-unmodified-since") => {
                conditional::add(&mut self.conditions.stated().if_unmodified_since, value);
            }
            _ => {}
        }
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',') {
            let option = option.trim_ascii();
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }
}

/// Digits and nothing else: no sign, no list. More than fits a `u64` is certainly too much.
fn content_length(value: &[u8]) -> Result<u64, Status> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Status::BAD_REQUEST);
    }
    let digits = str::from_utf8(value).map_err(|_| Status::BAD_REQUEST)?;
    digits.parse().map_err(|_| Status::CONTENT_TOO_LARGE)
}

/// An empty name is legal (RFC 9112 §3.2); what would end a host name inside a URI is not.
pub(super) fn check_host(value: &[u8]) -> Result<(), Status> {
    // Written out, because this is done for every byte of every Host field: a search in a list
    // took a third of all the time of a small request.
    let fits = |byte: &u8| {
        let ends = matches!(byte, b'/' | b'?' | b'#' | b'@' | b'\\' | b',' | b'"' | b'<' | b'>');
        byte.is_ascii_graphic() && !ends
    };
    if value.iter().all(fits) { Ok(()) } else { Err(Status::BAD_REQUEST) }
}
