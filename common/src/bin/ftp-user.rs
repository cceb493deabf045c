//! `ftp-user`: prints a user's line for the file that `--users` names.
//!
//! The password comes from standard input, one line; from a terminal it is asked for twice, and not
//! shown. **Invariant:** what is printed, every server accepts, as long as the home is there.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Parser;
use common::Shown;
use common::password::{Hash, PASSWORD_BYTES_MAX, Password};
use common::users::{self, Rights};
use zeroize::Zeroizing;

/// Prints a line for the file that `--users` names; the password comes from standard input
#[derive(Debug, Parser)]
#[command(name = "ftp-user", version)]
struct Options {
    /// The name to log in with
    #[arg(long)]
    name: String,
    /// The folder that the user sees as the root; relative to where the server is started
    #[arg(long, value_name = "DIR")]
    home: PathBuf,
    /// What the user may do there
    #[arg(long, value_enum)]
    rights: Rights,
}

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => match Shown::from(&error) {
            Shown::Asked(text) => {
                print!("{text}");
                return ExitCode::SUCCESS;
            }
            Shown::Mistake(line) => return refuse(&line),
        },
    };
    line(options)
        .and_then(|line| Ok(io::stdout().write_all(&line)?))
        .map_or_else(|mistake| refuse(&format!("{mistake:#}")), |()| ExitCode::SUCCESS)
}

fn refuse(line: &str) -> ExitCode {
    eprintln!("ftp-user: {line}");
    ExitCode::from(2)
}

/// The name is looked at before the password is asked for.
fn line(options: Options) -> anyhow::Result<Vec<u8>> {
    users::check_name(options.name.as_bytes())?;
    let home = options.home.into_os_string().into_vec();
    if home.is_empty() || home.iter().any(u8::is_ascii_control) {
        bail!("--home is empty or has a control character; name a folder");
    }
    let hash = Hash::of(&password()?)?;
    Ok(users::line(options.name.as_bytes(), &hash, options.rights, &home))
}

fn password() -> anyhow::Result<Password> {
    let cannot_read = "cannot read the password";
    let bytes = if io::stdin().is_terminal() {
        let ask = |prompt| rpassword::prompt_password(prompt).map(Zeroizing::new);
        let first = ask("Password: ").context(cannot_read)?;
        if first != ask("The same again: ").context(cannot_read)? {
            bail!("the two passwords differ; try again");
        }
        Zeroizing::new(first.as_bytes().to_vec())
    } else {
        let mut bytes = Zeroizing::new(Vec::with_capacity(PASSWORD_BYTES_MAX + 2));
        let most = PASSWORD_BYTES_MAX as u64 + 2;
        io::stdin().lock().take(most).read_until(b'\n', &mut bytes).context(cannot_read)?;
        bytes
    };
    let password = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let password = password.strip_suffix(b"\r").unwrap_or(password);
    if password.is_empty() {
        bail!("the password is empty; give one line on standard input");
    }
    if password.len() > PASSWORD_BYTES_MAX {
        bail!("the password is longer than {PASSWORD_BYTES_MAX} bytes; take a shorter one");
    }
    if password.iter().any(|byte| matches!(byte, 0 | b'\r')) {
        bail!("the password has a NUL or a carriage return, which FTP cannot carry; leave it out");
    }
    Ok(Password::new(password))
}
