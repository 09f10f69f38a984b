//! The start of the guest.
//!
//! Before the host's first connection only what a configuration needs; the rest when it has come.
//! Every step is required, and then its failure is told to the host and ends the machine, or
//! optional, and then its failure is a line on the console. Nothing is swallowed.

mod disks;
mod identity;
mod mounts;
mod netlink;
mod network;
mod root;
mod sysctl;
mod trust;

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use matchlock_proto::{BootConfig, BootReport, BootStep, ExecFailure, PROTOCOL_VERSION, Realtime};
use rustix::fs::{Mode, OFlags, open};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use crate::authority::Authority;
use crate::cgroup::Cgroups;
use crate::export::Layer;
use crate::{Guest, console, sys};

pub(crate) use disks::unmount_all;
pub use identity::{hosts, resolv_conf};
pub use mounts::early;

/// Parameter of the kernel command line with which the host tests whether a VM runs at all.
const PROBE: &str = "matchlock.probe=";

/// How far a clock may be from the host's before it is set: programs see the step.
const CLOCK_APART: Duration = Duration::from_secs(1);

/// When the phases of the start were reached, in microseconds since the kernel's.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    agent_start: u64,
}

impl Clock {
    /// The agent begins now.
    #[must_use]
    pub fn start() -> Self {
        Self { agent_start: now_us() }
    }
}

/// A required step has failed.
#[derive(Debug)]
pub struct StepFailed {
    step: BootStep,
    message: String,
}

impl From<StepFailed> for ExecFailure {
    fn from(StepFailed { step, message }: StepFailed) -> Self {
        Self::Boot { step, message }
    }
}

/// Turns an error of a required step into one that names it.
trait Required<T> {
    /// `what` says what was attempted.
    fn required(self, step: BootStep, what: impl fmt::Display) -> Result<T, StepFailed>;
}

impl<T, E: fmt::Display> Required<T> for Result<T, E> {
    fn required(self, step: BootStep, what: impl fmt::Display) -> Result<T, StepFailed> {
        self.map_err(|error| StepFailed { step, message: format!("{what}: {error}") })
    }
}

/// The value of [`PROBE`], when the host has set it.
///
/// # Errors
/// When `/proc` is not there.
pub fn probe_token() -> io::Result<Option<String>> {
    let cmdline = std::fs::read_to_string(mounts::EARLY_PROC.to_owned() + "/cmdline")?;
    Ok(cmdline.split_whitespace().find_map(|word| word.strip_prefix(PROBE)).map(str::to_owned))
}

/// Does what needs no configuration, while the host is still dialling.
///
/// # Errors
/// The first required step that failed; the host is told when it asks for the boot.
pub fn prepare() -> Result<Cgroups, StepFailed> {
    network::loopback()?;
    Cgroups::mount().required(BootStep::Cgroups, "control groups")
}

/// Sets the guest up as the host wants it.
///
/// # Errors
/// The first required step that failed.
pub fn boot(
    config: BootConfig,
    clock: &mut Clock,
    prepared: Result<Cgroups, StepFailed>,
) -> Result<(Guest, BootReport), ExecFailure> {
    let config_us = now_us();
    if config.version != PROTOCOL_VERSION {
        return Err(ExecFailure::Version { agent: PROTOCOL_VERSION, host: config.version });
    }
    console::optional("set the clock", set_clock(config.realtime));
    console::optional("credit entropy", credit_entropy(&config.entropy));
    let level = config.confinement.level;
    sysctl::set(level);
    let upper = root::assemble(&config.root)?;
    root::switch()?;
    let root_us = now_us();
    mounts::complete(level, config.limits.shm_size)?;
    disks::mount_all(&config.disks)?;
    if let Some(path) = &config.working_dir {
        // A program that shall start there is told why it cannot.
        console::optional("create the working directory", working_directory(path));
    }
    identity::write(&config)?;
    if let Some(network) = &config.network {
        network::configure(network)?;
    }
    // The sandbox's own variables come after these and win.
    let authority = config.ca_pem.map(Authority::new).transpose();
    let authority = authority.required(BootStep::Trust, "the certificate of the authority")?;
    let java_home = config.env.iter().rev().find(|(name, _)| name == b"JAVA_HOME");
    let java_home = java_home.map(|(_, home)| &**home);
    let trusted = authority.as_ref().map(|authority| trust::install(authority, java_home));
    let mut env = trusted.transpose()?.unwrap_or_default();
    env.extend(config.env);
    let cgroups = prepared?;
    if let Some(limit) = config.cpu_limit {
        cgroups.limit(limit).required(BootStep::Cgroups, "limit the CPU time")?;
    }
    if let Some(pids) = config.limits.pids {
        cgroups.limit_pids(pids).required(BootStep::Cgroups, "limit the processes")?;
    }
    // Last, when the agent writes nothing any more.
    let export = upper.map(|upper| Layer::new(upper, authority)).transpose();
    let export = export.required(BootStep::UpperLayer, "look at the writable layer")?;
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let report = BootReport {
        agent_start_us: clock.agent_start,
        config_us,
        root_us,
        ready_us: now_us(),
        kernel,
    };
    let (confinement, ulimits) = (config.confinement.into(), config.limits.ulimits);
    Ok((Guest { env, confinement, ulimits, export, cgroups }, report))
}

/// Its owner is root and its mode 0755, with all that were missing above it, as with container engines.
fn working_directory(path: &[u8]) -> io::Result<()> {
    std::fs::create_dir_all(OsStr::from_bytes(path))
}

/// Sets the clock if it is too far from that of the host.
///
/// # Errors
/// As clock_settime(2).
pub fn correct_clock(now: Realtime) -> io::Result<()> {
    let own = clock_gettime(ClockId::Realtime);
    let own = Duration::new(
        u64::try_from(own.tv_sec).unwrap_or_default(),
        u32::try_from(own.tv_nsec).unwrap_or_default(),
    );
    let apart = own.abs_diff(Duration::new(now.seconds, now.nanoseconds));
    if apart > CLOCK_APART { set_clock(now) } else { Ok(()) }
}

fn set_clock(Realtime { seconds, nanoseconds }: Realtime) -> io::Result<()> {
    let seconds = i64::try_from(seconds).map_err(io::Error::other)?;
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Ok(clock_settime(ClockId::Realtime, time)?)
}

fn credit_entropy(bytes: &[u8; 32]) -> io::Result<()> {
    let random = open(
        mounts::EARLY_DEV.to_owned() + "/urandom",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    sys::add_entropy(random, bytes)
}

fn now_us() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or_default() * 1_000_000
        + u64::try_from(now.tv_nsec).unwrap_or_default() / 1_000
}
