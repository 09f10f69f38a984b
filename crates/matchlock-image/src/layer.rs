//! Layers: stands in for A's module until it is merged.

use std::fs::File;
use std::io::Read;

use crate::digest::Digest;
use crate::erofs::BlobWriter;
use crate::tree::Tree;

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// A layer as it goes into the store.
#[derive(Debug)]
pub struct Layer {
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// The blob.
    pub file: File,
    /// What it holds.
    pub tree: Tree,
    /// Bytes of the uncompressed archive.
    pub unpacked: u64,
}

/// Bounds of what is unpacked.
#[derive(Debug, Clone, Default)]
pub struct Limits {}

/// Why a layer was refused.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// Reading.
    #[error("cannot read the layer")]
    Io(#[from] std::io::Error),
}

/// Makes a blob of an archive.
///
/// # Errors
/// [`LayerError`].
pub fn unpack(
    input: impl Read,
    compression: Compression,
    expected: Option<&Digest>,
    blob: BlobWriter,
    limits: &Limits,
) -> Result<Layer, LayerError> {
    let _ = (input, compression, expected, blob, limits);
    Err(LayerError::Io(std::io::ErrorKind::Unsupported.into()))
}
