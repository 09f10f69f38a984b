//! The writable layer: a sparse file. It has no name, so that nothing of it can be left behind, unless its
//! sandbox is kept.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::artefacts::DiskTemplate;
use crate::error::CoreError;
use crate::values::DiskSize;

/// Longest piece of a template in bytes.
const MAX_PIECE: u32 = 16 * 1024 * 1024;

/// Makes a disk of `size` in `dir` from the largest of the empty file systems that fits.
///
/// Only blocks with content are written; the guest grows the file system to the size of the disk,
/// when it has not that size already.
pub(crate) fn create(
    dir: &Path,
    templates: &[DiskTemplate],
    size: DiskSize,
) -> Result<File, CoreError> {
    let file = nameless(dir).map_err(CoreError::file("create a disk in", dir))?;
    format(&file, dir, templates, size)?;
    Ok(file)
}

/// The disk of a kept sandbox in its directory.
pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join("upper.ext4")
}

/// Opens the disk of a kept sandbox. It is made if it is not there yet, and has its name when it is whole.
pub(crate) fn keep(
    dir: &Path,
    templates: &[DiskTemplate],
    size: DiskSize,
) -> Result<File, CoreError> {
    let path = path(dir);
    let open = || File::options().read(true).write(true).open(&path);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened.map_err(CoreError::file("open", &path)),
    }
    let draft = dir.join("upper.ext4.new");
    let mut options = File::options();
    let made = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&draft);
    let file = made.map_err(CoreError::file("create", &draft))?;
    format(&file, dir, templates, size)?;
    std::fs::rename(&draft, &path).map_err(CoreError::file("create", &path))?;
    Ok(file)
}

fn format(
    file: &File,
    dir: &Path,
    templates: &[DiskTemplate],
    size: DiskSize,
) -> Result<(), CoreError> {
    let size = size.bytes();
    let fitting = templates.iter().filter(|template| template.size <= size);
    let template = fitting.max_by_key(|template| template.size).map_or(&[][..], |t| t.image);
    fill(file, template, size).map_err(CoreError::file("fill a disk in", dir))
}

/// Writes the pieces of a template: each is its offset (8 bytes, little endian), its length (4 bytes)
/// and its content.
pub(crate) fn fill(file: &File, template: &[u8], size: u64) -> io::Result<()> {
    file.set_len(size)?;
    let mut pieces = zstd::Decoder::new(template)?;
    let mut content = Vec::new();
    let mut offset = [0; 8];
    while read_or_end(&mut pieces, &mut offset)? {
        let mut len = [0; 4];
        pieces.read_exact(&mut len)?;
        let (offset, len) = (u64::from_le_bytes(offset), u32::from_le_bytes(len));
        if len > MAX_PIECE || offset.checked_add(len.into()).is_none_or(|end| end > size) {
            return Err(io::Error::other("the template is larger than the disk"));
        }
        content.resize(len as usize, 0);
        pieces.read_exact(&mut content)?;
        file.write_all_at(&content, offset)?;
    }
    Ok(())
}

/// Fills `buffer`; false at the end of the pieces.
fn read_or_end(pieces: &mut impl Read, buffer: &mut [u8; 8]) -> io::Result<bool> {
    let (first, rest) = buffer.split_at_mut(1);
    if pieces.read(first)? == 0 {
        return Ok(false);
    }
    pieces.read_exact(rest).map(|()| true)
}

/// A file that has no name and vanishes with its last descriptor.
fn nameless(dir: &Path) -> io::Result<File> {
    use io::ErrorKind::{IsADirectory, Unsupported};
    match matchlock_sys::unnameable(dir) {
        // Some file systems (NFS, older overlayfs) cannot: a name for an instant then.
        Err(error) if matches!(error.kind(), Unsupported | IsADirectory) => {
            let path = dir.join("upper.ext4");
            let mut options = File::options();
            let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        }
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn packed(pieces: &[(u64, &[u8])]) -> &'static [u8] {
        let mut bytes = Vec::new();
        for (offset, content) in pieces {
            bytes.extend(offset.to_le_bytes());
            bytes.extend(u32::try_from(content.len()).expect("short").to_le_bytes());
            bytes.extend(*content);
        }
        zstd::encode_all(bytes.as_slice(), 1).expect("encode").leak()
    }

    #[test]
    fn a_disk_is_sparse_nameless_and_holds_the_template() {
        let dir = tempfile::tempdir().expect("tempdir");
        let templates = [
            DiskTemplate { size: 1 << 20, image: packed(&[(0, b"start"), (700_000, b"hello")]) },
            DiskTemplate { size: 2 << 30, image: packed(&[(0, b"too large")]) },
        ];
        let size = DiskSize::new(1024).expect("valid");
        let disk = create(dir.path(), &templates, size).expect("create");
        let meta = disk.metadata().expect("stat");
        assert_eq!((meta.len(), meta.nlink()), (1 << 30, 0));
        assert!(meta.blocks() * 512 < 1 << 20);
        let mut content = vec![0; 1 << 20];
        disk.read_exact_at(&mut content, 0).expect("read");
        assert_eq!(content.get(..6), Some(&b"start\0"[..]));
        assert_eq!(content.get(700_000..700_005), Some(&b"hello"[..]));
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 0);
    }

    #[test]
    fn a_damaged_template_is_an_error() {
        let dir = tempfile::tempdir().expect("tempdir");
        let size = DiskSize::new(64).expect("valid");
        let damaged = [DiskTemplate { size: 1, image: b"not zstd" }];
        assert!(create(dir.path(), &damaged, size).is_err());
        let outside = [DiskTemplate { size: 1, image: packed(&[(size.bytes(), b"x")]) }];
        assert!(create(dir.path(), &outside, size).is_err());
        assert!(create(dir.path(), &[], size).is_err(), "none that fits");
    }
}
