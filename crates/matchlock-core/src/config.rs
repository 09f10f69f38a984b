//! What a sandbox is asked to be. Each value is checked once, when it is made.

use std::net::IpAddr;
use std::num::NonZeroU8;
use std::path::{Component, Path, PathBuf};

use matchlock_image::store::RootImage;
use matchlock_policy::HostName;
use matchlock_proto::CpuLimit;

use crate::network::{Mtu, NetworkSettings};
use crate::volume::{Access, Attached};

/// Everything that decides how a sandbox is made.
#[derive(Debug)]
pub struct SandboxConfig {
    /// Root file system.
    pub image: Image,
    /// CPU share.
    pub cpus: Cpus,
    /// Guest memory.
    pub memory: MemorySize,
    /// Writable layer.
    pub disk: DiskSize,
    /// File systems of the user's, in the order in which they are mounted.
    pub disks: Vec<ExtraDisk>,
    /// [`crate::Sandbox::export`] will be called: the writable layer is kept free of what only an overlay
    /// can express, which makes some renames of directories a copy (`EXDEV`).
    pub export: bool,
    /// Guest host name; the sandbox's id when absent.
    pub hostname: Option<Hostname>,
    /// No seccomp filter and no capability bounds in the guest.
    pub privileged: bool,
    /// Environment of every execution; later entries win.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Names with addresses of the user's choice, for the guest's `/etc/hosts`.
    pub hosts: Vec<(HostName, IpAddr)>,
    /// `None`: the machine has no network device.
    pub network: Option<NetworkSettings>,
    /// Where the audit trail is kept; `None`: it goes with the sandbox.
    pub audit_log: Option<PathBuf>,
    /// Kernel parameters for the agent or the kernel, from tests and bring-up work; usually empty.
    pub extra_cmdline: String,
}

/// Where the root file system comes from.
#[derive(Debug)]
#[non_exhaustive]
pub enum Image {
    /// The host's own system directories, read-only beneath an overlay.
    Host,
    /// An image of the store. Its configuration has the defaults of executions.
    Oci(Box<RootImage>),
}

/// An ext4 file system of the user's in a sandbox.
#[derive(Debug)]
pub struct ExtraDisk {
    pub(crate) disk: Attached,
    pub(crate) target: MountPoint,
    pub(crate) owner: Option<(u32, u32)>,
}

impl ExtraDisk {
    /// `disk` on the directory `target`, whose owner becomes `owner` (user and group) when that is given.
    ///
    /// # Errors
    /// [`InvalidConfig::ReadOnlyOwner`].
    pub fn new(
        disk: Attached,
        target: MountPoint,
        owner: Option<(u32, u32)>,
    ) -> Result<Self, InvalidConfig> {
        if owner.is_some() && disk.access() == Access::ReadOnly {
            return Err(InvalidConfig::ReadOnlyOwner);
        }
        Ok(Self { disk, target, owner })
    }

    /// Whether the guest can write to it.
    pub(crate) fn is_writable(&self) -> bool {
        self.disk.access() == Access::ReadWrite
    }
}

/// Where in the guest a file system of the user's can be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint(String);

impl MountPoint {
    /// The guest's own: what is mounted on them must be the kernel's.
    const RESERVED: [&str; 3] = ["/proc", "/sys", "/dev"];

    /// The absolute path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for MountPoint {
    type Err = InvalidConfig;

    fn from_str(text: &str) -> Result<Self, InvalidConfig> {
        let path = Path::new(text);
        let is_plain = path.components().all(|part| !matches!(part, Component::ParentDir));
        let is_reserved = Self::RESERVED.iter().any(|reserved| path.starts_with(reserved));
        // `PATH_MAX` of Linux.
        let fits = (1..4096).contains(&text.len()) && !text.contains('\0');
        if path.is_absolute() && path.parent().is_some() && is_plain && !is_reserved && fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidConfig::MountPoint(text.to_owned()))
        }
    }
}

