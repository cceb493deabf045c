//! One thread, one readiness poll: the reactor.

use std::process::ExitCode;

use common::Workers;

fn main() -> ExitCode {
    common::serve(&common::architecture!(Workers::One), evented::run)
}
