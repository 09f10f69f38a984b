//! Directories that are served to a sandbox.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Directories of this machine, and others, in the guest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Vfs {
    /// The directory of the guest below which all mounts are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// Mounts by their paths in the guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mounts: Option<BTreeMap<String, Mount>>,
    /// Understood and never used, as in the reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direct_mounts: Option<serde_json::Value>,
    /// Rules and events of operations on files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interception: Option<VfsInterception>,
}

/// A directory or a file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Mount {
    /// `host_fs`: a path of this machine; `overlay`: the same, and what is written goes away with the
    /// sandbox; `memory`: an empty directory. Anything else, or absent: `memory`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The path of this machine, for `host_fs` and `overlay`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_path: Option<String>,
    /// Whether nothing can be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readonly: Option<bool>,
    /// The user who owns every file; `host_fs` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_uid: Option<u32>,
    /// The group that owns every file; `host_fs` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_gid: Option<u32>,
    /// Refused with `overlay`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upper: Option<serde_json::Value>,
    /// Refused with `overlay`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lower: Option<serde_json::Value>,
}

/// Rules and events of operations on files: contract, section 2.17. What is in a rule is read where
/// rules are applied.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VfsInterception {
    /// Whether an `event` is sent of each operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emit_events: Option<bool>,
    /// In the order in which they apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<serde_json::Value>>,
}
