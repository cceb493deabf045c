//! What each command does, and those that do it at once: parameters.
//!
//! **Invariant:** a command either says its one final reply, or leaves the session in a state that
//! will.

use crate::job::Job;

use super::command::{self, Argument, Needs, Row, Verb};
use super::files::Work;
use super::listing::Facts;
use super::listing::Format;
use super::login::Login;
use super::reply;
use super::session::{Representation, Session, State};
use super::uploads::Placement;

impl Session {
    /// Obeys one line.
    pub(super) fn command(&mut self, line: &[u8]) {
        let rename_from = self.rename_from.take();
        match command::parse(line) {
            Err(error) => self.say(reply::malformed(error)),
            Ok((row, argument)) => match self.objection(row, argument) {
                Some(reply) => self.say(reply),
                None if row.verb == Verb::RenameTo => self.rename(rename_from, argument),
                None => self.obey(row.verb, argument),
            },
        }
    }

    fn objection(&self, row: &Row, argument: &[u8]) -> Option<&'static str> {
        if row.needs != Needs::Nothing && !self.login.is_complete() {
            Some(reply::LOGIN_FIRST)
        } else if row.argument == Argument::Required && argument.is_empty() {
            Some(reply::ARGUMENT_MISSING)
        } else if row.argument == Argument::None && !argument.is_empty() {
            Some("501 Syntax error: command does not accept arguments.")
        } else if row.needs == Needs::Writing && !self.may_write() {
            Some(reply::READ_ONLY)
        } else {
            None
        }
    }

    fn obey(&mut self, verb: Verb, argument: &[u8]) {
        match verb {
            Verb::Abort => self.say("226 Nothing to abort."),
            Verb::Account | Verb::StructureMount => self.say("502 Not implemented."),
            Verb::Allocate if command::is_allocation(argument) => self.say("202 No need to."),
            Verb::Allocate => self.say("501 A number of bytes is expected."),
            Verb::Append if self.forget_restart() => {
                self.say("450 Can't APPE while REST is pending.");
            }
            Verb::Append => self.store(argument, |_| Placement::End),
            Verb::Authenticate => self.say("502 No security here."),
            Verb::ChangeDirectory => self.change_directory(argument),
            Verb::ChangeToParent => self.change_directory(b".."),
            Verb::Delete => self.change(argument, "250 Deleted.", Job::RemoveFile),
            Verb::ExtendedPassive => self.extended_passive(argument),
            Verb::ExtendedPort => self.extended_port(argument),
            Verb::Facts => self.look(argument, Work::Facts),
            Verb::FactsList => self.list(argument, Format::Facts),
            Verb::Features => reply::features(&mut self.output, self.facts),
            Verb::Help => self.help(argument),
            Verb::List => self.list(argument, Format::Long),
            Verb::MakeDirectory => self.make_directory(argument),
            Verb::Mode => self.only(argument, [b'S', b'B', b'C']),
            Verb::Modified => self.look(argument, |_| Work::Modified),
            Verb::NameList => self.list(argument, Format::Name),
            Verb::Nothing => self.say("200 Here."),
            Verb::Options => self.options(argument),
            Verb::Passive => self.passive(),
            Verb::Password => self.password(argument),
            Verb::Port => self.port(argument),
            Verb::PrintDirectory => {
                let folder = self.folder.absolute();
                reply::quoted(&mut self.output, &folder, "is the current directory.");
            }
            Verb::Protection | Verb::ProtectionBuffer => self.say("503 Say AUTH first."),
            Verb::Quit => {
                self.say("221 Goodbye.");
                self.state = State::Over;
            }
            Verb::Reinitialize => self.reinitialize("220 Ready for a new user.", Login::None),
            Verb::RemoveDirectory => self.change(argument, "250 Removed.", Job::RemoveDirectory),
            Verb::RenameFrom => self.rename_from(argument),
            Verb::RenameTo => self.say(reply::RENAME_FROM_FIRST),
            Verb::Restart => self.restart(argument),
            Verb::Retrieve => self.retrieve(argument),
            Verb::SetModified => self.set_modified(argument),
            Verb::Site => self.site(argument),
            Verb::Size => self.size(argument),
            Verb::Status => self.status(argument),
            Verb::Store => self.store(argument, Placement::from),
            Verb::StoreUnique if self.forget_restart() => {
                self.say("450 Can't STOU while REST is pending.");
            }
            Verb::StoreUnique => self.store_unique(),
            Verb::Structure => self.only(argument, [b'F', b'R', b'P']),
            Verb::System => self.say("215 UNIX Type: L8"),
            Verb::Type => self.representation(argument),
            Verb::User => self.user(argument),
        }
    }
}

