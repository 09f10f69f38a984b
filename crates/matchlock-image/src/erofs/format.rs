//! Fields of the superblock, the extended inode and the directory entry. All are little-endian.

use crate::tree::{Content, DeviceNumber};

use super::BlockSize;

/// Where the superblock is.
pub(super) const SUPERBLOCK_AT: u64 = 1024;
/// Before this there is the superblock, and nothing else.
pub(super) const HEADER_SIZE: u64 = 4096;
pub(super) const INODE_SIZE: u64 = 64;
/// Inodes are numbered by their place in units of this.
pub(super) const SLOT_SIZE: u64 = 32;
pub(super) const DIRENT_SIZE: usize = 12;

const MAGIC: u32 = 0xe0f5_e1e2;
const COMPAT_CHECKSUM: u32 = 1;
const COMPAT_MTIME: u32 = 2;
const EXTENDED: u16 = 1;

const S_IFMT: u16 = 0o170_000;
const S_IFIFO: u16 = 0o010_000;
const S_IFCHR: u16 = 0o020_000;
const S_IFDIR: u16 = 0o040_000;
const S_IFBLK: u16 = 0o060_000;
const S_IFREG: u16 = 0o100_000;
const S_IFLNK: u16 = 0o120_000;
const S_IFSOCK: u16 = 0o140_000;

/// The superblock's fields that differ between images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Superblock {
    pub(super) block: BlockSize,
    pub(super) root_nid: u16,
    pub(super) inodes: u64,
    /// Of the whole address space.
    pub(super) blocks: u32,
    pub(super) meta_block: u32,
    pub(super) uuid: [u8; 16],
}

/// Kinds of inodes as `i_mode` and a directory entry's `file_type` tell them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    CharDevice,
    BlockDevice,
    Fifo,
    Socket,
    Symlink,
}

/// Where the content is: `i_format` without its version bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataLayout {
    /// In blocks of its own.
    Plain,
    /// Behind the inode and its attributes, in the same block.
    Inline,
}

/// An extended inode without what is behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RawInode {
    pub(super) layout: DataLayout,
    pub(super) xattr_count: u16,
    pub(super) kind: Kind,
    pub(super) permissions: u16,
    pub(super) size: u64,
    /// Block address or device number.
    pub(super) union: u32,
    pub(super) ino: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: (i64, u32),
    pub(super) links: u32,
}

impl Superblock {
    /// The first [`HEADER_SIZE`] bytes of an image.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut header = vec![0; HEADER_SIZE as usize];
        let mut put = |at: usize, bytes: &[u8]| {
            let at = SUPERBLOCK_AT as usize + at;
            header[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(0, &MAGIC.to_le_bytes());
        put(8, &(COMPAT_CHECKSUM | COMPAT_MTIME).to_le_bytes());
        put(12, &[self.block.bits()]);
        put(14, &self.root_nid.to_le_bytes());
        put(16, &self.inodes.to_le_bytes());
        put(36, &self.blocks.to_le_bytes());
        put(40, &self.meta_block.to_le_bytes());
        put(48, &self.uuid);
        let checksum = checksum(&header, self.block);
        header[SUPERBLOCK_AT as usize + 4..][..4].copy_from_slice(&checksum.to_le_bytes());
        header
    }

    /// From the first [`HEADER_SIZE`] bytes; the error says what is wrong.
    pub(super) fn decode(header: &[u8]) -> Result<Self, &'static str> {
        let raw = header.get(SUPERBLOCK_AT as usize..).unwrap_or_default();
        let Some(raw) = raw.first_chunk::<128>() else { return Err("too short") };
        if u32_at(raw, 0) != MAGIC {
            return Err("no superblock");
        }
        let block = BlockSize::from_bits(raw[12]).ok_or("block size")?;
        // The kernel ignores unknown compatible features; of ours it is known what they are.
        if u32_at(raw, 8) != COMPAT_CHECKSUM | COMPAT_MTIME
            || u32_at(raw, 80) != 0
            || raw[13] != 0
            || raw[90] != 0
        {
            return Err("features of another writer");
        }
        if checksum(header, block) != u32_at(raw, 4) {
            return Err("checksum of the superblock");
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&raw[48..64]);
        Ok(Self {
            block,
            root_nid: u16_at(raw, 14),
            inodes: u64_at(raw, 16),
            blocks: u32_at(raw, 36),
            meta_block: u32_at(raw, 40),
            uuid,
        })
    }
}

impl Kind {
    pub(super) fn of(content: &Content) -> Self {
        match content {
            Content::Directory(_) => Self::Directory,
            Content::File(_) => Self::File,
            Content::Symlink(_) => Self::Symlink,
            Content::CharDevice(_) | Content::Whiteout => Self::CharDevice,
            Content::BlockDevice(_) => Self::BlockDevice,
            Content::Fifo => Self::Fifo,
            Content::Socket => Self::Socket,
        }
    }

