//! Listings of a host directory.
//!
//! A position is the host's own (`d_off` of getdents64(2)), so nothing has to be remembered between two
//! requests: each seeks, and reads about as much as it can answer.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::fs::{Mode, RawDir, SeekFrom, seek};

use super::Served;
use super::open::Status;
use crate::context::Context;
use crate::open::OpenDir;
use crate::pool::{Share, lock};
use crate::reply::{DirBuffer, DirItem};
use crate::request::Name;
use crate::types::{Attr, Entry, Errno, FileKind, Lookup, NodeId, Result};

/// Bounds of the buffer for host entries. The lower one takes the longest name.
const MIN_BUFFER: usize = 1024;
const MAX_BUFFER: usize = 32 * 1024;

/// An open directory, with its place in the budget if the guest opened it.
#[derive(Debug)]
pub(super) struct HostListing {
    served: Arc<Served>,
    node: NodeId,
    /// `None` is a mount inside the root: an empty directory.
    open: Option<OpenListing>,
    _share: Option<Share>,
}

#[derive(Debug)]
struct OpenListing {
    /// An `O_PATH` descriptor, in which names are looked up.
    directory: Arc<OwnedFd>,
    /// What the entries are read from. Its position is moved by each request, one at a time.
    entries: Mutex<OwnedFd>,
}

impl HostListing {
    /// Opens a directory, if its mode allows that.
    pub(super) fn open(served: &Arc<Served>, node: NodeId, share: Option<Share>) -> Result<Self> {
        let open = match served.directory(node) {
            Err(Errno::EXDEV) => None,
            directory => {
                let directory = directory?;
                served.options.filter.check_mode(Status::of(&*directory)?.mode, Mode::ROTH)?;
                let entries = Mutex::new(served.opener.listing(&*directory)?);
                Some(OpenListing { directory, entries })
            }
        };
        Ok(Self { served: Arc::clone(served), node, open, _share: share })
    }
}

impl OpenDir for HostListing {
    fn getattr(&self, _: &Context) -> Result<(Attr, Duration)> {
        match &self.open {
            Some(open) => {
                let status = Status::of(&*open.directory)?;
                Ok((self.served.attr(&status), self.served.options.cache.attr))
            }
            None => self.served.attributes(self.node),
        }
    }

    fn readdir(&self, _: &Context, offset: u64, out: &mut DirBuffer<'_>) -> Result<()> {
        match &self.open {
            Some(open) => self.served.list(self.node, open, offset, out),
            None => Ok(()),
        }
    }
}

impl Served {
    fn list(
        &self,
        node: NodeId,
        open: &OpenListing,
        offset: u64,
        out: &mut DirBuffer<'_>,
    ) -> Result<()> {
        let OpenListing { directory, entries } = open;
        let status = Status::of(&**directory)?;
        // Attributes of what is inside need the same permission as a lookup.
        let enterable = self.options.filter.check_mode(status.mode, Mode::XOTH).is_ok();
        let listing = lock(entries);
        seek(&*listing, SeekFrom::Start(offset))?;
        let parent = self.masked_path(node)?;
        // An entry of READDIRPLUS takes about four times what getdents gives.
        let wanted = out.room() / if out.plus() { 4 } else { 1 };
        let mut buffer = [MaybeUninit::uninit(); MAX_BUFFER];
        let mut entries =
            RawDir::new(&*listing, &mut buffer[..wanted.clamp(MIN_BUFFER, MAX_BUFFER)]);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            let kind = FileKind::from_mode(entry.file_type().as_raw_mode());
            let mut item = DirItem {
                name: name.to_bytes(),
                ino: self.pool.inodes.number(status.identity.device, entry.ino()),
                next: entry.next_entry_cookie(),
                kind,
            };
            let Ok(name) = Name::new(name) else {
                // `.` and `..`; what is above the root is not the guest's to know.
                item.ino = self.pool.inodes.number(status.identity.device, status.identity.ino);
                if !out.fits(item.name) {
                    break;
                }
                out.push(&item, None);
                continue;
            };
            if self.is_hidden(parent.as_deref(), name, kind) {
                continue;
            }
            if !out.fits(item.name) {
                break;
            }
            match self.listed(node, directory, name, kind, out.plus() && enterable) {
                Listed::Plain => out.push(&item, None),
                Listed::Gone => {}
                Listed::Entry(entry) => {
                    (item.ino, item.kind) = (entry.attr.ino, FileKind::from_mode(entry.attr.mode));
                    out.push(&item, Some(&entry));
                }
            }
        }
        Ok(())
    }

    fn is_hidden(&self, parent: Option<&[u8]>, name: Name<'_>, kind: Option<FileKind>) -> bool {
        let filter = &self.options.filter;
        parent.is_some_and(|parent| filter.masks(parent, name.as_bytes()))
            || kind.is_some_and(|kind| filter.hides_kind(kind))
    }

    /// Looks a listed name up where the client asked for that, or where the listing alone does not say
    /// whether the name is to be shown.
    fn listed(
        &self,
        node: NodeId,
        directory: &OwnedFd,
        name: Name<'_>,
        kind: Option<FileKind>,
        plus: bool,
    ) -> Listed {
        if !plus {
            return match kind {
                Some(_) => Listed::Plain,
                None => match self.child(directory, name) {
                    Ok(None) | Err(Errno::ENOENT) => Listed::Gone,
                    _ => Listed::Plain,
                },
            };
        }
        match self.enter(node, directory, name) {
            Ok(Lookup::Found(entry)) => Listed::Entry(entry),
            Ok(Lookup::Absent(_)) => Listed::Gone,
            // The client finds out when it looks the name up.
            Err(_) => Listed::Plain,
        }
    }
}

/// What becomes of a listed name.
enum Listed {
    Plain,
    Entry(Entry),
    Gone,
}