/// Parameters.
impl Session {
    /// Of the letters that RFC 959 knows for a parameter, the first is the one that there is.
    fn only(&mut self, argument: &[u8], letters: [u8; 3]) {
        let place = letters.iter().position(|letter| argument.eq_ignore_ascii_case(&[*letter]));
        self.say(match place {
            Some(0) => "200 So it is.",
            Some(_) => "504 Unimplemented.",
            None => "501 Unrecognized letter.",
        });
    }

    fn help(&mut self, argument: &[u8]) {
        match argument {
            b"" => reply::help(&mut self.output),
            name if name.eq_ignore_ascii_case(b"SITE") => self.say(reply::SITE_HELP),
            name => match command::parse(name) {
                Ok((row, _)) => self.say(&format!("214 {} is understood.", row.name)),
                Err(_) => self.say("501 Unrecognized command."),
            },
        }
    }

    fn representation(&mut self, argument: &[u8]) {
        let (letter, form) = command::split(argument);
        let representation = match (letter.to_ascii_uppercase().as_slice(), form) {
            (b"A", b"" | b"N" | b"n") => Representation::Ascii,
            (b"I", b"") | (b"L", b"8") => Representation::Image,
            (b"L", size) if command::number(size).is_none() => {
                return self.say("501 TYPE L takes a number of bits.");
            }
            (b"A" | b"E" | b"L" | b"I", _) => return self.say("504 Not implemented."),
            ([_], _) => return self.say("504 Unknown type."),
            _ => return self.say("501 The type is one letter."),
        };
        self.representation = representation;
        self.say("200 So it is.");
    }

    fn options(&mut self, argument: &[u8]) {
        let (name, value) = command::split(argument);
        match name.to_ascii_uppercase().as_slice() {
            b"UTF8" => match value.to_ascii_uppercase().as_slice() {
                b"" | b"ON" | b"OFF" => self.say("200 Names are bytes, UTF-8 or not."),
                _ => self.say("501 ON or OFF is expected."),
            },
            b"MLST" => {
                self.facts = Facts::parse(value);
                let reply = format!("200 MLST OPTS {}", self.facts.chosen());
                self.say(reply.trim_end());
            }
            _ => self.say("501 There is no such option."),
        }
    }

    fn restart(&mut self, argument: &[u8]) {
        // Offsets of files are signed in the kernel.
        let offset = command::number(argument).filter(|&offset| i64::try_from(offset).is_ok());
        match offset {
            Some(1..) if self.is_text() => {
                self.restart = 0;
                self.say("501 Resuming is not allowed in ASCII mode: say TYPE I.");
            }
            Some(offset) => {
                self.restart = offset;
                self.say(&format!("350 The next transfer begins at {offset}."));
            }
            None => self.say("501 Invalid parameter: not an offset in bytes."),
        }
    }

    fn site(&mut self, argument: &[u8]) {
        let (name, rest) = command::split(argument);
        match name.to_ascii_uppercase().as_slice() {
            b"HELP" => match rest.to_ascii_uppercase().as_slice() {
                b"" | b"CHMOD" | b"HELP" => self.say(reply::SITE_HELP),
                _ => self.say("501 Unrecognized SITE command."),
            },
            b"CHMOD" if !self.may_write() => self.say(reply::READ_ONLY),
            b"CHMOD" => {
                let (mode, name) = command::split(rest);
                match command::permissions(mode) {
                    _ if mode.is_empty() => self.say(reply::ARGUMENT_MISSING),
                    _ if name.is_empty() => {
                        self.say("501 Syntax error: SITE CHMOD needs two arguments.");
                    }
                    Some(mode) => {
                        let job = |root, path| Job::SetMode(root, path, mode);
                        self.change(name, "200 Changed.", job);
                    }
                    None => self.say("501 Invalid SITE CHMOD format: an octal mode is expected."),
                }
            }
            _ => self.say("504 SITE command not understood."),
        }
    }
}
