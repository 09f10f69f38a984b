//! Metadata: inodes, directories and the superblock.

use std::fs::File;
use std::io;

use crate::digest::Hasher;
use crate::tree::{Content, DeviceNumber, FileData, InodeId, Tree};

use super::dirents::{self, Target};
use super::format::{
    DataLayout, HEADER_SIZE, Kind, RawInode, SLOT_SIZE, Superblock, encode_device,
};
use super::layout::{Layout, Payload};
use super::output::Output;
use super::{BlockSize, FILE_ALIGNMENT, WriteError, xattrs};

/// Writes the index of an image: the merged metadata `tree` of layers whose blobs are `layers` bytes
/// long, the lowest first. What `file` held is lost; nothing is synchronised with the disk yet.
///
/// As a disk: the index with the blobs behind it, in order and without gaps.
///
/// # Errors
/// Of the file, or [`WriteError`] for what the format cannot hold.
pub fn write_index(file: File, tree: &Tree, layers: &[u64]) -> Result<File, WriteError> {
    write_index_with(file, BlockSize::PRODUCT, tree, layers)
}

pub(super) fn write_index_with(
    file: File,
    block: BlockSize,
    tree: &Tree,
    layers: &[u64],
) -> Result<File, WriteError> {
    let layout = Layout::new(tree, block)?;
    let length = HEADER_SIZE + layout.inodes_size + layout.contents_size;
    let mut starts = vec![length.next_multiple_of(FILE_ALIGNMENT)];
    for length in layers {
        let last = starts.last().copied().unwrap_or_default();
        starts.push(last.checked_add(*length).ok_or(WriteError::TooLarge)?);
    }
    let output = Output::new(file, HEADER_SIZE)?;
    let spaces = starts.windows(2).map(|pair| (pair[0], pair[1])).collect();
    Metadata::new(tree, &layout, spaces, output).write()
}

/// Behind the data of a blob that `output` has already.
pub(super) fn finish_blob(
    mut output: Output,
    block: BlockSize,
    tree: &Tree,
) -> Result<File, WriteError> {
    output.align(FILE_ALIGNMENT)?;
    let layout = Layout::new(tree, block)?;
    let spaces = vec![(0, output.position())];
    Metadata::new(tree, &layout, spaces, output).write()
}

struct Metadata<'a> {
    tree: &'a Tree,
    layout: &'a Layout,
    /// Where each layer starts and ends in the address space.
    spaces: Vec<(u64, u64)>,
    output: Output,
    /// Where the inodes start.
    start: u64,
    hasher: Hasher,
}

impl<'a> Metadata<'a> {
    fn new(tree: &'a Tree, layout: &'a Layout, spaces: Vec<(u64, u64)>, output: Output) -> Self {
        let start = output.position();
        Self { tree, layout, spaces, output, start, hasher: Hasher::default() }
    }

    fn write(mut self) -> Result<File, WriteError> {
        let mut raw = Vec::new();
        for (number, id) in self.layout.order.iter().enumerate() {
            raw.clear();
            self.inode(*id, number, &mut raw)?;
            let place = u64::from(self.layout.of(*id).nid) * SLOT_SIZE + self.start;
            self.pad_to(place)?;
            self.put(&raw)?;
        }
        self.pad_to(self.start + self.layout.inodes_size)?;
        for id in &self.layout.order {
            if let Payload::Blocks { .. } = self.layout.of(*id).content {
                let content = self.content(*id);
                self.put(&content)?;
                self.align(self.layout.block.bytes())?;
            }
        }
        self.align(FILE_ALIGNMENT)?;
        let superblock = self.superblock()?;
        Ok(self.output.finish(&superblock.encode())?)
    }

