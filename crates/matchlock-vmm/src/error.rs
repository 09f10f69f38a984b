//! Why a machine could not be started.

use std::io;
use std::path::PathBuf;

/// Why a machine could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmmError {
    /// A system call on the host failed.
    #[error("cannot {action}")]
    Host {
        /// What was attempted.
        action: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// No QEMU on `PATH`.
    #[error("QEMU was not found: there is no qemu-system-x86_64 on PATH")]
    QemuMissing,
    /// The QEMU that was asked for cannot be run.
    #[error("cannot run QEMU at {path}")]
    QemuUnusable {
        /// Where it was looked for.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The program does not say that it is QEMU.
    #[error("{path} is not QEMU: its --version says {said:?}")]
    NotQemu {
        /// The program.
        path: PathBuf,
        /// The first line that it printed.
        said: String,
    },
    /// QEMU is older than 7.2, whose microvm machine lacks what is needed.
    #[error("QEMU at {path} is version {major}.{minor}, 7.2 or newer is needed")]
    QemuTooOld {
        /// The program.
        path: PathBuf,
        /// Major version found.
        major: u32,
        /// Minor version found.
        minor: u32,
    },
    /// The machine has fewer places for devices.
    #[error(
        "the machine has room for {max} devices and would need {wanted} (random numbers, vsock, \
         network, file systems, disks)", max = crate::MAX_DEVICES
    )]
    TooManyDevices {
        /// Devices that the machine was to have.
        wanted: usize,
    },
    /// A disk that no machine can have.
    #[error("disk {index} of the machine {problem}")]
    Disk {
        /// Its place among the disks.
        index: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// KVM was demanded and does not run a guest.
    #[error("KVM was demanded and cannot be used: {reason}")]
    KvmUnusable {
        /// What is wrong with it.
        reason: String,
    },
}

impl VmmError {
    /// Wraps the cause of a failed host operation.
    pub(crate) fn host(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Host { action, source }
    }
}
