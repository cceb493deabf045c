//! Logs the idle sessions of FTP in, a few at a time, so that no listen queue overflows.
//!
//! Invariant: it ends whatever the server does. Once a login has waited for long, no further one
//! is begun beside it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Herd;
use crate::client::{Channel, Ftp, Session as _, Step};
use crate::plan::Plan;
use crate::record::{Failure, Kind, Operation, Recorder};

/// Logins at a time: fewer than any server's listen queue holds.
const AT_A_TIME: usize = 16;
/// A login that has taken so long, while so few are made, waits for a session to end.
const PATIENCE: Duration = Duration::from_secs(3);

enum Login {
    Done(TcpStream),
    Waits(TcpStream),
}

/// What the threads have come to.
#[derive(Default)]
struct Sessions {
    ready: Vec<TcpStream>,
    waiting: Vec<TcpStream>,
    failures: Vec<Failure>,
}

pub(super) fn all(plan: &Plan, stop: &AtomicBool, recorder: &mut Recorder) -> Herd {
    let begun = AtomicUsize::new(0);
    let sessions = Mutex::new(Sessions::default());
    let logs_in = || {
        while !stop.load(Ordering::Relaxed)
            && begun.fetch_add(1, Ordering::Relaxed) < plan.idle_connections
        {
            let login = one(plan);
            let mut sessions = sessions.lock().expect("no thread panics with the lock held");
            match login {
                Ok(Login::Done(stream)) => sessions.ready.push(stream),
                Ok(Login::Waits(stream)) => {
                    sessions.waiting.push(stream);
                    return;
                }
                Err(failure) => {
                    sessions.failures.push(failure);
                    return;
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME.min(plan.idle_connections) {
            scope.spawn(logs_in);
        }
    });
    let sessions = sessions.into_inner().expect("no thread panicked");
    for mut failure in sessions.failures {
        let (ready, planned) = (sessions.ready.len(), plan.idle_connections);
        failure.detail = format!("{ready} of {planned} idle sessions log in: {}", failure.detail);
        recorder.failure(failure);
    }
    Herd { connections: sessions.ready, _waiting: sessions.waiting }
}

/// One login, with blocking calls.
fn one(plan: &Plan) -> Result<Login, Failure> {
    let deadline = Instant::now() + PATIENCE.min(plan.timeout);
    let mut stream = TcpStream::connect_timeout(&plan.target, PATIENCE.min(plan.timeout))?;
    stream.set_nodelay(true)?;
    let mut session = Ftp::idle(&plan.class);
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        stream.set_read_timeout(Some(left))?;
        let mut bytes = match stream.read(&mut buffer) {
            Ok(0) => {
                session.ended(Channel::Control)?;
                return Err(Failure::closed_early());
            }
            Ok(count) => &buffer[..count],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        loop {
            match session.input(Channel::Control, &mut bytes)? {
                Step::More => break,
                Step::Passed(Operation::Login) => {
                    stream.set_nonblocking(true)?;
                    return Ok(Login::Done(stream));
                }
                Step::Passed(_) => {}
                Step::Connect(_) | Step::Did(_) | Step::Think(_) | Step::Replied => {
                    return Err(Failure::new(Kind::BadReply, "a login asks for no transfer"));
                }
            }
        }
        stream.write_all(session.output())?;
        session.wrote(session.output().len());
    }
    stream.set_nonblocking(true)?;
    Ok(Login::Waits(stream))
}
