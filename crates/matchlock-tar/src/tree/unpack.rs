//! An archive as a tree.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, fchmod, fstat, ftruncate,
    futimens, linkat, mkdirat, openat, openat2, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::place::{Place, find};
use super::{MAX_DEPTH, Refusal, Root, TreeError};
use crate::{Archive, Attributes, Chunk, Entry, Kind};

/// Longest path, name and text of a link in bytes (PATH_MAX and NAME_MAX).
const MAX_PATH: usize = 4095;
const MAX_NAME: usize = 255;

/// Of directories that the archive does not have, but needs.
const PARENT_MODE: Mode = Mode::from_raw_mode(0o755);

/// What of a mode is copied. The owner is another one: nothing runs with the rights of that.
const MODE_BITS: u32 = 0o777;

/// What an archive is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Top<'a> {
    /// The one thing that [`super::pack`] wrote, as `cp` copies it; with its own name, or the content of a
    /// directory.
    Copy(Option<&'a [u8]>),
    /// Whatever is in it, in a directory that is there.
    Archive,
}

/// What is taken of an archive at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of files together, holes with them.
    pub bytes: u64,
}

/// What was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of files together.
    pub bytes: u64,
}

/// Makes files, directories and links of an archive at `path`. Files that are there are replaced, and
/// directories kept with their modes. Owners, set-id bits and extended attributes of the archive do not count.
///
/// # Errors
/// [`TreeError`]; what was made up to there stays.
pub fn unpack(
    root: &Root,
    path: &[u8],
    top: Top<'_>,
    archive: impl BufRead,
    limits: Limits,
) -> Result<Unpacked, TreeError> {
    let mut archive = Archive::with_headers(archive, limits.entries.saturating_mul(4));
    let first = match archive.next_entry().map_err(TreeError::Read)? {
        Some(first) => first,
        None if top == Top::Archive => {
            find(root, path, top, &Kind::Directory)?;
            return Ok(Unpacked::default());
        }
        None => return Err(TreeError::refused(path, Refusal::Empty)),
    };
    let (base, name) = match find(root, path, top, &first.kind)? {
        Place::Below(base, name) => (base, name),
        Place::Over(file) => return over(archive, &first, file, limits),
    };
    // What the sender calls it does not matter: the name is the caller's.
    let rename = match top {
        Top::Archive => None,
        Top::Copy(_) => Some(Rename { from: own_prefix(&first)?, to: name }),
    };
    let mut unpacker = Unpacker {
        archive,
        base: Rc::new(base),
        root,
        rename,
        limits,
        done: Unpacked::default(),
        made: HashSet::new(),
        directories: Vec::new(),
        parent: None,
    };
    let mut next = Some(first);
    while let Some(entry) = next {
        unpacker.entry(&entry)?;
        next = unpacker.archive.next_entry().map_err(TreeError::Read)?;
    }
    unpacker.finish()
}

/// The one component that the first entry has, or none if it is a directory's content.
fn own_prefix(first: &Entry) -> Result<Vec<u8>, TreeError> {
    let mut parts = components(&first.path)?;
    match (parts.pop(), parts.is_empty()) {
        (None, _) if first.kind == Kind::Directory => Ok(Vec::new()),
        (Some(name), true) => Ok(name),
        _ => Err(TreeError::refused(&first.path, Refusal::Beside)),
    }
}

/// Names that exist where the archive is unpacked, without `.`.
fn components(path: &[u8]) -> Result<Vec<Vec<u8>>, TreeError> {
    let refused = |reason| Err(TreeError::refused(path, reason));
    if path.starts_with(b"/") {
        return refused(Refusal::Absolute);
    }
    if path.len() > MAX_PATH {
        return refused(Refusal::TooLong);
    }
    let mut parts = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return refused(Refusal::Parent),
            part if part.len() > MAX_NAME => return refused(Refusal::TooLong),
            part => parts.push(part.to_vec()),
        }
    }
    if parts.len() > MAX_DEPTH {
        return refused(Refusal::TooLong);
    }
    Ok(parts)
}

/// A single file, over one that is there.
fn over<R: BufRead>(
    mut archive: Archive<R>,
    first: &Entry,
    file: OwnedFd,
    limits: Limits,
) -> Result<Unpacked, TreeError> {
    if first.size > limits.bytes {
        return Err(TreeError::refused(&first.path, Refusal::TooLarge));
    }
    let failed = |errno| TreeError::errno(&first.path, errno);
    let stat = fstat(&file).map_err(failed)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(TreeError::refused(&first.path, Refusal::Special));
    }
    ftruncate(&file, 0).map_err(failed)?;
    let mut file = File::from(file);
    content(&mut archive, first, &mut file)?;
    attributes(&file, &first.attributes).map_err(failed)?;
    match archive.next_entry().map_err(TreeError::Read)? {
        Some(more) => Err(TreeError::refused(&more.path, Refusal::Beside)),
        None => Ok(Unpacked { entries: 1, bytes: first.size }),
    }
}

