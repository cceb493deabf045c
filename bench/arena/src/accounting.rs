//! Who counts what a server uses: a control group of its own where one can be made, else procfs.
//!
//! A group knows what processes used that have ended, to the microsecond, and who belongs to it
//! whatever became of their parents; procfs knows the first in ticks and the second not at all.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// A group can be removed when the last of its processes is gone, which may take a moment.
const REMOVALS: u32 = 100;
const REMOVAL_PAUSE: Duration = Duration::from_millis(1);

/// Numbers the groups of this process.
static GROUPS: AtomicU64 = AtomicU64::new(0);

/// What counts, and where groups are made if it is groups.
#[derive(Clone, Debug)]
pub(crate) enum Accounting {
    /// Groups of version 2, which count processor time without any controller.
    Cgroup2(PathBuf),
    /// Groups of version 1 with the controller `cpuacct`.
    Cpuacct(PathBuf),
    /// The sum over the processes that procfs shows.
    Procfs,
}

/// The control group of one server. It is removed when it is dropped, which is to be when all its
/// processes have ended.
#[derive(Debug)]
pub(crate) struct Group {
    folder: PathBuf,
    is_version_2: bool,
}

/// Processor time, of which the modes are parts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct CpuTime {
    pub(crate) total: Duration,
    pub(crate) user: Duration,
    pub(crate) system: Duration,
}

impl Accounting {
    /// The best that works here: tried, not guessed.
    pub(crate) fn find() -> Self {
        let candidates =
            [own_group("").map(Self::Cgroup2), own_group("cpuacct").map(Self::Cpuacct)];
        let works = |one: &Self| {
            let group = one.group();
            group.is_ok_and(|group| group.is_some_and(|group| group.cpu().is_some()))
        };
        let found = candidates.into_iter().flatten().find(works).unwrap_or(Self::Procfs);
        if let Self::Cgroup2(parent) | Self::Cpuacct(parent) = &found {
            remove_abandoned(parent);
        }
        found
    }

    /// What stands in a record.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Cgroup2(_) => "cgroup v2",
            Self::Cpuacct(_) => "cgroup v1 cpuacct",
            Self::Procfs => "procfs",
        }
    }

    /// A new group, where it is groups that count.
    pub(crate) fn group(&self) -> io::Result<Option<Group>> {
        let (parent, is_version_2) = match self {
            Self::Cgroup2(parent) => (parent, true),
            Self::Cpuacct(parent) => (parent, false),
            Self::Procfs => return Ok(None),
        };
        let number = GROUPS.fetch_add(1, Ordering::Relaxed);
        let folder = parent.join(format!("arena-{}-{number}", process::id()));
        fs::create_dir(&folder)?;
        Ok(Some(Group { folder, is_version_2 }))
    }
}

impl Group {
    /// A process that writes `0` here belongs to the group from then on, and all that it starts.
    pub(crate) fn entrance(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.folder.join("cgroup.procs"))
    }

    /// The pids of those that belong to it.
    pub(crate) fn members(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// What its processes have used, those that have ended too. What runs in this very moment is
    /// charged at its next tick or switch, or when its own clock is read.
    pub(crate) fn cpu(&self) -> Option<CpuTime> {
        let read = |file: &str| fs::read_to_string(self.folder.join(file)).ok();
        if self.is_version_2 {
            let text = read("cpu.stat")?;
            let time = |key| Some(Duration::from_micros(value_of(&text, key)?));
            return Some(CpuTime {
                total: time("usage_usec")?,
                user: time("user_usec")?,
                system: time("system_usec")?,
            });
        }
        let time = |file| Some(Duration::from_nanos(read(file)?.trim().parse().ok()?));
        Some(CpuTime {
            total: time("cpuacct.usage")?,
            user: time("cpuacct.usage_user")?,
            system: time("cpuacct.usage_sys")?,
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        remove(&self.folder);
    }
}

/// Removes a group, whose last process may be about to go.
fn remove(folder: &Path) {
    for _ in 0..REMOVALS {
        let busy = |error: &io::Error| error.kind() == io::ErrorKind::ResourceBusy;
        match fs::remove_dir(folder) {
            Err(error) if busy(&error) => thread::sleep(REMOVAL_PAUSE),
            _ => return,
        }
    }
}

/// Removes the groups of harnesses that are gone, and ends what they left running there.
fn remove_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("arena-")?.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Of version 2, since Linux 5.14; elsewhere what still has a process stays.
            let _ = fs::write(entry.path().join("cgroup.kill"), "1");
            remove(&entry.path());
        }
    }
}

/// The folder of the group that this process is in: of the hierarchy with that controller, or of
/// version 2 if none is named.
fn own_group(controller: &str) -> Option<PathBuf> {
    let own = procfs::process::Process::myself().ok()?;
    let is_it = |controllers: &[String]| match controller {
        "" => controllers.is_empty(),
        name => controllers.iter().any(|one| one == name),
    };
    let groups = own.cgroups().ok()?;
    let group = groups.0.into_iter().find(|group| is_it(&group.controllers))?;
    let mounts = own.mountinfo().ok()?;
    let mount = mounts.0.into_iter().find(|mount| match controller {
        "" => mount.fs_type == "cgroup2",
        name => mount.fs_type == "cgroup" && mount.super_options.contains_key(name),
    })?;
    // Of the hierarchy, what is at `root` is mounted: a container's own part of it.
    let below = Path::new(&group.pathname).strip_prefix(&mount.root).ok()?;
    Some(mount.mount_point.join(below))
}

/// The number behind a word at the beginning of a line.
fn value_of(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stands_behind_its_own_word_only() {
        let text = "usage_usec 1500000\nuser_usec 7\n";
        assert_eq!(value_of(text, "usage_usec"), Some(1_500_000));
        assert_eq!(value_of(text, "user"), None);
    }

    #[test]
    fn whatever_works_here_counts_what_has_ended_and_leaves_nothing() {
        let accounting = Accounting::find();
        let Some(group) = accounting.group().unwrap() else {
            // No group can be made here, and that is what is said.
            assert_eq!(accounting.name(), "procfs");
            return;
        };
        let entrance = group.entrance().unwrap();
        let script = "echo 0 >&0; (i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done)";
        let mut child = process::Command::new("/bin/sh");
        let status = child.args(["-c", script]).stdin(entrance).status().unwrap();
        assert!(status.success());
        assert_eq!(group.members(), Vec::<i32>::new());
        let cpu = group.cpu().unwrap();
        assert!(!cpu.total.is_zero(), "{cpu:?}");
        let folder = group.folder.clone();
        drop(group);
        assert!(!folder.exists());
    }
}
