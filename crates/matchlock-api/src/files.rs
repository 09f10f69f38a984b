//! Files and the log: contract, sections 2.9 and 2.10.

use serde::{Deserialize, Serialize};

use crate::bytes::Base64;
use crate::params::Params;

/// Permissions of a file for which none are given.
pub const DEFAULT_MODE: u32 = 0o644;

/// What becomes a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WriteFileParams {
    /// The file's path in the guest. Directories that are missing are made, with mode 0755.
    pub path: String,
    /// All of it. Absent is an empty file. On the control socket it comes as frames instead.
    #[serde(default)]
    pub content: Base64,
    /// Permission bits of a new file, as a number: 420 is 0644. 0 or absent: 0644.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
}

impl Params for WriteFileParams {}

impl WriteFileParams {
    /// The permission bits.
    #[must_use]
    pub fn mode(&self) -> u32 {
        self.mode.filter(|mode| *mode != 0).unwrap_or(DEFAULT_MODE)
    }
}

/// Names a file or a directory of the guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PathParams {
    /// Its path in the guest.
    pub path: String,
}

impl Params for PathParams {}

/// A file, or the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ContentResult {
    /// All of it. On the control socket it is empty, and what it would hold came as frames.
    pub content: Base64,
}

/// What is in a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListFilesResult {
    /// One entry for each name, without `.` and `..`; `[]` for an empty directory.
    pub files: Vec<FileInfo>,
}

/// One name of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FileInfo {
    /// The name within its directory.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// Type and permissions, as Go numbers them.
    pub mode: FileMode,
    /// When it was changed, RFC 3339. The reference always sends `0001-01-01T00:00:00Z`.
    pub mod_time: String,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// Type and permissions of a file in the numbers of Go's `io/fs.FileMode`: the nine permission bits
/// are those of Unix, and the others are not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct FileMode(pub u32);

impl FileMode {
    /// Go's bit for a directory.
    pub const DIR: u32 = 1 << 31;

    /// Of the `st_mode` of Linux (inode(7)).
    #[must_use]
    pub fn from_unix(mode: u32) -> Self {
        let kind = match mode & 0o170_000 {
            0o040_000 => Self::DIR,
            0o120_000 => 1 << 27,
            0o060_000 => 1 << 26,
            0o010_000 => 1 << 25,
            0o140_000 => 1 << 24,
            // A character device has the device's bit, too.
            0o020_000 => 1 << 26 | 1 << 21,
            0 | 0o100_000 => 0,
            _ => 1 << 19,
        };
        let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
        let special = special.into_iter().filter(|(unix, _)| mode & unix != 0);
        Self(special.fold(mode & 0o777 | kind, |go, (_, bit)| go | bit))
    }

    /// Whether the directory's bit is set.
    #[must_use]
    pub fn is_dir(self) -> bool {
        self.0 & Self::DIR != 0
    }
}

/// No parameters: whatever is sent is ignored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NoParams {}

impl Params for NoParams {}

/// Nothing but that it succeeded: `{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Empty {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_go_s() {
        // What Go's os.Lstat says of files with these modes.
        for (unix, go) in [
            (0o100_644, 0o644),
            (0o040_755, 2_147_484_141),
            (0o041_777, 2_148_532_735),
            (0o120_777, 134_218_239),
            (0o104_755, 8_389_101),
            (0o102_755, 4_194_797),
            (0o020_666, 69_206_454),
            (0o060_660, 67_109_296),
            (0o010_644, 33_554_852),
            (0o140_755, 16_777_709),
        ] {
            assert_eq!(FileMode::from_unix(unix), FileMode(go), "{unix:o}");
        }
        assert!(FileMode::from_unix(0o040_700).is_dir());
    }

    #[test]
    fn a_file_without_a_mode_gets_0644() {
        let mode = |text| serde_json::from_str::<WriteFileParams>(text).expect("params").mode();
        assert_eq!(mode(r#"{"path":"/x","content":""}"#), 0o644);
        assert_eq!(mode(r#"{"path":"/x","content":"","mode":0}"#), 0o644);
        assert_eq!(mode(r#"{"path":"/x","mode":493}"#), 0o755);
    }
}