/// Writes what the archive has of a file.
fn content<R: BufRead>(
    archive: &mut Archive<R>,
    entry: &Entry,
    file: &mut File,
) -> Result<(), TreeError> {
    let failed = |error| TreeError::file(&entry.path)(error);
    while let Some(chunk) = archive.chunk().map_err(TreeError::Read)? {
        match chunk {
            Chunk::Bytes(bytes) => file.write_all(bytes).map_err(failed)?,
            Chunk::Hole(length) => {
                let length = i64::try_from(length).unwrap_or(i64::MAX);
                file.seek(SeekFrom::Current(length)).map_err(failed)?;
            }
        }
    }
    // The last hole is not there yet.
    file.set_len(entry.size).map_err(failed)
}

/// Mode and time of the last change, as the archive has them.
fn attributes(file: impl AsFd, attributes: &Attributes) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(u32::from(attributes.mode) & MODE_BITS);
    fchmod(&file, mode)?;
    futimens(&file, &times(attributes))
}

fn times(attributes: &Attributes) -> Timestamps {
    let (tv_sec, nanoseconds) = attributes.mtime;
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec, tv_nsec: nanoseconds.into() },
    }
}

/// Names of a copy that begin with one component, and with which they are to begin.
struct Rename {
    /// Empty: every name counts.
    from: Vec<u8>,
    /// `None`: the names begin behind it.
    to: Option<Vec<u8>>,
}

struct Unpacker<'a, R> {
    archive: Archive<R>,
    base: Rc<OwnedFd>,
    root: &'a Root,
    rename: Option<Rename>,
    limits: Limits,
    done: Unpacked,
    /// Device and inode of the files that were made: what a hard link may lead to.
    made: HashSet<(u64, u64)>,
    /// Directories that were made, in that order. What happens in one changes it, so they come last.
    directories: Vec<(Vec<u8>, Attributes)>,
    /// The directory of the entry before.
    parent: Option<(Vec<u8>, Rc<OwnedFd>)>,
}

/// A name in a directory below the base.
#[derive(PartialEq, Eq)]
struct At {
    parent: Vec<u8>,
    name: Vec<u8>,
}

