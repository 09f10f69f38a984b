//! Limits of the program's processes.

use matchlock_proto::{ExecFailure, Resource, Ulimit};
use rustix::process::{Resource as Limited, Rlimit, setrlimit};

use super::process::system;

/// Sets them for the calling process; raising one takes privileges that the program does not have.
pub(super) fn set(ulimits: &[Ulimit]) -> Result<(), ExecFailure> {
    for &Ulimit { resource, soft, hard } in ulimits {
        let limit = Rlimit { current: soft, maximum: hard };
        let failed = |error| system(&format!("set the limit {resource:?}"), error);
        setrlimit(limited(resource), limit).map_err(failed)?;
    }
    Ok(())
}

fn limited(resource: Resource) -> Limited {
    match resource {
        Resource::Core => Limited::Core,
        Resource::Cpu => Limited::Cpu,
        Resource::Data => Limited::Data,
        Resource::Fsize => Limited::Fsize,
        Resource::Locks => Limited::Locks,
        Resource::Memlock => Limited::Memlock,
        Resource::Msgqueue => Limited::Msgqueue,
        Resource::Nice => Limited::Nice,
        Resource::Nofile => Limited::Nofile,
        Resource::Nproc => Limited::Nproc,
        Resource::Rss => Limited::Rss,
        Resource::Rtprio => Limited::Rtprio,
        Resource::Rttime => Limited::Rttime,
        Resource::Sigpending => Limited::Sigpending,
        Resource::Stack => Limited::Stack,
    }
}
