//! Virtual machine monitors behind one trait, and the vhost-user devices that end in our process.
//!
//! A back end takes a plain [`VmSpec`] and gives a running [`Vm`]. It knows no images, no policy and
//! no sandboxes: every device whose bytes carry policy (vsock, file system) ends in the process that
//! called [`Vmm::start`], and the monitor itself only runs vCPUs, memory and raw disks.
//!
//! Guest to host trust: the host dials, the guest never does. [`Vm::connect`] opens a stream to a
//! port of the guest; a connection that the guest opens is refused by the vsock device itself.

#![forbid(unsafe_code)]

mod accel;
mod cache;
mod console;
mod error;
mod fake;
mod qemu;
pub mod vhost_user;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use accel::{
    Accelerator, AcceleratorChoice, AcceleratorRequest, ProofKit, UnknownAccelerator, choose,
};
pub use error::VmmError;
pub use fake::{Fake, Seen};
pub use matchlock_sys::landlock_version;
pub use qemu::{Qemu, QemuBinary};
pub use vhost_user::fs::FuseMessage;

/// Everything a back end needs to know of a virtual machine.
#[derive(Debug)]
pub struct VmSpec {
    /// Shown in process listings; `[a-z0-9-]+`.
    pub name: String,
    /// Uncompressed kernel: an ELF `vmlinux` with a PVH entry note. Usually a sealed memfd.
    pub kernel: File,
    /// Initial RAM file system as a cpio archive.
    pub initramfs: File,
    /// Kernel command line beyond what the back end itself needs.
    pub cmdline: String,
    /// Number of virtual CPUs, at least 1.
    pub vcpus: u8,
    /// Guest memory in MiB.
    pub memory_mib: u32,
    /// Virtio block devices, in the order in which the guest numbers them.
    pub disks: Vec<Disk>,
    /// virtio-fs devices.
    pub filesystems: Vec<FsDevice>,
    /// The network device; a machine without one reaches nothing.
    pub nic: Option<Nic>,
    /// Is given all that the guest writes to its console.
    pub console: Option<ConsoleSink>,
}

/// Takes what a guest writes to its console, piece by piece, on a thread of the machine's. It must not wait:
/// the guest waits with it. It is dropped at the end of the console.
pub struct ConsoleSink(Box<TakePiece>);

type TakePiece = dyn FnMut(&[u8]) + Send + Sync;

impl ConsoleSink {
    /// Calls `take` with each piece.
    pub fn new(take: impl FnMut(&[u8]) + Send + Sync + 'static) -> Self {
        Self(Box::new(take))
    }

    /// Gives it a piece.
    pub(crate) fn put(&mut self, piece: &[u8]) {
        (self.0)(piece);
    }
}

impl std::fmt::Debug for ConsoleSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConsoleSink")
    }
}

/// Virtio devices of any kind that a machine can have: the [`OWN_DEVICES`] and those of its [`VmSpec`].
pub const MAX_DEVICES: usize = 8;

/// Devices that every machine has: its random number generator and vsock.
pub const OWN_DEVICES: usize = 2;

/// Unit in which a virtio block device counts, in bytes (virtio 1.2, section 5.2.4).
pub const SECTOR: u64 = 512;

/// A virtio block device.
#[derive(Debug)]
pub struct Disk {
    /// The bytes.
    pub source: DiskSource,
    /// Refuse writes.
    pub read_only: bool,
    /// Its content ends with the machine: flushes of the guest need not reach the host's disk.
    pub ephemeral: bool,
}

/// Where the bytes of a disk are. A file may have no name in the host's file system any more; that
/// of a read-only disk must be open for reading only.
#[derive(Debug)]
pub enum DiskSource {
    /// In one file.
    File(File),
    /// In several, one behind the other. With each comes how many of its bytes count, a multiple of
    /// [`SECTOR`] and not 0. At most [`DiskSource::MAX_PARTS`]. A flush reaches all of them; what the
    /// guest discards stays where it is.
    Concatenated(Vec<(File, u64)>),
}

impl DiskSource {
    /// Most files of one disk. QEMU holds each twice, and has 1024 descriptors at the usual limit.
    pub const MAX_PARTS: usize = 480;
}

/// A virtio-fs device (virtio 1.2, section 5.11).
#[derive(Debug)]
pub struct FsDevice {
    /// Mount tag, at most 36 bytes.
    pub tag: String,
    /// Answers the guest's FUSE messages.
    pub handler: Arc<dyn FuseHandler>,
}

/// A virtio-net device (virtio 1.2, section 5.1) without offloads.
#[derive(Debug)]
pub struct Nic {
    /// The monitor's end of a Unix stream socket that carries Ethernet frames, each with its length
    /// before it as a big-endian `u32`. The caller keeps the other end.
    pub socket: OwnedFd,
    /// Address of the guest's interface.
    pub mac: [u8; 6],
    /// Largest packet in bytes that the device announces (`VIRTIO_NET_F_MTU`), from 68 to 65535.
    pub mtu: u16,
}

