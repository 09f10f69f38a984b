//! An open file of the host.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{SeekFrom, seek};

use super::Served;
use super::open::Status;
use crate::context::Context;
use crate::open::OpenFile;
use crate::pool::Share;
use crate::request::Whence;
use crate::types::{Attr, Result};

/// A file that is open for reading, with its place in the budget if the guest opened it.
#[derive(Debug)]
pub(super) struct HostFile {
    served: Arc<Served>,
    file: Arc<OwnedFd>,
    _share: Option<Share>,
}

impl HostFile {
    pub(super) const fn new(served: Arc<Served>, file: Arc<OwnedFd>, share: Option<Share>) -> Self {
        Self { served, file, _share: share }
    }
}

impl OpenFile for HostFile {
    fn getattr(&self, _: &Context) -> Result<(Attr, Duration)> {
        Ok((self.served.attr(&Status::of(&*self.file)?), self.served.options.cache.attr))
    }

    fn read(&self, _: &Context, offset: u64, size: usize, out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        out.resize(start + size, 0);
        let mut filled = start;
        // Fewer bytes than asked mean the end of the file to the client, so a short read goes on.
        let result = loop {
            let Some(at) = offset.checked_add((filled - start) as u64) else {
                break Ok(());
            };
            match rustix::io::pread(&*self.file, &mut out[filled..], at) {
                Ok(0) => break Ok(()),
                Ok(count) => filled += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => break Err(error.into()),
            }
        };
        out.truncate(filled);
        result
    }

    fn lseek(&self, _: &Context, offset: u64, whence: Whence) -> Result<u64> {
        // The position of the descriptor moves, which nothing here uses.
        Ok(match whence {
            Whence::Data => seek(&*self.file, SeekFrom::Data(offset)),
            Whence::Hole => seek(&*self.file, SeekFrom::Hole(offset)),
        }?)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}
