//! Layers of files on this host, without an archive.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};

use super::assembly::{Assembly, EntryError};
use super::path::{self, Target};
use super::{Layer, LayerError, Limits};
use crate::digest::{Digest, Hasher};
use crate::erofs::BlobWriter;
use crate::tree::{Attributes, Content, DeviceNumber, Directory, FileData, InodeId, Tree};

/// Starts what is hashed for a layer's digest, so that it is the digest of nothing else.
const VERSION: &[u8] = b"matchlock-layer-v1\n";
/// Bytes that are copied at a time.
const BUFFER: usize = 256 * 1024;

/// Makes a layer file by file. Paths and replacements mean what they mean in an archive (see
/// [`super`]); names of whiteouts are refused, there are methods for them.
#[derive(Debug)]
pub struct Builder {
    assembly: Assembly,
    blob: BlobWriter,
    contents: HashMap<InodeId, Digest>,
    unpacked: u64,
    buffer: Box<[u8]>,
}

/// What is neither directory nor file nor link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// A character device, other than 0:0.
    CharDevice(DeviceNumber),
    /// A block device.
    BlockDevice(DeviceNumber),
    /// A named pipe.
    Fifo,
}

impl Builder {
    /// A layer that is written to `file`, which is empty.
    ///
    /// # Errors
    /// [`LayerError::Write`].
    pub fn new(file: File) -> Result<Self, LayerError> {
        Ok(Self {
            assembly: Assembly::new(&Limits::default()),
            blob: BlobWriter::new(file).map_err(LayerError::Write)?,
            contents: HashMap::new(),
            unpacked: 0,
            buffer: vec![0; BUFFER].into_boxed_slice(),
        })
    }

    /// Adds a directory, or gives the one that is there other attributes. `/` is the root.
    ///
    /// # Errors
    /// [`LayerError::Entry`].
    pub fn add_dir(&mut self, path: &[u8], attributes: Attributes) -> Result<(), LayerError> {
        self.place(path, attributes, Content::Directory(Directory::default())).map(|_id| ())
    }

    /// Adds a regular file with what `content` holds up to its end.
    ///
    /// # Errors
    /// Any but those of archives; [`LayerError::Input`] when `content` fails.
    pub fn add_file(
        &mut self,
        path: &[u8],
        attributes: Attributes,
        content: impl Read,
    ) -> Result<(), LayerError> {
        let (data, digest) = self.write_content(content)?;
        let id = self.place(path, attributes, Content::File(data))?;
        self.contents.insert(id, digest);
        Ok(())
    }

    /// Adds a symbolic link with the text `target`.
    ///
    /// # Errors
    /// [`LayerError::Entry`].
    pub fn add_symlink(
        &mut self,
        path: &[u8],
        attributes: Attributes,
        target: &[u8],
    ) -> Result<(), LayerError> {
        self.place(path, attributes, Content::Symlink(target.into())).map(|_id| ())
    }

    /// Adds another name of a file of this layer.
    ///
    /// # Errors
    /// [`LayerError::Entry`].
    pub fn add_hard_link(&mut self, path: &[u8], existing: &[u8]) -> Result<(), LayerError> {
        let refused = |source| LayerError::entry(path, source);
        let target = named(path).map_err(refused)?;
        self.assembly.hard_link(target, existing).map_err(refused)
    }

    /// Adds a device or a named pipe.
    ///
    /// # Errors
    /// [`LayerError::Entry`].
    pub fn add_node(
        &mut self,
        path: &[u8],
        attributes: Attributes,
        kind: NodeKind,
    ) -> Result<(), LayerError> {
        let content = match kind {
            NodeKind::CharDevice(number) => Content::CharDevice(number),
            NodeKind::BlockDevice(number) => Content::BlockDevice(number),
            NodeKind::Fifo => Content::Fifo,
        };
        self.place(path, attributes, content).map(|_id| ())
    }

    /// Hides what lower layers have at `path`.
    ///
    /// # Errors
    /// [`LayerError::Entry`].
    pub fn add_whiteout(&mut self, path: &[u8]) -> Result<(), LayerError> {
        let refused = |source| LayerError::entry(path, source);
        let target = match named(path).map_err(refused)? {
            Target::Named(parents, name) => Target::Whiteout(parents, name),
            _ => return Err(refused(EntryError::Whiteout)),
        };
        let hidden = self.assembly.place(target, Attributes::default(), Content::Whiteout);
        hidden.map(|_no_inode| ()).map_err(refused)
    }

