//! A line to a command, and arguments to values.
//!
//! **Invariant:** what comes out of here is well-formed; nothing behind it parses again.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::SystemTime;

use time::{Date, Month, PrimitiveDateTime, Time};

/// A command, whatever its name is: `MKD` and `XMKD` are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Abort,
    Account,
    Allocate,
    Append,
    Authenticate,
    ChangeDirectory,
    ChangeToParent,
    Delete,
    ExtendedPassive,
    ExtendedPort,
    Facts,
    FactsList,
    Features,
    Help,
    List,
    MakeDirectory,
    Mode,
    Modified,
    NameList,
    Nothing,
    Options,
    Passive,
    Password,
    Port,
    PrintDirectory,
    Protection,
    ProtectionBuffer,
    Quit,
    Reinitialize,
    RemoveDirectory,
    RenameFrom,
    RenameTo,
    Restart,
    Retrieve,
    SetModified,
    Site,
    Size,
    Status,
    Store,
    StoreUnique,
    Structure,
    StructureMount,
    System,
    Type,
    User,
}

/// Whether a command has an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Argument {
    None,
    Optional,
    Required,
}

/// What must be so before a command is obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    Nothing,
    Login,
    /// A login, and a server that is not read-only.
    Writing,
}

/// A row of the table of commands.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) verb: Verb,
    pub(super) argument: Argument,
    pub(super) needs: Needs,
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// It was too long, or has a NUL in it.
    Line,
    /// Nobody knows its name.
    Name,
}

const fn row(name: &'static str, verb: Verb, argument: Argument, needs: Needs) -> Row {
    Row { name, verb, argument, needs }
}

/// Every command.
pub(super) const TABLE: &[Row] = &[
    row("ABOR", Verb::Abort, Argument::None, Needs::Login),
    row("ACCT", Verb::Account, Argument::Optional, Needs::Login),
    row("ALLO", Verb::Allocate, Argument::Required, Needs::Login),
    row("APPE", Verb::Append, Argument::Required, Needs::Writing),
    row("AUTH", Verb::Authenticate, Argument::Required, Needs::Nothing),
    row("CDUP", Verb::ChangeToParent, Argument::None, Needs::Login),
    row("CWD", Verb::ChangeDirectory, Argument::Required, Needs::Login),
    row("DELE", Verb::Delete, Argument::Required, Needs::Writing),
    row("EPRT", Verb::ExtendedPort, Argument::Required, Needs::Login),
    row("EPSV", Verb::ExtendedPassive, Argument::Optional, Needs::Login),
    row("FEAT", Verb::Features, Argument::None, Needs::Nothing),
    row("HELP", Verb::Help, Argument::Optional, Needs::Nothing),
    row("LIST", Verb::List, Argument::Optional, Needs::Login),
    row("MDTM", Verb::Modified, Argument::Required, Needs::Login),
    row("MFMT", Verb::SetModified, Argument::Required, Needs::Writing),
    row("MKD", Verb::MakeDirectory, Argument::Required, Needs::Writing),
    row("MLSD", Verb::FactsList, Argument::Optional, Needs::Login),
    row("MLST", Verb::Facts, Argument::Optional, Needs::Login),
    row("MODE", Verb::Mode, Argument::Required, Needs::Login),
    row("NLST", Verb::NameList, Argument::Optional, Needs::Login),
    row("NOOP", Verb::Nothing, Argument::None, Needs::Nothing),
    row("OPTS", Verb::Options, Argument::Required, Needs::Nothing),
    row("PASS", Verb::Password, Argument::Optional, Needs::Nothing),
    row("PASV", Verb::Passive, Argument::None, Needs::Login),
    row("PBSZ", Verb::ProtectionBuffer, Argument::Required, Needs::Nothing),
    row("PORT", Verb::Port, Argument::Required, Needs::Login),
    row("PROT", Verb::Protection, Argument::Required, Needs::Nothing),
    row("PWD", Verb::PrintDirectory, Argument::None, Needs::Login),
    row("QUIT", Verb::Quit, Argument::None, Needs::Nothing),
    row("REIN", Verb::Reinitialize, Argument::None, Needs::Login),
    row("REST", Verb::Restart, Argument::Required, Needs::Login),
    row("RETR", Verb::Retrieve, Argument::Required, Needs::Login),
    row("RMD", Verb::RemoveDirectory, Argument::Required, Needs::Writing),
    row("RNFR", Verb::RenameFrom, Argument::Required, Needs::Writing),
    row("RNTO", Verb::RenameTo, Argument::Required, Needs::Writing),
    row("SITE", Verb::Site, Argument::Required, Needs::Login),
    row("SIZE", Verb::Size, Argument::Required, Needs::Login),
    row("SMNT", Verb::StructureMount, Argument::Optional, Needs::Login),
    row("STAT", Verb::Status, Argument::Optional, Needs::Login),
    row("STOR", Verb::Store, Argument::Required, Needs::Writing),
    row("STOU", Verb::StoreUnique, Argument::Optional, Needs::Writing),
    row("STRU", Verb::Structure, Argument::Required, Needs::Login),
    row("SYST", Verb::System, Argument::None, Needs::Nothing),
    row("TYPE", Verb::Type, Argument::Required, Needs::Login),
    row("USER", Verb::User, Argument::Required, Needs::Nothing),
    row("XCUP", Verb::ChangeToParent, Argument::None, Needs::Login),
    row("XCWD", Verb::ChangeDirectory, Argument::Required, Needs::Login),
    row("XMKD", Verb::MakeDirectory, Argument::Required, Needs::Writing),
    row("XPWD", Verb::PrintDirectory, Argument::None, Needs::Login),
    row("XRMD", Verb::RemoveDirectory, Argument::Required, Needs::Writing),
];

