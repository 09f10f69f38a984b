//! Files of the store: directories, locks, files without a name.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, flock, linkat, openat};

use super::StoreError;

/// Makes a directory for this user alone, with its parents.
pub(super) fn make_dir(path: &Path) -> Result<(), StoreError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(path).map_err(StoreError::file("create", path))
}

/// Opens a file for a lock, made when it is missing.
pub(super) fn lockable(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Waits for the lock on `path`. Each call has an open file of its own, so threads exclude each other.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let file = lockable(path).map_err(StoreError::file("open", path))?;
    loop {
        match flock(&file, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(StoreError::file("lock", path)(error.into())),
        }
    }
}

/// Takes the lock on an open file if nobody has it.
pub(super) fn try_lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
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

/// An empty file without a name in `dir`: nothing is left of it, however its writer ends.
pub(super) fn nameless(dir: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(openat(CWD, dir, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// Gives a file without a name its name, in place of what has it.
pub(super) fn link(file: &File, path: &Path) -> io::Result<()> {
    remove(path)?;
    // linkat(2): the form that needs no privilege.
    let source = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(CWD, source.as_str(), CWD, path, AtFlags::SYMLINK_FOLLOW)?)
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