/// Answers the FUSE messages of a virtio-fs device.
pub trait FuseHandler: std::fmt::Debug + Send + Sync + 'static {
    /// Takes one message in and returns soon: no other message of the device is taken in meanwhile. The
    /// answer may come here or later, from any thread and in any order ([`FuseMessage::answer`]).
    fn submit(&self, message: FuseMessage);
}

/// A virtual machine monitor on this host, before it is known what it runs guests on.
pub trait Backend: std::fmt::Debug + Send + Sync {
    /// A text that changes when the monitor does.
    fn fingerprint(&self) -> String;

    /// Begins to boot a guest without devices, which shows that `accelerator` runs an ordinary guest. The
    /// agent in `initramfs` answers on the console.
    ///
    /// # Errors
    /// [`VmmError`] when the monitor cannot be started.
    fn prove(
        &self,
        accelerator: Accelerator,
        kernel: &File,
        initramfs: &File,
    ) -> Result<Box<dyn Proof>, VmmError>;

    /// The monitor, running its machines on `accelerator`.
    fn on(&self, accelerator: Accelerator) -> Arc<dyn Vmm>;
}

/// A guest that boots to show that it can. Dropping it ends it.
pub trait Proof: std::fmt::Debug {
    /// Waits for so long until it has answered, or has ended without an answer, which is the reason;
    /// `None`: neither.
    fn wait(&self, limit: Duration) -> Option<Result<(), String>>;

    /// Ends it. Returns the reason why it has not answered, as far as the monitor knows it.
    fn give_up(self: Box<Self>) -> String;
}

/// Told once how a connection went. It is dropped untold when the machine ends before that.
pub struct Answered(Box<dyn FnOnce(io::Result<()>) + Send>);

impl Answered {
    /// `tell` runs on a thread of the machine's, which it must not hold up.
    pub fn new(tell: impl FnOnce(io::Result<()>) + Send + 'static) -> Self {
        Self(Box::new(tell))
    }

    /// Tells it.
    pub(crate) fn tell(self, result: io::Result<()>) {
        (self.0)(result);
    }
}

impl std::fmt::Debug for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answered")
    }
}

/// A virtual machine monitor.
pub trait Vmm: std::fmt::Debug + Send + Sync {
    /// Starts a machine.
    ///
    /// # Errors
    /// [`VmmError`] when the monitor cannot be run or refuses the description.
    fn start(&self, spec: VmSpec) -> Result<Box<dyn Vm>, VmmError>;
}

/// A running virtual machine. Dropping it ends the machine and waits for its process.
pub trait Vm: std::fmt::Debug + Send + Sync {
    /// Begins to open a byte stream to a vsock port of the guest, and returns at once. The stream can
    /// be used when `answered` has been told that the guest took it; dropping it before cancels.
    ///
    /// # Errors
    /// `BrokenPipe` when the machine has ended. What `answered` is told may be that, too, or
    /// `ConnectionRefused` when nothing listens there.
    fn dial(&self, port: u32, answered: Answered) -> io::Result<UnixStream>;

    /// Opens a byte stream to a vsock port of the guest, which may still be booting, and waits for it.
    ///
    /// # Errors
    /// `ConnectionRefused` when nothing listens there, `TimedOut` at the deadline (the guest's
    /// driver may not be up yet), `BrokenPipe` when the machine has ended.
    fn connect(&self, port: u32, deadline: Instant) -> io::Result<UnixStream>;

    /// Waits until the machine has ended by itself or by [`Vm::kill`], at most until the deadline;
    /// `None` is the deadline.
    fn wait(&self, timeout: Duration) -> Option<VmExit>;

    /// Ends the machine at once. Harmless when it has ended.
    fn kill(&self);

    /// The last lines of the guest's console, with control characters escaped.
    fn console_tail(&self) -> String;

    /// The first operation of a disk that failed on the host, if one did.
    fn disk_fault(&self) -> Option<DiskFault> {
        None
    }

    /// Process id of the monitor, when it is a process.
    fn pid(&self) -> Option<u32>;
}

/// An operation of a disk that failed on the host. The guest has seen an I/O error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the host could not {} a disk of the sandbox: {reason}; programs in it got I/O errors",
    if *is_write { "write" } else { "read" }
)]
pub struct DiskFault {
    /// It was a write (or a flush), otherwise a read.
    pub is_write: bool,
    /// The host's file system has no space left.
    pub is_full: bool,
    /// In the host's words.
    pub reason: String,
}

impl DiskFault {
    /// The next step for the person who sees the error, if there is a usual one.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        self.is_full.then_some("free space on the host's file system that holds the disk")
    }
}

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmExit {
    /// The monitor ended without an error of its own.
    pub clean: bool,
    /// What the monitor said on its standard error, with control characters escaped.
    pub diagnostics: String,
}
