//! A disk that keeps what can be made again: it is there when it is wanted, and whoever comes second
//! waits.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Access, Attached, VolumeError, failed, lock, open, publish};
use crate::artefacts::DiskTemplate;
use crate::values::DiskSize;

/// Takes the disk at `path` for a sandbox that writes to it. It is made when it is missing, and becomes
/// larger when it is smaller than `size`; never smaller. When another sandbox has it, `waiting` is called
/// and that one's end awaited, however long: call it on a thread that may block.
///
/// # Errors
/// [`VolumeError::File`] or [`VolumeError::NotDisk`].
pub fn attach_cache(
    path: &Path,
    size: DiskSize,
    template: &DiskTemplate,
    waiting: impl FnOnce(),
) -> Result<Attached, VolumeError> {
    let mut waiting = Some(waiting);
    loop {
        let file = match open(path, Access::ReadWrite) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(path, size, template)?;
                continue;
            }
            Err(error) => return Err(failed("open", path)(error)),
        };
        if !file.metadata().map_err(failed("read", path))?.is_file() {
            let problem = "it is not a regular file";
            return Err(VolumeError::NotDisk { path: path.to_owned(), problem });
        }
        if !lock(&file, Access::ReadWrite).map_err(failed("lock", path))? {
            if let Some(waiting) = waiting.take() {
                waiting();
            }
            file.lock().map_err(failed("lock", path))?;
        }
        let metadata = file.metadata().map_err(failed("read", path))?;
        // Deleted, by someone who wants a new one, before the lock was had.
        if metadata.nlink() == 0 {
            continue;
        }
        if metadata.len() < size.bytes() {
            // The guest grows the file system to its disk.
            file.set_len(size.bytes()).map_err(failed("enlarge", path))?;
        }
        return Ok(Attached { file, access: Access::ReadWrite });
    }
}

/// Two that create it at a time end with one.
fn create(path: &Path, size: DiskSize, template: &DiskTemplate) -> Result<(), VolumeError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let made = publish(directory, path, |file| {
        crate::disk::fill(file, template.image, size.bytes()).map_err(failed("fill", path))
    });
    made.map(drop)
}
