//! Tar archives, as the host and the guest's agent both have them: a strict reader of whatever comes, and a
//! writer. [`tree`] makes an archive of files, and files of an archive.
//!
//! The crate knows nothing of images, sandboxes and hosts.

#![forbid(unsafe_code)]

mod read;
#[cfg(any(test, feature = "testing"))]
#[expect(missing_docs, reason = "for tests")]
pub mod testing;
pub mod tree;
pub mod write;

use std::collections::BTreeMap;

pub use read::{Archive, Chunk, Content, Entry, Kind, TarError};

/// What every kind of file has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits with set-user-ID, set-group-ID and sticky: at most `0o7777`.
    pub mode: u16,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last modification: seconds and nanoseconds since the Unix epoch.
    pub mtime: (i64, u32),
    /// Full names (`security.capability`, `user.x`) and values.
    pub xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
}

/// Numbers of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceNumber {
    /// 12 bits (Linux).
    pub major: u32,
    /// 20 bits (Linux).
    pub minor: u32,
}
