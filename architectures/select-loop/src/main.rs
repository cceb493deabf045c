//! The reactor on poll(2) or select(2), which are told anew in each turn what to watch.

use std::process::ExitCode;

use common::Workers;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::select::FD_SETSIZE;
use select_loop::Mechanism;

#[derive(clap::Args)]
struct Flags {
    /// The system call that waits
    #[arg(long, value_enum, default_value = "poll")]
    wait: Mechanism,
}

fn main() -> ExitCode {
    common::serve_with(&common::architecture!(Workers::One), |server, flags: Flags| {
        if flags.wait == Mechanism::Select {
            // Who has no room in a set waits in the backlog until there is some.
            let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
            setrlimit(Resource::RLIMIT_NOFILE, soft.min(FD_SETSIZE as u64), hard)?;
        }
        select_loop::run(server, flags.wait)
    })
}