/// The command of a line, and its argument: all that follows the first space, so that a name may
/// begin and end with spaces.
pub(super) fn parse(line: &[u8]) -> Result<(&'static Row, &[u8]), Malformed> {
    if line.contains(&0) {
        return Err(Malformed::Line);
    }
    let (name, argument) = split(line);
    let row = TABLE
        .iter()
        .find(|row| row.name.as_bytes().eq_ignore_ascii_case(name))
        .ok_or(Malformed::Name)?;
    Ok((row, argument))
}

/// Cuts at the first space.
pub(super) fn split(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().position(|&byte| byte == b' ') {
        Some(space) => (&text[..space], &text[space + 1..]),
        None => (text, b""),
    }
}

/// What is asked of a listing, of all that could be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ListOptions {
    /// Names that begin with a dot are shown as well.
    pub(super) all: bool,
}

/// Options as of `ls`, which clients put before the path of a listing, and that path.
pub(super) fn options(mut argument: &[u8]) -> (ListOptions, &[u8]) {
    let mut options = ListOptions::default();
    while argument.first() == Some(&b'-') {
        let (letters, rest) = split(argument);
        options.all |= letters.iter().any(|letter| letter.eq_ignore_ascii_case(&b'a'));
        argument = rest.trim_ascii_start();
    }
    (options, argument)
}

/// `number [R number]`, as ALLO has it (RFC 959 §4.1.3).
pub(super) fn is_allocation(argument: &[u8]) -> bool {
    let mut words = argument.split(|&byte| byte == b' ');
    let file_size = words.next().and_then(number);
    let well_formed = match (words.next(), words.next(), words.next()) {
        (None, None, None) => true,
        (Some(b"R" | b"r"), Some(record_size), None) => number(record_size).is_some(),
        _ => false,
    };
    file_size.is_some() && well_formed
}

/// A decimal number.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    if !text.first()?.is_ascii_digit() {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `h1,h2,h3,h4,p1,p2` (RFC 959 §4.1.2).
pub(super) fn host_port(argument: &[u8]) -> Option<SocketAddr> {
    let mut bytes = [0_u8; 6];
    let mut parts = argument.trim_ascii().split(|&byte| byte == b',');
    for byte in &mut bytes {
        *byte = number(parts.next()?)?.try_into().ok()?;
    }
    if parts.next().is_some() {
        return None;
    }
    let [a, b, c, d, high, low] = bytes;
    let port = u16::from_be_bytes([high, low]);
    Some((Ipv4Addr::new(a, b, c, d), port).into())
}

/// What EPRT asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExtendedAddress {
    Known(SocketAddr),
    /// Neither IPv4 nor IPv6.
    UnknownFamily,
}

/// `|family|address|port|`, the first byte being the delimiter (RFC 2428 §2).
pub(super) fn extended_port(argument: &[u8]) -> Option<ExtendedAddress> {
    let text = std::str::from_utf8(argument.trim_ascii()).ok()?;
    let delimiter = text.chars().next()?;
    let parts: Vec<&str> = text.split(delimiter).collect();
    let ["", family, host, port, ""] = parts[..] else {
        return None;
    };
    let host: IpAddr = match number(family.as_bytes())? {
        1 => IpAddr::V4(host.parse().ok()?),
        2 => IpAddr::V6(host.parse().ok()?),
        _ => return Some(ExtendedAddress::UnknownFamily),
    };
    let port = number(port.as_bytes())?.try_into().ok()?;
    Some(ExtendedAddress::Known((host.to_canonical(), port).into()))
}

