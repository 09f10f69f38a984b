//! The metadata of an image, read back.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::tree::{Attributes, Content, DeviceNumber, Directory, FileData, Inode, Tree};

use super::format::{
    DataLayout, HEADER_SIZE, INODE_SIZE, Kind, RawInode, SLOT_SIZE, Superblock, decode_device,
};
use super::{dirents, xattrs};

/// Bytes per read.
const WINDOW: usize = 256 << 10;

/// An image that this crate did not write, or that changed since.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Reading the file.
    #[error("reading a file-system image")]
    Io(#[from] io::Error),
    /// What is wrong with it.
    #[error("damaged file-system image: {0}")]
    Damaged(&'static str),
}

/// Reads the metadata of a layer blob.
///
/// # Errors
/// Of the file, or [`ReadError::Damaged`].
pub fn read_layer(file: &File) -> Result<Tree, ReadError> {
    Reader::new(file, file.metadata()?.len(), None)?.read()
}

/// Reads an index; `layers` are the lengths of its layers' blobs, the lowest first.
///
/// # Errors
/// Of the file, or [`ReadError::Damaged`].
pub fn read_index(file: &File, layers: &[u64]) -> Result<Tree, ReadError> {
    Reader::new(file, file.metadata()?.len(), Some(layers))?.read()
}

/// [`read_layer`] of bytes.
#[cfg(feature = "fuzzing")]
pub(super) fn read_bytes(bytes: &[u8]) -> Result<Tree, ReadError> {
    Reader::new(bytes, bytes.len() as u64, None)?.read()
}

/// Bytes at any place.
trait Source: Copy {
    fn fill(self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Source for &File {
    fn fill(self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

#[cfg(feature = "fuzzing")]
impl Source for &[u8] {
    fn fill(self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = self.get(start..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A source through a buffer that follows the reader forwards.
struct Window<S> {
    source: S,
    length: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<S: Source> Window<S> {
    /// Callers ask for 256 KiB at most, so that this bounds the memory.
    fn get(&mut self, offset: u64, length: u64) -> Result<&[u8], ReadError> {
        let end = offset.checked_add(length).filter(|end| *end <= self.length);
        let end = end.ok_or(ReadError::Damaged("metadata behind the end"))?;
        if offset < self.start || end > self.start + self.bytes.len() as u64 {
            let size = (self.length - offset).min(length.max(WINDOW as u64));
            let size = usize::try_from(size).map_err(|_large| ReadError::Damaged("size"))?;
            self.bytes.resize(size, 0);
            self.start = offset;
            self.source.fill(&mut self.bytes, offset)?;
        }
        let from = (offset - self.start) as usize;
        Ok(&self.bytes[from..from + length as usize])
    }
}

struct Reader<'a, S> {
    superblock: Superblock,
    /// One window for each of the three places that the reader goes through from front to back.
    inodes: Window<S>,
    inline: Window<S>,
    blocks: Window<S>,
    /// Of an index.
    layers: Option<&'a [u64]>,
    /// What may still be read as entries, texts and attributes: no byte of an honest image is read
    /// twice, so a small image cannot make a large tree.
    budget: u64,
}

/// An inode, and where its content is when that is metadata.
struct Found {
    inode: Inode,
    content: Place,
}

/// Where a directory's or link's content is, in bytes.
#[derive(Debug, Clone, Copy)]
struct Place {
    layout: DataLayout,
    offset: u64,
    size: u64,
}

impl<'a, S: Source> Reader<'a, S> {
    fn new(source: S, length: u64, layers: Option<&'a [u64]>) -> Result<Self, ReadError> {
        let window = || Window { source, length, start: 0, bytes: Vec::new() };
        let mut inodes = window();
        let header = inodes.get(0, HEADER_SIZE)?;
        let superblock = Superblock::decode(header).map_err(ReadError::Damaged)?;
        Ok(Self { superblock, inodes, inline: window(), blocks: window(), layers, budget: length })
    }

    fn read(mut self) -> Result<Tree, ReadError> {
        let root = u64::from(self.superblock.root_nid);
        let found = self.inode(root)?;
        let mut tree = Tree::new(Attributes::default());
        *tree.inode_mut(Tree::ROOT) = found.inode;
        if tree.directory(Tree::ROOT).is_none() {
            return Err(ReadError::Damaged("root is no directory"));
        }
        let mut known = HashMap::from([(root, Tree::ROOT)]);
        let mut directories = VecDeque::from([(Tree::ROOT, found.content)]);
        while let Some((parent, content)) = directories.pop_front() {
            for entry in self.entries(content)? {
                let id = match known.get(&entry.nid) {
                    // A second name of a directory would be a cycle or worse.
                    Some(id) if tree.directory(*id).is_some() => {
                        return Err(ReadError::Damaged("a directory with two names"));
                    }
                    Some(id) => *id,
                    None => {
                        let found = self.inode(entry.nid)?;
                        let id = tree.add(found.inode);
                        known.insert(entry.nid, id);
                        if tree.directory(id).is_some() {
                            directories.push_back((id, found.content));
                        }
                        id
                    }
                };
                if Kind::of(&tree.inode(id).content).file_type() != entry.file_type {
                    return Err(ReadError::Damaged("kind of a file"));
                }
                tree.link(parent, entry.name, id);
            }
        }
        Ok(tree)
    }

    fn inode(&mut self, nid: u64) -> Result<Found, ReadError> {
        let block = self.superblock.block;
        let meta = u64::from(self.superblock.meta_block) * block.bytes();
        let at = nid.checked_mul(SLOT_SIZE).and_then(|offset| offset.checked_add(meta));
        let at = at.ok_or(ReadError::Damaged("number of an inode"))?;
        let raw = self.inodes.get(at, INODE_SIZE)?;
        let raw = raw.first_chunk().ok_or(ReadError::Damaged("end of an inode"))?;
        let raw = RawInode::decode(raw).map_err(ReadError::Damaged)?;
        let (behind, extra) = self.extra(at + INODE_SIZE, raw.xattr_count)?;
        let attributes = Attributes {
            mode: raw.permissions,
            uid: raw.uid,
            gid: raw.gid,
            mtime: raw.mtime,
            xattrs: extra.xattrs,
        };
        let content = self.place(&raw, behind)?;
        let content_of_kind = match raw.kind {
            Kind::Directory => Content::Directory(Directory {
                opaque: extra.opaque,
                implied: extra.implied,
                ..Directory::default()
            }),
            Kind::File => Content::File(self.data(&raw)?),
            Kind::Symlink => Content::Symlink(self.symlink(content)?),
            Kind::CharDevice => match decode_device(raw.union) {
                DeviceNumber { major: 0, minor: 0 } => Content::Whiteout,
                device => Content::CharDevice(device),
            },
            Kind::BlockDevice => Content::BlockDevice(decode_device(raw.union)),
            Kind::Fifo => Content::Fifo,
            Kind::Socket => Content::Socket,
        };
        Ok(Found { inode: Inode { attributes, content: content_of_kind }, content })
    }

    /// The attributes at `at`, and where they end.
    fn extra(&mut self, at: u64, count: u16) -> Result<(u64, xattrs::Decoded), ReadError> {
        let size = xattrs::size(count);
        self.spend(size)?;
        if size == 0 {
            return Ok((at, xattrs::Decoded::default()));
        }
        let raw = self.inodes.get(at, size)?;
        Ok((at + size, xattrs::decode(raw).map_err(ReadError::Damaged)?))
    }

    /// Where the content is, if the inode is a directory or link.
    fn place(&mut self, raw: &RawInode, behind: u64) -> Result<Place, ReadError> {
        let block = self.superblock.block.bytes();
        let place = |offset| Place { layout: raw.layout, offset, size: raw.size };
        if !matches!(raw.kind, Kind::Directory | Kind::Symlink) {
            return Ok(place(0));
        }
        self.spend(raw.size)?;
        match raw.layout {
            DataLayout::Plain => Ok(place(u64::from(raw.union) * block)),
            // The kernel refuses content that crosses a block, and so do we.
            DataLayout::Inline if behind % block + raw.size.min(block + 1) <= block => {
                Ok(place(behind))
            }
            DataLayout::Inline => Err(ReadError::Damaged("content crosses a block")),
        }
    }

    fn entries(&mut self, content: Place) -> Result<Vec<dirents::Entry>, ReadError> {
        let Place { layout, mut offset, size } = content;
        let end = offset.checked_add(size).ok_or(ReadError::Damaged("size of a directory"))?;
        let mut entries = Vec::new();
        while offset < end {
            let length = (end - offset).min(self.superblock.block.bytes());
            let raw = match layout {
                DataLayout::Inline => self.inline.get(offset, length)?,
                DataLayout::Plain => self.blocks.get(offset, length)?,
            };
            dirents::decode(raw, &mut entries).map_err(ReadError::Damaged)?;
            offset += length;
        }
        Ok(entries)
    }

    fn symlink(&mut self, content: Place) -> Result<Box<[u8]>, ReadError> {
        let Place { layout, offset, size } = content;
        if !(1..=4095).contains(&size) {
            return Err(ReadError::Damaged("length of a symbolic link"));
        }
        let text = match layout {
            DataLayout::Inline => self.inodes.get(offset, size)?,
            DataLayout::Plain => self.blocks.get(offset, size)?,
        };
        if text.contains(&0) {
            return Err(ReadError::Damaged("text of a symbolic link"));
        }
        Ok(text.into())
    }

    /// Where a file's data is: in the blob, or in which layer behind the index.
    fn data(&self, raw: &RawInode) -> Result<FileData, ReadError> {
        let outside = || ReadError::Damaged("a file's data is not in its layer");
        if raw.size == 0 {
            return Ok(FileData::default());
        }
        if raw.layout != DataLayout::Plain {
            return Err(ReadError::Damaged("a file's data among the metadata"));
        }
        let mut start = u64::from(raw.union) * self.superblock.block.bytes();
        let (layers, mut layer) = match self.layers {
            None => (std::slice::from_ref(&self.inodes.length), 0),
            Some(layers) => {
                start = start.checked_sub(self.inodes.length).ok_or_else(outside)?;
                (layers, 0)
            }
        };
        for length in layers {
            if start < *length {
                let fits = raw.size <= length - start;
                let data = FileData { size: raw.size, layer, start };
                return fits.then_some(data).ok_or_else(outside);
            }
            start -= length;
            layer = layer.checked_add(1).ok_or_else(outside)?;
        }
        Err(outside())
    }

    fn spend(&mut self, bytes: u64) -> Result<(), ReadError> {
        let left = self.budget.checked_sub(bytes);
        self.budget = left.ok_or(ReadError::Damaged("metadata overlaps"))?;
        Ok(())
    }
}
