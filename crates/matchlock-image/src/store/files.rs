//! Files of the store: locks and names.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use matchlock_sys::{is_locked, lock_file};

use super::StoreError;

/// Waits for the lock on `path`.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let file = lock_file(path).map_err(StoreError::file("open", path))?;
    file.lock().map_err(StoreError::file("lock", path))?;
    Ok(file)
}

/// Takes the lock on an open file if nobody has it.
pub(super) fn try_lock(file: &File) -> io::Result<bool> {
    is_locked(file.try_lock())
}

/// Whether `path` still leads to this open file: its last holder may have removed it.
pub(super) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(theirs) => Ok((ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Gives a file without a name its name, in place of what has it.
pub(super) fn link(file: &File, path: &Path) -> io::Result<()> {
    remove(path)?;
    matchlock_sys::link(file, path)
}

/// Removes a file if it is there; whether it was.
pub(super) fn remove(path: &Path) -> io::Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Bytes that a file takes on the device (stat(2): blocks of 512 bytes).
pub(super) fn allocated(path: &Path) -> io::Result<u64> {
    Ok(std::fs::metadata(path)?.blocks() * 512)
}
