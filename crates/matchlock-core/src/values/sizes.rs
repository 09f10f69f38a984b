//! Amounts: CPU time, memory, disks, packets.

use std::num::NonZeroU8;
use std::path::Path;

use matchlock_proto::CpuLimit;
use serde::{Deserialize, Serialize};

use super::InvalidConfig;

/// An amount of CPU time per time, and the virtual CPUs that it takes to use it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
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

/// Largest packet of the guest's network device in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Mtu(u32);

impl Mtu {
    /// What every IPv4 host must be able to receive (RFC 791 section 3.1).
    pub const MIN: i64 = 576;
    /// The largest multiple of 8 that, with an Ethernet header, is still below 64 KiB.
    pub const MAX: i64 = 65_520;

    /// `wanted` bytes.
    ///
    /// # Errors
    /// [`InvalidConfig::NoMtu`] or [`InvalidConfig::Mtu`].
    pub fn new(wanted: i64) -> Result<Self, InvalidConfig> {
        match u32::try_from(wanted) {
            Ok(bytes) if (Self::MIN..=Self::MAX).contains(&wanted) => Ok(Self(bytes)),
            _ if wanted <= 0 => Err(InvalidConfig::NoMtu),
            _ => Err(InvalidConfig::Mtu { wanted }),
        }
    }

    /// In bytes.
    #[must_use]
    pub fn bytes(self) -> u32 {
        self.0
    }
}

impl Default for Mtu {
    /// That of Ethernet.
    fn default() -> Self {
        Self(1500)
    }
}

/// A number that was written down says nothing of the host that reads it.
macro_rules! as_number {
    ($($type:ty, $number:ty, $read:expr, $written:expr;)+) => {$(
        impl TryFrom<$number> for $type {
            type Error = InvalidConfig;

            fn try_from(number: $number) -> Result<Self, InvalidConfig> {
                let read: fn($number) -> Result<Self, InvalidConfig> = $read;
                read(number)
            }
        }

        impl From<$type> for $number {
            fn from(value: $type) -> Self {
                let written: fn($type) -> Self = $written;
                written(value)
            }
        }
    )+};
}

as_number! {
    Cpus, f64, |share| Self::new(share, usize::MAX), |cpus| cpus.share;
    MemorySize, u64, |mib| Self::new(mib, u64::MAX), |memory| memory.mib().into();
    DiskSize, u64, Self::of_volume, |disk| disk.0;
    Mtu, i64, Self::new, |mtu| mtu.bytes().into();
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
