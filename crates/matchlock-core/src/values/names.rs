//! Names and paths of the guest.

use std::path::{Component, Path};

use super::InvalidConfig;
use crate::as_text::as_text;
use crate::id::SandboxId;

as_text!(Hostname, MountPoint, SandboxName);

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

/// A name of a sandbox: letters, digits, `_`, `.` and `-`, the first of them a letter or digit. An id is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxName(String);

impl SandboxName {
    /// Most bytes.
    pub const MAX: usize = 64;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for SandboxName {
    type Err = InvalidConfig;

    fn from_str(text: &str) -> Result<Self, InvalidConfig> {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let starts = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        let is_id = text.parse::<SandboxId>().is_ok();
        if starts && !is_id && text.len() <= Self::MAX && text.bytes().all(inner) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidConfig::Name(text.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
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
    fn names_of_sandboxes_are_words_and_no_ids() {
        for good in ["a", "web", "web-1", "My_box.2", "vm-1", "0123abcd"] {
            assert!(good.parse::<SandboxName>().is_ok(), "{good}");
        }
        let long = "x".repeat(65);
        for bad in ["", "-a", ".a", "a b", "a/b", "ä", "a\n", "vm-0123abcd", long.as_str()] {
            assert!(bad.parse::<SandboxName>().is_err(), "{bad:?}");
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
}
