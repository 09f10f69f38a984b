//! A layer's tree while its entries arrive.

use super::path::{self, Parents, Target};
use super::{LayerError, Limits};
use crate::tree::{Attributes, Content, DeviceNumber, Directory, Inode, InodeId, Name, Tree};

/// Extended attributes of one file, names and values, in bytes.
const XATTRS_MAX: usize = 128 * 1024;
/// Longest value of an extended attribute in bytes: EROFS has 16 bits for it.
const XATTR_VALUE_MAX: usize = 0xffff;
/// Longest text of a symbolic link in bytes.
const SYMLINK_MAX: usize = 4095;

/// What makes an entry one that no layer can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// No path, or one of more than 4096 bytes.
    #[error("its path is empty or too long")]
    PathLength,
    /// A component that is `..`, has a NUL, or more than 255 bytes.
    #[error("{0:?} is no name in a directory")]
    Component(String),
    /// A whiteout of the root, of `.` or `..`, or something below a whiteout.
    #[error("a whiteout has to hide a name")]
    Whiteout,
    /// Below a symbolic link or a file of this layer.
    #[error("it is below something that is no directory in this layer")]
    Parent,
    /// The root as something else.
    #[error("the root has to be a directory")]
    Root,
    /// A hard link to a name that this layer did not have before.
    #[error("the hard link's target {0:?} is not in this layer")]
    LinkTarget(String),
    /// A hard link to a directory.
    #[error("a directory cannot have hard links")]
    LinkToDirectory,
    /// A symbolic link with no text, with a NUL, or with more than 4095 bytes.
    #[error("the symbolic link's text is empty or too long")]
    Symlink,
    /// A character device 0:0.
    #[error("a character device 0:0 would be a whiteout")]
    Device,
    /// More extended attributes than a file can have.
    #[error("its extended attributes are too long")]
    Xattrs,
    /// [`Limits::entries`].
    #[error("the layer has more than {0} entries")]
    TooManyEntries(u64),
    /// [`Limits::metadata_bytes`].
    #[error("the layer has more than {0} bytes of names and attributes")]
    TooMuchMetadata(u64),
}

/// A tree under construction, and what it may still cost.
#[derive(Debug)]
pub(super) struct Assembly {
    tree: Tree,
    limits: Limits,
    entries: u64,
    metadata: u64,
    bytes: u64,
}

impl Assembly {
    pub(super) fn new(limits: &Limits) -> Self {
        let mut tree = Tree::new(implied());
        if let Some(root) = tree.directory_mut(Tree::ROOT) {
            root.implied = true;
        }
        Self { tree, limits: limits.clone(), entries: 0, metadata: 0, bytes: 0 }
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.tree
    }

    pub(super) fn into_tree(self) -> Tree {
        self.tree
    }

