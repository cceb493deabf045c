//! An FTP server's side of one conversation (RFC 959, and 1123, 2389, 2428, 2577, 3659 that mend
//! it), for today's clients: curl, wget, lftp, Python's ftplib, `FileZilla`, tnftp, inetutils-ftp.
//!
//! **Invariant:** replies leave in the order of the commands, one final reply each; only the reply
//! to STAT overtakes a transfer, and ABOR cuts it. 226 is said when every byte is where it belongs,
//! and not before.
//!
//! | file | duty |
//! |---|---|
//! | `lines.rs` | bytes of the control connection to lines: Telnet, length, NUL |
//! | `command.rs` | a line to a command; arguments to values |
//! | `path.rs` | what a client calls a file, and what the served folder calls it |
//! | `session.rs` | the state machine: what is waited for, and what follows |
//! | `commands.rs` | what each command does; parameters |
//! | `login.rs` | who the client is, and what follows from it |
//! | `files.rs` | files, directories, downloads and listings |
//! | `uploads.rs` | uploads, up to the open file |
//! | `data.rs` | how the data connection is named |
//! | `transfer.rs` | a transfer from its data connection to its final reply |
//! | `payload.rs` | what it moves: a file as it is, a file as text, or a listing |
//! | `text.rs` | line ends of files and of the wire |
//! | `listing.rs` | directories as text |
//! | `glob.rs` | patterns of names, as `mget` sends them |
//! | `reply.rs` | what is said |
//!
//! Known limits, each where it is: text (TYPE A) is not resumed, and its size is not told, since
//! both would need the whole file converted; a file is text line by line as it is, whatever its
//! bytes are, so that one which is not text must be asked for under TYPE I. TLS is refused
//! with 502.

mod command;
mod commands;
mod data;
mod files;
mod glob;
mod lines;
mod listing;
mod login;
mod path;
mod payload;
mod reply;
mod session;
mod text;
mod transfer;
mod uploads;

pub use reply::REFUSAL;
pub use session::Session;
