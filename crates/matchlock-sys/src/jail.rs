//! What a child may still do: a jail that is built before `fork` and entered before `execve`.

mod filter;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope, path_beneath_rules,
};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};
use seccompiler::BpfProgram;

/// The newest Landlock whose rights are known here. A kernel with an older one enforces what it knows.
const NEWEST: ABI = ABI::V6;

/// `LANDLOCK_CREATE_RULESET_VERSION` of linux/landlock.h.
const CREATE_RULESET_VERSION: u32 = 1;

/// What a jailed program may use. Everything else is refused: other files, TCP, sockets of its own,
/// processes outside, privileges.
#[derive(Debug, Default)]
pub struct Permits {
    /// Files and directories that it reads and executes, with all that is below them.
    pub read: Vec<PathBuf>,
    /// Devices that it opens for reading, writing and their controls.
    pub devices: Vec<PathBuf>,
    /// Descriptors that it may open beside those that it inherits.
    pub open_files: u64,
    /// Offset behind which it may write to no file.
    pub file_size: u64,
}

/// A jail that a child can be started in: see [`crate::spawn_jailed`].
#[derive(Debug)]
pub struct Jail {
    /// `None` where the kernel has no Landlock.
    ruleset: Option<OwnedFd>,
    filters: [BpfProgram; 2],
    limits: [(Resource, Rlimit); 4],
}

impl Jail {
    /// Prepares everything that takes memory or looks at files. Paths that do not exist permit nothing.
    ///
    /// # Errors
    /// When the kernel refuses a ruleset that it says it knows.
    pub fn new(permits: &Permits) -> io::Result<Self> {
        let filters = filter::programs()?;
        let ruleset = ruleset(permits).map_err(io::Error::other)?;
        let limit = |resource, wanted: u64| {
            let most = getrlimit(resource).maximum.map_or(wanted, |most| most.min(wanted));
            (resource, Rlimit { current: Some(most), maximum: Some(most) })
        };
        let limits = [
            limit(Resource::Core, 0),
            limit(Resource::Memlock, 0),
            limit(Resource::Nofile, permits.open_files),
            limit(Resource::Fsize, permits.file_size),
        ];
        Ok(Self { ruleset, filters, limits })
    }

    /// Puts the calling thread in; there is no way out, also not by `execve`.
    ///
    /// It runs between `fork` and `execve`: plain system calls, no allocation and no lock.
    pub(crate) fn enter(&self) -> io::Result<()> {
        for (resource, limit) in &self.limits {
            setrlimit(*resource, *limit)?;
        }
        set_no_new_privs(true)?;
        drop_capabilities()?;
        if let Some(ruleset) = &self.ruleset {
            restrict(ruleset)?;
        }
        for filter in &self.filters {
            seccompiler::apply_filter(filter).map_err(|error| match error {
                seccompiler::Error::Prctl(source) | seccompiler::Error::Seccomp(source) => source,
                _ => Errno::INVAL.into(),
            })?;
        }
        Ok(())
    }
}

/// Version of the kernel's Landlock; `None` when it has none, or it is off.
#[must_use]
pub fn landlock_version() -> Option<u32> {
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: with this flag the call takes no attribute, and gives a number back.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, CREATE_RULESET_VERSION)
    };
    u32::try_from(version).ok().filter(|&version| version > 0)
}

fn ruleset(permits: &Permits) -> Result<Option<OwnedFd>, RulesetError> {
    let read = AccessFs::from_read(NEWEST);
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    let created = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rules(path_beneath_rules(&permits.read, read))?
        .add_rules(path_beneath_rules(&permits.devices, device))?;
    Ok(created.into())
}

fn restrict(ruleset: &OwnedFd) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the call takes no memory.
    let refused =
        unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0_u32) };
    if refused == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A program of root's has none either: it neither has them nor can an `execve` bring them back.
fn drop_capabilities() -> io::Result<()> {
    for capability in CapabilitySet::all().iter() {
        match remove_capability_from_bounding_set(capability) {
            // Not root, who has none to lose; or one that this kernel does not know.
            Ok(()) | Err(Errno::PERM | Errno::INVAL) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    match clear_ambient_capability_set() {
        Ok(()) | Err(Errno::INVAL) => {}
        Err(errno) => return Err(errno.into()),
    }
    let none = CapabilitySet::empty();
    Ok(set_capabilities(
        None,
        CapabilitySets { effective: none, permitted: none, inheritable: none },
    )?)
}
