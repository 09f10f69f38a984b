//! EROFS: stands in for B's module until it is merged.

use std::fs::File;
use std::io;

use crate::tree::Tree;

/// Writes a blob.
#[derive(Debug)]
pub struct BlobWriter(#[expect(dead_code, reason = "stands in")] File);

/// Writing failed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// I/O.
    #[error("cannot write the image")]
    Io(#[from] io::Error),
}

/// Reading failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// I/O.
    #[error("cannot read the image")]
    Io(#[from] io::Error),
}

impl BlobWriter {
    /// Starts.
    ///
    /// # Errors
    /// I/O.
    pub fn new(file: File) -> io::Result<Self> {
        Ok(Self(file))
    }
}

/// Writes an index.
///
/// # Errors
/// [`WriteError`].
pub fn write_index(file: File, tree: &Tree, layers: &[u64]) -> Result<File, WriteError> {
    let _ = (file, tree, layers);
    Err(WriteError::Io(io::ErrorKind::Unsupported.into()))
}

/// Reads a layer.
///
/// # Errors
/// [`ReadError`].
pub fn read_layer(file: &File) -> Result<Tree, ReadError> {
    let _ = file;
    Err(ReadError::Io(io::ErrorKind::Unsupported.into()))
}
