//! Errors of the sandbox's life.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use matchlock_net::{AuditLost, NetError, NotIntercepting};
use matchlock_proto::ExecFailure;
use matchlock_vmm::VmmError;

use crate::audit::OpenError;
use crate::classified::{Classified, ErrorKind, Hint};
use crate::state::StateError;
use crate::values::InvalidConfig;

/// Why a sandbox could not be made, started or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoreError {
    /// A value that no sandbox can have.
    #[error("invalid configuration")]
    Config(#[from] InvalidConfig),
    /// A system call on the host failed.
    #[error("cannot {action}")]
    Host {
        /// What was attempted.
        action: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// This process may not open enough files.
    #[error("this process may have {limit} files open, and a sandbox needs {needed}")]
    OpenFiles {
        /// Its limit.
        limit: u64,
        /// The least that is needed.
        needed: u64,
    },
    /// An operation on a file of ours failed.
    #[error("cannot {action} {path}")]
    File {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The kernel is not one that can be booted.
    #[error("guest kernel {origin}: {problem}")]
    Kernel {
        /// Where it comes from.
        origin: String,
        /// What is wrong with it.
        problem: String,
    },
    /// This binary carries no guest.
    #[error("this matchlock was built without its guest agent")]
    NoGuest,
    /// There is no virtual machine monitor that could be used.
    #[error(transparent)]
    Monitor(VmmError),
    /// The virtual machine monitor does not start the machine.
    #[error("cannot start the virtual machine")]
    Vmm(#[source] VmmError),
    /// The sandbox was ended before it was up, or is no more.
    #[error("the sandbox was ended")]
    CalledOff,
    /// A thread of this process has panicked; it has said why.
    #[error("a part of matchlock has failed: {0}")]
    Thread(String),
    /// The host's system directories cannot be served.
    #[error("cannot serve the image \"host\"")]
    HostImage(#[source] matchlock_fs::HostImageError),
    /// The image of a kept sandbox could not be kept, too.
    #[error("cannot keep the image of the sandbox")]
    Image(#[source] matchlock_image::store::StoreError),
    /// The guest ended or stayed silent before it was ready.
    #[error("the guest did not start: {problem}{}", console_excerpt(.console))]
    Boot {
        /// What was seen.
        problem: String,
        /// The end of its console.
        console: String,
    },
    /// The state of the sandboxes.
    #[error(transparent)]
    State(#[from] StateError),
    /// The audit trail cannot be opened.
    #[error(transparent)]
    AuditLog(#[from] OpenError),
    /// The audit trail does not take records, so nothing that it would tell of may happen.
    #[error("the audit trail cannot be written")]
    Audit(#[from] AuditLost),
    /// The network of the sandbox cannot be started.
    #[error("cannot start the network")]
    Network(#[source] NetError),
    /// The network cannot take on that policy.
    #[error("cannot change the network's policy")]
    Policy(#[source] NotIntercepting),
    /// A port of the host cannot be had.
    #[error("start port-forward listener: {address}")]
    Listen {
        /// What was to be bound.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The agent refused the boot configuration.
    #[error("the guest could not set itself up")]
    GuestSetup(#[source] ExecFailure),
}

impl Classified for CoreError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(error) => error.kind(),
            Self::Host { source, .. } | Self::File { source, .. } | Self::Listen { source, .. } => {
                ErrorKind::of_io(source)
            }
            Self::Kernel { .. } | Self::Policy(_) => ErrorKind::InvalidArgument,
            Self::NoGuest | Self::HostImage(_) | Self::OpenFiles { .. } => ErrorKind::Unavailable,
            Self::Vmm(error) | Self::Monitor(error) => error.kind(),
            Self::CalledOff => ErrorKind::Cancelled,
            Self::Thread(_) => ErrorKind::Internal,
            Self::Boot { .. } | Self::GuestSetup(_) => ErrorKind::Guest,
            Self::AuditLog(error) => error.kind(),
            Self::State(error) => error.kind(),
            Self::Image(error) => error.kind(),
            Self::Audit(_) | Self::Network(_) => ErrorKind::Io,
        }
    }

    fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::Config(error) => return error.hint(),
            Self::Vmm(error) | Self::Monitor(error) => return error.hint(),
            Self::AuditLog(error) => return error.hint(),
            Self::State(error) => return error.hint(),
            Self::Image(error) => return error.hint(),
            Self::Kernel { .. } => Hint::OwnKernel,
            Self::OpenFiles { .. } => {
                Hint::Text("raise the limit of open files in this shell: `ulimit -n 1024`")
            }
            Self::NoGuest => Hint::Text("build it with `cargo xtask build`"),
            Self::Boot { .. } => Hint::CheckHost,
            Self::File { .. } => Hint::Text("matchlock keeps its state below $HOME/.matchlock"),
            Self::Host { .. }
            | Self::CalledOff
            | Self::Thread(_)
            | Self::HostImage(_)
            | Self::Audit(_)
            | Self::Network(_)
            | Self::Policy(_)
            | Self::Listen { .. }
            | Self::GuestSetup(_) => return None,
        })
    }
}

impl Classified for VmmError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Host { .. } => ErrorKind::Io,
            Self::TooManyDevices { .. } | Self::Disk { .. } => ErrorKind::InvalidArgument,
            Self::QemuMissing
            | Self::QemuUnusable { .. }
            | Self::NotQemu { .. }
            | Self::QemuTooOld { .. }
            | Self::KvmUnusable { .. } => ErrorKind::Unavailable,
            _ => ErrorKind::Vmm,
        }
    }

    fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::QemuMissing | Self::QemuTooOld { .. } => Hint::InstallQemu,
            Self::QemuUnusable { .. } | Self::NotQemu { .. } => Hint::FindQemu,
            Self::KvmUnusable { .. } => Hint::ChooseAccelerator,
            Self::TooManyDevices { .. } => Hint::Text("attach fewer disks"),
            _ => return None,
        })
    }
}

impl CoreError {
    /// For the thread of a step that has panicked.
    #[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
    pub(crate) fn thread(error: tokio::task::JoinError) -> Self {
        Self::Thread(error.to_string())
    }

    /// Wraps the cause of a failed host operation.
    pub(crate) fn host(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Host { action, source }
    }

    /// Wraps the cause of a failed operation on `path`.
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}

fn console_excerpt(console: &str) -> String {
    let lines: Vec<&str> = console.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(5)..).unwrap_or_default();
    if last.is_empty() {
        return String::new();
    }
    format!("; the end of its console: {}", last.join(" | "))
}