    fn from_mode(mode: u16) -> Option<Self> {
        Some(match mode & S_IFMT {
            S_IFIFO => Self::Fifo,
            S_IFCHR => Self::CharDevice,
            S_IFDIR => Self::Directory,
            S_IFBLK => Self::BlockDevice,
            S_IFREG => Self::File,
            S_IFLNK => Self::Symlink,
            S_IFSOCK => Self::Socket,
            _ => return None,
        })
    }

    fn mode(self) -> u16 {
        match self {
            Self::File => S_IFREG,
            Self::Directory => S_IFDIR,
            Self::CharDevice => S_IFCHR,
            Self::BlockDevice => S_IFBLK,
            Self::Fifo => S_IFIFO,
            Self::Socket => S_IFSOCK,
            Self::Symlink => S_IFLNK,
        }
    }

    /// `file_type` of a directory entry.
    pub(super) fn file_type(self) -> u8 {
        match self {
            Self::File => 1,
            Self::Directory => 2,
            Self::CharDevice => 3,
            Self::BlockDevice => 4,
            Self::Fifo => 5,
            Self::Socket => 6,
            Self::Symlink => 7,
        }
    }
}

impl RawInode {
    pub(super) fn encode(&self) -> [u8; INODE_SIZE as usize] {
        let layout = match self.layout {
            DataLayout::Plain => 0,
            DataLayout::Inline => 2,
        };
        let mut raw = [0; INODE_SIZE as usize];
        raw[0..2].copy_from_slice(&(EXTENDED | layout << 1).to_le_bytes());
        raw[2..4].copy_from_slice(&self.xattr_count.to_le_bytes());
        raw[4..6].copy_from_slice(&(self.kind.mode() | self.permissions).to_le_bytes());
        raw[8..16].copy_from_slice(&self.size.to_le_bytes());
        raw[16..20].copy_from_slice(&self.union.to_le_bytes());
        raw[20..24].copy_from_slice(&self.ino.to_le_bytes());
        raw[24..28].copy_from_slice(&self.uid.to_le_bytes());
        raw[28..32].copy_from_slice(&self.gid.to_le_bytes());
        raw[32..40].copy_from_slice(&self.mtime.0.to_le_bytes());
        raw[40..44].copy_from_slice(&self.mtime.1.to_le_bytes());
        raw[44..48].copy_from_slice(&self.links.to_le_bytes());
        raw
    }

    pub(super) fn decode(raw: &[u8; INODE_SIZE as usize]) -> Result<Self, &'static str> {
        let format = u16_at(raw, 0);
        if format & 1 != EXTENDED {
            return Err("compact inode");
        }
        let layout = match format >> 1 {
            0 => DataLayout::Plain,
            2 => DataLayout::Inline,
            _ => return Err("layout of an inode's data"),
        };
        let mode = u16_at(raw, 4);
        let mtime = (u64_at(raw, 32).cast_signed(), u32_at(raw, 40));
        if mtime.1 >= 1_000_000_000 {
            return Err("time");
        }
        Ok(Self {
            layout,
            xattr_count: u16_at(raw, 2),
            kind: Kind::from_mode(mode).ok_or("mode")?,
            permissions: mode & !S_IFMT,
            size: u64_at(raw, 8),
            union: u32_at(raw, 16),
            ino: u32_at(raw, 20),
            uid: u32_at(raw, 24),
            gid: u32_at(raw, 28),
            mtime,
            links: u32_at(raw, 44),
        })
    }
}

/// The kernel's encoding of a device number (`new_encode_dev`); `None` when it has no place in it.
pub(super) fn encode_device(device: DeviceNumber) -> Option<u32> {
    let DeviceNumber { major, minor } = device;
    let fits = major < 1 << 12 && minor < 1 << 20;
    fits.then_some(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}

pub(super) fn decode_device(raw: u32) -> DeviceNumber {
    DeviceNumber { major: raw >> 8 & 0xfff, minor: raw & 0xff | raw >> 12 & 0xf_ff00 }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// CRC-32C without the final inversion over the rest of the superblock's block, with its own field
/// as zero: the whole block where that does not start at 0.
fn checksum(header: &[u8], block: BlockSize) -> u32 {
    let start = SUPERBLOCK_AT as usize;
    let length = match block.bytes() {
        bytes if bytes > SUPERBLOCK_AT => bytes - SUPERBLOCK_AT,
        bytes => bytes,
    };
    let bytes = header.get(start..start + length as usize).unwrap_or_default();
    let field = start + 4..start + 8;
    (start..).zip(bytes).fold(!0, |crc, (at, byte)| {
        let byte = if field.contains(&at) { 0 } else { *byte };
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ ((crc & 1) * 0x82f6_3b78))
    })
}
