//! HTTP/1.1 (RFC 9110, RFC 9112): files below the root, and a few paths whose cost is known.
//!
//! | path | reply |
//! |---|---|
//! | `/plaintext` | the 13 bytes `Hello, World!` |
//! | `/json` | `{"message":"Hello, World!"}` |
//! | `/bytes/N` | N bytes (at most [`MAX_BYTES`]), the 64 characters of [`PATTERN`] over and over |
//! | `/compute/MICROSECONDS` | `OK`, after that much CPU time (at most [`MAX_DELAY`]) |
//! | `/block/MILLISECONDS` | `OK`, after a call that blocks its thread for so long |
//! | `/work/MICROSECONDS/MILLISECONDS` | `OK`, after so much CPU time and then such a call |
//! | `/backend/MILLISECONDS` | what `--backend` answers to `GET /block/MILLISECONDS` |
//! | `/stream/N/MILLISECONDS` | N server-sent events (at most [`MAX_EVENTS`]), so far apart |
//! | `/echo` (POST, PUT) | the request's body, of at most 64 KiB |
//! | `/upload/NAME` (POST, PUT) | stores the body under that name, with `--writable` |
//! | `/guestbook` | the last entries of `--guestbook`; POST adds one, with `--writable` |
//! | anything else | the file of that name; of a folder, `index.html` or a page of its names |
//!
//! Files have validators (`ETag`, `Last-Modified`), so that the conditions of RFC 9110 §13 and its
//! ranges (§14) hold for them. The other paths have none, and conditions mean nothing to them.
//!
//! **Invariant:** a request whose end cannot be told beyond doubt ends the connection, so that
//! nobody smuggles a second one in its body.
//!
//! What a client may send is limited: 8 KiB of head, 100 fields, 64 KiB of body but for uploads
//! (16 GiB), 4 KiB each of chunk extensions and of trailer fields, which are read and mean nothing.
//! A head may take as long as `--idle-timeout`, however it drips, and so may 64 KiB of body.

mod backend;
mod body;
mod cache;
mod conditional;
mod fields;
mod guests;
mod index;
mod range;
mod receiving;
mod replies;
mod request;
mod resource;
mod response;
mod route;
mod session;
mod upload;
mod wanted;
mod work;

pub use cache::Files;
pub use route::{MAX_BYTES, MAX_DELAY, MAX_EVENTS, PATTERN};
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
