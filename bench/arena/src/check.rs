//! `arena check`: whether every architecture answers rightly in every protocol, without timing.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use loadgen::{Method, Protocol};

use crate::INTERRUPTED;
use crate::catalogue::{Catalogue, Contestant, require_programs};
use crate::machine::Placement;
use crate::stage::{Service, Stage, protocol_name};
use crate::verify::{Request, verify};

/// Every protocol, in the order in which `arena check` tries them.
const PROTOCOLS: [Protocol; 3] = [Protocol::Http, Protocol::Echo, Protocol::Ftp];

/// Tries all; the exit code.
pub(crate) fn check(catalogue: &Catalogue, stop: &AtomicBool) -> anyhow::Result<u8> {
    let all = catalogue.with_variants();
    require_programs(&all)?;
    let stage = Stage::new(Placement::unpinned(), None, CHECK_FILE_BYTES)?;
    let root = stage.root_with_file("check.bin", CHECK_FILE_BYTES)?;
    let mut wrong = 0;
    for contestant in &all {
        for protocol in PROTOCOLS {
            if stop.load(Ordering::SeqCst) {
                return Ok(INTERRUPTED);
            }
            let (faults, verdict) = match check_one(&stage, contestant, protocol, &root) {
                Ok(faults) if faults.is_empty() => (faults, "ok".to_owned()),
                Ok(faults) => (faults.clone(), faults.join("; ")),
                Err(unavailable) => (Vec::new(), format!("not available: {unavailable:#}")),
            };
            println!("{:28} {:6} {verdict}", contestant.name, protocol_name(protocol));
            wrong += faults.len();
        }
    }
    Ok(u8::from(wrong > 0))
}

/// The size of the file that `arena check` asks for by FTP.
const CHECK_FILE_BYTES: u64 = 12_345;

/// Starts, asks and stops one architecture; what it did wrong, or why it is not available here.
fn check_one(
    stage: &Stage,
    contestant: &Contestant,
    protocol: Protocol,
    root: &Path,
) -> anyhow::Result<Vec<String>> {
    let (path, expected_bytes) = match protocol {
        Protocol::Http => ("/plaintext", Some(13)),
        Protocol::Echo => ("", None),
        Protocol::Ftp => ("check.bin", Some(CHECK_FILE_BYTES)),
    };
    let mut server = match stage.start(contestant, &Service::new(protocol, root)) {
        Ok(server) => server,
        Err(error) if contestant.is_unavailable(&error) => return Err(error),
        Err(error) => return Ok(vec![format!("{error:#}")]),
    };
    let answer = verify(
        server.address(),
        &Request { protocol, method: Method::Get, path, expected_bytes, certificate: None },
    );
    let mut faults: Vec<String> =
        answer.err().map(|error| format!("it answers wrongly: {error:#}")).into_iter().collect();
    match server.death() {
        Some(death) => faults.push(death),
        None => faults.extend(server.stop()),
    }
    Ok(faults)
}
