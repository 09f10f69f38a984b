//! Files of the guest: the requests, and how the entries of a directory are written into a byte stream.

use serde::{Deserialize, Serialize};

use crate::list::{self, InvalidEntry};

/// One operation on the guest's files, as its root user. Paths begin at the guest's root, with or without
/// a slash; links are followed within that root, those of `/proc` to open files are not.
///
/// It is answered as an execution is. Status 0 is success; any other status is the number of the error
/// (errno(3)). Only [`FileRequest::Pack`] and [`FileRequest::Unpack`] write to standard error: why they failed, or
/// with status 0 a line for each file that is not copied as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileRequest {
    /// Writes standard input to a regular file. One that is there is emptied first and keeps its mode and
    /// owner; directories that are missing above it are made with mode 0755.
    Write {
        /// The file.
        path: Vec<u8>,
        /// Permission bits of a new file.
        mode: u32,
    },
    /// Writes a regular file to standard output.
    Read {
        /// The file.
        path: Vec<u8>,
        /// A longer file is an error (`EFBIG`). In bytes.
        max: u64,
    },
    /// Writes the entries of a directory to standard output, as [`FileEntry::encode`] has them, in no order.
    List {
        /// The directory.
        path: Vec<u8>,
    },
    /// Writes files, directories and links as a tar archive to standard output. Its names begin with the last
    /// one of the path; a path without one, or that ends in `/.`, is the content of a directory.
    Pack {
        /// What is copied.
        path: Vec<u8>,
        /// A link at the end of the path stands for what it leads to.
        follow: bool,
    },
    /// Makes files, directories and links of a tar archive on standard input, as `docker cp` places them.
    Unpack {
        /// The destination.
        path: Vec<u8>,
        /// The name of what is copied; `None` for the content of a directory.
        name: Option<Vec<u8>>,
        /// The archive is the user's own, and goes into a directory that is there. There is no name.
        archive: bool,
    },
}

impl FileRequest {
    /// The file or the directory.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        match self {
            Self::Write { path, .. }
            | Self::Read { path, .. }
            | Self::List { path }
            | Self::Pack { path, .. }
            | Self::Unpack { path, .. } => path,
        }
    }

    /// Whether it takes bytes on standard input.
    #[must_use]
    pub fn has_input(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Unpack { .. })
    }
}

/// An entry of a directory, as lstat(2) has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its name; not empty.
    pub name: Vec<u8>,
    /// Bytes.
    pub size: u64,
    /// `st_mode`: type and permission bits.
    pub mode: u32,
    /// The last change of its content, in seconds since 1970, UTC.
    pub modified_s: i64,
    /// Nanoseconds beyond that, under 1,000,000,000.
    pub modified_ns: u32,
}

impl FileEntry {
    /// Appends the entry to `out`, as [`list::put`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        list::put(self, out);
    }

    /// Takes the first entry off `bytes`, as [`list::take`].
    ///
    /// # Errors
    /// [`InvalidEntry`].
    pub fn take(bytes: &mut &[u8]) -> Result<Option<Self>, InvalidEntry> {
        match list::take::<Self>(bytes)? {
            Some(entry) if !entry.is_valid() => Err(InvalidEntry),
            entry => Ok(entry),
        }
    }

    fn is_valid(&self) -> bool {
        let name = !self.name.is_empty() && !self.name.iter().any(|byte| matches!(byte, 0 | b'/'));
        name && self.modified_ns < 1_000_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(name: &[u8]) -> FileEntry {
        FileEntry {
            name: name.to_vec(),
            size: u64::MAX,
            mode: u32::MAX,
            modified_s: i64::MIN,
            modified_ns: 999_999_999,
        }
    }

    proptest! {
        #[test]
        fn entries_survive_and_a_part_of_one_is_none(
            names in proptest::collection::vec(proptest::collection::vec(48u8..=255, 1..=255), 1..4),
            cut in 1usize..512,
        ) {
            let entries: Vec<_> = names.iter().map(|name| entry(name)).collect();
            let mut bytes = Vec::new();
            for entry in &entries {
                entry.encode(&mut bytes);
            }
            let mut rest = bytes.as_slice();
            let mut read = Vec::new();
            while let Some(entry) = FileEntry::take(&mut rest).expect("own entries are valid") {
                read.push(entry);
            }
            prop_assert!(rest.is_empty());
            prop_assert_eq!(&read, &entries);
            let mut first = Vec::new();
            entries[0].encode(&mut first);
            let mut part = &first[..first.len() - cut.min(first.len())];
            prop_assert_eq!(FileEntry::take(&mut part), Ok(None));
        }

        #[test]
        fn nothing_panics_and_nothing_is_kept_of_what_is_no_entry(bytes: Vec<u8>) {
            let mut rest = bytes.as_slice();
            while let Ok(Some(entry)) = FileEntry::take(&mut rest) {
                prop_assert!(entry.is_valid());
            }
        }
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_no_entry() {
        for name in [&b""[..], b"a/b", b"/", b"a\0"] {
            let mut bytes = Vec::new();
            entry(name).encode(&mut bytes);
            assert_eq!(FileEntry::take(&mut bytes.as_slice()), Err(InvalidEntry), "{name:?}");
        }
    }
}