    fn superblock(&mut self) -> Result<Superblock, WriteError> {
        let block = self.layout.block;
        let end = self.spaces.last().map_or(0, |(_, end)| *end).max(self.output.position());
        let digest = std::mem::take(&mut self.hasher).finish();
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&digest.as_bytes()[..16]);
        // RFC 9562, version 8: a value of the application's own making.
        uuid[6] = uuid[6] & 0x0f | 0x80;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        Ok(Superblock {
            block,
            // The root is placed first.
            root_nid: self.layout.of(Tree::ROOT).nid as u16,
            inodes: self.layout.order.len() as u64,
            blocks: block.address(end)?,
            meta_block: block.address(self.start)?,
            uuid,
        })
    }

    /// The inode and all that is behind it.
    fn inode(&self, id: InodeId, number: usize, raw: &mut Vec<u8>) -> Result<(), WriteError> {
        let inode = self.tree.inode(id);
        let attributes = &inode.attributes;
        let place = self.layout.of(id);
        let (layout, mut size, mut union) = match place.content {
            Payload::None => (DataLayout::Plain, 0, 0),
            Payload::Inline { size } => (DataLayout::Inline, u64::from(size), 0),
            Payload::Blocks { first, size } => {
                let inodes_end = self.layout.block.address(self.start + self.layout.inodes_size)?;
                let first = inodes_end.checked_add(first).ok_or(WriteError::TooLarge)?;
                (DataLayout::Plain, size, first)
            }
        };
        match &inode.content {
            Content::File(data) => (size, union) = (data.size, self.address(data)?),
            Content::CharDevice(device) if *device == (DeviceNumber { major: 0, minor: 0 }) => {
                return Err(WriteError::Device { major: 0, minor: 0 });
            }
            Content::CharDevice(device) | Content::BlockDevice(device) => {
                let DeviceNumber { major, minor } = *device;
                union = encode_device(*device).ok_or(WriteError::Device { major, minor })?;
            }
            _ => {}
        }
        if attributes.mode > 0o7777 || attributes.mtime.1 >= 1_000_000_000 {
            return Err(WriteError::Tree("mode or time of a file"));
        }
        let (_, xattr_count) = xattrs::measure(inode)?;
        let fixed = RawInode {
            layout,
            xattr_count,
            kind: Kind::of(&inode.content),
            permissions: attributes.mode,
            size,
            union,
            ino: u32::try_from(number + 1).unwrap_or(u32::MAX),
            uid: attributes.uid,
            gid: attributes.gid,
            mtime: attributes.mtime,
            links: place.links,
        };
        raw.extend_from_slice(&fixed.encode());
        xattrs::encode(inode, raw);
        if layout == DataLayout::Inline {
            raw.extend_from_slice(&self.content(id));
        }
        Ok(())
    }

    /// A directory's entries or a link's text.
    fn content(&self, id: InodeId) -> Vec<u8> {
        match &self.tree.inode(id).content {
            Content::Directory(directory) => {
                dirents::encode(directory, self.layout.block, |target| self.resolve(id, target))
            }
            Content::Symlink(text) => text.to_vec(),
            _ => Vec::new(),
        }
    }

    fn resolve(&self, directory: InodeId, target: Target) -> (u64, u8) {
        let id = match target {
            Target::Own => directory,
            Target::Parent => self.layout.of(directory).parent,
            Target::Child(id) => id,
        };
        let kind = Kind::of(&self.tree.inode(id).content);
        (self.layout.of(id).nid.into(), kind.file_type())
    }

    /// The block address of a file's data.
    fn address(&self, data: &FileData) -> Result<u32, WriteError> {
        if data.size == 0 {
            return Ok(0);
        }
        let misplaced = WriteError::Tree("a file's data is not in its layer");
        let Some((start, end)) = self.spaces.get(usize::from(data.layer)) else {
            return Err(misplaced);
        };
        let start = start.checked_add(data.start);
        let data_end = start.and_then(|start| start.checked_add(data.size));
        match (start, data_end) {
            (Some(start), Some(data_end))
                if data_end <= *end && start % self.layout.block.bytes() == 0 =>
            {
                self.layout.block.address(start)
            }
            _ => Err(misplaced),
        }
    }

    fn pad_to(&mut self, position: u64) -> io::Result<()> {
        self.output.zeros(position - self.output.position())
    }

    fn align(&mut self, unit: u64) -> io::Result<()> {
        self.output.align(unit)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.output.write(bytes)
    }
}
