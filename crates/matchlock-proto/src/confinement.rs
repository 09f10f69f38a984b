//! What the programs of a guest may do with its kernel and take of it: the same for every execution.

use serde::{Deserialize, Serialize};

/// What programs may do with the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// What nothing else here says.
    pub level: Level,
    /// The bits of capabilities(7) that programs can have.
    pub capabilities: u64,
    /// No program gains privileges by being executed (`PR_SET_NO_NEW_PRIVS`).
    pub no_new_privs: bool,
    /// System calls are filtered, as `level` and `capabilities` say.
    pub seccomp: bool,
}

/// How much of the kernel programs have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// All of it: nothing is masked, nothing is read-only.
    Privileged,
    /// What programs need, user namespaces included.
    #[default]
    Default,
    /// What a plain program needs: no namespaces either.
    Hardened,
}

/// What programs may take. Nothing here is the default of the guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Limits of each process (setrlimit(2)), later ones win.
    pub ulimits: Vec<Ulimit>,
    /// Processes and threads of all executions together, with one of the agent's for each execution.
    pub pids: Option<u32>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: Option<u64>,
}

/// One limit of a process; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Of what.
    pub resource: Resource,
    /// In force.
    pub soft: Option<u64>,
    /// Up to where a program may raise it.
    pub hard: Option<u64>,
}

/// What is limited, as getrlimit(2) counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are those of getrlimit(2)")]
pub enum Resource {
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}
