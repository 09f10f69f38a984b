//! Control groups: one for each execution, all beneath one that carries the CPU limit.
//!
//! The agent holds the hierarchy as a mount that is attached nowhere. An execution mounts its own
//! from within a cgroup namespace, so it sees its own group as the root and the limit's not at all:
//! guest root could otherwise write a larger one (kernel Documentation/admin-guide/cgroup-v2.rst,
//! "Namespace" and the `nsdelegate` option).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use matchlock_proto::CpuLimit;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsmount, fsopen,
};

use crate::console;

const CONTROLLERS: [&str; 4] = ["cpu", "memory", "pids", "io"];

/// Levels beneath the group for executions: enough for a container engine, and a bound for
/// the recursion here.
const MAX_DEPTH: u32 = 32;

/// The group that holds the groups of all executions.
#[derive(Debug)]
pub struct Cgroups {
    directory: OwnedFd,
}

/// The group of one execution.
#[derive(Debug)]
pub(crate) struct Cgroup {
    directory: OwnedFd,
    parent: OwnedFd,
    name: String,
}

impl Cgroups {
    /// Mounts the hierarchy and sets up the group for executions.
    ///
    /// # Errors
    /// When the hierarchy cannot be mounted.
    pub fn mount() -> io::Result<Self> {
        let context = fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_flag(&context, "nsdelegate")?;
        fsconfig_create(&context)?;
        let root = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        Self::create(root.as_fd(), "exec")
    }

    /// Sets up the group `name` for executions beneath `parent`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(parent: BorrowedFd<'_>, name: &str) -> io::Result<Self> {
        delegate_controllers(parent);
        let directory = make(parent, name)?;
        delegate_controllers(directory.as_fd());
        write(directory.as_fd(), "cgroup.max.depth", &MAX_DEPTH.to_string())?;
        Ok(Self { directory })
    }

    /// Limits the CPU time of all executions together.
    ///
    /// # Errors
    /// When the limit cannot be set.
    pub fn limit(&self, limit: CpuLimit) -> io::Result<()> {
        let CpuLimit { quota_us, period_us } = limit;
        write(self.directory.as_fd(), "cpu.max", &format!("{quota_us} {period_us}"))
    }

    /// Limits the processes and threads of all executions together.
    ///
    /// # Errors
    /// When the limit cannot be set.
    pub fn limit_pids(&self, pids: u32) -> io::Result<()> {
        write(self.directory.as_fd(), "pids.max", &pids.to_string())
    }

    /// Makes a group for one execution.
    pub(crate) fn enter(&self, name: String) -> io::Result<Cgroup> {
        let directory = make(self.directory.as_fd(), &name)?;
        Ok(Cgroup { directory, parent: self.directory.try_clone()?, name })
    }

    /// Processes and threads of all executions; 0 if the kernel does not count them.
    pub(crate) fn tasks(&self) -> u64 {
        let mut text = [0; 32];
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let read = openat(&self.directory, "pids.current", flags, Mode::empty())
            .and_then(|file| rustix::io::read(&file, &mut text));
        let text = read.ok().and_then(|n| text.get(..n));
        let number = text.and_then(|text| std::str::from_utf8(text).ok()?.trim().parse().ok());
        number.unwrap_or(0)
    }

    /// Ends every process of every execution.
    pub(crate) fn kill_all(&self) -> io::Result<()> {
        write(self.directory.as_fd(), "cgroup.kill", "1")
    }
}

impl Cgroup {
    /// The directory, for clone3(2).
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Ends every process in the group and beneath it.
    pub(crate) fn kill(&self) -> io::Result<()> {
        write(self.as_fd(), "cgroup.kill", "1")
    }

    /// The processes in the group and beneath it, as the agent numbers them.
    pub(crate) fn processes(&self) -> io::Result<Vec<i32>> {
        let mut found = Vec::new();
        list_processes(self.as_fd(), &mut found).map(|()| found)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let parent = self.parent.as_fd();
        if unlinkat(parent, &self.name, AtFlags::REMOVEDIR).is_ok() {
            return;
        }
        // The execution made groups of its own.
        console::optional("remove nested control groups", remove_children(self.as_fd()));
        let removed = unlinkat(parent, &self.name, AtFlags::REMOVEDIR);
        console::optional("remove a control group", removed);
    }
}

fn list_processes(directory: BorrowedFd<'_>, found: &mut Vec<i32>) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat(directory, "cgroup.procs", flags, Mode::empty())?;
    let text = io::read_to_string(std::fs::File::from(file))?;
    found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for_each_child(directory, &mut |_, child| list_processes(child.as_fd(), found))
}

fn remove_children(directory: BorrowedFd<'_>) -> io::Result<()> {
    for_each_child(directory, &mut |name, child| {
        remove_children(child.as_fd())?;
        Ok(unlinkat(directory, name, AtFlags::REMOVEDIR)?)
    })
}

fn for_each_child(
    directory: BorrowedFd<'_>,
    act: &mut dyn FnMut(&CStr, OwnedFd) -> io::Result<()>,
) -> io::Result<()> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == FileType::Directory && name != c"." && name != c".." {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            act(name, openat(directory, name, flags, Mode::empty())?)?;
        }
    }
    Ok(())
}

/// Makes the controllers available to the groups beneath; each may be missing from the kernel.
///
/// What is needed shows when it is used: a limit that cannot be written is an error.
fn delegate_controllers(directory: BorrowedFd<'_>) {
    let enable = |text: &str| write(directory, "cgroup.subtree_control", text);
    let all: Vec<String> = CONTROLLERS.iter().map(|name| format!("+{name}")).collect();
    if enable(&all.join(" ")).is_err() {
        for name in &all {
            console::optional(&format!("enable controller {name}"), enable(name));
        }
    }
}

fn make(parent: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    match mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

fn write(directory: BorrowedFd<'_>, file: &str, text: &str) -> io::Result<()> {
    let fd = openat(directory, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    // The kernel takes the value of a control file in one write.
    rustix::io::write(&fd, text.as_bytes())?;
    Ok(())
}
