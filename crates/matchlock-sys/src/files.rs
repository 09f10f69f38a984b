//! Files without a name, files that are locks, directories for one user.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat};

/// An empty file without a name in `dir` (open(2), `O_TMPFILE`), readable and writable: nothing is left
/// of it, however its writer ends.
///
/// # Errors
/// Those of `open`; `EOPNOTSUPP` or `EISDIR` where the file system has no such files.
pub fn unnamed(dir: &Path) -> io::Result<File> {
    tmpfile(dir, OFlags::empty())
}

/// The same for a file that nobody can give a name later, not even a process that inherits it (`O_EXCL`).
///
/// # Errors
/// As [`unnamed`].
pub fn unnameable(dir: &Path) -> io::Result<File> {
    tmpfile(dir, OFlags::EXCL)
}

fn tmpfile(dir: &Path, more: OFlags) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC | more;
    Ok(openat(CWD, dir, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// Gives a file without a name its name (linkat(2), in the form that needs no privilege).
///
/// # Errors
/// Those of `linkat`; [`io::ErrorKind::AlreadyExists`] when something has that name.
pub fn link(file: &File, path: &Path) -> io::Result<()> {
    let source = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(CWD, source, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

/// Makes a directory for this user alone, with its parents, unless it is there.
///
/// # Errors
/// Those of `mkdir`.
pub fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Opens a file that serves as a lock, made for this user alone when it is missing. The lock is flock(2)'s:
/// it belongs to the open file, so threads exclude each other, too, and it ends with the file's descriptors.
///
/// # Errors
/// Those of `open`.
pub fn lock_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Opens such a file, and waits for its lock.
///
/// # Errors
/// Those of `open` and flock(2).
pub fn locked_file(path: &Path) -> io::Result<File> {
    let file = lock_file(path)?;
    file.lock()?;
    Ok(file)
}

/// Whether the lock that was tried is had now; false when somebody else has one.
///
/// # Errors
/// Those of flock(2).
pub fn is_locked(tried: Result<(), TryLockError>) -> io::Result<bool> {
    match tried {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_file_has_no_name_until_it_gets_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = unnamed(dir.path()).expect("a file");
        assert_eq!((file.metadata().expect("stat").nlink(), entries(dir.path())), (0, 0));
        let path = dir.path().join("name");
        link(&file, &path).expect("link");
        assert_eq!(file.metadata().expect("stat").ino(), path.metadata().expect("stat").ino());
        assert_eq!(path.metadata().expect("stat").mode() & 0o777, 0o600);
        let other = unnamed(dir.path()).expect("a file");
        let error = link(&other, &path).expect_err("the name is taken");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(entries(dir.path()), 1);
    }

    #[test]
    fn some_files_never_get_a_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = unnameable(dir.path()).expect("a file");
        let error = link(&file, &dir.path().join("name")).expect_err("it may have none");
        assert_eq!((error.kind(), entries(dir.path())), (io::ErrorKind::NotFound, 0));
    }

    #[test]
    fn a_lock_has_one_owner_or_several_that_share_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = || lock_file(&dir.path().join("lock")).expect("open");
        let (first, second) = (open(), open());
        assert!(is_locked(first.try_lock_shared()).expect("try"));
        assert!(is_locked(second.try_lock_shared()).expect("try"));
        assert!(!is_locked(second.try_lock()).expect("try"));
        drop(first);
        assert!(is_locked(second.try_lock()).expect("try"));
        assert_eq!(second.metadata().expect("stat").mode() & 0o777, 0o600);
    }

    fn entries(dir: &Path) -> usize {
        std::fs::read_dir(dir).expect("list").count()
    }
}
