//! What a provider opens. The server's table owns it, so a file without a name lives while it is open.

use std::fmt::Debug;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::context::Context;
use crate::reply::DirBuffer;
use crate::request::{FileChange, Lock, LockOwner, Release, Whence};
use crate::types::{Attr, Entry, Errno, Result};

/// An open regular file.
///
/// Methods are called from any number of threads at once. When the last operation on it has ended after
/// the guest closed it, [`OpenFile::release`] is called, once, and then it is dropped.
pub trait OpenFile: Debug + Send + Sync {
    /// Its attributes, wherever its name may be by now, and how long they hold.
    ///
    /// # Errors
    /// As fstat(2).
    fn getattr(&self, ctx: &Context) -> Result<(Attr, Duration)>;

    /// Appends at most `size` bytes from `offset` to `out`; fewer only at the end of the file.
    ///
    /// # Errors
    /// As pread(2).
    fn read(&self, ctx: &Context, offset: u64, size: usize, out: &mut Vec<u8>) -> Result<()>;

    /// The next data or hole at or after `offset`. A file system that knows no holes has one at the end.
    ///
    /// # Errors
    /// As lseek(2).
    fn lseek(&self, ctx: &Context, offset: u64, whence: Whence) -> Result<u64> {
        let size = self.getattr(ctx)?.0.size;
        match whence {
            _ if offset >= size => Err(Errno::ENXIO),
            Whence::Data => Ok(offset),
            Whence::Hole => Ok(size),
        }
    }

    /// Changes something. One method for all of them, as [`crate::Provider::change`].
    ///
    /// # Errors
    /// As the call of the same name; what is read-only says [`Errno::EROFS`].
    fn change(&self, _: &Context, _: &FileChange<'_>) -> Result<Changed> {
        Err(Errno::EROFS)
    }

    /// A process of the guest has closed one of its descriptors of the file.
    ///
    /// # Errors
    /// As close(2).
    fn flush(&self, _: &Context, _: LockOwner) -> Result<()> {
        Ok(())
    }

    /// Waits until what was written is on the disk; with `data_only` as fdatasync(2).
    ///
    /// # Errors
    /// As fsync(2).
    fn fsync(&self, _: &Context, _data_only: bool) -> Result<()> {
        Ok(())
    }

    /// A lock that stands against `lock`, if there is one. Asked only if a provider of the tree has
    /// [`crate::Features::locks`]; otherwise the guest's kernel keeps locks by itself.
    ///
    /// # Errors
    /// As `F_GETLK` of fcntl(2).
    fn get_lock(&self, _: &Context, _: &Lock) -> Result<Option<Lock>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Takes or gives back a lock. One that is held by another is [`Errno::EAGAIN`], or with `wait`
    /// [`Errno::ERESTARTSYS`] until it can be had.
    ///
    /// # Errors
    /// As fcntl(2) and flock(2).
    fn set_lock(&self, _: &Context, _: &Lock, _wait: bool) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// The guest has closed the file for good. Not called when the client begins anew.
    fn release(&self, _: &Context, _: &Release) {}

    /// The host's file behind it, by which two files of the host can be copied within the host.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// An open directory, with where its listing stands.
pub trait OpenDir: Debug + Send + Sync {
    /// Its attributes, wherever its name may be by now, and how long they hold.
    ///
    /// # Errors
    /// As fstat(2).
    fn getattr(&self, ctx: &Context) -> Result<(Attr, Duration)>;

    /// Puts the entries after the position `offset` (0: from the start) into `out` until it is full.
    ///
    /// # Errors
    /// As getdents(2).
    fn readdir(&self, ctx: &Context, offset: u64, out: &mut DirBuffer<'_>) -> Result<()>;

    /// Waits until changes of the directory are on the disk.
    ///
    /// # Errors
    /// As fsync(2).
    fn fsync(&self, _: &Context, _data_only: bool) -> Result<()> {
        Ok(())
    }
}

/// What the guest's page cache may do with an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caching {
    /// Pages or the listing of an earlier open stay valid.
    Keep,
    /// They are read again.
    Renew,
    /// Each read and write of a program is one of ours (`FOPEN_DIRECT_IO`).
    None,
}

/// A file that was just opened.
#[derive(Debug, Clone)]
pub struct OpenedFile {
    /// The file.
    pub file: Arc<dyn OpenFile>,
    /// What may be kept of it.
    pub caching: Caching,
}

/// A directory that was just opened.
#[derive(Debug, Clone)]
pub struct OpenedDir {
    /// The directory.
    pub directory: Arc<dyn OpenDir>,
    /// What may be kept of it.
    pub caching: Caching,
}

/// What a change answers.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "one for each kind of reply")]
pub enum Changed {
    Done,
    Attr(Attr, Duration),
    Entry(Entry),
    Created(Entry, OpenedFile),
    /// Of so many bytes that were to be written or copied.
    Written(u32),
}
