//! A strict streaming reader of tar archives: POSIX ustar and pax (IEEE Std 1003.1, "pax"), and what
//! GNU tar adds to them (GNU tar manual, "Basic Tar Format" and "Storing Sparse Files").
//!
//! The archive is hostile. Nothing is trusted that a header says about lengths, every header's
//! checksum must be right, and what two readers could understand differently is refused. Where there
//! is a choice, entries mean what the readers of container engines take them for. The reader makes no
//! file and checks no path: that is for whoever knows where entries go.

mod extension;
mod header;
mod sparse;
#[cfg(test)]
mod tests;

use std::io::{self, BufRead, Read};

use self::extension::Extensions;
use self::header::{BLOCK, Block, Header};
use self::sparse::Map;
use crate::{Attributes, DeviceNumber};

/// Longest extended header, long name or long link, in bytes.
const EXTENSION_MAX: u64 = 1 << 20;
/// Headers of an archive when its reader asks for no other bound.
const HEADERS_MAX: u64 = 8_000_000;

/// Reads the entries of an archive one after the other.
#[derive(Debug)]
pub struct Archive<R> {
    input: R,
    headers_left: u64,
    body: Body,
    ended: bool,
}

/// What an archive says of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As it is in the archive: possibly absolute, with `..`, with a slash at its end; no NUL.
    pub path: Vec<u8>,
    /// Owner, mode, times; extended attributes with the names that the archive gives them.
    pub attributes: Attributes,
    /// The kind of file.
    pub kind: Kind,
    /// Bytes of content, holes of a sparse file with them; 0 for what is no regular file.
    pub size: u64,
}

/// Kinds of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// Another name of a file that came before; the name is as unchecked as [`Entry::path`].
    HardLink(Vec<u8>),
    /// A symbolic link and its text, without NUL.
    Symlink(Vec<u8>),
    /// A directory.
    Directory,
    /// A character device.
    CharDevice(DeviceNumber),
    /// A block device.
    BlockDevice(DeviceNumber),
    /// A named pipe.
    Fifo,
}

