//! Volumes: ext4 file systems in files, which outlive the sandboxes that use them.
//!
//! A file is locked (flock(2)) as long as a machine has it: shared by those that read it, alone by one
//! that writes. The lock goes with the descriptor, which only the monitor keeps, so no crash leaves one.

mod cache;
mod copy;
mod name;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, unlink};

pub use cache::attach_cache;
pub use name::VolumeName;

use crate::artefacts::DiskTemplate;
use crate::classified::{Classified, ErrorKind, Hint};
use crate::values::DiskSize;

/// How a file system is named in the directory of volumes.
const SUFFIX: &str = ".ext4";

/// Why something could not be done with a volume or another disk of the user's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeError {
    /// Not a name that a volume can have.
    #[error(
        "invalid volume name {0:?}: letters, digits, '_', '.' and '-', the first a letter or digit, \
         at most {max} bytes", max = VolumeName::MAX
    )]
    Name(String),
    /// There is none of that name.
    #[error("named volume not found: {0}")]
    NotFound(VolumeName),
    /// There is one of that name.
    #[error("named volume already exists: {0}")]
    Exists(VolumeName),
    /// A sandbox uses it, and what was asked for does not go together with that.
    #[error("{0} is in use by another sandbox")]
    InUse(String),
    /// A path of the host at which no file is.
    #[error("disk image not found: {0}")]
    NoFile(PathBuf),
    /// It cannot be a disk.
    #[error("{path} cannot be a disk: {problem}")]
    NotDisk {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An operation on a file failed.
    #[error("cannot {action} {path}")]
    File {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Classified for VolumeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Name(_) | Self::NotDisk { .. } => ErrorKind::InvalidArgument,
            Self::NotFound(_) | Self::NoFile(_) => ErrorKind::NotFound,
            Self::Exists(_) | Self::InUse(_) => ErrorKind::Conflict,
            Self::File { source, .. } => ErrorKind::of_io(source),
        }
    }

    fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::InUse(_) => Hint::Text(
                "end that sandbox first; several may use it at a time if each attaches it read-only",
            ),
            Self::NotFound(_) => Hint::ListVolumes,
            _ => return None,
        })
    }
}

/// What a sandbox may do with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Read, together with others that read.
    ReadOnly,
    /// Read and write, alone.
    ReadWrite,
}

/// A disk of the user's that nobody else can write to any more, until this is dropped and the machine
/// that it was given to has ended.
#[derive(Debug)]
pub struct Attached {
    file: File,
    access: Access,
}

impl Attached {
    /// What may be done with it.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// The locked file, open for what may be done with it.
    pub(crate) fn into_file(self) -> File {
        self.file
    }
}

/// A named volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: VolumeName,
    /// Size of the file system in bytes.
    pub bytes: u64,
    /// The file.
    pub path: PathBuf,
}

/// The named volumes of a user.
#[derive(Debug, Clone)]
pub struct Volumes {
    directory: PathBuf,
}

impl Volumes {
    /// Those in `volumes` in the cache directory of matchlock; nothing is created yet.
    #[must_use]
    pub fn in_cache(cache: &Path) -> Self {
        Self { directory: cache.join("volumes") }
    }

    /// Makes an empty volume. Its file takes only what is written to it.
    ///
    /// # Errors
    /// [`VolumeError::Exists`] or [`VolumeError::File`]; nothing is left then.
    pub fn create(
        &self,
        name: &VolumeName,
        size: DiskSize,
        template: &DiskTemplate,
    ) -> Result<Volume, VolumeError> {
        let path = self.path(name);
        self.publish(name, |file| {
            crate::disk::fill(file, template.image, size.bytes()).map_err(failed("fill", &path))
        })?;
        Ok(Volume { name: name.clone(), bytes: size.bytes(), path })
    }