/// A value that no sandbox can have.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidConfig {
    /// Not an image that this build can run.
    #[error("image {0:?} is not available: this version runs only the image \"host\"")]
    Image(String),
    /// Zero, negative or not a number.
    #[error("--cpus must be a finite number > 0")]
    Cpus,
    /// More disks of one kind, for reading or for writing, than a machine can have.
    #[error("at most {max} disks can be attached for writing, and as many for reading")]
    TooManyDisks {
        /// How many of a kind fit.
        max: usize,
    },
    /// More virtual CPUs than the host has.
    #[error("--cpus must be <= host cpus ({host})")]
    TooManyCpus {
        /// CPUs of the host.
        host: usize,
    },
    /// Less than a guest can start in.
    #[error("--memory must be at least {min} MB, not {wanted}", min = MemorySize::MIN_MIB)]
    TooLittleMemory {
        /// Value asked for in MiB.
        wanted: u64,
    },
    /// More than the host has.
    #[error("--memory must be <= host memory ({host} MB), not {wanted}")]
    TooMuchMemory {
        /// Value asked for in MiB.
        wanted: u64,
        /// Memory of the host in MiB.
        host: u64,
    },
    /// Outside of what the writable layer can be.
    #[error(
        "--disk-size must be from {min} to {max} MB, not {wanted}",
        min = DiskSize::MIN_MIB, max = DiskSize::MAX_MIB
    )]
    DiskSize {
        /// Value asked for in MiB.
        wanted: u64,
    },
    /// No directory that something can be mounted on.
    #[error(
        "invalid mount point {0:?} in the guest: an absolute path without .. is needed, that is not / \
         and not in /proc, /sys or /dev"
    )]
    MountPoint(String),
    /// Its root directory cannot be given to somebody.
    #[error(
        "a disk that is attached read-only keeps its owners: uid= and gid= need a writable one"
    )]
    ReadOnlyOwner,
    /// Outside of what a volume can be.
    #[error(
        "--size must be from {min} to {max} MB, not {wanted}",
        min = DiskSize::MIN_VOLUME_MIB, max = DiskSize::MAX_MIB
    )]
    VolumeSize {
        /// Value asked for in MiB.
        wanted: u64,
    },
    /// No packet is that small.
    #[error("--mtu must be > 0")]
    NoMtu,
    /// Outside of what the network device can be.
    #[error(
        "--mtu must be from {min} to {max}, not {wanted}",
        min = Mtu::MIN, max = Mtu::MAX
    )]
    Mtu {
        /// Value asked for in bytes.
        wanted: i64,
    },
    /// Not a host name of RFC 1123.
    #[error(
        "invalid hostname {0:?}: letters, digits and inner hyphens, at most 63 bytes for each \
         part between dots and {max} in all", max = Hostname::MAX
    )]
    Hostname(String),
}

impl InvalidConfig {
    /// The next step for the person who sees the error.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Image(_) => {
                Some("use --image host; images from registries are not implemented yet")
            }
            Self::Cpus => Some("fractions are fine: --cpus 0.5 is half of one CPU's time"),
            Self::NoMtu | Self::Mtu { .. } => {
                Some("1500 is the default; below 1280 the sandbox has no IPv6")
            }
            Self::TooLittleMemory { .. } => Some("the unit is MB; the default is 512"),
            _ => None,
        }
    }
}

impl std::str::FromStr for Image {
    type Err = InvalidConfig;

    fn from_str(text: &str) -> Result<Self, InvalidConfig> {
        match text {
            "host" => Ok(Self::Host),
            other => Err(InvalidConfig::Image(other.to_owned())),
        }
    }
}

/// An amount of CPU time per time, and the virtual CPUs that it takes to use it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cpus {
    share: f64,
    vcpus: NonZeroU8,
}

impl Cpus {
    /// Length of a bandwidth period in microseconds.
    const PERIOD_US: u32 = 100_000;
    /// The least quota that the kernel takes (`min_cfs_quota_period`).
    const MIN_QUOTA_US: u32 = 1_000;