    /// The layer. Its digest is one over names, attributes and contents of its files, the same
    /// whatever order they were added in; it is the digest of no archive.
    ///
    /// # Errors
    /// [`LayerError::FileSystem`].
    pub fn finish(self) -> Result<Layer, LayerError> {
        let diff_id = digest(self.assembly.tree(), &self.contents);
        let tree = self.assembly.into_tree();
        let file = self.blob.finish(&tree).map_err(LayerError::FileSystem)?;
        Ok(Layer { diff_id, file, tree, unpacked: self.unpacked })
    }

    fn place(
        &mut self,
        path: &[u8],
        attributes: Attributes,
        content: Content,
    ) -> Result<InodeId, LayerError> {
        let refused = |source| LayerError::entry(path, source);
        let target = named(path).map_err(refused)?;
        let id = self.assembly.place(target, attributes, content).map_err(refused)?;
        id.ok_or_else(|| refused(EntryError::Whiteout))
    }

    fn write_content(&mut self, mut content: impl Read) -> Result<(FileData, Digest), LayerError> {
        let mut hasher = Hasher::default();
        let mut begun = false;
        loop {
            let length = match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(LayerError::Input(error)),
            };
            if !std::mem::replace(&mut begun, true) {
                self.blob.begin().map_err(LayerError::Write)?;
            }
            let bytes = &self.buffer[..length];
            self.assembly.count_bytes(length as u64)?;
            self.unpacked += length as u64;
            hasher.update(bytes);
            self.blob.write(bytes).map_err(LayerError::Write)?;
        }
        // An empty file is nowhere.
        let data = if begun { self.blob.end().map_err(LayerError::Write)? } else { <_>::default() };
        Ok((data, hasher.finish()))
    }
}

/// A path of a file.
fn named(path: &[u8]) -> Result<Target<'_>, EntryError> {
    let target = path::parse(path)?;
    if target.is_file() { Ok(target) } else { Err(EntryError::Whiteout) }
}

/// A digest over all that a layer says, independent of how it is stored.
fn digest(tree: &Tree, contents: &HashMap<InodeId, Digest>) -> Digest {
    let mut record = Record(Hasher::default());
    record.0.update(VERSION);
    let mut names: HashMap<InodeId, u64> = HashMap::new();
    let mut waiting = vec![(Tree::ROOT, 0)];
    let mut next = 0;
    // Depth first; numbers stand for parents and for earlier names of the same file.
    while let Some((id, parent)) = waiting.pop() {
        record.number(parent);
        if let Some(earlier) = names.get(&id) {
            record.number(1);
            record.number(*earlier);
            continue;
        }
        record.number(0);
        let number = next;
        next += 1;
        names.insert(id, number);
        let inode = tree.inode(id);
        record.attributes(&inode.attributes);
        match &inode.content {
            Content::File(data) => {
                record.bytes(b"file");
                record.number(data.size);
                record.bytes(contents.get(&id).map(Digest::hex).unwrap_or_default().as_bytes());
            }
            Content::Symlink(text) => {
                record.bytes(b"symlink");
                record.bytes(text);
            }
            Content::CharDevice(device) => record.device(b"char", *device),
            Content::BlockDevice(device) => record.device(b"block", *device),
            Content::Fifo => record.bytes(b"fifo"),
            Content::Socket => record.bytes(b"socket"),
            Content::Whiteout => record.bytes(b"whiteout"),
            Content::Directory(directory) => {
                record.bytes(b"directory");
                record.number(u64::from(directory.opaque) << 1 | u64::from(directory.implied));
                record.number(directory.entries.len() as u64);
                for (name, child) in &directory.entries {
                    record.bytes(name.as_bytes());
                    waiting.push((*child, number));
                }
            }
        }
    }
    record.0.finish()
}

/// Fields one after the other, each with its length.
struct Record(Hasher);

impl Record {
    fn number(&mut self, value: u64) {
        self.0.update(&value.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn device(&mut self, kind: &[u8], number: DeviceNumber) {
        self.bytes(kind);
        self.number(number.major.into());
        self.number(number.minor.into());
    }

    fn attributes(&mut self, attributes: &Attributes) {
        let Attributes { mode, uid, gid, mtime, xattrs } = attributes;
        for value in [u64::from(*mode), (*uid).into(), (*gid).into(), mtime.1.into()] {
            self.number(value);
        }
        self.number(mtime.0.cast_unsigned());
        self.number(xattrs.len() as u64);
        for (name, value) in xattrs {
            self.bytes(name);
            self.bytes(value);
        }
    }
}