/// A piece of an entry's content.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunk<'a> {
    /// Bytes, at least one.
    Bytes(&'a [u8]),
    /// That many zeros, at least one, which the archive does not store.
    Hole(u64),
}

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream failed.
    #[error("reading the archive")]
    Read(#[source] io::Error),
    /// The stream ends within a header, an entry's content, or after an extension of no entry.
    #[error("the archive is truncated")]
    Truncated,
    /// Not a header.
    #[error("a header's checksum is wrong: not a tar archive, or damaged")]
    Checksum,
    /// One block of zeros where an archive ends with two.
    #[error("data after the first block of the end of the archive")]
    End,
    /// A field holds no number, or one that is out of its range.
    #[error("the field {0} of a header is out of range")]
    Field(&'static str),
    /// A type of entry that is not of a file: a volume, a part of a file, something unknown.
    #[error("entries of type {:?} are not supported", char::from(*.0))]
    Type(u8),
    /// An extended header that is not made of records.
    #[error("a pax extended header is malformed")]
    Pax,
    /// Extended headers that contradict each other or speak for several entries.
    #[error("conflicting extended headers")]
    Conflict,
    /// An extended header, long name or long link of more than 1 MiB.
    #[error("an extended header is too long")]
    ExtensionTooLong,
    /// A sparse map that is no map of this file.
    #[error("the map of a sparse file is invalid")]
    Sparse,
    /// More headers than the reader was told to accept.
    #[error("too many entries")]
    TooManyHeaders,
}

/// The content of the current entry.
#[derive(Debug, Default)]
struct Body {
    /// What is stored of the file; one extent for an ordinary one.
    map: Map,
    /// The extent that is read.
    extent: usize,
    /// In the file.
    position: u64,
    /// Length of the file.
    size: u64,
    /// Bytes that are still in the stream, without padding.
    stored: u64,
    /// Zeros behind them to the next block.
    padding: u64,
    /// Bytes that were handed out and are consumed at the next call.
    lent: usize,
}

impl<R: BufRead> Archive<R> {
    /// A reader of the archive that `input` starts with.
    pub fn new(input: R) -> Self {
        Self::with_headers(input, HEADERS_MAX)
    }

    /// The same with another bound for headers, those of extensions counted.
    pub fn with_headers(input: R, headers: u64) -> Self {
        Self { input, headers_left: headers, body: Body::default(), ended: false }
    }

    /// The stream, after what was read of it.
    pub fn into_inner(mut self) -> R {
        self.input.consume(std::mem::take(&mut self.body.lent));
        self.input
    }

    /// The next entry; what was not read of the one before is skipped. `None` at the end: two blocks
    /// of zeros, or the end of the stream where a header would be.
    ///
    /// # Errors
    /// Any; after an error the archive cannot be read on.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        self.leave_entry()?;
        let mut extensions = Extensions::default();
        while let Some(block) = self.header()? {
            let header = Header::new(&block)?;
            let flag = header.flag();
            match flag {
                b'x' => extensions.pax(&self.extension(&header)?)?,
                b'g' => extension::check_global(&self.extension(&header)?)?,
                b'L' => extensions.long_path(self.extension(&header)?)?,
                b'K' => extensions.long_link(self.extension(&header)?)?,
                // A label of the volume says nothing of files.
                b'V' => self.skip_padded(header.size()?)?,
                _ => return self.entry(&header, extensions).map(Some),
            }
        }
        if extensions.is_empty() { Ok(None) } else { Err(TarError::Truncated) }
    }

    /// The next piece of the current entry's content; `None` at its end.
    ///
    /// # Errors
    /// [`TarError::Read`] and [`TarError::Truncated`].
    pub fn chunk(&mut self) -> Result<Option<Chunk<'_>>, TarError> {
        let body = &mut self.body;
        self.input.consume(std::mem::take(&mut body.lent));
        while let Some(extent) = body.map.get(body.extent) {
            if body.position < extent.offset {
                let hole = extent.offset - body.position;
                body.position = extent.offset;
                return Ok(Some(Chunk::Hole(hole)));
            }
            let left = extent.end() - body.position;
            if left == 0 {
                body.extent += 1;
                continue;
            }
            let buffer = fill(&mut self.input)?;
            let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if length == 0 {
                return Err(TarError::Truncated);
            }
            body.lent = length;
            body.position += length as u64;
            body.stored -= length as u64;
            return Ok(Some(Chunk::Bytes(&buffer[..length])));
        }
        let hole = body.size - body.position;
        body.position = body.size;
        Ok((hole > 0).then_some(Chunk::Hole(hole)))
    }

    /// The rest of the current entry's content as a stream, with zeros for holes. Errors are those of
    /// [`Archive::chunk`], as the cause of an [`io::Error`].
    pub fn content(&mut self) -> Content<'_, R> {
        Content { archive: self, hole: 0 }
    }

    fn entry(&mut self, header: &Header<'_>, extensions: Extensions) -> Result<Entry, TarError> {
        let (mut entry, stored) = extensions.apply(header)?;
        let body = &mut self.body;
        body.map.clear();
        (body.extent, body.position) = (0, 0);
        body.stored = stored.bytes;
        body.padding = padding(stored.bytes);
        match stored.sparse {
            None => body.map.push_whole(stored.bytes),
            Some(sparse::Kind::Old) => {
                entry.size = header.sparse_size()?;
                let mut more = header.sparse_map(&mut self.body.map)?;
                while more {
                    let block = self.block()?.ok_or(TarError::Truncated)?;
                    more = header::sparse_continuation(&block, &mut self.body.map)?;
                }
            }
            Some(sparse::Kind::Listed(map)) => body.map = map,
            Some(sparse::Kind::Leading) => {
                let blocks = sparse::read_leading(self)?;
                let bytes = blocks.checked_mul(BLOCK as u64).ok_or(TarError::Sparse)?;
                self.body.stored = self.body.stored.checked_sub(bytes).ok_or(TarError::Sparse)?;
            }
        }
        self.body.size = entry.size;
        self.body.map.check(entry.size, self.body.stored)?;
        Ok(entry)
    }

    fn leave_entry(&mut self) -> Result<(), TarError> {
        self.input.consume(std::mem::take(&mut self.body.lent));
        let rest = self.body.stored + self.body.padding;
        let body = &mut self.body;
        (body.stored, body.padding, body.size, body.position) = (0, 0, 0, 0);
        body.map.clear();
        body.extent = 0;
        self.skip(rest)
    }

    /// The next header; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Block>, TarError> {
        if self.ended {
            return Ok(None);
        }
        let block = self.block()?.filter(|block| block.iter().any(|byte| *byte != 0));
        if let Some(block) = block {
            self.headers_left = self.headers_left.checked_sub(1).ok_or(TarError::TooManyHeaders)?;
            return Ok(Some(block));
        }
        self.ended = true;
        match self.block()? {
            Some(block) if block.iter().any(|byte| *byte != 0) => Err(TarError::End),
            _ => Ok(None),
        }
    }

    fn extension(&mut self, header: &Header<'_>) -> Result<Vec<u8>, TarError> {
        let size = header.size()?;
        if size > EXTENSION_MAX {
            return Err(TarError::ExtensionTooLong);
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        let mut limited = (&mut self.input).take(size);
        limited.read_to_end(&mut bytes).map_err(TarError::Read)?;
        if bytes.len() as u64 != size {
            return Err(TarError::Truncated);
        }
        self.skip(padding(size))?;
        Ok(bytes)
    }

    /// `None` when the stream ends before its first byte.
    fn block(&mut self) -> Result<Option<Block>, TarError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let buffer = fill(&mut self.input)?;
            let length = buffer.len().min(BLOCK - filled);
            if length == 0 {
                return if filled == 0 { Ok(None) } else { Err(TarError::Truncated) };
            }
            block[filled..filled + length].copy_from_slice(&buffer[..length]);
            self.input.consume(length);
            filled += length;
        }
        Ok(Some(block))
    }

    fn skip_padded(&mut self, bytes: u64) -> Result<(), TarError> {
        self.skip(bytes)?;
        self.skip(padding(bytes))
    }

    fn skip(&mut self, mut bytes: u64) -> Result<(), TarError> {
        while bytes > 0 {
            let buffer = fill(&mut self.input)?;
            let length = buffer.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
            if length == 0 {
                return Err(TarError::Truncated);
            }
            self.input.consume(length);
            bytes -= length as u64;
        }
        Ok(())
    }
}

