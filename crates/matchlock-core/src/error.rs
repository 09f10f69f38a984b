//! Errors of the sandbox's life, and how a chain of them is shown.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use matchlock_net::{AuditLost, NetError};
use matchlock_proto::ExecFailure;
use matchlock_vmm::VmmError;

use crate::audit::OpenError;
use crate::config::InvalidConfig;

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
    /// The virtual machine monitor.
    #[error("cannot start the virtual machine")]
    Vmm(#[source] VmmError),
    /// The host's system directories cannot be served.
    #[error("cannot serve the image \"host\"")]
    HostImage(#[source] matchlock_fs::HostImageError),
    /// The guest ended or stayed silent before it was ready.
    #[error("the guest did not start: {problem}{}", console_excerpt(.console))]
    Boot {
        /// What was seen.
        problem: String,
        /// The end of its console.
        console: String,
    },
    /// The audit trail cannot be opened.
    #[error(transparent)]
    AuditLog(#[from] OpenError),
    /// The audit trail does not take records, so nothing that it would tell of may happen.
    #[error("the audit trail cannot be written")]
    Audit(#[from] AuditLost),
    /// The network of the sandbox cannot be started.
    #[error("cannot start the network")]
    Network(#[source] NetError),
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

impl CoreError {
    /// The next step for the person who sees the error, if there is a usual one.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Config(error) => error.hint(),
            Self::Vmm(error) => error.hint(),
            Self::Kernel { .. } => {
                Some("unset MATCHLOCK_KERNEL and --kernel to use the kernel that matchlock carries")
            }
            Self::OpenFiles { .. } => {
                Some("raise the limit of open files in this shell: `ulimit -n 1024`")
            }
            Self::NoGuest => Some("build it with `cargo xtask build`"),
            Self::Boot { .. } => Some("run `matchlock diagnose` to check this machine"),
            Self::File { .. } => Some("matchlock keeps its state below $HOME/.matchlock"),
            Self::AuditLog(OpenError::Broken { .. }) => {
                Some("name a new file; `matchlock audit verify FILE` checks an old one")
            }
            Self::Host { .. }
            | Self::HostImage(_)
            | Self::AuditLog(_)
            | Self::Audit(_)
            | Self::Network(_)
            | Self::Listen { .. }
            | Self::GuestSetup(_) => None,
        }
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

/// Shows an error with all its causes on one line.
#[derive(Debug)]
pub struct DescribeChain<'a>(pub &'a dyn Error);

impl fmt::Display for DescribeChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
