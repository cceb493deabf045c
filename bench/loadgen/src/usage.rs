//! What a user hears of a command line that is not understood: one line, for each program of the
//! bench alike.

use std::process::ExitCode;

use clap::error::ErrorKind::{
    DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion,
};

/// Says what is wrong in one line (clap puts a usage behind it, after an empty line), or shows what
/// was asked for.
pub fn refuse(program: &str, error: &clap::Error) -> ExitCode {
    let kind = error.kind();
    if matches!(kind, DisplayHelp | DisplayVersion | DisplayHelpOnMissingArgumentOrSubcommand) {
        error.exit();
    }
    let text = error.render().to_string();
    let mistake = text.lines().take_while(|line| !line.is_empty()).map(str::trim);
    let mistake = mistake.collect::<Vec<_>>().join(" ");
    eprintln!("{program}: {}; --help shows what there is", mistake.trim_start_matches("error: "));
    ExitCode::from(2)
}