/// [`Archive::content`].
#[derive(Debug)]
pub struct Content<'a, R> {
    archive: &'a mut Archive<R>,
    hole: u64,
}

impl<R: BufRead> Read for Content<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        if self.hole == 0 {
            match self.archive.chunk().map_err(io::Error::other)? {
                None => return Ok(0),
                Some(Chunk::Hole(length)) => self.hole = length,
                Some(Chunk::Bytes(bytes)) => {
                    let length = bytes.len().min(out.len());
                    out[..length].copy_from_slice(&bytes[..length]);
                    let unread = bytes.len() - length;
                    self.archive.body.give_back(unread);
                    return Ok(length);
                }
            }
        }
        let length = out.len().min(usize::try_from(self.hole).unwrap_or(usize::MAX));
        out[..length].fill(0);
        self.hole -= length as u64;
        Ok(length)
    }
}

impl Body {
    /// Of what was lent last, the end was not used.
    fn give_back(&mut self, unread: usize) {
        self.lent -= unread;
        self.position -= unread as u64;
        self.stored += unread as u64;
    }
}

/// What the buffer holds, filled when it is empty; nothing at the end of the stream.
fn fill<R: BufRead>(input: &mut R) -> Result<&[u8], TarError> {
    loop {
        match input.fill_buf() {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(TarError::Read(error)),
        }
    }
    // The buffer is filled: this only borrows it, which the loop cannot do.
    input.fill_buf().map_err(TarError::Read)
}

/// Bytes from an end of content to the end of its block.
fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}
