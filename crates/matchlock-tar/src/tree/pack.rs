//! A tree as an archive.
//!
//! Nothing below the source is opened by a path and no link is followed: programs may change everything
//! there at any time.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, fstat, fstatfs, openat, readlinkat, statat,
};
use rustix::io::Errno;

use super::place::{Named, split};
use super::{CHUNK, MAX_DEPTH, Root, Shown, TreeError, child_path, names};
use crate::write::{self, Entry, Kind};

/// A file without a size may be one of /proc. So many bytes of it are looked for.
const MAX_UNSIZED: u64 = 4 << 20;

/// File systems whose files are made up by the kernel (statfs(2)): proc, sysfs, cgroup2, devpts.
const MADE_UP: [u64; 4] = [0x9fa0, 0x6265_6572, 0x6367_7270, 0x1cd1];

/// The most notes that are kept.
const MAX_NOTES: usize = 20;

/// What was written.
#[derive(Debug, Default)]
pub struct Packed {
    /// Files, directories and links.
    pub entries: u64,
    /// What was left out or is not as it was, of the first ones.
    pub notes: Vec<String>,
}

/// Writes `path` as an archive. Its entries begin with the last name of the path; a path that has none, or
/// ends in `/.`, is a directory's content. A link is written as one, unless `follow` is set or the path
/// ends in a slash.
///
/// # Errors
/// [`TreeError`].
pub fn pack(
    root: &Root,
    path: &[u8],
    follow: bool,
    output: impl Write,
) -> Result<Packed, TreeError> {
    let mut packer = Packer {
        output: BufWriter::with_capacity(256 * 1024, output),
        linked: HashMap::new(),
        packed: Packed::default(),
        buffer: vec![0; CHUNK],
    };
    let here = |error| TreeError::file(path)(error);
    match split(path) {
        Named::Content => {
            let directory = root.open(path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(here)?;
            let stat = fstat(&directory).map_err(|errno| TreeError::errno(path, errno))?;
            packer.entry(b"", &stat, Kind::Directory)?;
            packer.children(&directory, b"", 0)?;
        }
        Named::Entry { name, is_directory, .. } if follow || is_directory => {
            let only = if is_directory { OFlags::DIRECTORY } else { OFlags::empty() };
            let found = root.open(path, OFlags::PATH | only).map_err(here)?;
            let stat = fstat(&found).map_err(|errno| TreeError::errno(path, errno))?;
            packer.resolved(name, &stat, || root.open(path, OFlags::RDONLY))?;
        }
        Named::Entry { parent, name, .. } => {
            let parent = root.open(parent, OFlags::PATH | OFlags::DIRECTORY).map_err(here)?;
            let name = CString::new(name).map_err(|error| here(error.into()))?;
            let stat = statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW);
            let stat = stat.map_err(|errno| TreeError::errno(path, errno))?;
            packer.child(&parent, &name, name.to_bytes(), &stat, 0)?;
        }
    }
    write::end(&mut packer.output).map_err(TreeError::Write)?;
    Ok(packer.packed)
}

struct Packer<W: Write> {
    output: BufWriter<W>,
    /// Of files with several names: the one that was written.
    linked: HashMap<(u64, u64), Vec<u8>>,
    packed: Packed,
    buffer: Vec<u8>,
}

