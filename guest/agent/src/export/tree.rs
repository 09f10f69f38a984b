//! The walk through the writable layer.
//!
//! Nothing is opened by a path and no link is followed: the programs of the guest may still run, and
//! can change everything here at any time.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, fstat, lgetxattr, llistxattr, major, minor, openat,
    readlinkat, statat,
};
use rustix::io::Errno;

use super::{Layer, MAX_DEPTH, open_directory, trust};
use crate::console;
use matchlock_tar::tree::{child_path, names};
use matchlock_tar::write::{self as tar, Entry, Kind};

/// The overlay's own attributes begin so (kernel Documentation/filesystems/overlayfs.rst).
const OVERLAY: &[u8] = b"trusted.overlay.";
const OPAQUE: &CStr = c"trusted.overlay.opaque";

/// Names of the OCI image spec (layer.md, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE_WHITEOUT: &[u8] = b".wh..wh..opq";

/// Longest value of an extended attribute in bytes (xattr(7)).
const MAX_XATTR: usize = 64 * 1024;

type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// One run.
pub(super) struct Export<'a, W: Write> {
    layer: &'a Layer,
    output: BufWriter<W>,
    /// Of files with several names: the one that was written.
    linked: HashMap<u64, Vec<u8>>,
    /// Directories on the way to here whose own entries were not written yet.
    pending: Vec<(Vec<u8>, Stat, Xattrs)>,
}

impl<'a, W: Write> Export<'a, W> {
    pub(super) fn new(layer: &'a Layer, output: W) -> Self {
        let output = BufWriter::with_capacity(256 * 1024, output);
        Self { layer, output, linked: HashMap::new(), pending: Vec::new() }
    }

    /// Writes all of `root`.
    pub(super) fn run(mut self, root: OwnedFd) -> io::Result<()> {
        // A descriptor of its own: reading a directory moves the position that copies share.
        let root = open_directory(root, c".")?;
        let stat = fstat(&root)?;
        if self.layer.baseline.root_changed(&stat) {
            let xattrs = xattrs(&root, c".")?;
            self.entry(b"", &stat, Kind::Directory, &xattrs)?;
        }
        self.directory(&root, b"", 0)?;
        tar::end(&mut self.output)
    }

