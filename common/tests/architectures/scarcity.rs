//! A machine that has run out of descriptors, or of processes and threads: a server goes on with
//! what it has, and serves as before when there is more.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::disk::skip_unless;
use crate::support::{
    Architecture, Dialogue, Server, architectures, eventually, installed, variants,
};

/// How many processes and threads a user may have who has no more: a server with a few workers,
/// and the threads that its runtime makes by itself.
const TASKS: &str = "--nproc=6";
/// Nobody's, so that what others run does not count. Each server has one of its own.
const FIRST_USER: u32 = 2_000_000;

fn all() -> impl Iterator<Item = Architecture> {
    architectures().into_iter().chain(variants())
}

/// The lowest number that no descriptor of a process has.
fn next_descriptor(pid: i32) -> usize {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let taken: BTreeSet<usize> =
        open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    (0..usize::MAX).find(|number| !taken.contains(number)).unwrap()
}

/// Sets the soft limit of a process.
fn limit_descriptors(pid: i32, limit: &str) {
    let limit = format!("--nofile={limit}:");
    let done = Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]).output();
    let is_gone = !std::path::Path::new(&format!("/proc/{pid}/fd/0")).exists();
    assert!(done.unwrap().status.success() || is_gone);
}

#[test]
fn without_descriptors_clients_wait_and_are_served_when_there_are_some() {
    if installed("prlimit").is_none() {
        return;
    }
    for architecture in all() {
        eprintln!("── {}", architecture.name);
        let workers: &[&str] =
            if architecture.has_many_workers { &["--workers", "2"] } else { &[] };
        let server = Server::start(&architecture, workers);
        drop(Dialogue::login(&server));
        let processes = server.processes();
        let limits = |pid| std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let limit = limits(server.pid());
        let limit = limit.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let before = limit.split_whitespace().nth(3).unwrap().to_owned();
        for pid in &processes {
            limit_descriptors(*pid, &next_descriptor(*pid).to_string());
        }
        // Some wait in the backlog now, or are turned away; the server is not to end for it.
        let waiting: Vec<_> = (0..3).map(|_| server.connect()).collect();
        std::thread::sleep(std::time::Duration::from_millis(100));
        for pid in processes {
            limit_descriptors(pid, &before);
        }
        drop(waiting);
        eventually("there is room again", || {
            let mut greeting = [0; 3];
            server.connect().read_exact(&mut greeting).ok()?;
            (&greeting == b"220").then_some(())
        });
        drop(Dialogue::login(&server));
        server.leave();
    }
}

#[test]
fn without_processes_or_threads_a_server_goes_on_with_those_it_has() {
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    if installed("prlimit").is_none() || skip_unless(is_root, "only root becomes another").is_none()
    {
        return;
    }
    for (user, architecture) in (FIRST_USER..).zip(all()) {
        eprintln!("── {}", architecture.name);
        let own = architecture.command();
        let mut command = Command::new("prlimit");
        command.args([TASKS, "--"]).arg(own.get_program()).args(own.get_args()).uid(user);
        let workers: &[&str] =
            if architecture.has_many_workers { &["--workers", "8"] } else { &[] };
        let server = Server::start_with(command, &architecture, workers);
        // More clients than there can be workers: each is served, or told at once that it is not.
        for _ in 0..20 {
            let mut first = Vec::new();
            let _ = server.connect().take(3).read_to_end(&mut first);
            drop(first);
        }
        eventually("somebody is served", || {
            let mut greeting = [0; 3];
            server.connect().read_exact(&mut greeting).ok()?;
            (&greeting == b"220").then_some(())
        });
        server.leave();
    }
}

/// As in a container that hides it: the lock is opened by its name there.
#[test]
fn without_proc_a_lock_on_a_file_is_refused_in_one_line_and_nothing_panics() {
    let hidden = "mount -t tmpfs none /proc && exec timeout 30 \"$@\"";
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]);
        command
    };
    let tried = unshare("mount -t tmpfs none /proc").output();
    let possible = tried.is_ok_and(|output| output.status.success());
    if skip_unless(possible, "/proc cannot be hidden").is_none() {
        return;
    }
    for architecture in variants() {
        if !architecture.arguments.iter().any(|argument| argument == "flock") {
            continue;
        }
        let own = architecture.command();
        let mut command = unshare(hidden);
        command.arg(own.get_program()).args(own.get_args()).args(["--listen", "127.0.0.1:0"]);
        let output = command.output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), told.lines().count()), (Some(1), 1), "{told}");
        assert!(told.contains("needs /proc"), "{told}");
    }
}
