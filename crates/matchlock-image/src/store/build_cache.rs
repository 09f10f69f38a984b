//! What builds keep for the next ones: layers by the key of the step that made them.
//!
//! A layer is kept while an entry leads to it, or an image. `image gc` drops the entries that no build
//! asked for within [`KEPT`], and the ones asked for longest ago that are too many for
//! [`CACHE_BYTES`]; then it deletes what nothing leads to any more.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::{Duration, SystemTime};

use rusqlite::{OptionalExtension, params};

use super::blobs::{index_digest, recorded_len};
use super::image::needed;
use super::{Lease, Locked, Store, StoreError, files};
use crate::digest::Digest;

/// How long an entry is kept that no build asks for.
pub const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Most bytes on the device of all entries' layers, unless a build says otherwise.
pub const CACHE_BYTES: u64 = 10_240 * 1024 * 1024;

/// What a step with a known key made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cached {
    /// Nothing: no file changed.
    Nothing,
    /// A layer, which the lease has now.
    Layer(Digest),
}

impl Store {
    /// What the step with this key made, when all of it is still here. The lease gets it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn cached(
        &self,
        lease: &Lease,
        key: &Digest,
        now: SystemTime,
    ) -> Result<Option<Cached>, StoreError> {
        let locked = self.lock()?;
        let database = &locked.database;
        let row = database.query_row(
            "UPDATE build_cache SET used_at = max(used_at, ?2) WHERE key = ?1 RETURNING digest",
            params![key.to_string(), seconds(now)],
            |row| row.get::<_, Option<String>>(0),
        );
        let digest = match row.optional().map_err(self.database_error())? {
            None => return Ok(None),
            Some(None) => return Ok(Some(Cached::Nothing)),
            Some(Some(text)) => match text.parse::<Digest>() {
                Ok(digest) => digest,
                Err(_) => return Ok(None),
            },
        };
        if recorded_len(self, database, &digest)?.is_none() {
            return Ok(None);
        }
        lease.write([digest])?;
        Ok(Some(Cached::Layer(digest)))
    }

    /// Keeps what a step made. Its layer must be stored, and leased.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn keep(&self, key: &Digest, made: Cached, now: SystemTime) -> Result<(), StoreError> {
        let locked = self.lock()?;
        let digest = match made {
            Cached::Nothing => None,
            Cached::Layer(digest) => Some(digest.to_string()),
        };
        let insert = "INSERT OR REPLACE INTO build_cache VALUES (?1, ?2, ?3)";
        let done = locked.database.execute(insert, params![key.to_string(), digest, seconds(now)]);
        done.map(|_| ()).map_err(self.database_error())
    }

    /// Opens the index of these layers, which is made when it is missing, and the layers behind it. The
    /// lease gets all of them; the layers must be stored.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open_layers(
        &self,
        lease: &Lease,
        layers: &[Digest],
    ) -> Result<Vec<(File, u64)>, StoreError> {
        self.extend_lease(lease, needed(layers))?;
        self.ensure_index(layers)?;
        let all = std::iter::once(index_digest(layers)).chain(layers.iter().copied());
        all.map(|digest| self.open_blob(&digest)).collect()
    }

    /// Drops entries of the build cache that no build asked for within [`KEPT`] before `now`, and those
    /// asked for longest ago until the layers of the rest take at most `bytes` on the device. Then
    /// deletes what nothing needs any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn trim_build_cache(&self, bytes: u64, now: SystemTime) -> Result<(), StoreError> {
        let locked = self.lock()?;
        locked.forget_cache(bytes, now)?;
        locked.prune().map(|_report| ())
    }
}

impl Locked<'_> {
    /// Drops entries; their layers stay until the next prune. A layer of several entries counts once.
    pub(super) fn forget_cache(&self, bytes: u64, now: SystemTime) -> Result<(), StoreError> {
        let oldest = seconds(now).saturating_sub(seconds(SystemTime::UNIX_EPOCH + KEPT));
        let entries = self.entries().map_err(self.store.database_error())?;
        let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
        let mut total = 0_u64;
        let mut full = false;
        for (key, digest, used) in entries {
            if let Some(digest) = digest
                && !sizes.contains_key(&digest)
                && let Ok(parsed) = digest.parse::<Digest>()
            {
                let size = files::allocated(&self.store.blob_path(&parsed)).unwrap_or(0);
                total = total.saturating_add(size);
                sizes.insert(digest, size);
            }
            // Steps build on each other: behind the first that does not fit all are of no use.
            full |= total > bytes;
            if full || used < oldest {
                let delete = "DELETE FROM build_cache WHERE key = ?1";
                let done = self.database.execute(delete, [key]);
                done.map_err(self.store.database_error())?;
            }
        }
        Ok(())
    }

    /// Keys, digests and times, the last used first; of one build the first steps first.
    fn entries(&self) -> rusqlite::Result<Vec<(String, Option<String>, i64)>> {
        let query = "SELECT key, digest, used_at FROM build_cache ORDER BY used_at DESC, rowid";
        let mut statement = self.database.prepare(query)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        rows.collect()
    }
}

/// Since the Unix epoch.
fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
