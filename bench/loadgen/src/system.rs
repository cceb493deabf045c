//! What a run needs of the operating system: descriptors, a CPU for each thread, its CPU time.

use std::io;
use std::ops::RangeInclusive;
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::Error;
use crate::class::{Class, Protocol};
use crate::plan::Plan;

/// Descriptors for everything but connections: standard streams, pollers, the caller's files.
const OTHER_DESCRIPTORS: u64 = 64;

/// Raises the soft limit on descriptors to the hard one, and says if that is too few for `plan`.
pub(crate) fn raise_descriptor_limit(plan: &Plan) -> Result<(), Error> {
    let system = |cause: nix::Error| Error::System {
        what: "cannot change the limit on descriptors",
        cause: cause.into(),
    };
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(system)?;
    let descriptors = |class: &Class| {
        let per_connection = if class.protocol == Protocol::Ftp { 2 } else { 1 };
        class.connections.saturating_mul(per_connection)
    };
    let connections = plan.classes().map(descriptors).fold(0, usize::saturating_add);
    let pollers = 4 * plan.threads_used().min(1 << 20) as u64;
    let needed = connections.saturating_add(plan.idle_connections) as u64;
    let needed = needed.saturating_add(pollers + OTHER_DESCRIPTORS);
    if needed > hard {
        return Err(Error::Descriptors { needed, limit: hard });
    }
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(system)?;
    }
    Ok(())
}

/// Ties the calling thread to one CPU.
pub(crate) fn pin_thread(cpu: usize) -> Result<(), Error> {
    let pin = || {
        let mut set = CpuSet::new();
        set.set(cpu)?;
        sched_setaffinity(Pid::from_raw(0), &set)
    };
    pin().map_err(|cause| Error::Pin { cpu, cause: cause.into() })
}

/// The ports that the system gives to connections; all of them where it does not tell.
pub(crate) fn ephemeral_ports() -> RangeInclusive<u16> {
    let read = || {
        let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
        let mut ports = text.split_whitespace().map(str::parse);
        Some(ports.next()?.ok()?..=ports.next()?.ok()?)
    };
    read().unwrap_or(0..=u16::MAX)
}

/// The CPU time that the calling thread has used.
pub(crate) fn thread_cpu_time() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// The time that the calling thread was ready to run and had no processor; nothing where the kernel
/// does not count it.
pub(crate) fn thread_run_delay() -> Duration {
    let counters = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let delay = counters.split(' ').nth(1).and_then(|nanoseconds| nanoseconds.parse().ok());
    Duration::from_nanos(delay.unwrap_or(0))
}

/// The machine's processor time that was stolen by its hypervisor and that there was in all, in
/// ticks since its start; nothing where the kernel does not tell.
pub(crate) fn stolen_and_all_ticks() -> (f64, f64) {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let all = text.lines().next().unwrap_or_default().split_whitespace().skip(1).take(8);
    let ticks: Vec<f64> = all.map(|number| number.parse().unwrap_or(0.0)).collect();
    (ticks.get(7).copied().unwrap_or(0.0), ticks.iter().sum())
}
