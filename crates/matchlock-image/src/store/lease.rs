//! Leases: what keeps blobs from being deleted before a name leads to them.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Locked, Store, StoreError, files};
use crate::digest::Digest;

/// Most bytes that are read of a lease: some 60,000 digests.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Numbers the leases of this process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// While this lives, the blobs that it names are not deleted, stored or not yet.
///
/// It is a locked file, so it ends with its process, however that ends.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    file: Mutex<File>,
}

impl Store {
    /// A lease on these blobs.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn lease(&self, digests: impl IntoIterator<Item = Digest>) -> Result<Lease, StoreError> {
        let guard = self.lock()?;
        // Under the lock nobody takes the file for a dead one before it is locked.
        let (path, file) = self.new_lease()?;
        if !files::try_lock(&file).map_err(StoreError::file("lock", &path))? {
            let held = io::Error::from(io::ErrorKind::AlreadyExists);
            return Err(StoreError::file("lock", &path)(held));
        }
        let lease = Lease { path, file: Mutex::new(file) };
        lease.write(digests)?;
        drop(guard);
        Ok(lease)
    }

    /// A file that is new: another process space may have processes of our number.
    fn new_lease(&self) -> Result<(PathBuf, File), StoreError> {
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{number}", std::process::id());
            let path = self.dir().join("leases").join(name);
            let mut options = OpenOptions::new();
            match options.read(true).write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => return Ok((path, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(StoreError::file("create", &path)(error)),
            }
        }
    }

    /// Adds blobs to a lease.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn extend_lease(
        &self,
        lease: &Lease,
        digests: impl IntoIterator<Item = Digest>,
    ) -> Result<(), StoreError> {
        let _guard = self.lock()?;
        lease.write(digests)
    }
}

impl Lease {
    pub(super) fn write(
        &self,
        digests: impl IntoIterator<Item = Digest>,
    ) -> Result<(), StoreError> {
        let text: String = digests.into_iter().map(|digest| format!("{digest}\n")).collect();
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.write_all(text.as_bytes()).map_err(StoreError::file("write", &self.path))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // The file is still locked here: nobody else can have taken its name.
        let _removed_later_by_gc = files::remove(&self.path);
    }
}

impl Locked<'_> {
    /// What living leases name. Files of dead ones are removed.
    pub(super) fn leased(&self) -> Result<BTreeSet<Digest>, StoreError> {
        let dir = self.store.dir().join("leases");
        let mut digests = BTreeSet::new();
        for entry in std::fs::read_dir(&dir).map_err(StoreError::file("read", &dir))? {
            let path = entry.map_err(StoreError::file("read", &dir))?.path();
            if let Some(kept) = self.kept(&path)? {
                digests.extend(kept);
                continue;
            }
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(StoreError::file("open", &path)(error)),
            };
            if files::try_lock(&file).map_err(StoreError::file("lock", &path))? {
                files::remove(&path).map_err(StoreError::file("remove", &path))?;
                continue;
            }
            let mut text = String::new();
            let read = file.take(MAX_BYTES).read_to_string(&mut text);
            read.map_err(StoreError::file("read", &path))?;
            digests.extend(text.lines().filter_map(|line| line.parse::<Digest>().ok()));
        }
        Ok(digests)
    }
}
