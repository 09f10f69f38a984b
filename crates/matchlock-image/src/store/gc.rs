//! Deleting what nothing needs.

use std::collections::BTreeSet;
use std::ffi::OsString;

use rusqlite::{Connection, params};

use super::{Locked, Store, StoreError, blobs, files};
use crate::digest::Digest;

/// What was deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Blobs that no name leads to.
    pub blobs: usize,
    /// Downloads that nobody goes on with.
    pub parts: usize,
    /// Bytes on the device, of both.
    pub bytes: u64,
}

impl Store {
    /// Deletes every blob that no name, no entry of the build cache and no living lease needs, and
    /// abandoned downloads. Entries that are too old or too many go first, see
    /// [`trim_build_cache`](Self::trim_build_cache).
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn gc(&self) -> Result<GcReport, StoreError> {
        let locked = self.lock()?;
        locked.forget_cache(super::CACHE_BYTES, std::time::SystemTime::now())?;
        let mut report = locked.prune()?;
        locked.remove_parts(&mut report)?;
        Ok(report)
    }
}

impl Locked<'_> {
    /// Deletes blobs that nothing needs.
    pub(super) fn prune(&self) -> Result<GcReport, StoreError> {
        let leased = self.leased()?;
        let kept = forget_unneeded(&self.database, &leased).map_err(self.store.database_error())?;
        self.store.fault("before-unlink").map_err(StoreError::file("prune", self.store.dir()))?;
        let needed: BTreeSet<OsString> =
            kept.iter().filter_map(|name| name.strip_prefix("blobs/")).map(Into::into).collect();
        let mut report = GcReport::default();
        let dir = self.store.dir().join("blobs");
        for entry in std::fs::read_dir(&dir).map_err(StoreError::file("read", &dir))? {
            let entry = entry.map_err(StoreError::file("read", &dir))?;
            if !needed.contains(&entry.file_name()) {
                let path = entry.path();
                report.bytes += files::allocated(&path).unwrap_or(0);
                files::remove(&path).map_err(StoreError::file("remove", &path))?;
                report.blobs += 1;
            }
        }
        Ok(report)
    }

    fn remove_parts(&self, report: &mut GcReport) -> Result<(), StoreError> {
        let dir = self.store.dir().join("ingest");
        for entry in std::fs::read_dir(&dir).map_err(StoreError::file("read", &dir))? {
            let path = entry.map_err(StoreError::file("read", &dir))?.path();
            let Ok(file) = matchlock_sys::lock_file(&path) else { continue };
            // A download that takes the lock after us finds the name gone, and begins anew.
            if files::try_lock(&file).map_err(StoreError::file("lock", &path))? {
                report.bytes += files::allocated(&path).unwrap_or(0);
                files::remove(&path).map_err(StoreError::file("remove", &path))?;
                report.parts += 1;
            }
        }
        Ok(())
    }
}

/// Removes the entries of blobs that no name and no lease needs, before their files: what a crash
/// leaves in between is a file without an entry. Returns the paths of all others.
fn forget_unneeded(
    database: &Connection,
    leased: &BTreeSet<Digest>,
) -> rusqlite::Result<BTreeSet<String>> {
    let transaction = database.unchecked_transaction()?;
    transaction.execute(super::database::COUNT_REFERENCES, [])?;
    let mut kept = BTreeSet::new();
    let mut forgotten = Vec::new();
    {
        let mut query = transaction.prepare("SELECT digest, ref_count FROM layer_refs")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let (text, count): (String, i64) = (row.get(0)?, row.get(1)?);
            match text.parse::<Digest>() {
                Ok(digest) if count > 0 || leased.contains(&digest) => {
                    kept.insert(blobs::blob_name(&digest));
                }
                _ => forgotten.push(text),
            }
        }
    }
    for text in forgotten {
        transaction.execute("DELETE FROM layer_refs WHERE digest = ?1", params![text])?;
    }
    transaction.commit()?;
    Ok(kept)
}
