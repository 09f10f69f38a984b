//! EROFS images: how a layer's files and an image's merged metadata are stored (Linux
//! `fs/erofs/erofs_fs.h`, Documentation/filesystems/erofs.rst).
//!
//! ```text
//!   layer blob:  0 │ superblock │ 4096 … data of files │ inodes │ directories, long links │ padding
//!   index:       0 │ superblock │ 4096 … inodes │ directories, long links │ padding ║ layer 0 ║ layer 1 …
//! ```
//!
//! Nothing is compressed. Every inode is an extended one with its attributes behind it, a short
//! symbolic link or directory behind these, and a regular file is one run of blocks. An index has no
//! data: its files' block addresses point behind its own end, as if the layers followed it on one disk.
//! Equal input gives equal bytes: no clock, no random number, order of the tree.

mod data;
mod dirents;
mod format;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod layout;
mod output;
mod read;
mod write;
mod xattrs;

use std::io;

pub use data::BlobWriter;
pub use read::{ReadError, read_index, read_layer};
pub use write::write_index;
pub(crate) use xattrs::is_stored;

/// Unit in which a file's data is addressed, in bytes.
pub const BLOCK_SIZE: u64 = BlockSize::PRODUCT.bytes();

/// Blobs and indexes are as long as a multiple of this, in bytes.
pub const FILE_ALIGNMENT: u64 = 4096;

/// A tree that has no EROFS image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Writing the file.
    #[error("writing a file-system image")]
    Io(#[from] io::Error),
    /// Block addresses have 32 bits.
    #[error("more than {} GiB in one image", (u64::from(u32::MAX) * BLOCK_SIZE) >> 30)]
    TooLarge,
    /// The extended attributes of one inode: 64 KiB − 1 each, 256 KiB together.
    #[error("extended attributes are too large")]
    Xattrs,
    /// Outside of 12 bits (major) and 20 bits (minor), or the character device 0:0.
    #[error("device number {major}:{minor} is not possible")]
    Device {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// What no [`Tree`](crate::tree::Tree) should hold.
    #[error("impossible tree: {0}")]
    Tree(&'static str),
}

/// log₂ of the block size: the kernel takes 9 to 12 (its page size).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockSize(u8);

impl BlockSize {
    /// Of all that the product writes: little is lost behind a small file.
    pub(crate) const PRODUCT: Self = Self(9);

    pub(crate) fn from_bits(bits: u8) -> Option<Self> {
        (9..=12).contains(&bits).then_some(Self(bits))
    }

    const fn bits(self) -> u8 {
        self.0
    }

    const fn bytes(self) -> u64 {
        1 << self.0
    }

    /// `bytes` as a number of blocks, the last one perhaps not full.
    const fn blocks(self, bytes: u64) -> u64 {
        bytes.div_ceil(self.bytes())
    }

    /// The address of the block that starts at `offset`.
    fn address(self, offset: u64) -> Result<u32, WriteError> {
        // All bits set means "no address" in other parts of the format.
        u32::try_from(offset >> self.0)
            .ok()
            .filter(|block| *block != u32::MAX)
            .ok_or(WriteError::TooLarge)
    }
}

#[cfg(test)]
mod tests;
