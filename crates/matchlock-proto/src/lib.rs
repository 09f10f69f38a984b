//! Messages between the host's supervisor and the guest's agent.
//!
//! The host dials, the guest listens: every connection is a vsock stream to [`AGENT_PORT`] that the
//! host opened, and it carries one [`Request`], sent as the first [`HostFrame`]. The two ends are
//! built from the same commit and the agent travels inside the binary, so versions cannot differ in
//! a healthy installation; a [`PROTOCOL_VERSION`] mismatch is refused and not negotiated.
//!
//! A connection for [`Request::Exec`] carries three byte streams beside its control messages. Each
//! has a credit window of its own ([`INITIAL_WINDOW`]), so neither end ever stops reading the
//! connection: a process that does not read its stdin delays no resize, signal or cancellation, and
//! a full stdout delays no stderr.
//!
//! This crate is sans-I/O: it knows no sockets, no runtime and no host paths. Everything that
//! [`Decoder`] returns is within the bounds that this file states; bytes from the other end are
//! never trusted before.

#![forbid(unsafe_code)]

mod boot;
mod codec;
mod confinement;
mod exec;
mod files;
pub mod list;
mod usage;

use std::time::Duration;

pub use boot::{
    BootConfig, BootReport, BootStep, CpuLimit, DiskMount, DiskPart, HostEntry, LowerLayer,
    NetworkConfig, Realtime, RootConfig, UpperLayer,
};
pub use codec::MAX_CONTROL;
pub use confinement::{Confinement, Level, Limits, Resource, Ulimit};
pub use exec::{
    AgentFrame, ExecFailure, ExecRequest, ExitStatus, HostFrame, Request, Stdin, WindowSize,
};
pub use files::{FileEntry, FileRequest};
pub use list::InvalidEntry;
pub use matchlock_wire::{
    Decoder, Flood, INITIAL_WINDOW, MAX_DATA, StreamId, WireError, WireMessage,
};
pub use usage::{Inquiry, MAX_ANSWER, MAX_COMMAND, MAX_USER, ProcessEntry, Usage};

/// The vsock port that the agent listens on; the host is the only peer it accepts (CID 2).
pub const AGENT_PORT: u32 = 5000;

/// Sent in [`BootConfig::version`]; the agent refuses any other.
pub const PROTOCOL_VERSION: u32 = 5;

/// After `SIGKILL`, how long the agent waits for processes to be gone before it writes disks out.
pub const KILL_WAIT: Duration = Duration::from_secs(2);

/// How long the host waits for the agent's answer beyond the time that programs have.
pub const ANSWER: Duration = Duration::from_secs(3);

const _: () = assert!(KILL_WAIT.as_millis() < ANSWER.as_millis(), "the agent is cut off");

/// `PATH` of a guest process that nobody gave another one.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
