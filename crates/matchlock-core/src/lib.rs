//! The life of a sandbox: what it is made of, how it starts, what runs in it, how nothing stays.
//!
//! This is where the siblings meet: the VMM back end, the file server, the network and the guest
//! protocol. The crate neither prints nor reads the environment, and it knows no command line: the binary gives it
//! paths and artefacts, and shows its errors.
//!
//! ```text
//!   HostSetup ─► Launcher ─┐
//!                          ├─► launch ─► SandboxHandle ─► exec ─► Execution ─► ExitStatus
//!   SandboxSpec ───────────┘     │            │ orders
//!                                ▼            ▼
//!                     Supervisor: Prepared ─► Live ─► Ending
//! ```

#![forbid(unsafe_code)]

mod artefacts;
mod as_text;
pub mod audit;
mod boot;
pub mod build;
pub mod buildkit;
mod classified;
mod clock;
pub mod control;
mod descriptors;
mod disk;
mod error;
mod exec;
mod export;
mod files;
mod forward;
mod guest;
mod handle;
mod id;
pub mod images;
mod inquiry;
mod launcher;
pub mod log;
mod machine;
mod network;
mod observer;
mod phase;
mod prepared;
mod registry_dial;
pub mod service;
mod spec;
mod state;
mod supervisor;
#[cfg(test)]
mod testing;
mod values;
pub mod volume;

pub use artefacts::{Artefacts, DiskTemplate, GuestFiles, KernelSource};
pub use boot::BootTimes;
pub use classified::{Classified, ErrorKind, Hint};
pub use error::CoreError;
pub use exec::{ExecControl, ExecError, Execution, Output, StdinSender, Streams};
pub use export::{BlockingExport, Export, ExportError};
pub use files::FileError;
pub use forward::{Binding, InvalidPortForward, Listeners, PortForward, bind_address};
pub use handle::SandboxHandle;
pub use id::{InvalidId, SandboxId};
pub use launcher::{HostSetup, Launcher};
pub use matchlock_api as api;
pub use matchlock_build as dockerfile;
pub use matchlock_image as image;
pub use matchlock_intercept::hooks;
pub use matchlock_net as net;
pub use matchlock_policy as policy;
pub use matchlock_proto::{
    ExecFailure, ExecRequest, ExitStatus, FileEntry, Level, Limits, Resource, Stdin, Ulimit,
    WindowSize,
};
pub use matchlock_text as text;
pub use matchlock_text::DescribeChain;
pub use matchlock_vmm as vmm;
pub use matchlock_wire::io::Sender as InputSender;
pub use phase::{EndCause, Ending, Phase};
pub use prepared::KEPT_IMAGE;
pub use registry_dial::RegistryDial;
pub use spec::{
    Attachments, CommandSpec, ConfinementSpec, DiskSource, DiskSpec, ImageSpec, Lifetime,
    NetworkSpec, PrivateRule, SandboxSpec, SecretRule, SecretValues, StartSpec,
};
pub use state::{
    EndRecord, LifecycleRecord, Released, SandboxRecord, SandboxStatus, StateError, StateRoot,
    Swept,
};
pub use values::{
    Capabilities, Cpus, DiskSize, Hostname, InvalidConfig, MemorySize, MountPoint, Mtu,
    SandboxName, check_limits, host_cpus, host_memory_mib, ulimit, ulimit_text,
};