    /// `share` CPUs on a host that has `host`.
    ///
    /// # Errors
    /// [`InvalidConfig::Cpus`] or [`InvalidConfig::TooManyCpus`].
    pub fn new(share: f64, host: usize) -> Result<Self, InvalidConfig> {
        if !share.is_finite() || share <= 0.0 {
            return Err(InvalidConfig::Cpus);
        }
        let fits = (1..=host.min(usize::from(u8::MAX))).find(|&n| share <= n as f64);
        let vcpus = fits
            .and_then(|n| u8::try_from(n).ok())
            .and_then(NonZeroU8::new)
            .ok_or(InvalidConfig::TooManyCpus { host })?;
        Ok(Self { share, vcpus })
    }

    /// Virtual CPUs: the share rounded up.
    #[must_use]
    pub fn vcpus(self) -> u8 {
        self.vcpus.get()
    }

    /// The bandwidth limit; `None` when the virtual CPUs themselves are the limit.
    #[must_use]
    pub fn limit(self) -> Option<CpuLimit> {
        if self.share >= f64::from(self.vcpus()) {
            return None;
        }
        let quota = (self.share * f64::from(Self::PERIOD_US)).floor();
        // In range: 0 < share <= 255. A float-to-int `as` saturates in any case.
        let quota_us = (quota as u32).max(Self::MIN_QUOTA_US);
        Some(CpuLimit { quota_us, period_us: Self::PERIOD_US })
    }
}

/// Guest memory in MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemorySize(u32);

impl MemorySize {
    /// The kernel, the agent and a small program fit; less does not boot.
    pub const MIN_MIB: u64 = 64;

    /// `wanted` MiB on a host that has `host` MiB.
    ///
    /// # Errors
    /// [`InvalidConfig::TooLittleMemory`] or [`InvalidConfig::TooMuchMemory`].
    pub fn new(wanted: u64, host: u64) -> Result<Self, InvalidConfig> {
        if wanted < Self::MIN_MIB {
            return Err(InvalidConfig::TooLittleMemory { wanted });
        }
        match u32::try_from(wanted) {
            Ok(mib) if wanted <= host => Ok(Self(mib)),
            _ => Err(InvalidConfig::TooMuchMemory { wanted, host }),
        }
    }

    /// In MiB.
    #[must_use]
    pub fn mib(self) -> u32 {
        self.0
    }
}

/// Size of the writable layer or of a volume in MiB. The file is sparse: it takes what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSize(u64);

impl DiskSize {
    /// Little more than a few files fit; every template does.
    pub const MIN_MIB: u64 = 64;
    /// That of the template of volumes: less has no room for a journal.
    pub const MIN_VOLUME_MIB: u64 = 16;
    /// 1 TiB.
    pub const MAX_MIB: u64 = 1024 * 1024;

    /// `wanted` MiB.
    ///
    /// # Errors
    /// [`InvalidConfig::DiskSize`].
    pub fn new(wanted: u64) -> Result<Self, InvalidConfig> {
        if (Self::MIN_MIB..=Self::MAX_MIB).contains(&wanted) {
            Ok(Self(wanted))
        } else {
            Err(InvalidConfig::DiskSize { wanted })
        }
    }

    /// `wanted` MiB for a volume.
    ///
    /// # Errors
    /// [`InvalidConfig::VolumeSize`].
    pub fn of_volume(wanted: u64) -> Result<Self, InvalidConfig> {
        if (Self::MIN_VOLUME_MIB..=Self::MAX_MIB).contains(&wanted) {
            Ok(Self(wanted))
        } else {
            Err(InvalidConfig::VolumeSize { wanted })
        }
    }

    /// In bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0 * 1024 * 1024
    }
}

/// A host name of RFC 1123 section 2.1, without a trailing dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hostname(String);

impl Hostname {
    /// `HOST_NAME_MAX` of Linux in bytes.
    pub const MAX: usize = 64;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Hostname {
    type Err = InvalidConfig;

    fn from_str(text: &str) -> Result<Self, InvalidConfig> {
        let label = |label: &str| {
            let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(inner)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if text.len() <= Self::MAX && text.split('.').all(label) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidConfig::Hostname(text.to_owned()))
        }
    }
}