    fn directory(&mut self, directory: &OwnedFd, path: &[u8], depth: u32) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(io::Error::other("directories are nested too deep"));
        }
        for name in names(directory)? {
            let child = child_path(path, &name);
            match statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => self.child(directory, &name, &child, &stat, depth)?,
                // A program has removed it meanwhile.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
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
        depth: u32,
    ) -> io::Result<()> {
        let is_untouched = self.layer.baseline.has(stat);
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            return self.subdirectory(parent, name, path, stat, depth);
        }
        if is_untouched || trust::is_own(path) {
            return Ok(());
        }
        self.flush_pending()?;
        let device = (major(stat.st_rdev), minor(stat.st_rdev));
        match kind {
            FileType::CharacterDevice if device == (0, 0) => return self.whiteout(path, stat),
            // An archive has no sockets, and one without its program is of no use.
            FileType::Socket => return Ok(()),
            _ => {}
        }
        if stat.st_nlink > 1
            && let Some(first) = self.linked.get(&stat.st_ino).cloned()
        {
            return self.entry(path, stat, Kind::HardLink(&first), &Vec::new());
        }
        let xattrs = xattrs(parent, name)?;
        match kind {
            FileType::RegularFile => self.file(parent, name, path, stat, &xattrs)?,
            FileType::Symlink => {
                let target = readlinkat(parent, name, Vec::new())?;
                self.entry(path, stat, Kind::Symlink(target.to_bytes()), &xattrs)?;
            }
            FileType::CharacterDevice => {
                self.entry(path, stat, Kind::CharDevice(device.0, device.1), &xattrs)?;
            }
            FileType::BlockDevice => {
                self.entry(path, stat, Kind::BlockDevice(device.0, device.1), &xattrs)?;
            }
            FileType::Fifo => self.entry(path, stat, Kind::Fifo, &xattrs)?,
            _ => return Err(io::Error::other("a file of unknown kind")),
        }
        if stat.st_nlink > 1 {
            self.linked.insert(stat.st_ino, path.to_vec());
        }
        Ok(())
    }

    /// A directory that the agent has made is there only for what programs have put into it.
    fn subdirectory(
        &mut self,
        parent: &OwnedFd,
        name: &CStr,
        path: &[u8],
        stat: &Stat,
        depth: u32,
    ) -> io::Result<()> {
        let xattrs = xattrs(parent, name)?;
        let is_opaque = opaque(parent, name)?;
        let before = self.pending.len();
        self.pending.push((path.to_vec(), *stat, xattrs));
        if !self.layer.baseline.has(stat) {
            self.flush_pending()?;
            if is_opaque {
                let mark = [path, b"/", OPAQUE_WHITEOUT].concat();
                self.empty(&mark, stat)?;
            }
        }
        self.directory(&open_directory(parent, name)?, path, depth + 1)?;
        self.pending.truncate(before);
        Ok(())
    }

    fn flush_pending(&mut self) -> io::Result<()> {
        for (path, stat, xattrs) in std::mem::take(&mut self.pending) {
            self.entry(&path, &stat, Kind::Directory, &xattrs)?;
        }
        Ok(())
    }

    fn whiteout(&mut self, path: &[u8], stat: &Stat) -> io::Result<()> {
        let name = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        let (directory, name) = path.split_at_checked(name).unwrap_or((b"", path));
        self.empty(&[directory, WHITEOUT, name].concat(), stat)
    }

    /// An empty file that only marks something.
    fn empty(&mut self, path: &[u8], stat: &Stat) -> io::Result<()> {
        let mtime = (stat.st_mtime, 0);
        let kind = Kind::File(0);
        let mark = Entry { path, kind, mode: 0o644, uid: 0, gid: 0, mtime, xattrs: &[] };
        tar::header(&mark, &mut self.output)
    }

    fn entry(
        &mut self,
        path: &[u8],
        stat: &Stat,
        kind: Kind<'_>,
        xattrs: &Xattrs,
    ) -> io::Result<()> {
        let (mode, uid, gid) = (stat.st_mode, stat.st_uid, stat.st_gid);
        let mtime = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
        tar::header(&Entry { path, kind, mode, uid, gid, mtime, xattrs }, &mut self.output)
    }

    fn file(
        &mut self,
        parent: &OwnedFd,
        name: &CStr,
        path: &[u8],
        stat: &Stat,
        xattrs: &Xattrs,
    ) -> io::Result<()> {
        // Without waiting, in case it was replaced by a pipe just now.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(parent, name, flags, Mode::empty())?;
        let now = fstat(&file)?;
        if now.st_ino != stat.st_ino {
            return Err(io::Error::other("a file was replaced while it was read"));
        }
        let size = u64::try_from(now.st_size).unwrap_or(0);
        let mut file = File::from(file).take(size);
        if let Some(authority) = &self.layer.authority
            && trust::may_be_store(path, size)
        {
            let mut content = Vec::new();
            file.read_to_end(&mut content)?;
            let content = authority.removed_from(content);
            let size = content.len() as u64;
            self.entry(path, &now, Kind::File(size), xattrs)?;
            self.output.write_all(&content)?;
            return tar::pad(size, &mut self.output);
        }
        self.entry(path, &now, Kind::File(size), xattrs)?;
        if io::copy(&mut file, &mut self.output)? != size {
            return Err(io::Error::other("a file became shorter while it was read"));
        }
        tar::pad(size, &mut self.output)
    }
}

/// A path to `name` for the calls that take no directory. Of a link it is the link.
fn by_descriptor(parent: &OwnedFd, name: &CStr) -> io::Result<CString> {
    let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
    path.extend(name.to_bytes());
    Ok(CString::new(path)?)
}

fn opaque(parent: &OwnedFd, name: &CStr) -> io::Result<bool> {
    let mut value = [0; 1];
    match lgetxattr(by_descriptor(parent, name)?, OPAQUE, &mut value) {
        Ok(length) => Ok(length == 1 && value == *b"y"),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// All extended attributes but the overlay's, in the order of their names.
fn xattrs(parent: &OwnedFd, name: &CStr) -> io::Result<Xattrs> {
    let path = by_descriptor(parent, name)?;
    let mut list = vec![0; MAX_XATTR];
    let length = match llistxattr(&path, &mut list) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(errno) => return Err(errno.into()),
    };
    let names = list.get(..length).unwrap_or_default().split(|&byte| byte == 0);
    let mut found = Vec::new();
    let mut value = vec![0; MAX_XATTR];
    for name in names.filter(|name| !name.is_empty() && !name.starts_with(OVERLAY)) {
        match lgetxattr(&path, name, &mut value) {
            Ok(length) => {
                found.push((name.to_vec(), value.get(..length).unwrap_or_default().to_vec()));
            }
            Err(Errno::NODATA) => {}
            Err(errno) => console::line(format_args!("export: attribute not read: {errno:?}")),
        }
    }
    found.sort_unstable();
    Ok(found)
}
