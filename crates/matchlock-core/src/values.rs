//! The values that a sandbox is described by. Each is checked once, when it is made.

mod capabilities;
mod invalid;
mod names;
mod sizes;
mod ulimit;

pub use capabilities::Capabilities;
pub use invalid::InvalidConfig;
pub use names::{Hostname, MountPoint, SandboxName};
pub use sizes::{Cpus, DiskSize, MemorySize, Mtu, host_cpus, host_memory_mib};
pub use ulimit::{check_limits, ulimit, ulimit_text};
