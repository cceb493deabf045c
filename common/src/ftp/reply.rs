//! What is said on the control connection.
//!
//! **Invariant:** nothing that a client or a file name supplies can end a line of a reply: such
//! bytes become question marks.

use std::io;

use super::command::{self, TABLE};
use super::listing::Facts;

/// What a client is told that comes when there is no room.
pub const REFUSAL: &[u8] = b"421 Too many connections, try again later.\r\n";

pub(super) const GREETING: &str = "220 Ready.";
pub(super) const IDLE: &str = "421 Silent for too long, goodbye.";
pub(super) const DRAIN: &str = "421 The server is leaving, goodbye.";
pub(super) const LOGIN_FIRST: &str = "530 Log in with USER and PASS first.";
pub(super) const READ_ONLY: &str = "550 Not enough privileges: reading only.";
pub(super) const ARGUMENT_MISSING: &str = "501 Syntax error: command needs an argument.";
pub(super) const RENAME_FROM_FIRST: &str = "503 Bad sequence: use RNFR first.";
pub(super) const EXTENDED_ONLY: &str = "501 EPSV ALL was said.";
pub(super) const NO_DATA_ADDRESS: &str = "425 Say PASV, EPSV, PORT or EPRT first.";
pub(super) const NO_CONNECTION: &str = "425 The data connection could not be opened.";
pub(super) const NOT_SECURED: &str = "425 The data connection could not be secured.";
pub(super) const NO_PORT: &str = "425 No port could be opened.";
pub(super) const ABORTED: &str = "426 Transfer aborted.";
pub(super) const BROKEN: &str = "426 The data connection broke, transfer aborted.";
pub(super) const STALLED: &str = "426 The transfer stood still for too long, aborted.";
pub(super) const SHRUNK: &str = "451 The file became shorter meanwhile, transfer aborted.";
pub(super) const SITE_HELP: &str = "214 SITE CHMOD mode name; SITE HELP";
pub(super) const LOCAL_ERROR: &str = "451 Local error, try again.";
pub(super) const COMPLETE: &str = "226 Transfer complete.";
pub(super) const NOT_A_FILE: &str = "550 Not a plain file.";
pub(super) const NOT_RETRIEVABLE: &str = "550 No plain file, not retrievable.";
pub(super) const NOT_THE_ROOT: &str = "550 Can't remove root directory, replace or change it.";
pub(super) const BEYOND_END: &str = "554 The restart position is > file size.";

/// The features that RFC 2389 wants told, but for MLST, whose line depends on OPTS.
const FEATURES: &[&str] = &["EPRT", "EPSV", "MDTM", "MFMT", "REST STREAM", "SIZE", "TVFS", "UTF8"];

/// Why a file command failed.
pub(super) fn refusal(error: &io::Error) -> &'static str {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::NotFound => "550 No such file or directory.",
        Kind::PermissionDenied => "550 Permission denied.",
        Kind::AlreadyExists => "550 File exists.",
        Kind::DirectoryNotEmpty => "550 The directory is not empty.",
        Kind::NotADirectory => "550 Not a directory.",
        Kind::IsADirectory | Kind::InvalidInput => NOT_A_FILE,
        Kind::ReadOnlyFilesystem => READ_ONLY,
        Kind::InvalidFilename => "553 That name is not allowed.",
        Kind::StorageFull | Kind::QuotaExceeded => "452 No space left.",
        Kind::FileTooLarge => "552 The file is too large.",
        Kind::TimedOut | Kind::OutOfMemory | Kind::ResourceBusy => LOCAL_ERROR,
        _ => "550 That cannot be done.",
    }
}

/// Why a transfer broke off: 426 for the network's part, 452 and 552 for a full disk, 451 for the
/// rest.
pub(super) fn interruption(error: &io::Error) -> &'static str {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => refusal(error),
        Kind::ConnectionReset
        | Kind::ConnectionAborted
        | Kind::BrokenPipe
        | Kind::NotConnected
        | Kind::HostUnreachable
        | Kind::NetworkUnreachable
        | Kind::NetworkDown
        | Kind::UnexpectedEof
        | Kind::InvalidData
        | Kind::TimedOut => BROKEN,
        _ => LOCAL_ERROR,
    }
}

/// A line of text that is known not to hold a line's end.
pub(super) fn line(output: &mut Vec<u8>, text: &str) {
    output.extend_from_slice(text.as_bytes());
    output.extend_from_slice(b"\r\n");
}

/// Bytes that come from outside.
pub(super) fn foreign(output: &mut Vec<u8>, bytes: &[u8]) {
    let harmless = |&byte: &u8| match byte {
        b'\r' | b'\n' => b'?',
        other => other,
    };
    output.extend(bytes.iter().map(harmless));
}

/// `257 "path" text`, quotes in the path doubled (RFC 959, appendix II).
pub(super) fn quoted(output: &mut Vec<u8>, path: &[u8], text: &str) {
    output.extend_from_slice(b"257 \"");
    for &byte in path {
        foreign(output, &[byte]);
        if byte == b'"' {
            output.push(byte);
        }
    }
    output.extend_from_slice(b"\" ");
    line(output, text);
}

/// What RFC 4217 §6 adds to them.
const SECURITY_FEATURES: &[&str] = &["AUTH TLS", "PBSZ", "PROT"];

/// The reply to FEAT (RFC 2389 §3.2).
pub(super) fn features(output: &mut Vec<u8>, facts: Facts, secure: bool) {
    line(output, "211-Features:");
    let security = if secure { SECURITY_FEATURES } else { &[] };
    for feature in FEATURES.iter().chain(security) {
        line(output, &format!(" {feature}"));
    }
    line(output, &format!(" MLST {}", facts.feature()));
    line(output, "211 End");
}

/// The reply to HELP.
pub(super) fn help(output: &mut Vec<u8>) {
    line(output, "214-These commands are understood:");
    for names in TABLE.chunks(10) {
        let names: Vec<&str> = names.iter().map(|row| row.name).collect();
        line(output, &format!(" {}", names.join(" ")));
    }
    line(output, "214 End");
}

/// The reply to a line that is no command, or whose argument is missing or superfluous.
pub(super) fn malformed(error: command::Malformed) -> &'static str {
    match error {
        command::Malformed::Line => "500 The line is too long or holds a NUL.",
        command::Malformed::Name => "500 Command not understood.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled_and_line_ends_are_not_passed_on() {
        let mut output = Vec::new();
        quoted(&mut output, b"/a\"b\r\n226 c\xff", "is here.");
        assert_eq!(output, b"257 \"/a\"\"b??226 c\xff\" is here.\r\n");
    }

    #[test]
    fn a_full_disk_and_a_broken_connection_are_told_apart() {
        let check = |kind: io::ErrorKind, code: &str| {
            let reply = interruption(&kind.into());
            assert!(reply.starts_with(code), "{kind:?}: {reply}");
        };
        check(io::ErrorKind::StorageFull, "452");
        check(io::ErrorKind::QuotaExceeded, "452");
        check(io::ErrorKind::FileTooLarge, "552");
        check(io::ErrorKind::ConnectionReset, "426");
        check(io::ErrorKind::BrokenPipe, "426");
        check(io::ErrorKind::Other, "451");
    }
}
