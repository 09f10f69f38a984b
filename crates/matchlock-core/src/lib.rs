//! The life of a sandbox: what it is made of, how it starts, what runs in it, how nothing stays.
//!
//! This is where the siblings meet: the VMM back end, the file server, the network and the guest
//! protocol. The crate neither prints nor reads the environment, and it knows no command line: the binary gives it
//! paths and artefacts, and shows its errors.
//!
//! ```text
//!   SandboxConfig ──┐
//!   Artefacts ──────┼─► Sandbox::start ─► Sandbox ─► exec ─► Execution ─► ExitStatus
//!   Vmm, StateRoot ─┘        │               │
//!                            └── any error ──┴─► stop / drop: VMM ended, directory removed
//! ```

#![forbid(unsafe_code)]

mod artefacts;
pub mod audit;
pub mod build;
pub mod buildkit;
mod config;
mod descriptors;
mod disk;
mod error;
mod exec;
mod export;
mod forward;
mod id;
pub mod images;
mod network;
mod registry_dial;
mod sandbox;
mod state;
#[cfg(test)]
mod testing;
pub mod volume;

pub use artefacts::{Artefacts, DiskTemplate, GuestFiles, KernelSource};
pub use config::{
    Cpus, DiskSize, ExtraDisk, Hostname, Image, InvalidConfig, MemorySize, MountPoint,
    SandboxConfig, host_cpus, host_memory_mib,
};
pub use error::{CoreError, DescribeChain};
pub use exec::{ExecControl, ExecError, Execution, Output, StdinSender, Streams};
pub use export::{BlockingExport, Export, ExportError};
pub use forward::{Binding, InvalidPortForward, Listeners, PortForward, Published};
pub use id::SandboxId;
pub use matchlock_build as dockerfile;
pub use matchlock_image as image;
pub use matchlock_intercept::hooks;
pub use matchlock_net as net;
pub use matchlock_policy as policy;
pub use matchlock_proto::{ExecFailure, ExecRequest, ExitStatus, Stdin, WindowSize};
pub use matchlock_text as text;
pub use matchlock_vmm as vmm;
pub use network::{Mtu, NetworkSettings};
pub use registry_dial::RegistryDial;
pub use sandbox::{BootTimes, Sandbox};
pub use state::{StateRoot, Swept};
