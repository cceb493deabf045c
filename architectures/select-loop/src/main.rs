//! The reactor on poll(2) or select(2), which are told anew in each turn what to watch.

use std::process::ExitCode;

use common::Workers;
use nix::sys::select::FD_SETSIZE;
use select_loop::Mechanism;

#[derive(clap::Args)]
struct Flags {
    /// The system call that waits
    #[arg(long, value_enum, default_value = "poll")]
    wait: Mechanism,
}

fn main() -> ExitCode {
    let descriptors_max = |flags: &Flags| match flags.wait {
        Mechanism::Poll => u64::MAX,
        Mechanism::Select => FD_SETSIZE as u64,
    };
    let architecture = common::architecture!(Workers::One);
    common::serve_within(&architecture, descriptors_max, |server, flags| {
        select_loop::run(server, flags.wait)
    })
}
