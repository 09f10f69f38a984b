//! Where each inode of a tree goes, before anything of it is written.

use crate::tree::{Content, InodeId, Tree};

use super::format::{INODE_SIZE, SLOT_SIZE};
use super::{BlockSize, WriteError, dirents, xattrs};

/// Inode numbers start here: 0 means "no entry" to some programs.
const FIRST_SLOT: u64 = 2;

/// Places of all inodes that the root leads to, directory by directory, the root first.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) block: BlockSize,
    pub(super) order: Vec<InodeId>,
    /// By [`InodeId::index`].
    places: Vec<Place>,
    /// Length of the inodes with what is behind them, in bytes, a multiple of the block size.
    pub(super) inodes_size: u64,
    /// Length of the contents in blocks of their own.
    pub(super) contents_size: u64,
}

/// Where an inode is, and what follows from where its names are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) nid: u32,
    /// Names, and for a directory `.` and the `..` of its directories.
    pub(super) links: u32,
    /// Of a directory: where its `..` leads.
    pub(super) parent: InodeId,
    /// Of a directory or symbolic link.
    pub(super) content: Payload,
}

/// Where a directory's entries or a link's text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Payload {
    /// No such content.
    None,
    /// Behind the inode.
    Inline { size: u32 },
    /// In blocks: the first of them, counted from the end of the inodes.
    Blocks { first: u32, size: u64 },
}

impl Layout {
    pub(super) fn new(tree: &Tree, block: BlockSize) -> Result<Self, WriteError> {
        let nowhere = Place { nid: 0, links: 0, parent: Tree::ROOT, content: Payload::None };
        let mut layout = Self {
            block,
            order: Vec::with_capacity(tree.len()),
            places: vec![nowhere; tree.len()],
            inodes_size: 0,
            contents_size: 0,
        };
        layout.collect(tree)?;
        let mut end = FIRST_SLOT * SLOT_SIZE;
        for at in 0..layout.order.len() {
            end = layout.place(tree, layout.order[at], end)?;
        }
        layout.inodes_size = end.next_multiple_of(block.bytes());
        Ok(layout)
    }

    pub(super) fn of(&self, id: InodeId) -> &Place {
        &self.places[id.index()]
    }

    /// Lists what the root leads to, breadth first, and counts names.
    fn collect(&mut self, tree: &Tree) -> Result<(), WriteError> {
        self.order.push(Tree::ROOT);
        self.places[Tree::ROOT.index()].links = 2;
        let mut at = 0;
        while let Some(&parent) = self.order.get(at) {
            at += 1;
            let Some(directory) = tree.directory(parent) else { continue };
            for &child in directory.entries.values() {
                let is_directory = tree.directory(child).is_some();
                let place = &mut self.places[child.index()];
                let seen = place.links != 0;
                if is_directory && seen {
                    return Err(WriteError::Tree("a directory with two names"));
                }
                place.links += if is_directory { 2 } else { 1 };
                place.parent = parent;
                if is_directory {
                    self.places[parent.index()].links += 1;
                }
                if !seen {
                    self.order.push(child);
                }
            }
        }
        Ok(())
    }

    /// Places one inode at `end` or soon behind; returns where it ends.
    fn place(&mut self, tree: &Tree, id: InodeId, end: u64) -> Result<u64, WriteError> {
        let inode = tree.inode(id);
        let size = match &inode.content {
            Content::Directory(directory) => dirents::measure(directory, self.block),
            Content::Symlink(text) => symlink_size(text)?,
            _ => 0,
        };
        let fixed = INODE_SIZE + xattrs::measure(inode)?.0;
        let block = self.block.bytes();
        let (content, inline) = match size {
            0 => (Payload::None, 0),
            size if fixed + size <= block => (Payload::Inline { size: size as u32 }, size),
            size => {
                let first = self.block.address(self.contents_size)?;
                self.contents_size += self.block.blocks(size) * block;
                (Payload::Blocks { first, size }, 0)
            }
        };
        // What is inline may not cross a block; the inode itself may, but is then read in two steps.
        let whole = if fixed + inline <= block { fixed + inline } else { INODE_SIZE };
        let mut start = end.next_multiple_of(SLOT_SIZE);
        if start / block != (start + whole - 1) / block {
            start = start.next_multiple_of(block);
        }
        let place = &mut self.places[id.index()];
        place.nid = u32::try_from(start / SLOT_SIZE).map_err(|_too_large| WriteError::TooLarge)?;
        place.content = content;
        Ok(start + fixed + inline)
    }
}

fn symlink_size(text: &[u8]) -> Result<u64, WriteError> {
    match text.len() {
        1..=4095 if !text.contains(&0) => Ok(text.len() as u64),
        _ => Err(WriteError::Tree("text of a symbolic link")),
    }
}
