//! Checked reads from a message, and names that were checked.

use std::ffi::CStr;

use crate::types::{Errno, Result};

/// Longest name of a directory entry, `NAME_MAX`.
const NAME_MAX: usize = 255;
/// Longest name of an extended attribute, `XATTR_NAME_MAX`.
const XATTR_NAME_MAX: usize = 255;

/// One component of a path: not empty, not `.` nor `..`, without `/`, at most 255 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'a>(&'a CStr);

impl<'a> Name<'a> {
    /// Checks a name.
    ///
    /// # Errors
    /// [`Errno::ENAMETOOLONG`], or [`Errno::EINVAL`] for what is no single component.
    pub fn new(name: &'a CStr) -> Result<Self> {
        let bytes = name.to_bytes();
        if bytes.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if matches!(bytes, b"" | b"." | b"..") || bytes.contains(&b'/') {
            return Err(Errno::EINVAL);
        }
        Ok(Self(name))
    }

    /// For a system call.
    #[must_use]
    pub const fn as_c_str(self) -> &'a CStr {
        self.0
    }

    /// Without the terminating NUL.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0.to_bytes()
    }
}

/// A message, read from its front.
#[derive(Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Errno::EINVAL)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn skip(&mut self, len: usize) -> Result<()> {
        self.bytes(len).map(drop)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        let bytes = self.bytes(4)?.try_into().map_err(|_| Errno::EINVAL)?;
        Ok(u32::from_le_bytes(bytes))
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        let bytes = self.bytes(8)?.try_into().map_err(|_| Errno::EINVAL)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Text up to and with its NUL.
    pub(super) fn text(&mut self) -> Result<&'a CStr> {
        let text = CStr::from_bytes_until_nul(self.0).map_err(|_| Errno::EINVAL)?;
        self.skip(text.to_bytes_with_nul().len())?;
        Ok(text)
    }

    /// As Linux demands it of setxattr(2).
    pub(super) fn xattr_name(&mut self) -> Result<&'a CStr> {
        let name = self.text()?;
        if matches!(name.count_bytes(), 1..=XATTR_NAME_MAX) { Ok(name) } else { Err(Errno::ERANGE) }
    }

    pub(super) fn name(&mut self) -> Result<Name<'a>> {
        Name::new(self.text()?)
    }
}
