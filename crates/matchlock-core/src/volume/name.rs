//! Names of volumes.

use std::fmt;

use super::VolumeError;
use crate::as_text::as_text;

as_text!(VolumeName);

/// A name of a volume: letters, digits, `_`, `.` and `-`, the first of them a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeName(String);

impl VolumeName {
    /// Most bytes: with the suffix of the file it is still a file name.
    pub const MAX: usize = 200;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for VolumeName {
    type Err = VolumeError;

    fn from_str(text: &str) -> Result<Self, VolumeError> {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let starts = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if starts && text.len() <= Self::MAX && text.bytes().all(inner) {
            Ok(Self(text.to_owned()))
        } else {
            Err(VolumeError::Name(text.to_owned()))
        }
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
