//! A new sandbox: contract, sections 2.4 and 11.
//!
//! Every key but `image` may be absent or `null`, which is the same: Go sends `null` for lists without
//! elements. Keys that are not known are ignored, and [`Ignored`](crate::Ignored) has their names.

mod check;
mod limits;
mod network;
mod vfs;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use limits::{Limits, Resources};
pub use network::{HostIp, Interception, Network, Secret, SecretValue};
pub use vfs::{Mount, Vfs, VfsInterception};

/// What the sandbox is to be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("required" = ["image"])))]
pub struct CreateParams {
    /// An image of a registry, or a local tag. Required.
    #[serde(default)]
    pub image: String,
    /// Not for clients: absent or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Whether programs keep capabilities and system calls that are otherwise taken from them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    /// Whether the image's entrypoint and command are started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launch_entrypoint: Option<bool>,
    /// Another kernel for the guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Kernel>,
    /// How much of this machine it gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// What it reaches. The object takes the place of all defaults: see `block_private_ips` in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Directories of this machine, and others, in the guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vfs: Option<Vfs>,
    /// Variables of every command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    /// Disks with file systems of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra_disks: Option<Vec<ExtraDisk>>,
    /// What takes the place of the image's own configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_config: Option<ImageConfig>,
}

impl CreateParams {
    /// The resources, with these defaults.
    #[must_use]
    pub fn limits(&self, default: Limits) -> Limits {
        self.resources.as_ref().map_or(default, |given| given.limits(default))
    }

    /// Whether private addresses are out of reach. Without a `network` they are; with one they are
    /// if it says so.
    #[must_use]
    pub fn block_private_ips(&self) -> bool {
        self.network.as_ref().is_none_or(|network| network.block_private_ips.unwrap_or(false))
    }
}

/// A kernel for the guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Kernel {
    /// `file:///absolute/path`, or an image of a registry. Empty or absent: ours.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// A disk with a file system of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExtraDisk {
    /// The file of this machine that is the disk.
    pub host_path: String,
    /// Where its file system is mounted.
    pub guest_mount: String,
    /// Whether nothing can be written to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readonly: Option<bool>,
    /// The user who owns the root of its file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_uid: Option<u32>,
    /// The group that owns the root of its file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_gid: Option<u32>,
}

/// What takes the place of the image's own configuration, key by key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ImageConfig {
    /// The user of commands. Empty or absent: the image's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The directory of commands. Empty or absent: the image's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// The first words of what is launched. Absent or `null`: the image's; `[]`: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// The words after those. Absent or `null`: the image's; `[]`: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// All variables of the image. Absent or `null`: the image's; `{}`: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
}

/// The sandbox that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CreateResult {
    /// Its id: `vm-` and 8 hexadecimal digits.
    pub id: String,
}
