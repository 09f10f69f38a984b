//! The flags that decide what programs of a sandbox may do with its kernel and take of it.

use clap::Args;

use crate::options::size::Bytes;

/// Capabilities, filters, limits. The words are those of Docker.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Confinement in the sandbox")]
pub(crate) struct ConfinementArgs {
    /// Give programs the whole kernel of the sandbox: all capabilities, no filter of system calls, nothing masked
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = false, hide_default_value = true, hide_possible_values = true,
          value_name = "BOOL", action = clap::ArgAction::Set)]
    pub(crate) privileged: bool,

    /// Leave programs what plain ones need: no namespaces, no debuggers, fewer capabilities
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = false, hide_default_value = true, hide_possible_values = true,
          value_name = "BOOL", action = clap::ArgAction::Set)]
    pub(crate) hardened: bool,

    /// Capability to add, such as NET_ADMIN, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_add: Vec<String>,

    /// Capability to drop, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_drop: Vec<String>,

    /// no-new-privileges=false lets sudo and su work; seccomp=unconfined leaves out the filter of system calls
    #[arg(long, value_name = "OPTION")]
    pub(crate) security_opt: Vec<String>,

    /// Limit of each process, such as nofile=1024:2048 or core=0; -1 is no limit
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<String>,

    /// Most processes and threads at one time; -1 is no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) pids_limit: Option<i64>,

    /// Size of /dev/shm in bytes, or as 64m, 1g [default: half of the memory]
    #[arg(long, value_name = "SIZE")]
    pub(crate) shm_size: Option<Bytes>,

    /// Run the command under an init that reaps orphans, as is always done
    #[arg(long)]
    pub(crate) init: bool,
}