/// Permission bits, in octal.
pub(super) fn permissions(text: &[u8]) -> Option<u32> {
    let octal = text.iter().all(|byte| (b'0'..=b'7').contains(byte));
    if !octal || text.is_empty() || text.len() > 4 {
        return None;
    }
    u32::from_str_radix(std::str::from_utf8(text).ok()?, 8).ok()
}

/// `YYYYMMDDHHMMSS`, in UTC, perhaps with a fraction, which is left out (RFC 3659 §2.3).
pub(super) fn timestamp(text: &[u8]) -> Option<SystemTime> {
    let (whole, fraction) = text.split_at_checked(14)?;
    let well_formed = match fraction {
        [] => true,
        [b'.', digits @ ..] => !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !well_formed || !whole.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let field = |from: usize, to: usize| number(&whole[from..to]).map(|value| value as u8);
    let year = number(&whole[..4])? as i32;
    let month = Month::try_from(field(4, 6)?).ok()?;
    let date = Date::from_calendar_date(year, month, field(6, 8)?).ok()?;
    // A leap second is what `time` does not know.
    let time = Time::from_hms(field(8, 10)?, field(10, 12)?, field(12, 14)?.min(59)).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_command_is_known_in_any_case_and_its_argument_is_kept_as_it_is() {
        let (row, argument) = parse(b"cWd  a b \xff ").unwrap();
        assert_eq!(row.verb, Verb::ChangeDirectory);
        assert_eq!(argument, b" a b \xff ");
        assert_eq!(parse(b"").err(), Some(Malformed::Name));
        assert_eq!(parse(b"CWDX a").err(), Some(Malformed::Name));
        assert_eq!(parse(b"CWD a\0b").err(), Some(Malformed::Line));
    }

    #[test]
    fn the_table_is_in_order_and_has_every_name_once() {
        assert!(TABLE.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn addresses_are_parsed_or_refused() {
        let address = |text: &str| Some(text.parse::<SocketAddr>().unwrap());
        assert_eq!(host_port(b"127,0,0,1,4,1"), address("127.0.0.1:1025"));
        for bad in ["", "1,2,3,4,5", "1,2,3,4,5,6,7", "1,2,3,4,5,256", "+1,2,3,4,5,6"] {
            assert_eq!(host_port(bad.as_bytes()), None, "{bad}");
        }
        let extended = |text: &str| extended_port(text.as_bytes());
        let known = |text| address(text).map(ExtendedAddress::Known);
        assert_eq!(extended("|1|127.0.0.1|2000|"), known("127.0.0.1:2000"));
        assert_eq!(extended("!2!::1!2000!"), known("[::1]:2000"));
        assert_eq!(extended("|2|::ffff:1.2.3.4|2000|"), known("1.2.3.4:2000"));
        assert_eq!(extended("|3|x|2000|"), Some(ExtendedAddress::UnknownFamily));
        for bad in ["", "|1|::1|2000|", "|1|1.2.3.4|70000|", "|1|1.2.3.4|2000", "||||"] {
            assert_eq!(extended(bad), None, "{bad}");
        }
    }

    #[test]
    fn options_come_before_a_path() {
        let check = |argument: &[u8], all: bool, path: &[u8]| {
            assert_eq!(options(argument), (ListOptions { all }, path));
        };
        check(b"-la", true, b"");
        check(b"-A -l  a b", true, b"a b");
        check(b"-lR", false, b"");
        check(b"./-a", false, b"./-a");
    }

    #[test]
    fn an_allocation_is_a_number_of_bytes_and_perhaps_of_a_record() {
        for good in ["0", "100", "100 R 80", "1 r 1"] {
            assert!(is_allocation(good.as_bytes()), "{good}");
        }
        for bad in ["", "x", "-1", "1 R", "1 80", "1 R 80 1", "1 R x"] {
            assert!(!is_allocation(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn timestamps_and_permissions_are_parsed_or_refused() {
        let seconds = |text: &str| {
            let time = timestamp(text.as_bytes())?;
            time.duration_since(SystemTime::UNIX_EPOCH).ok()
        };
        assert_eq!(seconds("19700102000001"), Some(Duration::from_secs(86_401)));
        assert_eq!(seconds("19700102000001.250"), Some(Duration::from_secs(86_401)));
        for bad in ["", "1970010200000", "19701302000001", "19700102000001x", "19700230000000"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
        assert_eq!(permissions(b"0644"), Some(0o644));
        assert_eq!(permissions(b"8"), None);
        assert_eq!(permissions(b"77777"), None);
        assert_eq!(number(b"18446744073709551616"), None);
        assert_eq!(number(b"+1"), None);
    }
}
