//! What a sandbox is asked to be.
//!
//! A [`SandboxSpec`] is plain data: it can be stored, listed, sent and compared, and holds no open file
//! and no value of a secret. [`Attachments`] are what goes with it and cannot be written down.

mod attachments;
mod confinement;
mod network;
mod start;
mod text;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use matchlock_image::digest::Digest;
use matchlock_image::store::RootImage;
use matchlock_policy::HostName;
use matchlock_proto::Limits;
use serde::{Deserialize, Serialize};

pub use attachments::{Attachments, SecretValues};
pub use confinement::ConfinementSpec;
pub use network::{NetworkSpec, PrivateRule, SecretRule};
pub use start::{CommandSpec, StartSpec};

use crate::values::{
    Cpus, DiskSize, Hostname, InvalidConfig, MemorySize, MountPoint, SandboxName, check_limits,
};
use crate::volume::{Access, Attached, VolumeError, VolumeName, Volumes, attach_file};

/// Everything that decides how a sandbox is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxSpec {
    /// What it is called by, beside its id. No other sandbox that lives can have it.
    pub name: Option<SandboxName>,
    /// Root file system.
    pub image: ImageSpec,
    /// CPU share.
    pub cpus: Cpus,
    /// Guest memory.
    pub memory: MemorySize,
    /// Writable layer.
    pub disk: DiskSize,
    /// File systems of the user's, in the order in which they are mounted.
    pub disks: Vec<DiskSpec>,
    /// [`crate::SandboxHandle::export`] will be called: the writable layer is kept free of what only an
    /// overlay can express, which makes some renames of directories a copy (`EXDEV`).
    pub export: bool,
    /// Guest host name; the sandbox's id when absent.
    pub hostname: Option<Hostname>,
    /// What programs may do with the guest's kernel.
    pub confinement: ConfinementSpec,
    /// What programs may take.
    pub limits: Limits,
    /// Environment of every execution; later entries win.
    #[serde(with = "text::env")]
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Names with addresses of the user's choice, for the guest's `/etc/hosts`.
    #[serde(with = "text::hosts")]
    pub hosts: Vec<(HostName, IpAddr)>,
    /// `None`: the machine has no network device.
    pub network: Option<NetworkSpec>,
    /// Where the audit trail is kept; `None`: it goes with the sandbox.
    pub audit_log: Option<PathBuf>,
    /// How long it lives.
    pub lifetime: Lifetime,
    /// What else it needs to be started again. Without this it cannot be, and its disk goes with it.
    #[serde(default)]
    pub start: Option<StartSpec>,
}

/// Where the root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ImageSpec {
    /// The host's own system directories, read-only beneath an overlay.
    Host,
    /// An image of the store. Its configuration has the defaults of executions.
    Stored {
        /// The name that it was found by.
        reference: String,
        /// Which one it is.
        digest: Digest,
    },
}

/// An ext4 file system of the user's in a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskSpec {
    /// Which one.
    pub source: DiskSource,
    /// Where it is mounted.
    pub target: MountPoint,
    /// What the guest may do with it.
    pub access: Access,
    /// Who becomes the owner (user and group) of its root directory.
    pub owner: Option<(u32, u32)>,
}

/// Which disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DiskSource {
    /// A named volume.
    Volume(VolumeName),
    /// An image of a file system.
    File(PathBuf),
    /// BuildKit's cache, which only a build can claim.
    BuildCache,
}

/// How long a sandbox lives, and how much time its programs have to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lifetime {
    /// From the start of the command, or from when the sandbox is up if there is none.
    pub limit: Option<Duration>,
    /// For programs that were asked to end.
    pub grace: Duration,
    /// The sandbox goes on after its command.
    pub keep: bool,
    /// It is still listed when it has ended, until it is removed.
    pub recorded: bool,
}

impl Default for Lifetime {
    /// Until somebody ends it.
    fn default() -> Self {
        Self { limit: None, grace: Duration::ZERO, keep: true, recorded: false }
    }
}

impl ImageSpec {
    /// The one whose files are `root`.
    #[must_use]
    pub fn of(root: &RootImage) -> Self {
        Self::Stored { reference: root.reference.clone(), digest: root.digest }
    }
}

impl DiskSpec {
    /// Refuses what cannot be.
    ///
    /// # Errors
    /// [`InvalidConfig::ReadOnlyOwner`].
    pub fn check(&self) -> Result<(), InvalidConfig> {
        if self.owner.is_some() && self.access == Access::ReadOnly {
            return Err(InvalidConfig::ReadOnlyOwner);
        }
        Ok(())
    }

    /// Opens and locks it, before others can. The result goes into [`Attachments::disks`].
    ///
    /// # Errors
    /// [`VolumeError`].
    pub fn claim(&self, volumes: &Volumes) -> Result<Attached, VolumeError> {
        match &self.source {
            DiskSource::Volume(name) => volumes.attach(name, self.access),
            DiskSource::File(path) => attach_file(path, self.access),
            DiskSource::BuildCache => Err(VolumeError::NoFile("BuildKit's cache".into())),
        }
    }
}

impl SandboxSpec {
    /// Refuses what cannot be, and attachments of another description.
    pub(crate) fn check(&self, with: &Attachments) -> Result<(), InvalidConfig> {
        self.disks.iter().try_for_each(DiskSpec::check)?;
        self.confinement.check()?;
        check_limits(&self.limits)?;
        let claimed = with.disks.iter().map(Attached::access);
        if !claimed.eq(self.disks.iter().map(|disk| disk.access)) {
            return Err(InvalidConfig::Unattached("disks"));
        }
        let root = with.root.as_deref().map_or(ImageSpec::Host, ImageSpec::of);
        if root != self.image {
            return Err(InvalidConfig::Unattached("image"));
        }
        let secrets = self.network.as_ref().map(|network| network.secrets.clone());
        if secrets.unwrap_or_default() != with.secrets.rules() {
            return Err(InvalidConfig::Unattached("network.secrets"));
        }
        Ok(())
    }

    /// Whether its disk and its log stay when it has ended, so that it can be started again.
    pub(crate) fn is_kept(&self) -> bool {
        self.start.is_some()
    }

    /// Whether the guest can write to disks of the user's.
    pub(crate) fn writes_disks(&self) -> bool {
        self.disks.iter().any(|disk| disk.access == Access::ReadWrite)
    }
}

#[cfg(test)]
mod tests;
