//! Reads and writes files of the guest for the host, as its root user.
//!
//! As with [`crate::export`], a process of its own does it in place of the program of an execution: it may
//! wait for a file, the agent never does. It needs no program of the image.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use matchlock_proto::{FileEntry, FileRequest};
use matchlock_tar::tree::{Limits, Root, Top, TreeError, pack, unpack};
use matchlock_text::DescribeChain;
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, mkdirat, openat2, statat,
};
use rustix::io::Errno;
use rustix::process::{setsid, umask};

/// Bytes copied at one time.
const CHUNK: usize = 64 * 1024;

/// The host's user may fill the guest.
const ANYTHING: Limits = Limits { entries: u64::MAX, bytes: u64::MAX };

/// Of the directories that are made above a new file.
const PARENT_MODE: u32 = 0o755;

/// Links lead nowhere but into the root, and those to open files of processes nowhere at all.
const WITHIN: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// Runs as the process of a request, with its streams. Returns the status to exit with.
pub(crate) fn carry_out(request: &FileRequest) -> i32 {
    let done = setsid().map_err(io::Error::from).and_then(|_| {
        let root = openat2(
            rustix::fs::CWD,
            "/",
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::empty(),
        )?;
        let stdin = File::from(rustix::stdio::stdin().try_clone_to_owned()?);
        let stdout = File::from(rustix::stdio::stdout().try_clone_to_owned()?);
        let stderr = File::from(rustix::stdio::stderr().try_clone_to_owned()?);
        perform(&root, request, stdin, stdout, stderr)
    });
    status(&done)
}

/// Does what is asked for below `root`.
///
/// # Errors
/// Those of the system calls; `EFBIG` for a file beyond the bound, `EINVAL` for what is no regular file.
pub fn perform(
    root: &OwnedFd,
    request: &FileRequest,
    input: impl Read,
    output: impl Write,
    mut messages: impl Write,
) -> io::Result<()> {
    match request {
        FileRequest::Write { path, mode } => write(root, path, *mode, input),
        FileRequest::Read { path, max } => read(root, path, *max, output),
        FileRequest::List { path } => list(root, path, output),
        FileRequest::Pack { path, follow } => {
            let root = Root::within(root.try_clone()?);
            let packed = told(pack(&root, path, *follow, output), messages.by_ref())?;
            packed.notes.iter().try_for_each(|note| writeln!(messages, "{note}"))
        }
        FileRequest::Unpack { path, name, archive } => {
            let root = Root::within(root.try_clone()?);
            let top = if *archive { Top::Archive } else { Top::Copy(name.as_deref()) };
            let input = BufReader::with_capacity(CHUNK, input);
            told(unpack(&root, path, top, input, ANYTHING), messages).map(drop)
        }
    }
}

/// Says why a copy failed, and gives the number of that.
fn told<T>(copied: Result<T, TreeError>, mut messages: impl Write) -> io::Result<T> {
    copied.map_err(|error| {
        let _nobody_listens = writeln!(messages, "{}", DescribeChain(&error));
        io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EINVAL))
    })
}

/// The number of the error; never 0 for one.
fn status(done: &io::Result<()>) -> i32 {
    match done {
        Ok(()) => 0,
        Err(error) => {
            error.raw_os_error().filter(|number| (1..=255).contains(number)).unwrap_or(libc::EIO)
        }
    }
}

fn write(root: &OwnedFd, path: &[u8], mode: u32, mut input: impl Read) -> io::Result<()> {
    umask(Mode::empty());
    let path = Path::new(OsStr::from_bytes(path));
    let mode = Mode::from_raw_mode(mode & 0o7777);
    let flags = OFlags::WRONLY | OFlags::CREATE;
    let file = match open(root, path, flags, mode) {
        Err(Errno::NOENT) => {
            make_parents(root, path)?;
            open(root, path, flags, mode)?
        }
        opened => opened?,
    };
    regular(&file)?;
    // Not with O_TRUNC: what is no regular file is left alone.
    rustix::fs::ftruncate(&file, 0)?;
    copy(&mut input, &mut File::from(file), u64::MAX)
}

fn read(root: &OwnedFd, path: &[u8], max: u64, mut output: impl Write) -> io::Result<()> {
    let path = Path::new(OsStr::from_bytes(path));
    let file = open(root, path, OFlags::RDONLY, Mode::empty())?;
    if regular(&file)?.st_size > i64::try_from(max).unwrap_or(i64::MAX) {
        return Err(Errno::FBIG.into());
    }
    // It may grow meanwhile, and files of /proc have no size.
    copy(&mut File::from(file), &mut output, max)
}

fn copy(from: &mut impl Read, to: &mut impl Write, max: u64) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut copied = 0u64;
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => return to.flush(),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        copied += n as u64;
        if copied > max {
            return Err(Errno::FBIG.into());
        }
        to.write_all(buffer.get(..n).unwrap_or_default())?;
    }
}

fn list(root: &OwnedFd, path: &[u8], mut output: impl Write) -> io::Result<()> {
    let path = Path::new(OsStr::from_bytes(path));
    let directory = open(root, path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
    let mut bytes = Vec::new();
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // It was removed meanwhile.
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno.into()),
        };
        FileEntry {
            name: name.to_bytes().to_vec(),
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            mode: stat.st_mode,
            modified_s: stat.st_mtime,
            modified_ns: u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
        }
        .encode(&mut bytes);
        if bytes.len() >= CHUNK {
            output.write_all(&bytes)?;
            bytes.clear();
        }
    }
    output.write_all(&bytes)?;
    output.flush()
}

/// Opens without waiting for the other end of a pipe, and without a terminal to take.
fn open(root: impl AsFd, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    openat2(root, path, flags, mode, WITHIN)
}

fn regular(file: &OwnedFd) -> io::Result<Stat> {
    let stat = fstat(file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(stat),
        FileType::Directory => Err(Errno::ISDIR.into()),
        _ => Err(Errno::INVAL.into()),
    }
}

/// Makes the directories above `path` that are not there.
fn make_parents(root: &OwnedFd, path: &Path) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut parent = root.try_clone()?;
    let mut prefix = std::path::PathBuf::new();
    for part in path.parent().into_iter().flat_map(Path::components) {
        prefix.push(part);
        let opened = openat2(root, &prefix, flags, Mode::empty(), WITHIN);
        parent = match (opened, part) {
            (Err(Errno::NOENT), Component::Normal(name)) => {
                match mkdirat(&parent, name, Mode::from_raw_mode(PARENT_MODE)) {
                    // Somebody else was faster, or it is a link to nothing.
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno.into()),
                }
                openat2(root, &prefix, flags, Mode::empty(), WITHIN)?
            }
            (opened, _) => opened?,
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests;
