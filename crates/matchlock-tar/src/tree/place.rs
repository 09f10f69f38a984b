//! Paths as they are written, and where the destination of a copy is.

use std::os::fd::OwnedFd;

use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;

use super::{Refusal, Root, Top, TreeError};
use crate::Kind;

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named<'a> {
    /// What is in a directory: the path is `/`, or its last name is `.` or `..`.
    Content,
    /// An entry of a directory.
    Entry {
        /// The directory; may be empty.
        parent: &'a [u8],
        /// The last name.
        name: &'a [u8],
        /// A slash is behind it.
        is_directory: bool,
    },
}

/// Splits a path at its last name. Nothing is looked up.
pub(super) fn split(path: &[u8]) -> Named<'_> {
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
    let (shown, slashes) = path.split_at_checked(end).unwrap_or((path, b""));
    let start = shown.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let (parent, name) = shown.split_at_checked(start).unwrap_or((b"", shown));
    match name {
        b"" | b"." | b".." => Named::Content,
        name => Named::Entry { parent, name, is_directory: !slashes.is_empty() },
    }
}

/// The name that a copy of `path` has in a directory; `None` for a directory's content.
#[must_use]
pub fn own_name(path: &[u8]) -> Option<&[u8]> {
    match split(path) {
        Named::Content => None,
        Named::Entry { name, .. } => Some(name),
    }
}

/// Where the first entry of an archive goes.
#[derive(Debug)]
pub(super) enum Place {
    /// Below this directory: under the name, or what is in it without one.
    Below(OwnedFd, Option<Vec<u8>>),
    /// Over the content of this regular file.
    Over(OwnedFd),
}

/// Finds it for a copy whose first entry is of this kind, by the rules of `docker cp`.
pub(super) fn find(
    root: &Root,
    path: &[u8],
    top: Top<'_>,
    first: &Kind,
) -> Result<Place, TreeError> {
    let here = |error| TreeError::file(path)(error);
    let failed = |errno| TreeError::errno(path, errno);
    let open_directory = |path| root.open(path, OFlags::PATH | OFlags::DIRECTORY);
    let kind = match root.open(path, OFlags::PATH) {
        Ok(found) => {
            let stat = fstat(&found).map_err(failed)?;
            Some(FileType::from_raw_mode(stat.st_mode))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(here(error)),
    };
    let name = match (top, kind) {
        (Top::Copy(name), _) => name,
        (Top::Archive, Some(FileType::Directory)) => None,
        (Top::Archive, Some(_)) => return Err(failed(Errno::NOTDIR)),
        (Top::Archive, None) => return Err(failed(Errno::NOENT)),
    };
    match (kind, split(path)) {
        (Some(FileType::Directory), _) => {
            let directory = open_directory(path).map_err(here)?;
            Ok(Place::Below(directory, name.map(<[u8]>::to_vec)))
        }
        (Some(_), _) if *first == Kind::Directory => {
            Err(TreeError::refused(path, Refusal::NotDirectory))
        }
        (Some(FileType::RegularFile), _) if *first == Kind::File => {
            Ok(Place::Over(root.open(path, OFlags::WRONLY).map_err(here)?))
        }
        // A link takes the place of a file. A directory that is new may be written with a slash.
        (Some(FileType::RegularFile) | None, Named::Entry { parent, name, is_directory })
            if !is_directory || *first == Kind::Directory =>
        {
            let parent = open_directory(parent).map_err(here)?;
            Ok(Place::Below(parent, Some(name.to_vec())))
        }
        (Some(_), _) => Err(TreeError::refused(path, Refusal::Special)),
        (None, _) => Err(failed(Errno::NOENT)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_name_of_a_path_is_found() {
        let entry = |parent, name, is_directory| Named::Entry { parent, name, is_directory };
        for (path, wanted) in [
            ("a", entry(&b""[..], &b"a"[..], false)),
            ("/a", entry(b"/", b"a", false)),
            ("a/b//", entry(b"a/", b"b", true)),
            ("./a", entry(b"./", b"a", false)),
            ("a/..b", entry(b"a/", b"..b", false)),
        ] {
            assert_eq!(split(path.as_bytes()), wanted, "{path}");
        }
        for path in ["", "/", ".", "..", "a/.", "a/./", "a/..", "//"] {
            assert_eq!(split(path.as_bytes()), Named::Content, "{path}");
        }
    }
}
