//! The images on this host: layers and indexes as files named by content, and a database of names.
//!
//! ```text
//! metadata.db   names, which blobs are whole (tables: contract 4.8), and what builds keep
//! blobs/        sha256_<hex>.erofs: one for each layer (by diff id), one index for each image
//! ingest/       <hex>.part: compressed layers on their way, locked by who downloads them
//! leases/       what running pulls, imports and builds need, locked while they live; and links to what kept
//!               sandboxes need
//! .lock         held for each change of names and for each deletion
//! ```
//!
//! Several processes may use one store. A blob exists when the database has it *and* its file has
//! the recorded length; a file alone is what a crash left. Deleting looks at the database and at the
//! leases, both under the lock, so nothing that somebody needs can vanish.

mod blobs;
mod build_cache;
mod database;
mod error;
#[cfg(test)]
pub(crate) mod fault;
mod files;
mod gc;
mod image;
mod kept;
mod lease;
mod name;
mod part;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use rusqlite::Connection;

pub use build_cache::{CACHE_BYTES, Cached, KEPT};
pub use error::StoreError;
#[cfg(test)]
pub(crate) use fault::ABORT_AT;
pub use gc::GcReport;
pub(crate) use image::needed;
pub use image::{ImageSummary, NewImage, RootImage, StoredImage, StoredLayer};
pub use lease::Lease;
pub use name::{ImageName, InvalidTag, Scope, Source};
pub(crate) use part::PartFile;

/// A store of images. Clones are the same store.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    database: Mutex<Connection>,
    #[cfg(test)]
    faults: fault::Faults,
}

/// The store while nobody else changes names or deletes.
struct Locked<'a> {
    store: &'a Store,
    database: MutexGuard<'a, Connection>,
    /// Unlocked when it is closed.
    _lock: File,
}

impl Store {
    /// Opens the store in `dir`, which is made when it is missing.
    ///
    /// # Errors
    /// [`StoreError`]: the directory or its database cannot be used.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        for name in ["blobs", "ingest", "leases"] {
            let dir = dir.join(name);
            matchlock_sys::private_dir(&dir).map_err(StoreError::file("create", &dir))?;
        }
        let lock = files::lock(&dir.join(".lock"))?;
        let database = database::open(&dir.join("metadata.db"))?;
        drop(lock);
        let inner = Inner {
            dir: dir.to_owned(),
            database: Mutex::new(database),
            #[cfg(test)]
            faults: fault::Faults::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// The database for a reader.
    fn database(&self) -> MutexGuard<'_, Connection> {
        self.inner.database.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Waits until nobody else changes anything. Holders have it for moments only.
    fn lock(&self) -> Result<Locked<'_>, StoreError> {
        let lock = files::lock(&self.inner.dir.join(".lock"))?;
        Ok(Locked { store: self, database: self.database(), _lock: lock })
    }

    /// The error that says so, when this one is about a full device.
    pub(crate) fn full(&self, error: &(dyn std::error::Error + 'static)) -> Option<StoreError> {
        error::is_full(error).then(|| StoreError::NoSpace(self.dir().to_owned()))
    }

    /// What happened to a blob without a name.
    pub(crate) fn blob_failed(&self, error: std::io::Error) -> StoreError {
        StoreError::file("write", &self.dir().join("blobs"))(error)
    }

    /// A place where tests break off.
    #[cfg(test)]
    pub(crate) fn fault(&self, point: &'static str) -> std::io::Result<()> {
        self.inner.faults.reach(point)
    }

    /// From now on a place fails.
    #[cfg(test)]
    pub(crate) fn set_fault(&self, point: &'static str, kind: std::io::ErrorKind) {
        self.inner.faults.set(point, kind);
    }

    /// No place fails any more.
    #[cfg(test)]
    pub(crate) fn clear_fault(&self) {
        self.inner.faults.clear();
    }

    #[cfg(not(test))]
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "tests fail here")]
    pub(crate) fn fault(&self, _point: &'static str) -> std::io::Result<()> {
        Ok(())
    }
}
