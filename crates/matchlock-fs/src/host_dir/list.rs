//! Listings of a host directory.
//!
//! A position is the host's own (`d_off` of getdents64(2)), so nothing is kept between two requests:
//! each opens the directory, seeks, and reads about as much as it can answer.

use std::mem::MaybeUninit;

use rustix::fs::{Mode, RawDir, SeekFrom, seek};

use super::HostDir;
use super::open::Status;
use crate::reply::{DirBuffer, DirItem};
use crate::request::Name;
use crate::types::{Entry, Errno, FileKind, Lookup, NodeId, Result};

/// Bounds of the buffer for host entries. The lower one takes the longest name.
const MIN_BUFFER: usize = 1024;
const MAX_BUFFER: usize = 32 * 1024;

impl HostDir {
    pub(super) fn list(&self, node: NodeId, offset: u64, out: &mut DirBuffer<'_>) -> Result<()> {
        let directory = match self.directory(node) {
            // A mount inside the root: an empty directory.
            Err(Errno::EXDEV) => return Ok(()),
            directory => directory?,
        };
        let status = Status::of(&*directory)?;
        self.options.filter.check_mode(status.mode, Mode::ROTH)?;
        // Attributes of what is inside need the same permission as a lookup.
        let enterable = self.options.filter.check_mode(status.mode, Mode::XOTH).is_ok();
        let listing = self.opener.listing(&*directory)?;
        if offset != 0 {
            seek(&listing, SeekFrom::Start(offset))?;
        }
        let parent = self.masked_path(node)?;
        // An entry of READDIRPLUS takes about four times what getdents gives.
        let wanted = out.room() / if out.plus() { 4 } else { 1 };
        let mut buffer = [MaybeUninit::uninit(); MAX_BUFFER];
        let mut entries = RawDir::new(listing, &mut buffer[..wanted.clamp(MIN_BUFFER, MAX_BUFFER)]);
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
            match self.listed(node, &directory, name, kind, out.plus() && enterable) {
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
        directory: &std::os::fd::OwnedFd,
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