    /// Counts the content of a file before it is written.
    pub(super) fn count_bytes(&mut self, bytes: u64) -> Result<(), LayerError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.limits.bytes {
            return Err(LayerError::TooLong(self.limits.bytes));
        }
        Ok(())
    }

    /// Puts a file at its place, or applies the whiteout that it stands for. The inode's id, where
    /// there is one.
    pub(super) fn place(
        &mut self,
        target: Target<'_>,
        mut attributes: Attributes,
        content: Content,
    ) -> Result<Option<InodeId>, EntryError> {
        match target {
            Target::Ignored => return Ok(None),
            Target::Whiteout(parents, name) => return self.hide(parents, name).map(|()| None),
            Target::Opaque(parents) => return self.make_opaque(parents).map(|()| None),
            Target::Root | Target::Named(..) => {}
        }
        attributes.xattrs.retain(|name, _| is_kept(name));
        let metadata = check(&attributes, &content)?;
        let directory = matches!(content, Content::Directory(_));
        let (parent, name) = match target {
            Target::Named(parents, name) => (self.parent(parents)?, name),
            _ if !directory => return Err(EntryError::Root),
            _ => {
                self.count(metadata)?;
                self.describe(Tree::ROOT, attributes);
                return Ok(Some(Tree::ROOT));
            }
        };
        self.count(metadata + name.as_bytes().len())?;
        let existing = self.tree.lookup(parent, &name);
        let id = match existing.filter(|id| directory && self.tree.directory(*id).is_some()) {
            Some(id) => {
                self.describe(id, attributes);
                id
            }
            None => {
                let id = self.tree.add(Inode { attributes, content });
                if let Some(directory) = self.tree.directory_mut(id) {
                    directory.opaque = existing.is_some();
                }
                self.tree.link(parent, name, id);
                id
            }
        };
        Ok(Some(id))
    }

    /// A directory that was there, or implied, comes as an entry.
    fn describe(&mut self, id: InodeId, attributes: Attributes) {
        self.tree.inode_mut(id).attributes = attributes;
        if let Some(directory) = self.tree.directory_mut(id) {
            directory.implied = false;
        }
    }

    /// Gives a file of this layer another name.
    pub(super) fn hard_link(&mut self, at: Target<'_>, existing: &[u8]) -> Result<(), EntryError> {
        let (parents, name) = match at {
            Target::Named(parents, name) => (parents, name),
            Target::Root => return Err(EntryError::Root),
            // A whiteout is one whatever its entry is.
            whiteout => {
                return self
                    .place(whiteout, Attributes::default(), Content::Fifo)
                    .map(|_no_inode| ());
            }
        };
        let id = self.find(existing)?;
        let parent = self.parent(parents)?;
        self.count(name.as_bytes().len())?;
        self.tree.link(parent, name, id);
        Ok(())
    }

    fn find(&self, path: &[u8]) -> Result<InodeId, EntryError> {
        let missing = || EntryError::LinkTarget(shown(path));
        let Target::Named(parents, name) = path::parse(path)? else { return Err(missing()) };
        let id = parents
            .names()
            .chain([name.as_bytes()])
            .try_fold(Tree::ROOT, |at, name| self.tree.directory(at)?.entries.get(name).copied())
            .ok_or_else(missing)?;
        match self.tree.inode(id).content {
            Content::Directory(_) => Err(EntryError::LinkToDirectory),
            Content::Whiteout => Err(missing()),
            _ => Ok(id),
        }
    }

    fn hide(&mut self, parents: Parents<'_>, name: Name) -> Result<(), EntryError> {
        let parent = self.parent(parents)?;
        match self.tree.lookup(parent, &name) {
            // The layer's own content stays; it hides what a lower layer has at this name anyway,
            // unless both are directories.
            Some(id) => {
                if let Some(directory) = self.tree.directory_mut(id) {
                    directory.opaque = true;
                }
            }
            None => {
                self.count(name.as_bytes().len())?;
                let attributes = Attributes::default();
                let id = self.tree.add(Inode { attributes, content: Content::Whiteout });
                self.tree.link(parent, name, id);
            }
        }
        Ok(())
    }

    fn make_opaque(&mut self, parents: Parents<'_>) -> Result<(), EntryError> {
        let id = self.parent(parents)?;
        if let Some(directory) = self.tree.directory_mut(id) {
            directory.opaque = true;
        }
        Ok(())
    }

    /// The directory that these names lead to, made where it is missing.
    fn parent(&mut self, parents: Parents<'_>) -> Result<InodeId, EntryError> {
        let mut at = Tree::ROOT;
        for name in parents.names() {
            let directory = self.tree.directory(at).ok_or(EntryError::Parent)?;
            let existing = directory.entries.get(name).copied();
            let hidden = match existing.map(|id| (id, &self.tree.inode(id).content)) {
                Some((id, Content::Directory(_))) => {
                    at = id;
                    continue;
                }
                Some((_, Content::Whiteout)) => true,
                Some(_) => return Err(EntryError::Parent),
                None => false,
            };
            let name = Name::new(name).map_err(|_| EntryError::component(name))?;
            self.count(name.as_bytes().len())?;
            let content = Directory { opaque: hidden, implied: true, ..Directory::default() };
            let content = Content::Directory(content);
            let id = self.tree.add(Inode { attributes: implied(), content });
            self.tree.link(at, name, id);
            at = id;
        }
        Ok(at)
    }

    fn count(&mut self, metadata: usize) -> Result<(), EntryError> {
        self.entries += 1;
        self.metadata = self.metadata.saturating_add(metadata as u64);
        if self.entries > self.limits.entries {
            return Err(EntryError::TooManyEntries(self.limits.entries));
        }
        if self.metadata > self.limits.metadata_bytes {
            return Err(EntryError::TooMuchMetadata(self.limits.metadata_bytes));
        }
        Ok(())
    }
}

impl EntryError {
    pub(super) fn component(name: &[u8]) -> Self {
        Self::Component(shown(name))
    }
}

/// Of a directory that no entry made.
fn implied() -> Attributes {
    Attributes { mode: 0o755, ..Attributes::default() }
}

/// Bytes of metadata beside the name.
fn check(attributes: &Attributes, content: &Content) -> Result<usize, EntryError> {
    let mut bytes = 0;
    for (name, value) in &attributes.xattrs {
        bytes += name.len() + value.len();
        if value.len() > XATTR_VALUE_MAX || bytes > XATTRS_MAX {
            return Err(EntryError::Xattrs);
        }
    }
    match content {
        Content::Symlink(text)
            if text.is_empty() || text.len() > SYMLINK_MAX || text.contains(&0) =>
        {
            Err(EntryError::Symlink)
        }
        Content::Symlink(text) => Ok(bytes + text.len()),
        Content::CharDevice(DeviceNumber { major: 0, minor: 0 }) => Err(EntryError::Device),
        _ => Ok(bytes),
    }
}

/// Whether an image can have such an attribute, and overlayfs does not read it as its own.
fn is_kept(name: &[u8]) -> bool {
    crate::erofs::is_stored(name) && !name.starts_with(b"user.overlay.")
}

/// The start of a name as text.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name.get(..200).unwrap_or(name)).into_owned()
}
