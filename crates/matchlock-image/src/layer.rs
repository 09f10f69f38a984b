//! A layer of an image (OCI image spec, layer.md): a hostile tar archive, read into a [`Tree`] and a
//! blob that holds the bytes of its files.
//!
//! No entry touches the host's file system: a path leads through the [`Tree`] only, and a name out of
//! it cannot be expressed. What an entry means:
//!
//! - A slash at the start of a path is dropped; a component `..` is refused, so is a path of more
//!   than 4096 bytes and a component of more than 255.
//! - Symbolic links are never followed. An entry below one, or below a file, is refused.
//! - A directory that no entry made is [implied](Directory::implied): what it is in lower layers, or
//!   `0755`, of root, with time 0.
//! - Of several entries with one path the last counts. A directory keeps what it holds when it
//!   comes again; any other replacement drops what was there, so a directory in place of something
//!   else hides what lower layers have below it.
//! - A hard link leads to a file of this layer that came before, no matter what later replaces that
//!   name. Owner, mode and times are those of the file.
//! - `.wh.NAME` hides `NAME` of lower layers, never of its own; `.wh..wh..opq` hides all that lower
//!   layers have in its directory. Other names that start with `.wh..wh.` are aufs's own and ignored.
//! - Devices and named pipes are kept, but no character device 0:0, overlayfs's whiteout. Attributes
//!   that overlayfs reads are dropped, and those of no name space that Linux has.

mod assembly;
mod builder;
mod compression;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod path;
mod stream;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read};

pub use self::assembly::EntryError;
pub use self::builder::{Builder, NodeKind};
pub use self::compression::Compression;

use self::assembly::Assembly;
use self::stream::Stream;
use crate::digest::Digest;
use crate::erofs::{BlobWriter, WriteError};
use crate::tar::{Archive, Chunk, Entry, Kind, TarError};
use crate::tree::{Content, Directory, FileData, Tree};

/// What a layer may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Files, directories, whiteouts and hard links, directories that no entry made with them.
    pub entries: u64,
    /// Bytes of the uncompressed archive; and, counted apart, of all files with their holes.
    pub bytes: u64,
    /// Bytes of names, link texts and extended attributes.
    pub metadata_bytes: u64,
    /// How many times its compressed length an archive may have,
    pub ratio: u64,
    /// beyond this many bytes, which any archive may have.
    pub ratio_free: u64,
}

/// 2 million entries, 64 GiB, 256 MiB of metadata, 1 GiB and 100 times the compressed length.
impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 2_000_000,
            bytes: 64 << 30,
            metadata_bytes: 256 << 20,
            ratio: 100,
            ratio_free: 1 << 30,
        }
    }
}

/// A layer whose archive was read whole.
#[derive(Debug)]
pub struct Layer {
    /// Digest of the uncompressed archive (OCI image spec, config.md, "Layer DiffID"), or what
    /// [`Builder::finish`] says.
    pub diff_id: Digest,
    /// The blob: an EROFS image of its own.
    pub file: File,
    /// Its metadata.
    pub tree: Tree,
    /// Bytes of the uncompressed archive; for a layer of a [`Builder`], of its files.
    pub unpacked: u64,
}

