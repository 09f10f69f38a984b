//! Blobs: layers and indexes, whole or not there.

use std::fs::File;
use std::path::PathBuf;

use rusqlite::{OptionalExtension, params};

use super::{Lease, Locked, Store, StoreError, files};
use crate::digest::{Digest, Hasher};
use crate::erofs;
use crate::layer::Layer;
use crate::merge::{self, Merged};

/// The only form of blobs, as in the column `fs_type` and in the names of files.
pub(super) const FS_TYPE: &str = "erofs";

/// Changes when indexes are laid out in another way.
const INDEX_FORM: &[u8] = b"matchlock-index-v1\n";

/// The digest under which the index of an image with these layers is stored: it says what the index
/// is made of, not what its bytes are.
#[must_use]
pub(super) fn index_digest(layers: &[Digest]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(INDEX_FORM);
    for layer in layers {
        hasher.update(format!("{layer}\n").as_bytes());
    }
    hasher.finish()
}

impl Store {
    /// Where a blob is, or would be.
    #[must_use]
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.dir().join(blob_name(digest))
    }

    /// Whether a layer is stored, whole. Hold a lease on it, or it may go at any time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn has_blob(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.blob_len(digest)?.is_some())
    }

    /// A file without a name on the device of the blobs, for a writer of blobs.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn new_blob(&self) -> Result<File, StoreError> {
        let dir = self.dir().join("blobs");
        matchlock_sys::unnamed(&dir).map_err(StoreError::file("create a file in", &dir))
    }

    /// Stores a layer, unless it is there already. The lease must name it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn commit_layer(&self, _lease: &Lease, layer: &Layer) -> Result<(), StoreError> {
        self.record(&layer.diff_id, &layer.file)
    }

    /// What a stored layer holds.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Damaged`] when it is not stored.
    pub fn layer_tree(&self, diff_id: &Digest) -> Result<crate::tree::Tree, StoreError> {
        let (file, _) = self.open_blob(diff_id)?;
        erofs::read_layer(&file).map_err(|error| StoreError::Layer(*diff_id, error))
    }

    /// Makes the index of an image with these layers unless it is there. The lease must name all.
    pub(super) fn ensure_index(&self, layers: &[Digest]) -> Result<(), StoreError> {
        let digest = index_digest(layers);
        if self.has_blob(&digest)? {
            return Ok(());
        }
        let mut merged = Merged::within(merge::Limits::default());
        let mut lengths = Vec::with_capacity(layers.len());
        for layer in layers {
            merged.apply(self.layer_tree(layer)?).map_err(StoreError::TooLarge)?;
            lengths.push(self.blob_len(layer)?.ok_or(StoreError::Damaged(*layer))?);
        }
        let written = erofs::write_index(self.new_blob()?, &merged.into_tree(), &lengths);
        let file =
            written.map_err(|error| self.full(&error).unwrap_or(StoreError::Index(error)))?;
        self.record(&digest, &file)
    }

    /// Opens a blob for reading; its length in bytes is the recorded one.
    pub(super) fn open_blob(&self, digest: &Digest) -> Result<(File, u64), StoreError> {
        let len = self.blob_len(digest)?.ok_or(StoreError::Damaged(*digest))?;
        let path = self.blob_path(digest);
        let file = File::open(&path).map_err(StoreError::file("open", &path))?;
        Ok((file, len))
    }

    /// Length of a blob in bytes, when it is recorded and its file has that length.
    pub(super) fn blob_len(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        recorded_len(self, &self.database(), digest)
    }

    /// Gives a blob its name, on the device before the database has it.
    fn record(&self, digest: &Digest, file: &File) -> Result<(), StoreError> {
        let path = self.blob_path(digest);
        file.sync_data().map_err(StoreError::file("write", &path))?;
        let len = file.metadata().map_err(StoreError::file("look at", &path))?.len();
        self.fault("before-link").map_err(StoreError::file("link", &path))?;
        let locked = self.lock()?;
        locked.record(digest, file, len)
    }
}

impl Locked<'_> {
    fn record(&self, digest: &Digest, file: &File, len: u64) -> Result<(), StoreError> {
        if recorded_len(self.store, &self.database, digest)?.is_some() {
            return Ok(());
        }
        let path = self.store.blob_path(digest);
        self.forget_indexes_over(digest)?;
        files::link(file, &path).map_err(StoreError::file("link", &path))?;
        self.store.fault("after-link").map_err(StoreError::file("link", &path))?;
        self.insert_blob(digest, len).map_err(self.store.database_error())?;
        Ok(())
    }

    /// In one transaction, so that no blob is recorded without its references.
    fn insert_blob(&self, digest: &Digest, len: u64) -> rusqlite::Result<()> {
        let insert = "INSERT OR REPLACE INTO layer_refs
            VALUES (?1, ?2, 0, ?3, strftime('%Y-%m-%dT%H:%M:%SZ'))";
        let size = i64::try_from(len).unwrap_or(i64::MAX);
        let transaction = self.database.unchecked_transaction()?;
        transaction.execute(insert, params![digest.to_string(), FS_TYPE, size])?;
        transaction.execute(super::database::COUNT_REFERENCES, [])?;
        transaction.commit()
    }

    /// A layer that is made again may be laid out in another way: indexes that point into it go.
    fn forget_indexes_over(&self, layer: &Digest) -> Result<(), StoreError> {
        let forget = "DELETE FROM layer_refs WHERE
            'blobs/' || replace(digest, ':', '_') || '.' || fs_type IN
            (SELECT i.rootfs_path FROM images AS i JOIN image_layers AS l
             ON i.scope = l.scope AND i.tag = l.tag WHERE l.digest = ?1)";
        let done = self.database.execute(forget, [layer.to_string()]);
        done.map_err(self.store.database_error())?;
        Ok(())
    }
}

pub(super) fn recorded_len(
    store: &Store,
    database: &rusqlite::Connection,
    digest: &Digest,
) -> Result<Option<u64>, StoreError> {
    let query = "SELECT size FROM layer_refs WHERE digest = ?1 AND fs_type = ?2";
    let row =
        database.query_row(query, params![digest.to_string(), FS_TYPE], |row| row.get::<_, i64>(0));
    let recorded = row.optional().map_err(store.database_error())?;
    let path = store.blob_path(digest);
    Ok(match (recorded, std::fs::metadata(path)) {
        (Some(size), Ok(file)) if u64::try_from(size) == Ok(file.len()) => Some(file.len()),
        _ => None,
    })
}

/// Path of a blob, relative to the store.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}.{FS_TYPE}", digest.file_stem())
}
