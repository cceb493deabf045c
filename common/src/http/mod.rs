//! HTTP/1.1 (RFC 9110, RFC 9112): files below the root, and a few paths whose cost is known.
//!
//! | path | reply |
//! |---|---|
//! | `/plaintext` | the 13 bytes `Hello, World!` |
//! | `/json` | `{"message":"Hello, World!"}` |
//! | `/bytes/N` | N bytes (at most [`MAX_BYTES`]), the 64 characters of [`PATTERN`] over and over |
//! | `/compute/MICROSECONDS` | `OK`, after that much CPU time (at most [`MAX_DELAY`]) |
//! | `/block/MILLISECONDS` | `OK`, after a call that blocks its thread for so long |
//! | `/backend/MILLISECONDS` | what `--backend` answers to `GET /block/MILLISECONDS` |
//! | anything else | the file of that name; `index.html` of a directory |
//!
//! **Invariant:** a request whose end cannot be told beyond doubt ends the connection, so that
//! nobody smuggles a second one in its body.
//!
//! Not yet there: chunked request bodies (411), other methods than GET and HEAD (405), ranges and
//! conditions, which a server may leave out (RFC 9110 §14.2, §13).

mod backend;
mod request;
mod response;
mod route;
mod session;

pub use route::{MAX_BYTES, MAX_DELAY, PATTERN};
pub use session::Session;

/// What a client is told that comes when there is no room.
pub const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    Content-Length: 0\r\nConnection: close\r\nRetry-After: 1\r\n\r\n";

/// The parser of request heads, for benchmarks: how long the head at the start of `input` is, if it
/// is there and acceptable.
pub fn head_length(input: &[u8]) -> Option<usize> {
    match request::parse(input) {
        request::Parsed::Request(request) => Some(request.head_length),
        _ => None,
    }
}