/// CPUs that this process may use.
#[must_use]
pub fn host_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Memory of this host in MiB (`MemTotal` of proc_meminfo(5)).
#[must_use]
pub fn host_memory_mib() -> u64 {
    let text = std::fs::read_to_string(Path::new("/proc/meminfo")).unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|number| number.trim().parse::<u64>().ok());
    // Unknown means no upper bound of ours: QEMU refuses what it cannot allocate.
    kib.map_or(u64::MAX, |kib| kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cpu_shares_are_positive_finite_and_on_this_host() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Cpus::new(bad, 8), Err(InvalidConfig::Cpus), "{bad}");
        }
        assert_eq!(Cpus::new(2.5, 2), Err(InvalidConfig::TooManyCpus { host: 2 }));
        assert_eq!(Cpus::new(1e300, 2), Err(InvalidConfig::TooManyCpus { host: 2 }));
    }

    #[test]
    fn half_a_cpu_is_one_virtual_cpu_at_half_its_time() {
        let half = Cpus::new(0.5, 4).expect("valid");
        assert_eq!(half.vcpus(), 1);
        assert_eq!(half.limit(), Some(CpuLimit { quota_us: 50_000, period_us: 100_000 }));
        let whole = Cpus::new(2.0, 4).expect("valid");
        assert_eq!((whole.vcpus(), whole.limit()), (2, None));
        let tiny = Cpus::new(0.000_001, 4).expect("valid");
        assert_eq!(tiny.limit().map(|limit| limit.quota_us), Some(1_000));
    }

    proptest! {
        #[test]
        fn the_quota_never_exceeds_the_share(share in 0.02f64..16.0) {
            let cpus = Cpus::new(share, 16).expect("valid");
            prop_assert!(f64::from(cpus.vcpus()) >= share);
            if let Some(limit) = cpus.limit() {
                prop_assert!(f64::from(limit.quota_us) <= share * f64::from(limit.period_us));
            }
        }

        #[test]
        fn no_host_name_can_hold_more_than_a_name(text in "\\PC{0,80}") {
            if let Ok(name) = text.parse::<Hostname>() {
                prop_assert!(name.as_str().bytes().all(
                    |b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.'));
            }
        }
    }

    #[test]
    fn host_names_of_rfc_1123() {
        for good in ["a", "vm-0a1b2c3d", "build.example", "1host"] {
            assert!(good.parse::<Hostname>().is_ok(), "{good}");
        }
        let long = "x".repeat(64);
        for bad in ["", "-a", "a-", "a..b", "a b", "a\nb", "ä", "a_b", ".", "a.", long.as_str()] {
            assert!(bad.parse::<Hostname>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn nothing_is_mounted_over_the_root_or_the_kernels_own() {
        for good in ["/data", "/var/lib/db", "/process", "/a/./b/"] {
            assert!(good.parse::<MountPoint>().is_ok(), "{good}");
        }
        let long = format!("/{}", "x".repeat(4096));
        for bad in
            ["", "/", "//", "/.", "data", "/a/../..", "/proc", "/dev/shm", "/sys/", "/a\0b", &long]
        {
            assert!(bad.parse::<MountPoint>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sizes_are_bounded_on_both_sides() {
        assert!(MemorySize::new(1, 1000).is_err());
        assert!(MemorySize::new(1001, 1000).is_err());
        assert_eq!(MemorySize::new(512, 1000).map(MemorySize::mib), Ok(512));
        assert!(DiskSize::new(0).is_err());
        assert!(DiskSize::new(u64::MAX).is_err());
        assert_eq!(DiskSize::new(2048).map(DiskSize::bytes), Ok(2 << 30));
        assert_eq!(DiskSize::of_volume(16).map(DiskSize::bytes), Ok(16 << 20));
        for wanted in [0, 15, u64::MAX] {
            assert_eq!(DiskSize::of_volume(wanted), Err(InvalidConfig::VolumeSize { wanted }));
        }
        for none in [0, -1, i64::MIN] {
            assert_eq!(Mtu::new(none), Err(InvalidConfig::NoMtu));
        }
        for bad in [1, 575, 65_521, i64::MAX] {
            assert_eq!(Mtu::new(bad), Err(InvalidConfig::Mtu { wanted: bad }));
        }
        assert_eq!(Mtu::new(1500), Ok(Mtu::default()));
        assert_eq!(Mtu::new(65_520).map(Mtu::bytes), Ok(65_520));
    }
}
