//! System calls of a process tree, counted by the kernel: `perf_event_open(2)` on its trace
//! point `raw_syscalls:sys_enter`.
//!
//! strace would need fewer rights, but it slows a server down so much that always all clients wait
//! for it: what a server then asks the kernel is what a full one asks, and the number that is wanted
//! here is another.

use std::fs;
use std::io;

use nix::errno::Errno;
use perf_event::events::Tracepoint;
use perf_event::{Builder, Counter};

use crate::sample;

/// Where the kernel names its trace points, in the order of age, the youngest first.
const TRACING: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
const EVENT: &str = "events/raw_syscalls/sys_enter/id";

/// The counters of a tree: one for each thread that was there at the beginning, which counts for
/// all that this one starts, too.
pub(crate) struct Watch(Vec<Counter>);

/// Whether the kernel lets this process count; if not, why, in words.
pub(crate) fn allowed() -> Result<(), String> {
    let own = std::process::id() as i32;
    let tried = event().and_then(|id| counter(id, own));
    tried.map(drop).map_err(|error| {
        format!("counting them needs root, or CAP_PERFMON and a readable {}: {error}", TRACING[0])
    })
}

impl Watch {
    /// Begins to count for a tree that is at rest.
    pub(crate) fn begin(root: i32) -> io::Result<Self> {
        let id = event()?;
        let threads = sample::tree(root).into_iter().flat_map(|process| threads(process.pid));
        let counters = threads.map(|thread| counter(id, thread));
        // What has ended since it was seen calls no more.
        let gone = |error: &io::Error| error.raw_os_error() == Some(Errno::ESRCH as i32);
        let counters = counters.filter(|counter| !counter.as_ref().is_err_and(gone));
        counters.collect::<io::Result<_>>().map(Self)
    }

    /// System calls since the beginning, of threads and processes that ended meanwhile too.
    pub(crate) fn count(&mut self) -> io::Result<u64> {
        self.0.iter_mut().map(Counter::read).sum()
    }
}

/// The number under which this kernel has the trace point.
fn event() -> io::Result<u64> {
    let tried = TRACING.map(|folder| fs::read_to_string(format!("{folder}/{EVENT}")));
    let [first, second] = tried;
    let text = first.or_else(|error| second.map_err(|_| error))?;
    text.trim().parse().map_err(io::Error::other)
}

fn counter(id: u64, thread: i32) -> io::Result<Counter> {
    let mut builder = Builder::new(Tracepoint::with_id(id));
    // The trace point lies in the kernel.
    builder.observe_pid(thread).any_cpu().exclude_kernel(false).inherit(true).enabled(true).build()
}

fn threads(pid: i32) -> Vec<i32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_a_tree_calls_is_counted_with_what_its_children_call_or_it_is_said_why_not() {
        if let Err(why) = allowed() {
            assert!(why.starts_with("counting them needs root"), "{why}");
            return;
        }
        // It waits for a line, then lets a child make 100 files' worth of calls.
        let script = "read go; (i=0; while [ $i -lt 100 ]; do : < /dev/null; i=$((i+1)); done); \
                      echo done; read go";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut watch = Watch::begin(child.id() as i32).unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(b"go\n").unwrap();
        let mut said = String::new();
        let mut output = io::BufReader::new(child.stdout.take().unwrap());
        io::BufRead::read_line(&mut output, &mut said).unwrap();
        assert_eq!(said, "done\n");
        let counted = watch.count().unwrap();
        input.write_all(b"go\n").unwrap();
        child.wait().unwrap();
        // Each redirection opens and closes at least.
        assert!(counted > 200, "{counted}");
        assert!(watch.count().unwrap() > counted);
    }
}