impl<W: Write> Packer<W> {
    fn resolved(
        &mut self,
        name: &[u8],
        stat: &Stat,
        open: impl FnOnce() -> io::Result<OwnedFd>,
    ) -> Result<(), TreeError> {
        let opened = || open().map_err(TreeError::file(name));
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                self.entry(name, stat, Kind::Directory)?;
                self.children(&opened()?, name, 0)
            }
            FileType::RegularFile => self.content(opened()?, name),
            _ => {
                self.note(name, "is no file, directory or link, and left out");
                Ok(())
            }
        }
    }

    fn children(
        &mut self,
        directory: &OwnedFd,
        path: &[u8],
        depth: usize,
    ) -> Result<(), TreeError> {
        let wrong = |errno| TreeError::errno(path, errno);
        if depth > MAX_DEPTH {
            return Err(wrong(Errno::NAMETOOLONG));
        }
        for name in names(directory).map_err(wrong)? {
            let child = child_path(path, &name);
            match statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => self.child(directory, &name, &child, &stat, depth + 1)?,
                // It was removed meanwhile.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(TreeError::errno(&child, errno)),
            }
        }
        Ok(())
    }

    fn child(
        &mut self,
        parent: &OwnedFd,
        name: &CStr,
        path: &[u8],
        stat: &Stat,
        depth: usize,
    ) -> Result<(), TreeError> {
        let wrong = |errno| TreeError::errno(path, errno);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let directory = open(parent, name, OFlags::DIRECTORY).map_err(wrong)?;
                self.entry(path, stat, Kind::Directory)?;
                let kind = fstatfs(&directory).map_err(wrong)?.f_type;
                if depth > 0 && MADE_UP.contains(&u64::try_from(kind).unwrap_or_default()) {
                    self.note(path, "is made up by the kernel, and its content left out");
                    return Ok(());
                }
                self.children(&directory, path, depth)
            }
            FileType::Symlink => {
                let text = readlinkat(parent, name, Vec::new()).map_err(wrong)?;
                self.entry(path, stat, Kind::Symlink(text.to_bytes()))
            }
            FileType::RegularFile => {
                let inode = (stat.st_dev, stat.st_ino);
                if stat.st_nlink > 1
                    && let Some(first) = self.linked.get(&inode).cloned()
                {
                    return self.entry(path, stat, Kind::HardLink(&first));
                }
                self.content(open(parent, name, OFlags::empty()).map_err(wrong)?, path)?;
                if stat.st_nlink > 1 {
                    self.linked.insert(inode, path.to_vec());
                }
                Ok(())
            }
            _ => {
                self.note(path, "is no file, directory or link, and left out");
                Ok(())
            }
        }
    }

    /// A regular file, as long as it is now.
    fn content(&mut self, file: OwnedFd, path: &[u8]) -> Result<(), TreeError> {
        let stat = fstat(&file).map_err(|errno| TreeError::errno(path, errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            self.note(path, "was replaced meanwhile, and left out");
            return Ok(());
        }
        let mut file = File::from(file);
        let mut size = u64::try_from(stat.st_size).unwrap_or_default();
        let mut head = Vec::new();
        if size == 0 {
            let read = Read::by_ref(&mut file).take(MAX_UNSIZED).read_to_end(&mut head);
            read.map_err(TreeError::file(path))?;
            size = head.len() as u64;
        }
        self.entry(path, &stat, Kind::File(size))?;
        self.output.write_all(&head).map_err(TreeError::Write)?;
        let mut left = size - head.len() as u64;
        while left > 0 {
            let room = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let buffer = self.buffer.get_mut(..room).unwrap_or_default();
            let n = match file.read(buffer) {
                Ok(0) => {
                    // What was promised has to come, or nothing behind it is found.
                    buffer.fill(0);
                    self.note(path, "became shorter meanwhile, and ends in zeros");
                    room
                }
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(TreeError::file(path)(error)),
            };
            let bytes = self.buffer.get(..n).unwrap_or_default();
            self.output.write_all(bytes).map_err(TreeError::Write)?;
            left -= n as u64;
        }
        write::pad(size, &mut self.output).map_err(TreeError::Write)
    }

    fn entry(&mut self, path: &[u8], stat: &Stat, kind: Kind<'_>) -> Result<(), TreeError> {
        self.packed.entries += 1;
        let (mode, uid, gid) = (stat.st_mode, stat.st_uid, stat.st_gid);
        let mtime = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
        let entry = Entry { path, kind, mode, uid, gid, mtime, xattrs: &[] };
        write::header(&entry, &mut self.output).map_err(TreeError::Write)
    }

    fn note(&mut self, path: &[u8], what: &str) {
        let notes = &mut self.packed.notes;
        let note = format!("{} {what}", Shown(path.to_vec()));
        if notes.len() < MAX_NOTES && notes.last() != Some(&note) {
            notes.push(note);
        }
    }
}

/// Without waiting, in case it was replaced by a pipe just now.
fn open(parent: &OwnedFd, name: &CStr, more: OFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | more;
    openat(parent, name, flags, Mode::empty())
}
