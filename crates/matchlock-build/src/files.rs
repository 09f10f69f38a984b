//! Where COPY and ADD take files from: the context on this host, or another file system in the store.

use std::io::Read;

use super::root::{FileReader, PathError, Root};
use matchlock_image::layer::NodeKind;
use matchlock_image::tree::{Attributes, Content, InodeId, Name, Tree};

/// Why files of a source cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    /// Of the host.
    #[error("cannot read {path:?}")]
    Io {
        /// Relative to the source.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A path that leads nowhere.
    #[error("cannot follow {path:?}")]
    Path {
        /// Relative to the source.
        path: String,
        /// Why.
        #[source]
        source: PathError,
    },
    /// Not a file, a directory or a symbolic link.
    #[error("{0:?} is a socket, a device or a pipe: leave it out with .dockerignore")]
    Special(String),
}

/// One file of a source.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Owner, mode, times.
    pub(crate) attributes: Attributes,
    /// What it is.
    pub(crate) kind: Kind,
    /// A directory that is there only for what is seen in it.
    pub(crate) hidden: bool,
}

/// Kinds of files.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Directory,
    File,
    Symlink(Vec<u8>),
    Node(NodeKind),
}

/// A source of files. Paths are relative, without `.` and `..`; the empty one is the root.
pub(crate) trait Files {
    /// What a path leads to, symbolic links followed, never out of the source; with the path that has no
    /// links in it.
    fn find(&self, path: &[u8]) -> Result<Option<(Vec<u8>, Entry)>, FilesError>;

    /// What is in a directory, in the order of names. The path has no symbolic links in it.
    fn list(&self, path: &[u8]) -> Result<Vec<(Name, Entry)>, FilesError>;

    /// The bytes of a file. The path has no symbolic links in it.
    fn open(&self, path: &[u8]) -> Result<Box<dyn Read + Send>, FilesError>;
}

/// `parent/name`.
pub(crate) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    match parent {
        b"" => name.to_vec(),
        b"/" => [b"/", name].concat(),
        _ => [parent, b"/", name].concat(),
    }
}

/// For errors.
pub(crate) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(&path[..path.len().min(300)]).into_owned()
}

impl Root {
    fn entry(&self, id: InodeId) -> Option<Entry> {
        let inode = self.tree.inode(id);
        let kind = match &inode.content {
            Content::Directory(_) => Kind::Directory,
            Content::File(_) => Kind::File,
            Content::Symlink(text) => Kind::Symlink(text.to_vec()),
            Content::CharDevice(number) => Kind::Node(NodeKind::CharDevice(*number)),
            Content::BlockDevice(number) => Kind::Node(NodeKind::BlockDevice(*number)),
            Content::Fifo => Kind::Node(NodeKind::Fifo),
            Content::Socket | Content::Whiteout => return None,
        };
        Some(Entry { attributes: inode.attributes.clone(), kind, hidden: false })
    }

    fn at(&self, path: &[u8]) -> Option<InodeId> {
        let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        parts
            .into_iter()
            .try_fold(Tree::ROOT, |at, part| self.tree.lookup(at, &Name::new(part).ok()?))
    }
}

impl Files for Root {
    fn find(&self, path: &[u8]) -> Result<Option<(Vec<u8>, Entry)>, FilesError> {
        let place = match self.resolve(path, true) {
            Ok(place) => place,
            Err(PathError::NotDirectory) => return Ok(None),
            Err(source) => return Err(FilesError::Path { path: shown(path), source }),
        };
        let found = place.id.and_then(|id| self.entry(id));
        Ok(found.map(|entry| (place.path[1..].to_vec(), entry)))
    }

    fn list(&self, path: &[u8]) -> Result<Vec<(Name, Entry)>, FilesError> {
        let directory = self.at(path).and_then(|id| self.tree.directory(id));
        let entries = directory.into_iter().flat_map(|directory| &directory.entries);
        Ok(entries.filter_map(|(name, id)| Some((name.clone(), self.entry(*id)?))).collect())
    }

    fn open(&self, path: &[u8]) -> Result<Box<dyn Read + Send>, FilesError> {
        let content = self.at(path).map(|id| &self.tree.inode(id).content);
        match content {
            Some(Content::File(data)) => {
                let reader: FileReader = Root::open(self, *data);
                Ok(Box::new(reader))
            }
            _ => Err(FilesError::Io {
                path: shown(path),
                source: std::io::ErrorKind::NotFound.into(),
            }),
        }
    }
}
