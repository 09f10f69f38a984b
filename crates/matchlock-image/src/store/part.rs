//! Compressed layers on their way: one process downloads each, and the next one resumes it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::{Store, StoreError, files};
use crate::digest::Digest;

/// What has come of a compressed layer so far, ours alone. Dropping it leaves the file for whoever
/// tries next.
#[derive(Debug)]
pub(crate) struct PartFile {
    path: PathBuf,
    file: File,
    len: u64,
    store: Store,
}

impl Store {
    /// The part of the blob `digest`; `None` while another task or process has it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn part(&self, digest: &Digest) -> Result<Option<PartFile>, StoreError> {
        let path = self.dir().join("ingest").join(format!("{}.part", digest.hex()));
        loop {
            let file =
                matchlock_sys::lock_file(&path).map_err(StoreError::file("create", &path))?;
            if !files::try_lock(&file).map_err(StoreError::file("lock", &path))? {
                return Ok(None);
            }
            if files::is_at(&file, &path).map_err(StoreError::file("look at", &path))? {
                let len = file.metadata().map_err(StoreError::file("look at", &path))?.len();
                return Ok(Some(PartFile { path, file, len, store: self.clone() }));
            }
        }
    }
}

impl PartFile {
    /// Bytes that are there.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Starts again.
    pub(crate) fn clear(&mut self) -> Result<(), StoreError> {
        self.file.set_len(0).map_err(StoreError::file("empty", &self.path))?;
        self.len = 0;
        Ok(())
    }

    /// Reads of what is there, from `offset`; 0 at its end.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let room = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let room = room.min(buffer.len());
        self.file.read_at(&mut buffer[..room], offset)
    }

    /// Adds bytes at the end.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.store.fault("part-write")?;
        self.file.write_all_at(bytes, self.len)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// What happened to the file.
    pub(crate) fn failed(&self, error: io::Error) -> StoreError {
        StoreError::file("write", &self.path)(error)
    }

    /// Removes the file: it has served, or what is in it is worth nothing.
    pub(crate) fn remove(self) -> Result<(), StoreError> {
        files::remove(&self.path).map_err(StoreError::file("remove", &self.path))?;
        Ok(())
    }
}
