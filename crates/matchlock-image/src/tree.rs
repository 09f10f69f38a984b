//! A file system's metadata in memory: what a layer's archive says, what an EROFS image is written
//! from and read back to, and what merging layers gives.
//!
//! A [`Tree`] holds names and attributes; the bytes of files stay where they are, and
//! [`FileData::start`] says where. Names are checked when a [`Name`] is made, so no path out of a
//! tree can be expressed.

use std::collections::BTreeMap;

pub use matchlock_tar::{Attributes, DeviceNumber};

/// A name in a directory: 1 to 255 bytes, no `/`, no NUL, neither `.` nor `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

/// Bytes that no directory entry can have as its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a file name")]
pub struct InvalidName;

/// The place of an inode in its [`Tree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeId(u32);

/// Files, directories and what they hold, below one root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    inodes: Vec<Inode>,
}

/// One inode. Several names may lead to it, unless it is a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// Owner, mode, times, extended attributes.
    pub attributes: Attributes,
    /// What kind of file it is, and what that kind holds.
    pub content: Content,
}

/// Kinds of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A directory.
    Directory(Directory),
    /// A regular file.
    File(FileData),
    /// A symbolic link: its text, 1 to 4095 bytes without NUL.
    Symlink(Box<[u8]>),
    /// A character device. The number 0:0 is not possible here: overlayfs would read it as a whiteout.
    CharDevice(DeviceNumber),
    /// A block device.
    BlockDevice(DeviceNumber),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// In a layer only: this name is not in the layers below (OCI image spec, layer.md, "Whiteouts").
    /// In an EROFS image it is overlayfs's: a character device 0:0.
    Whiteout,
}

/// Entries of a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    /// In the order of their bytes.
    pub entries: BTreeMap<Name, InodeId>,
    /// In a layer only: nothing of this directory in the layers below is seen. In an EROFS image it is
    /// overlayfs's attribute `trusted.overlay.opaque`.
    pub opaque: bool,
    /// In a layer only: the layer did not say what this directory is like, it is here for what is in
    /// it. Where the layers below have the directory, its attributes stay theirs. In an EROFS image it
    /// is the attribute `trusted.matchlock.implied`.
    pub implied: bool,
}

/// Where the bytes of a regular file are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileData {
    /// Length in bytes.
    pub size: u64,
    /// Of which blob: 0 in the tree of one layer; in a merged tree the layer's place, the lowest is 0.
    pub layer: u16,
    /// First byte in that blob, a multiple of `erofs::BLOCK_SIZE`; 0 when the file is empty.
    pub start: u64,
}

impl Name {
    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidName`].
    pub fn new(bytes: &[u8]) -> Result<Self, InvalidName> {
        let forbidden = |byte: &u8| *byte == b'/' || *byte == 0;
        if bytes.is_empty()
            || bytes.len() > 255
            || bytes == b"."
            || bytes == b".."
            || bytes.iter().any(forbidden)
        {
            return Err(InvalidName);
        }
        Ok(Self(bytes.into()))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Look-ups without a [`Name`]: bytes that are no name are found nowhere.
impl std::borrow::Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl InodeId {
    /// Place in the tree: below [`Tree::len`].
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

impl Inode {
    /// An empty directory.
    #[must_use]
    pub fn directory(attributes: Attributes) -> Self {
        Self { attributes, content: Content::Directory(Directory::default()) }
    }
}

impl Tree {
    /// The inode that every tree has.
    pub const ROOT: InodeId = InodeId(0);

    /// An empty root directory.
    #[must_use]
    pub fn new(root: Attributes) -> Self {
        Self { inodes: vec![Inode::directory(root)] }
    }

    /// Inodes, those that no name leads to any more with them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inodes.len()
    }

    /// Inodes or names, whichever are more, and bytes of names, link texts and extended attributes.
    pub(crate) fn weight(&self) -> (u64, u64) {
        let (mut names, mut bytes) = (0, 0);
        for inode in &self.inodes {
            let xattrs = inode.attributes.xattrs.iter();
            bytes += xattrs.map(|(name, value)| name.len() + value.len()).sum::<usize>();
            match &inode.content {
                Content::Directory(directory) => {
                    names += directory.entries.len();
                    bytes += directory.entries.keys().map(|name| name.0.len()).sum::<usize>();
                }
                Content::Symlink(text) => bytes += text.len(),
                _ => {}
            }
        }
        (names.max(self.inodes.len()) as u64, bytes as u64)
    }

    /// Never: there is a root.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inodes.is_empty()
    }

    /// An inode.
    ///
    /// # Panics
    /// When the id is of another tree.
    #[must_use]
    pub fn inode(&self, id: InodeId) -> &Inode {
        &self.inodes[id.0 as usize]
    }

    /// An inode, to be changed.
    ///
    /// # Panics
    /// When the id is of another tree.
    pub fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        &mut self.inodes[id.0 as usize]
    }

    /// The directory at `id`; `None` when it is something else.
    #[must_use]
    pub fn directory(&self, id: InodeId) -> Option<&Directory> {
        match &self.inode(id).content {
            Content::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// The directory at `id`, to be changed.
    pub fn directory_mut(&mut self, id: InodeId) -> Option<&mut Directory> {
        match &mut self.inode_mut(id).content {
            Content::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// What `name` leads to in the directory `parent`.
    #[must_use]
    pub fn lookup(&self, parent: InodeId, name: &Name) -> Option<InodeId> {
        self.directory(parent)?.entries.get(name).copied()
    }

    /// Adds an inode that no name leads to yet.
    ///
    /// # Panics
    /// With more than 2³² inodes; every reader bounds them far below.
    pub fn add(&mut self, inode: Inode) -> InodeId {
        let id = InodeId(u32::try_from(self.inodes.len()).expect("readers bound the inodes"));
        self.inodes.push(inode);
        id
    }

    /// Makes `name` in `parent` lead to `id`, in place of what it led to; false when `parent` is not
    /// a directory. Never link a directory twice.
    pub fn link(&mut self, parent: InodeId, name: Name, id: InodeId) -> bool {
        match self.directory_mut(parent) {
            Some(directory) => {
                directory.entries.insert(name, id);
                true
            }
            None => false,
        }
    }

    /// Removes `name` from `parent`.
    pub fn unlink(&mut self, parent: InodeId, name: &Name) -> Option<InodeId> {
        self.directory_mut(parent)?.entries.remove(name)
    }
}
