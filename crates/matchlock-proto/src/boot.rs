//! What the guest is told about itself, once, over the first connection.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::confinement::{Confinement, Limits};

/// The wall clock of the host at sending, since the Unix epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Realtime {
    /// Whole seconds.
    pub seconds: u64,
    /// What is beyond them, less than a second.
    pub nanoseconds: u32,
}

/// The payload of [`crate::Request::Boot`].
///
/// It travels over vsock and not on the kernel command line, so that nothing in it can inject a
/// kernel argument and its length is not bounded by one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootConfig {
    /// [`crate::PROTOCOL_VERSION`] of the sender.
    pub version: u32,
    /// Host name of the guest; the host has validated it (RFC 1123 label, at most 63 bytes).
    pub hostname: String,
    /// The host's clock.
    pub realtime: Realtime,
    /// Fresh random bytes, credited to the guest's entropy pool.
    pub entropy: [u8; 32],
    /// The root file system.
    pub root: RootConfig,
    /// File systems to mount in it, in this order.
    pub disks: Vec<DiskMount>,
    /// Absolute path of a directory to make in it, with those above it, where nothing is.
    pub working_dir: Option<Vec<u8>>,
    /// Lines for `/etc/hosts` beside the fixed ones.
    pub hosts: Vec<HostEntry>,
    /// `nameserver` lines of `/etc/resolv.conf`; none leaves the file empty.
    pub dns_servers: Vec<IpAddr>,
    /// The network device `eth0`; `None` when the VM has none.
    pub network: Option<NetworkConfig>,
    /// Certificate (PEM) of the authority that the guest shall trust beside those of its image;
    /// `None` leaves the image's trust stores as they are.
    pub ca_pem: Option<String>,
    /// CPU time of everything that is executed, together; `None` is no limit.
    pub cpu_limit: Option<CpuLimit>,
    /// What programs may do with the kernel.
    pub confinement: Confinement,
    /// What programs may take.
    pub limits: Limits,
    /// Environment of every execution, in order, later entries win; `PATH` has a default.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
}

/// An overlay: read-only layers below, one writable layer above.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootConfig {
    /// From the topmost to the lowest; at least one.
    pub lower: Vec<LowerLayer>,
    /// Where writes go.
    pub upper: UpperLayer,
    /// [`crate::Request::Export`] will be asked for. A directory of a lower layer then cannot be
    /// renamed (`EXDEV`, which mv(1) and the like handle): a layer has no way to say that it was.
    pub export: bool,
}

/// An ext4 file system on a virtio block device or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskMount {
    /// Index of the device in the order that the VMM was given them.
    pub disk: u8,
    /// The part of the device; `None` is all of it.
    pub part: Option<DiskPart>,
    /// Absolute path of the directory to mount it on, which is made when it is missing.
    pub target: Vec<u8>,
    /// Mount it read-only. Otherwise it is grown to the size of its device.
    pub read_only: bool,
    /// User and group that its root directory shall belong to; `None` leaves it as it is. Nothing for a
    /// read-only one.
    pub owner: Option<(u32, u32)>,
}

/// A part of a device that other disks are on too, which the agent makes a partition of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskPart {
    /// Number of the partition, from 1; no other part of the device has it.
    pub number: u8,
    /// Where it begins in bytes, a multiple of 512.
    pub start: u64,
    /// Its length in bytes, a multiple of 512 and not 0.
    pub length: u64,
}

/// One read-only layer of the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LowerLayer {
    /// A virtio-fs device by its tag.
    VirtioFs {
        /// Tag of the device (virtio 1.2, section 5.11.4).
        tag: String,
    },
    /// An EROFS image on the virtio block device with this index (0 = `/dev/vda`).
    Erofs {
        /// Index of the device in the order that the VMM was given them.
        disk: u8,
    },
}

/// The writable layer of the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpperLayer {
    /// An ext4 file system on the virtio block device with this index, grown to the device's size.
    Ext4 {
        /// Index of the device in the order that the VMM was given them.
        disk: u8,
    },
    /// Guest memory.
    Tmpfs {
        /// Size limit in bytes.
        size: u64,
    },
}

/// One more line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEntry {
    /// Address.
    pub ip: IpAddr,
    /// Name; validated by the host, no white space.
    pub name: String,
}

/// Static configuration of `eth0`; there is no DHCP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// Maximum transmission unit in bytes.
    pub mtu: u32,
    /// Addresses with their prefix lengths in bits.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Default routes, at most one of each family.
    pub gateways: Vec<IpAddr>,
}

/// CPU bandwidth as cgroup v2 `cpu.max` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuLimit {
    /// Microseconds of CPU time in each period.
    pub quota_us: u32,
    /// Length of a period in microseconds.
    pub period_us: u32,
}

/// The agent's answer to [`crate::Request::Boot`]: the guest is ready for executions.
///
/// Times are microseconds since the kernel started its clock (`CLOCK_BOOTTIME`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootReport {
    /// The agent's `main` began.
    pub agent_start_us: u64,
    /// The configuration was received.
    pub config_us: u64,
    /// The root file system was in place.
    pub root_us: u64,
    /// Everything was ready.
    pub ready_us: u64,
    /// Kernel release as in `uname -r`.
    pub kernel: String,
}

/// A required step of the guest's start, named in [`crate::ExecFailure::Boot`] when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BootStep {
    /// The configuration is not one that this agent understands.
    Config,
    /// `/proc`, `/sys`, `/dev` and the like.
    Mounts,
    /// A lower layer of the root.
    LowerLayer,
    /// The writable layer of the root.
    UpperLayer,
    /// Overlay and `switch_root`.
    Root,
    /// Host name, `hosts`, `resolv.conf`.
    Identity,
    /// `lo` and `eth0`.
    Network,
    /// Control groups.
    Cgroups,
    /// The sandbox's authority in the trust stores.
    Trust,
    /// A disk beside those of the root.
    Disk,
}
