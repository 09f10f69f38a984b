//! A copy of a sparse file that is as sparse.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::{
    Gid, Mode, SeekFrom, Timespec, Timestamps, Uid, fchmod, fchown, futimens, ioctl_ficlone, seek,
};
use rustix::io::Errno;

/// Bytes that are copied at a time.
const PIECE: usize = 1024 * 1024;

/// Makes the empty file `to` what `from` is; returns its length in bytes.
pub(super) fn all(from: &File, to: &File) -> io::Result<u64> {
    let metadata = from.metadata()?;
    if ioctl_ficlone(to, from).is_err() {
        to.set_len(metadata.len())?;
        content(from, to)?;
    }
    fchmod(to, Mode::from_raw_mode(metadata.mode() & 0o7777))?;
    let (uid, gid) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
    match fchown(to, Some(uid), Some(gid)) {
        // Only root gives files away; a copy of somebody else's then is one's own.
        Ok(()) | Err(Errno::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    futimens(
        to,
        &Timestamps {
            last_access: time(metadata.atime(), metadata.atime_nsec()),
            last_modification: time(metadata.mtime(), metadata.mtime_nsec()),
        },
    )?;
    Ok(metadata.len())
}

/// Copies what is not a hole (lseek(2), `SEEK_DATA`).
fn content(from: &File, to: &File) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    loop {
        at = match seek(from, SeekFrom::Data(at)) {
            Ok(at) => at,
            // No data any more.
            Err(Errno::NXIO) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        let end = seek(from, SeekFrom::Hole(at))?;
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
            let piece = buffer.get_mut(..wanted).unwrap_or_default();
            from.read_exact_at(piece, at)?;
            to.write_all_at(piece, at)?;
            at += wanted as u64;
        }
    }
}