    /// All volumes, by name.
    ///
    /// # Errors
    /// [`VolumeError::File`] when the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Volume>, VolumeError> {
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("read", &self.directory)(error)),
        };
        let mut volumes = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed("read", &self.directory))?;
            let name = entry.file_name().into_string().ok();
            let name = name.and_then(|name| name.strip_suffix(SUFFIX)?.parse().ok());
            // What is no volume, or is one no more.
            let (Some(name), Ok(metadata)) = (name, entry.metadata()) else { continue };
            if metadata.is_file() {
                volumes.push(Volume { name, bytes: metadata.len(), path: entry.path() });
            }
        }
        volumes.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
    }

    /// Deletes a volume that no sandbox uses.
    ///
    /// # Errors
    /// [`VolumeError::NotFound`], [`VolumeError::InUse`] or [`VolumeError::File`].
    pub fn remove(&self, name: &VolumeName) -> Result<(), VolumeError> {
        let _locked = self.open(name, Access::ReadWrite)?;
        let path = self.path(name);
        unlink(&path).map_err(|errno| failed("delete", &path)(errno.into()))
    }

    /// Makes a volume that is what `source` is now: content, mode, owner and time of modification. What
    /// the file system can share is shared.
    ///
    /// # Errors
    /// As [`Volumes::create`] and [`Volumes::attach`]: one that a sandbox writes to cannot be copied.
    pub fn copy(&self, source: &VolumeName, name: &VolumeName) -> Result<Volume, VolumeError> {
        let from = self.open(source, Access::ReadOnly)?;
        let path = self.path(name);
        let mut bytes = 0;
        self.publish(name, |file| {
            bytes = copy::all(&from, file).map_err(failed("copy to", &path))?;
            Ok(())
        })?;
        Ok(Volume { name: name.clone(), bytes, path })
    }

    /// Takes a volume for a sandbox.
    ///
    /// # Errors
    /// [`VolumeError::NotFound`], [`VolumeError::InUse`] or [`VolumeError::File`].
    pub fn attach(&self, name: &VolumeName, access: Access) -> Result<Attached, VolumeError> {
        Ok(Attached { file: self.open(name, access)?, access })
    }

    fn path(&self, name: &VolumeName) -> PathBuf {
        self.directory.join(format!("{name}{SUFFIX}"))
    }

    /// Opens a volume with the lock that goes with `access`.
    fn open(&self, name: &VolumeName, access: Access) -> Result<File, VolumeError> {
        let path = self.path(name);
        let file = open(&path, access).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => VolumeError::NotFound(name.clone()),
            _ => failed("open", &path)(error),
        })?;
        if !lock(&file, access).map_err(failed("lock", &path))? {
            return Err(VolumeError::InUse(format!("volume {name}")));
        }
        // Deleted between the two calls.
        if file.metadata().map_err(failed("read", &path))?.nlink() == 0 {
            return Err(VolumeError::NotFound(name.clone()));
        }
        Ok(file)
    }

    /// Gives a file its name when `fill` has made it whole: others see all of it or nothing.
    fn publish(
        &self,
        name: &VolumeName,
        fill: impl FnOnce(&File) -> Result<(), VolumeError>,
    ) -> Result<(), VolumeError> {
        let path = self.path(name);
        if path.symlink_metadata().is_ok() || !publish(&self.directory, &path, fill)? {
            return Err(VolumeError::Exists(name.clone()));
        }
        Ok(())
    }
}

/// Gives a new file of `directory` its name when `fill` has made it whole. False when something of that
/// name is there.
fn publish(
    directory: &Path,
    path: &Path,
    fill: impl FnOnce(&File) -> Result<(), VolumeError>,
) -> Result<bool, VolumeError> {
    matchlock_sys::private_dir(directory).map_err(failed("create", directory))?;
    let file = matchlock_sys::unnamed(directory).map_err(failed("create", path))?;
    fill(&file)?;
    match matchlock_sys::link(&file, path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(failed("create", path)(error)),
    }
}

/// Takes a file of the host's, which holds an ext4 file system, for a sandbox.
///
/// # Errors
/// [`VolumeError::NoFile`], [`VolumeError::NotDisk`], [`VolumeError::InUse`] or [`VolumeError::File`].
pub fn attach_file(path: &Path, access: Access) -> Result<Attached, VolumeError> {
    let file = open(path, access).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => VolumeError::NoFile(path.to_owned()),
        _ => failed("open", path)(error),
    })?;
    let metadata = file.metadata().map_err(failed("read", path))?;
    let not = |problem| VolumeError::NotDisk { path: path.to_owned(), problem };
    if !metadata.is_file() {
        return Err(not("it is not a regular file"));
    }
    if metadata.len() == 0 || metadata.len() % matchlock_vmm::SECTOR != 0 {
        return Err(not("its length is not a multiple of 512 bytes"));
    }
    if !lock(&file, access).map_err(failed("lock", path))? {
        return Err(VolumeError::InUse(format!("disk {}", path.display())));
    }
    Ok(Attached { file, access })
}

/// Without waiting for a pipe's other end. A read-only disk must be open for reading only.
fn open(path: &Path, access: Access) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let mut options = OpenOptions::new();
    options.read(true).write(access == Access::ReadWrite).custom_flags(nonblocking).open(path)
}

/// False when somebody has a lock that does not go together with this one.
fn lock(file: &File, access: Access) -> io::Result<bool> {
    matchlock_sys::is_locked(match access {
        Access::ReadOnly => file.try_lock_shared(),
        Access::ReadWrite => file.try_lock(),
    })
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> VolumeError {
    let path = path.to_owned();
    move |source| VolumeError::File { action, path, source }
}

#[cfg(test)]
mod tests;