/// Why a layer is refused.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The input failed.
    #[error("reading the layer")]
    Input(#[source] io::Error),
    /// Not what the compression says, or damaged, or truncated.
    #[error("the layer cannot be decompressed")]
    Decompress(#[source] io::Error),
    /// No archive.
    #[error("the layer's archive is invalid")]
    Archive(#[source] TarError),
    /// An entry that no layer can have.
    #[error("the layer's entry {path:?} is invalid")]
    Entry {
        /// Its path, shortened, with bytes that are not UTF-8 replaced.
        path: String,
        /// What is wrong.
        #[source]
        source: EntryError,
    },
    /// [`Limits::bytes`].
    #[error("the layer has more than {0} bytes")]
    TooLong(u64),
    /// [`Limits::ratio`].
    #[error("the layer expands to more than {0} times its compressed length")]
    Bomb(u64),
    /// The archive is not the one that the image's configuration names.
    #[error("the layer's uncompressed digest is {found}, not {expected}")]
    Digest {
        /// Of the configuration.
        expected: Digest,
        /// Of the archive.
        found: Digest,
    },
    /// The blob cannot be written; [`io::ErrorKind::StorageFull`] when the disk is full.
    #[error("writing the layer")]
    Write(#[source] io::Error),
    /// The file system cannot be written.
    #[error("writing the layer's file system")]
    FileSystem(#[source] WriteError),
}

/// Reads a layer: decompresses it, verifies its digest, writes the bytes of its files and then its
/// file system to `blob`.
///
/// The input is read to its end in a thread of its own, one that ends with the call: a read that
/// blocks for ever blocks the call. All of the uncompressed stream counts for the digest, what follows
/// the archive's end too.
///
/// # Errors
/// Any [`LayerError`]; the blob is incomplete then.
pub fn unpack(
    input: impl Read + Send,
    compression: Compression,
    expected: Option<&Digest>,
    mut blob: BlobWriter,
    limits: &Limits,
) -> Result<Layer, LayerError> {
    let mut assembly = Assembly::new(limits);
    let (diff_id, unpacked) = stream::with(input, compression, limits, |stream| {
        let read = read_archive(stream, &mut assembly, &mut blob, limits);
        // What made the stream fail says more than what the archive's reader says of that.
        if let Some(fault) = stream.take_fault() {
            return Err(fault);
        }
        read?;
        stream.finish()
    })?;
    if let Some(expected) = expected.filter(|expected| **expected != diff_id) {
        return Err(LayerError::Digest { expected: *expected, found: diff_id });
    }
    let tree = assembly.into_tree();
    let file = blob.finish(&tree).map_err(LayerError::FileSystem)?;
    Ok(Layer { diff_id, file, tree, unpacked })
}

fn read_archive(
    stream: &mut Stream,
    assembly: &mut Assembly,
    blob: &mut BlobWriter,
    limits: &Limits,
) -> Result<(), LayerError> {
    // An entry has three extensions at most.
    let mut archive = Archive::with_headers(stream, limits.entries.saturating_mul(4));
    while let Some(entry) = archive.next_entry().map_err(LayerError::Archive)? {
        let Entry { path, attributes, kind, size } = entry;
        let refused = |source| LayerError::entry(&path, source);
        let target = path::parse(&path).map_err(refused)?;
        let content = match kind {
            Kind::HardLink(existing) => {
                assembly.hard_link(target, &existing).map_err(refused)?;
                continue;
            }
            // What marks a whiteout has no content of its own.
            Kind::File if size == 0 || !target.is_file() => Content::File(FileData::default()),
            Kind::File => {
                assembly.count_bytes(size)?;
                Content::File(write_content(&mut archive, blob)?)
            }
            Kind::Symlink(text) => Content::Symlink(text.into()),
            Kind::Directory => Content::Directory(Directory::default()),
            Kind::CharDevice(number) => Content::CharDevice(number),
            Kind::BlockDevice(number) => Content::BlockDevice(number),
            Kind::Fifo => Content::Fifo,
        };
        assembly.place(target, attributes, content).map_err(refused)?;
    }
    Ok(())
}

fn write_content(
    archive: &mut Archive<&mut Stream>,
    blob: &mut BlobWriter,
) -> Result<FileData, LayerError> {
    blob.begin().map_err(LayerError::Write)?;
    while let Some(chunk) = archive.chunk().map_err(LayerError::Archive)? {
        match chunk {
            Chunk::Bytes(bytes) => blob.write(bytes),
            Chunk::Hole(length) => blob.skip(length),
        }
        .map_err(LayerError::Write)?;
    }
    blob.end().map_err(LayerError::Write)
}

impl LayerError {
    fn entry(path: &[u8], source: EntryError) -> Self {
        let shown = path.get(..200).unwrap_or(path);
        Self::Entry { path: String::from_utf8_lossy(shown).into_owned(), source }
    }
}
