//! The writable layer: a sparse file without a name, so that nothing of it can be left behind.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::artefacts::DiskTemplate;
use crate::config::DiskSize;
use crate::error::CoreError;

const BLOCK: usize = 64 * 1024;

/// Makes a disk of `size` in `dir` from the largest of the empty file systems that fits.
///
/// Only blocks with content are written; the guest grows the file system to the size of the disk,
/// when it has not that size already.
pub(crate) fn create(
    dir: &Path,
    templates: &[DiskTemplate],
    size: DiskSize,
) -> Result<File, CoreError> {
    let size = size.bytes();
    let fitting = templates.iter().filter(|template| template.size <= size);
    let template = fitting.max_by_key(|template| template.size).map_or(&[][..], |t| t.image);
    let file = nameless(dir).map_err(CoreError::file("create a disk in", dir))?;
    fill(&file, template, size).map_err(CoreError::file("fill a disk in", dir))?;
    Ok(file)
}

fn fill(file: &File, template: &[u8], size: u64) -> io::Result<()> {
    file.set_len(size)?;
    let mut decoder = zstd::Decoder::new(template)?;
    let mut block = vec![0; BLOCK];
    // Slices are compared by memcmp, bytes by a loop.
    let zeros = vec![0; BLOCK];
    let mut at = 0u64;
    loop {
        let len = read_full(&mut decoder, &mut block)?;
        let content = block.get(..len).unwrap_or_default();
        if content.is_empty() {
            return Ok(());
        }
        if at + content.len() as u64 > size {
            return Err(io::Error::other("the template is larger than the disk"));
        }
        if zeros.get(..len) != Some(content) {
            file.write_all_at(content, at)?;
        }
        at += content.len() as u64;
    }
}

fn read_full(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match source.read(rest)? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

/// A file that has no name and vanishes with its last descriptor.
fn nameless(dir: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::EXCL;
    match openat(CWD, dir, flags, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => Ok(File::from(fd)),
        // Some file systems (NFS, older overlayfs) cannot: a name for an instant then.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
            let path = dir.join("upper.ext4");
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
            let fd = openat(CWD, &path, flags, Mode::RUSR | Mode::WUSR)?;
            std::fs::remove_file(&path)?;
            Ok(File::from(fd))
        }
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn packed(content: &[u8]) -> &'static [u8] {
        zstd::encode_all(content, 1).expect("encode").leak()
    }

    #[test]
    fn a_disk_is_sparse_nameless_and_holds_the_template() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut image = vec![0u8; 1 << 20];
        image[700_000..700_005].copy_from_slice(b"hello");
        let templates = [
            DiskTemplate { size: 1 << 20, image: packed(&image) },
            DiskTemplate { size: 2 << 30, image: packed(b"too large") },
        ];
        let size = DiskSize::new(1024).expect("valid");
        let disk = create(dir.path(), &templates, size).expect("create");
        let meta = disk.metadata().expect("stat");
        assert_eq!((meta.len(), meta.nlink()), (1 << 30, 0));
        assert!(meta.blocks() * 512 < 1 << 20);
        let mut content = vec![0; 1 << 20];
        disk.read_exact_at(&mut content, 0).expect("read");
        assert!(content == image);
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 0);
    }

    #[test]
    fn a_damaged_template_is_an_error() {
        let dir = tempfile::tempdir().expect("tempdir");
        let size = DiskSize::new(64).expect("valid");
        let damaged = [DiskTemplate { size: 1, image: b"not zstd" }];
        assert!(create(dir.path(), &damaged, size).is_err());
        assert!(create(dir.path(), &[], size).is_err(), "none that fits");
    }
}
