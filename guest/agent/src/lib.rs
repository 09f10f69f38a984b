//! The guest agent: PID 1 of the micro-VM.
//!
//! It starts from an initramfs, listens on vsock, accepts the host only (CID 2) and takes its
//! configuration from the first request ([`matchlock_proto::Request::Boot`]). Then it runs programs,
//! each in a PID namespace, a mount namespace and a control group of its own.
//!
//! What it refuses to know: policy, images, the network beyond its addresses. What it must never do:
//! panic, wait for a program or for the host, or believe a process of the guest.
//!
//! To read it: [`server`] is the event loop, [`exec`] one execution, [`flow`] its streams without
//! I/O, `boot` the start of the machine, `sys` the only unsafe code.

#![cfg(target_os = "linux")]
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod authority;
pub mod boot;
pub mod cgroup;
pub mod confinement;
mod connection;
mod console;
pub mod exec;
pub mod export;
pub mod files;
pub mod flow;
mod forward;
pub mod inquiry;
mod pid1;
mod poller;
pub mod seccomp;
pub mod server;
mod session;
#[expect(unsafe_code, reason = "system calls without a safe wrapper")]
mod sys;

pub use pid1::run;

/// What every execution needs to know of the booted guest.
#[derive(Debug)]
pub struct Guest {
    /// Environment of every execution.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// What executions may do with the kernel.
    pub confinement: confinement::Confined,
    /// Limits of each program's processes.
    pub ulimits: Vec<matchlock_proto::Ulimit>,
    /// The writable layer, when it will be exported.
    pub export: Option<export::Layer>,
    /// Where executions are counted and limited.
    pub cgroups: cgroup::Cgroups,
}
