//! The data half of a layer blob.

use std::fs::File;
use std::io;

use crate::tree::{FileData, Tree};

use super::format::HEADER_SIZE;
use super::output::Output;
use super::{BlockSize, WriteError, write};

/// Writes a layer blob: first the content of every regular file, then the metadata.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use matchlock_image::erofs::BlobWriter;
/// use matchlock_image::tree::{Attributes, Content, Inode, Name, Tree};
///
/// let mut blob = BlobWriter::new(std::fs::File::create_new("layer.erofs")?)?;
/// blob.begin()?;
/// blob.write(b"hello")?;
/// let data = blob.end()?;
///
/// let mut tree = Tree::new(Attributes::default());
/// let file = tree.add(Inode { attributes: Attributes::default(), content: Content::File(data) });
/// tree.link(Tree::ROOT, Name::new(b"greeting")?, file);
/// blob.finish(&tree)?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct BlobWriter {
    output: Output,
    block: BlockSize,
    /// Where the content that is being written started.
    begun: Option<u64>,
}

impl BlobWriter {
    /// Starts a blob; what `file` held is lost. It must be open for writing, at any position.
    ///
    /// # Errors
    /// Of the file.
    pub fn new(file: File) -> io::Result<Self> {
        Self::with_block_size(file, BlockSize::PRODUCT)
    }

    pub(super) fn with_block_size(file: File, block: BlockSize) -> io::Result<Self> {
        Ok(Self { output: Output::new(file, HEADER_SIZE)?, block, begun: None })
    }

    /// Starts the content of a file at the next block.
    ///
    /// # Errors
    /// Of the file; `InvalidInput` when the last content was not ended; `FileTooLarge` when blocks
    /// are out of addresses (2 TiB).
    pub fn begin(&mut self) -> io::Result<()> {
        if self.begun.is_some() {
            return Err(misuse("the content before was not ended"));
        }
        self.output.align(self.block.bytes())?;
        let start = self.output.position();
        self.block.address(start).map_err(|_too_large| io::ErrorKind::FileTooLarge)?;
        self.begun = Some(start);
        Ok(())
    }

    /// Appends to the content.
    ///
    /// # Errors
    /// Of the file; `InvalidInput` when none was begun.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.begun.ok_or_else(|| misuse("no content was begun"))?;
        self.output.write(bytes)
    }

    /// Appends zeros to the content, which take no space.
    ///
    /// # Errors
    /// Of the file; `InvalidInput` when none was begun; `FileTooLarge` when blocks are out of addresses.
    pub fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.begun.ok_or_else(|| misuse("no content was begun"))?;
        let end = self.output.position().checked_add(bytes).ok_or(io::ErrorKind::FileTooLarge)?;
        self.block.address(end).map_err(|_too_large| io::ErrorKind::FileTooLarge)?;
        self.output.zeros(bytes)
    }

    /// Ends the content and says where it is.
    ///
    /// # Errors
    /// `InvalidInput` when none was begun.
    pub fn end(&mut self) -> io::Result<FileData> {
        let start = self.begun.take().ok_or_else(|| misuse("no content was begun"))?;
        Ok(match self.output.position() - start {
            0 => FileData::default(),
            size => FileData { size, layer: 0, start },
        })
    }

    /// Length of the blob so far in bytes, holes and padding counted.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.output.position()
    }

    /// Adds the metadata and the superblock. Nothing is synchronised with the disk yet.
    ///
    /// Extended attributes that Linux has no namespace for are left out, and so are
    /// `trusted.overlay.*` and `trusted.matchlock.*`: those words are the writer's own.
    ///
    /// # Errors
    /// Of the file, or [`WriteError`] for what the format cannot hold.
    pub fn finish(self, tree: &Tree) -> Result<File, WriteError> {
        if self.begun.is_some() {
            return Err(misuse("the content before was not ended").into());
        }
        write::finish_blob(self.output, self.block, tree)
    }
}

fn misuse(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
