//! Files and directories, written as an archive and made of one.
//!
//! ```text
//!   pack(SRC) ─► archive: SRC's own name first, all else below it ─► unpack(DST)
//! ```
//! Between the two is a stream that may be hostile. Whatever it says, [`unpack`] makes files, directories and
//! links below the one directory that the caller named, and opens nothing outside of it.

mod pack;
mod place;
mod unpack;

use std::ffi::{CStr, CString, OsStr};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use matchlock_text::escape;
use rustix::fs::{CWD, Dir, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::TarError;

pub use pack::{Packed, pack};
pub use place::own_name;
pub use unpack::{Limits, Top, Unpacked, unpack};

/// Directories within directories: deeper ones cannot be reached by a path.
const MAX_DEPTH: usize = 1024;

/// Bytes that are copied at one time.
const CHUNK: usize = 64 * 1024;

/// The names in a directory, in the order of their bytes.
///
/// # Errors
/// When it cannot be read.
pub fn names(directory: impl AsFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The path of a name in a directory. The path of the top is empty.
#[must_use]
pub fn child_path(directory: &[u8], name: &CStr) -> Vec<u8> {
    let mut child = directory.to_vec();
    if !child.is_empty() {
        child.push(b'/');
    }
    child.extend(name.to_bytes());
    child
}

/// Where paths begin, and what links on the way may do.
#[derive(Debug)]
pub struct Root {
    directory: Option<OwnedFd>,
    below: ResolveFlags,
}

impl Root {
    /// The paths of this process. Below a destination no link is followed.
    #[must_use]
    pub fn own() -> Self {
        Self { directory: None, below: ResolveFlags::NO_SYMLINKS }
    }

    /// Every path is one of this directory, which no link leads out of. Below a destination links are
    /// followed that stay there.
    #[must_use]
    pub fn within(directory: OwnedFd) -> Self {
        Self { directory: Some(directory), below: ResolveFlags::empty() }
    }

    /// Opens what the user named: links are followed.
    fn open(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let mut flags = flags | OFlags::CLOEXEC;
        if !flags.contains(OFlags::PATH) {
            // Nobody waits for the other end of a pipe, or gets a terminal.
            flags |= OFlags::NONBLOCK | OFlags::NOCTTY;
        }
        let path = match path {
            b"" => Path::new("."),
            path => Path::new(OsStr::from_bytes(path)),
        };
        Ok(match &self.directory {
            Some(root) => {
                let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
                openat2(root, path, flags, Mode::empty(), resolve)?
            }
            None => openat2(CWD, path, flags, Mode::empty(), ResolveFlags::empty())?,
        })
    }

    /// How a directory below a destination is found.
    fn below(&self) -> ResolveFlags {
        ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | self.below
    }
}

/// A path for people: harmless on a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown(Vec<u8>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape::one_line(&String::from_utf8_lossy(&self.0)))
    }
}

/// Why a copy is not whole.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A file of here.
    #[error("{path}")]
    File {
        /// Which.
        path: Shown,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The other end of the stream takes no more.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    /// The stream is not an archive.
    #[error("the archive cannot be read")]
    Read(#[source] TarError),
    /// The archive has what no copy makes.
    #[error("{path}: {reason}")]
    Refused {
        /// Which entry.
        path: Shown,
        /// Why.
        reason: Refusal,
    },
}

impl TreeError {
    /// The number of the system's error behind it, if one is.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::File { source, .. } | Self::Write(source) => source.raw_os_error(),
            Self::Read(TarError::Read(source)) => source.raw_os_error(),
            Self::Read(_) | Self::Refused { .. } => None,
        }
    }

    /// The archive ended before its time: whoever wrote it knows why.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(
            self,
            Self::Read(TarError::Truncated) | Self::Refused { reason: Refusal::Empty, .. }
        )
    }

    fn file(path: &[u8]) -> impl FnOnce(io::Error) -> Self {
        let path = Shown(path.to_vec());
        move |source| Self::File { path, source }
    }

    fn errno(path: &[u8], errno: rustix::io::Errno) -> Self {
        Self::file(path)(errno.into())
    }

    fn refused(path: &[u8], reason: Refusal) -> Self {
        Self::Refused { path: Shown(path.to_vec()), reason }
    }
}

/// What [`unpack`] makes of no archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The name begins at the root.
    #[error("the archive has an absolute name")]
    Absolute,
    /// The name leads out of a directory.
    #[error("the archive has a name with \"..\"")]
    Parent,
    /// A component or the whole is longer than any file's name, or too deep.
    #[error("the archive has a name that is too long")]
    TooLong,
    /// A device or a pipe.
    #[error("devices and pipes are not copied")]
    Special,
    /// A hard link to what the archive has not made.
    #[error("a hard link to a file that is not in the archive")]
    Foreign,
    /// A link without text, or with more than a link can have.
    #[error("the link has no text that a link can have")]
    Link,
    /// An entry beside the one that is copied.
    #[error("the archive has more than what was asked for")]
    Beside,
    /// Nothing is in it.
    #[error("the archive is empty")]
    Empty,
    /// More entries than the reader wants.
    #[error("more files than are copied at one time")]
    TooMany,
    /// More bytes than the reader wants.
    #[error("more bytes than are copied at one time")]
    TooLarge,
    /// A directory where a file is.
    #[error("a directory cannot take the place of a file")]
    NotDirectory,
    /// A file where a directory is.
    #[error("a file cannot take the place of a directory")]
    IsDirectory,
}

#[cfg(test)]
mod tests;