impl<R: BufRead> Unpacker<'_, R> {
    fn entry(&mut self, entry: &Entry) -> Result<(), TreeError> {
        let refused = |reason| Err(TreeError::refused(&entry.path, reason));
        let failed = |errno| TreeError::errno(&entry.path, errno);
        self.done.entries += 1;
        if self.done.entries > self.limits.entries {
            return refused(Refusal::TooMany);
        }
        self.done.bytes = self.done.bytes.saturating_add(entry.size);
        if self.done.bytes > self.limits.bytes {
            return refused(Refusal::TooLarge);
        }
        let at = match (self.at(&entry.path)?, &entry.kind) {
            (Some(at), _) => at,
            // The directory that everything goes to is there.
            (None, Kind::Directory) => return Ok(()),
            (None, _) => return refused(Refusal::IsDirectory),
        };
        let parent = self.open_parent(&at.parent).map_err(failed)?;
        match &entry.kind {
            Kind::Directory => self.directory(&parent, at, &entry.attributes).map_err(failed),
            Kind::File => self.file(&parent, &at.name, entry),
            Kind::Symlink(text) if text.is_empty() || text.len() > MAX_PATH => {
                refused(Refusal::Link)
            }
            Kind::Symlink(text) => {
                symlink(&parent, &at.name, text, &entry.attributes).map_err(failed)
            }
            Kind::HardLink(first) => match self.at(first)? {
                Some(first) => self.hard_link(&parent, &at, &first, entry),
                None => refused(Refusal::Foreign),
            },
            Kind::CharDevice(_) | Kind::BlockDevice(_) | Kind::Fifo => refused(Refusal::Special),
        }
    }

    /// Where the archive's name is; `None` for the base itself.
    fn at(&self, path: &[u8]) -> Result<Option<At>, TreeError> {
        let mut parts = components(path)?;
        if let Some(Rename { from, to }) = &self.rename {
            if !from.is_empty() {
                if parts.first() != Some(from) {
                    return Err(TreeError::refused(path, Refusal::Beside));
                }
                parts.remove(0);
            }
            if let Some(to) = to {
                parts.insert(0, to.clone());
            }
        }
        let Some(name) = parts.pop() else { return Ok(None) };
        Ok(Some(At { parent: parts.join(&b'/'), name }))
    }

    /// Opens a directory below the base, and makes what is missing of it.
    fn open_parent(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, Errno> {
        if path.is_empty() {
            return Ok(Rc::clone(&self.base));
        }
        if let Some((_, open)) = self.parent.as_ref().filter(|(known, _)| known == path) {
            return Ok(Rc::clone(open));
        }
        let opened = match self.open(path, OFlags::PATH) {
            Err(Errno::NOENT) => {
                let above = path.iter().rposition(|&byte| byte == b'/');
                let (above, name) = match above.and_then(|slash| path.split_at_checked(slash)) {
                    Some((above, name)) => (above, name.get(1..).unwrap_or_default()),
                    None => (&b""[..], path),
                };
                // As deep as a path has components, of which there is a bound.
                let above = self.open_parent(above)?;
                mkdirat(&above, name, PARENT_MODE)?;
                self.open(path, OFlags::PATH)?
            }
            opened => opened?,
        };
        let opened = Rc::new(opened);
        self.parent = Some((path.to_vec(), Rc::clone(&opened)));
        Ok(opened)
    }

    /// A directory below the base. This is the one way to one, and it leads nowhere else.
    fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat2(&self.base, path, flags, Mode::empty(), self.root.below())
    }

    fn directory(&mut self, parent: &OwnedFd, at: At, with: &Attributes) -> Result<(), Errno> {
        let mut path = at.parent;
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend(&at.name);
        match mkdirat(parent, at.name.as_slice(), Mode::RWXU) {
            Ok(()) => {
                self.directories.push((path, with.clone()));
                Ok(())
            }
            Err(Errno::EXIST) => self.open(&path, OFlags::PATH).map(drop),
            Err(errno) => Err(errno),
        }
    }

    fn file(&mut self, parent: &OwnedFd, name: &[u8], entry: &Entry) -> Result<(), TreeError> {
        let failed = |errno| TreeError::errno(&entry.path, errno);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = || openat(parent, name, flags, Mode::RUSR | Mode::WUSR);
        let mut file = File::from(replacing(parent, name, make).map_err(failed)?);
        content(&mut self.archive, entry, &mut file)?;
        attributes(&file, &entry.attributes).map_err(failed)?;
        let stat = fstat(&file).map_err(failed)?;
        self.made.insert((stat.st_dev, stat.st_ino));
        Ok(())
    }

    /// Another name for a file that this archive has made, and for no other: one of the user's could be
    /// written through it later.
    fn hard_link(
        &mut self,
        parent: &OwnedFd,
        at: &At,
        first: &At,
        entry: &Entry,
    ) -> Result<(), TreeError> {
        let failed = |errno| TreeError::errno(&entry.path, errno);
        let from = self.open_parent(&first.parent).map_err(failed)?;
        let existing = first.name.as_slice();
        let stat = statat(&from, existing, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        if !self.made.contains(&(stat.st_dev, stat.st_ino)) {
            return Err(TreeError::refused(&entry.path, Refusal::Foreign));
        }
        if at == first {
            return Ok(());
        }
        let link = || linkat(&from, existing, parent, at.name.as_slice(), AtFlags::empty());
        replacing(parent, &at.name, link).map_err(failed)
    }

    /// Gives directories their modes and times, the inner ones first.
    fn finish(self) -> Result<Unpacked, TreeError> {
        for (path, with) in self.directories.iter().rev() {
            let opened = self.open(path, OFlags::RDONLY);
            let done = opened.and_then(|directory| attributes(&directory, with));
            done.map_err(|errno| TreeError::errno(path, errno))?;
        }
        Ok(self.done)
    }
}

fn symlink(parent: &OwnedFd, name: &[u8], text: &[u8], with: &Attributes) -> Result<(), Errno> {
    replacing(parent, name, || symlinkat(text, parent, name))?;
    utimensat(parent, name, &times(with), AtFlags::SYMLINK_NOFOLLOW)
}

/// Makes an entry of a directory in the place of one that is there, unless that is a directory.
fn replacing<T>(
    parent: &OwnedFd,
    name: &[u8],
    make: impl Fn() -> Result<T, Errno>,
) -> Result<T, Errno> {
    match make() {
        Err(Errno::EXIST) => {
            unlinkat(parent, name, AtFlags::empty())?;
            make()
        }
        made => made,
    }
}
