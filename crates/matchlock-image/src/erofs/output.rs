//! A file written front to back in large pieces, with holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Bytes per write.
const BUFFER: usize = 1 << 20;
/// Zeros up to this are written: a hole would save nothing.
const HOLE: u64 = 16 << 10;

#[derive(Debug)]
pub(super) struct Output {
    file: File,
    buffer: Vec<u8>,
    /// Where in the file the buffer goes.
    flushed: u64,
}

impl Output {
    /// Empties the file and starts at `position`.
    pub(super) fn new(file: File, position: u64) -> io::Result<Self> {
        file.set_len(0)?;
        Ok(Self { file, buffer: Vec::with_capacity(BUFFER), flushed: position })
    }

    pub(super) fn position(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
            if bytes.len() >= BUFFER {
                self.file.write_all_at(bytes, self.flushed)?;
                self.flushed += bytes.len() as u64;
                return Ok(());
            }
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Zeros, as a hole when there are many.
    pub(super) fn zeros(&mut self, count: u64) -> io::Result<()> {
        if count > HOLE {
            self.flush()?;
            self.flushed = self.flushed.checked_add(count).ok_or(io::ErrorKind::FileTooLarge)?;
            return Ok(());
        }
        if self.buffer.len() as u64 + count > BUFFER as u64 {
            self.flush()?;
        }
        self.buffer.resize(self.buffer.len() + count as usize, 0);
        Ok(())
    }

    /// Zeros up to the next multiple of `unit`, a power of two.
    pub(super) fn align(&mut self, unit: u64) -> io::Result<()> {
        self.zeros(self.position().wrapping_neg() & (unit - 1))
    }

    /// The file, as long as was written, and `header` at its start.
    pub(super) fn finish(mut self, header: &[u8]) -> io::Result<File> {
        self.flush()?;
        self.file.write_all_at(header, 0)?;
        self.file.set_len(self.flushed)?;
        Ok(self.file)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.flushed)?;
        self.flushed += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
