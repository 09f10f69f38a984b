//! Images by name.

use std::collections::BTreeSet;
use std::fs::File;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::blobs::{FS_TYPE, blob_name, index_digest};
use super::{ImageName, Lease, Locked, Scope, Source, Store, StoreError, files, name};
use crate::digest::Digest;
use crate::manifest::{ImageConfig, RuntimeConfig};
use crate::reference::Reference;

/// An image in the store, under one of its names.
#[derive(Debug, Clone)]
pub struct StoredImage {
    /// Who gave the name.
    pub scope: Scope,
    /// The name as it was typed.
    pub tag: String,
    /// How the image came here.
    pub source: Source,
    /// Of the image's manifest; of its configuration when an archive has no manifest.
    pub digest: Digest,
    /// Bytes on the device: layers and index.
    pub size: u64,
    /// When it was first stored under this name.
    pub created: SystemTime,
    /// Lowest first.
    pub layers: Vec<StoredLayer>,
    /// What its processes start with.
    pub config: RuntimeConfig,
}

/// A layer of an image in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredLayer {
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Length of its blob in bytes.
    pub bytes: u64,
}

/// A line of a list of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSummary {
    /// Who gave the name.
    pub scope: Scope,
    /// The name as it was typed.
    pub tag: String,
    /// How the image came here.
    pub source: Source,
    /// As in [`StoredImage`].
    pub digest: Digest,
    /// Bytes on the device: layers and index. Images share layers, so sums say nothing.
    pub size: u64,
    /// When it was first stored under this name.
    pub created: SystemTime,
}

/// An image to be stored, all of whose layers are.
#[derive(Debug, Clone)]
pub struct NewImage<'a> {
    /// Every name that it gets, in place of what had the name.
    pub names: &'a [ImageName],
    /// As in [`StoredImage`].
    pub digest: Digest,
    /// Its configuration, whose `diff_ids` are its layers.
    pub config: &'a ImageConfig,
}

/// An image's files, open: they stay valid whatever is removed.
#[derive(Debug)]
pub struct RootImage {
    /// The index, then the layers from the lowest, with their lengths in bytes (multiples of 512). One
    /// after the other they are one disk with one EROFS.
    pub files: Vec<(File, u64)>,
    /// What its processes start with.
    pub config: RuntimeConfig,
    /// The name that it was found by, as it was typed.
    pub reference: String,
    /// As in [`StoredImage`].
    pub digest: Digest,
}

/// The columns of [`summary`].
const COLUMNS: &str =
    "scope, tag, source, digest, size, CAST(strftime('%s', created_at) AS INTEGER)";

impl Store {
    /// The image of this reference: a local tag first, then what was pulled. No network.
    ///
    /// # Errors
    /// [`StoreError`]; not when there is none.
    pub fn find(&self, reference: &Reference) -> Result<Option<StoredImage>, StoreError> {
        self.find_normal(&reference.to_string())
    }

    /// The same for text that need not be a reference.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn find_tag(&self, tag: &str) -> Result<Option<StoredImage>, StoreError> {
        self.find_normal(&name::normal(tag))
    }

    fn find_normal(&self, normal: &str) -> Result<Option<StoredImage>, StoreError> {
        self.find_in(normal, "scope IN ('local', 'registry')")
    }

    fn find_in(&self, normal: &str, scopes: &str) -> Result<Option<StoredImage>, StoreError> {
        let query = format!(
            "SELECT {COLUMNS}, oci_json FROM images WHERE reference = ?1 AND {scopes}
             ORDER BY scope, updated_at DESC LIMIT 1"
        );
        let database = self.database();
        let found = database
            .query_row(&query, [normal], |row| Ok((summary(row)?, row.get::<_, String>(6)?)));
        let Some((summary, config)) = found.optional().map_err(self.database_error())? else {
            return Ok(None);
        };
        let summary = summary.ok_or_else(|| StoreError::Entry(normal.to_owned()))?;
        let config = ImageConfig::decode(config.as_bytes()).map_err(StoreError::Config)?;
        let layers = layers(&database, &summary).map_err(self.database_error())?;
        let layers = layers.ok_or_else(|| StoreError::Entry(normal.to_owned()))?;
        let ImageSummary { scope, tag, source, digest, size, created } = summary;
        let config = config.runtime;
        Ok(Some(StoredImage { scope, tag, source, digest, size, created, layers, config }))
    }

    /// All names: local ones first, each group by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn list(&self) -> Result<Vec<ImageSummary>, StoreError> {
        let query = format!("SELECT {COLUMNS} FROM images ORDER BY scope, tag");
        let database = self.database();
        let read = || {
            let mut statement = database.prepare(&query)?;
            statement.query_map([], summary)?.collect::<rusqlite::Result<Vec<_>>>()
        };
        let rows = read().map_err(self.database_error())?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// Removes a name, local or else of a registry, in all its spellings, and the blobs that no
    /// other image needs. Sandboxes that run keep theirs.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] and others.
    pub fn remove(&self, tag: &str) -> Result<(), StoreError> {
        let locked = self.lock()?;
        for scope in [Scope::Local, Scope::Registry] {
            let delete = "DELETE FROM images WHERE scope = ?1 AND (tag = ?2 OR reference = ?3)";
            let values = params![scope.as_str(), tag, name::normal(tag)];
            let removed = locked.database.execute(delete, values);
            if removed.map_err(self.database_error())? > 0 {
                locked.prune()?;
                return Ok(());
            }
        }
        Err(StoreError::NotFound(tag.to_owned()))
    }

    /// Gives a stored image a further name.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Damaged`] when it was removed in the meantime.
    pub fn tag(&self, image: &StoredImage, name: &ImageName) -> Result<StoredImage, StoreError> {
        let config =
            ImageConfig::decode(image.config.raw.as_bytes()).map_err(StoreError::Config)?;
        let lease = self.lease(needed(&config.diff_ids))?;
        let new =
            NewImage { names: std::slice::from_ref(name), digest: image.digest, config: &config };
        self.commit_image(&lease, &new)
    }

    /// Stores an image under all its names at once, and prunes what they led to before. The lease
    /// must name its layers and what [`needed`] adds to them. Returns it under the first name.
    ///
    /// # Errors
    /// [`StoreError`]; then no name has changed.
    ///
    /// # Panics
    /// Without a name.
    pub fn commit_image(
        &self,
        lease: &Lease,
        image: &NewImage<'_>,
    ) -> Result<StoredImage, StoreError> {
        let first = image.names.first().expect("an image has a name");
        self.extend_lease(lease, needed(&image.config.diff_ids))?;
        self.ensure_index(&image.config.diff_ids)?;
        self.fault("before-register").map_err(StoreError::file("register in", self.dir()))?;
        let blobs = self.dir().join("blobs");
        let synced = File::open(&blobs).and_then(|dir| dir.sync_all());
        synced.map_err(StoreError::file("write", &blobs))?;
        let locked = self.lock()?;
        let layers = locked.whole_layers(&image.config.diff_ids)?;
        locked.register(image, &layers).map_err(self.database_error())?;
        self.fault("after-register").map_err(StoreError::file("register in", self.dir()))?;
        locked.prune()?;
        drop(locked);
        self.find_exactly(first)
    }

    fn find_exactly(&self, name: &ImageName) -> Result<StoredImage, StoreError> {
        let scope = format!("scope = '{}'", name.scope.as_str());
        let found = self.find_in(&name.normal, &scope)?;
        let mut image = found.ok_or_else(|| StoreError::NotFound(name.typed.clone()))?;
        image.tag.clone_from(&name.typed);
        Ok(image)
    }

    /// Whether all layers of an image are here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn is_whole(&self, image: &StoredImage) -> Result<bool, StoreError> {
        for layer in &image.layers {
            if self.blob_len(&layer.diff_id)? != Some(layer.bytes) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Opens an image. Its index is made again when it is missing.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Damaged`] when a layer is missing.
    pub fn open_image(&self, image: &StoredImage) -> Result<RootImage, StoreError> {
        let layers: Vec<_> = image.layers.iter().map(|layer| layer.diff_id).collect();
        let lease = self.lease(needed(&layers))?;
        let files = self.open_blobs(&layers)?;
        drop(lease);
        Ok(RootImage {
            files,
            config: image.config.clone(),
            reference: image.tag.clone(),
            digest: image.digest,
        })
    }

    /// The index and the layers, for which there is a lease.
    pub(super) fn open_blobs(&self, layers: &[Digest]) -> Result<Vec<(File, u64)>, StoreError> {
        self.ensure_index(layers)?;
        let digests = std::iter::once(index_digest(layers)).chain(layers.iter().copied());
        digests.map(|digest| self.open_blob(&digest)).collect()
    }

    pub(super) fn database_error(&self) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        let path = self.dir().join("metadata.db");
        move |error| StoreError::database(&path)(error)
    }
}

/// What an image with these layers needs: them and its index.
pub(crate) fn needed(layers: &[Digest]) -> impl Iterator<Item = Digest> + '_ {
    layers.iter().copied().chain([index_digest(layers)])
}

impl Locked<'_> {
    /// The layers with the lengths of their blobs, all of which and the index must be whole.
    fn whole_layers(&self, layers: &[Digest]) -> Result<Vec<(Digest, u64)>, StoreError> {
        let len = |digest: &Digest| {
            super::blobs::recorded_len(self.store, &self.database, digest)?
                .ok_or(StoreError::Damaged(*digest))
        };
        len(&index_digest(layers))?;
        layers.iter().map(|digest| Ok((*digest, len(digest)?))).collect()
    }

    fn register(&self, image: &NewImage<'_>, layers: &[(Digest, u64)]) -> rusqlite::Result<()> {
        let transaction = self.database.unchecked_transaction()?;
        for name in image.names {
            self.insert(&transaction, name, image, layers)?;
            // The other spellings of a reference follow it, or one of them would find the old image.
            let others = "SELECT tag FROM images WHERE scope = ?1 AND reference = ?2 AND tag <> ?3";
            let mut query = transaction.prepare(others)?;
            let values = params![name.scope.as_str(), name.normal, name.typed];
            let tags = query.query_map(values, |row| row.get(0))?;
            for typed in tags.collect::<rusqlite::Result<Vec<String>>>()? {
                self.insert(&transaction, &ImageName { typed, ..name.clone() }, image, layers)?;
            }
        }
        transaction.execute(super::database::COUNT_REFERENCES, [])?;
        transaction.commit()
    }

    fn insert(
        &self,
        database: &Connection,
        name: &ImageName,
        image: &NewImage<'_>,
        layers: &[(Digest, u64)],
    ) -> rusqlite::Result<()> {
        let distinct: BTreeSet<_> = needed(&image.config.diff_ids).collect();
        let sizes = distinct.iter().map(|digest| files::allocated(&self.store.blob_path(digest)));
        let size: u64 = sizes.map(|size| size.unwrap_or(0)).sum();
        let (scope, typed) = (name.scope.as_str(), &name.typed);
        let index = blob_name(&index_digest(&image.config.diff_ids));
        database.execute(
            "DELETE FROM image_layers WHERE scope = ?1 AND tag = ?2",
            params![scope, typed],
        )?;
        let now = "strftime('%Y-%m-%dT%H:%M:%fZ')";
        let insert = format!(
            "INSERT INTO images VALUES (?1, ?2, ?3, ?4, ?5, {now}, ?6, ?7, ?8, {now})
             ON CONFLICT (scope, tag) DO UPDATE SET reference = excluded.reference,
               created_at = iif(digest = excluded.digest, created_at, excluded.created_at),
               digest = excluded.digest, size = excluded.size, source = excluded.source,
               rootfs_path = excluded.rootfs_path, oci_json = excluded.oci_json,
               updated_at = excluded.updated_at"
        );
        let (digest, source) = (image.digest.to_string(), name.source.as_str());
        let (size, config) = (signed(size), &image.config.runtime.raw);
        let values = params![scope, typed, name.normal, digest, size, source, index, config];
        database.execute(&insert, values)?;
        for (ordinal, (digest, len)) in (0_i64..).zip(layers) {
            database.execute(
                "INSERT INTO image_layers VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![scope, typed, ordinal, digest.to_string(), FS_TYPE, signed(*len)],
            )?;
        }
        Ok(())
    }
}

/// SQLite's integers; files are shorter than 2⁶³ bytes.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A row of [`COLUMNS`]; `None` when this program cannot have written it.
fn summary(row: &Row<'_>) -> rusqlite::Result<Option<ImageSummary>> {
    let (scope, tag): (String, String) = (row.get(0)?, row.get(1)?);
    let (source, digest): (String, String) = (row.get(2)?, row.get(3)?);
    let (size, created): (i64, Option<i64>) = (row.get(4)?, row.get(5)?);
    let seconds = Duration::from_secs(u64::try_from(created.unwrap_or(0)).unwrap_or(0));
    Ok((|| {
        Some(ImageSummary {
            scope: Scope::parse(&scope)?,
            tag,
            source: Source::parse(&source)?,
            digest: digest.parse().ok()?,
            size: u64::try_from(size).ok()?,
            created: SystemTime::UNIX_EPOCH + seconds,
        })
    })())
}

fn layers(
    database: &Connection,
    image: &ImageSummary,
) -> rusqlite::Result<Option<Vec<StoredLayer>>> {
    let query = "SELECT digest, size FROM image_layers WHERE scope = ?1 AND tag = ?2
         ORDER BY ordinal";
    let mut statement = database.prepare(query)?;
    let rows = statement.query_map(params![image.scope.as_str(), image.tag], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
    })?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let layer = |(digest, size): (String, i64)| {
        Some(StoredLayer { diff_id: digest.parse().ok()?, bytes: u64::try_from(size).ok()? })
    };
    Ok(rows.into_iter().map(layer).collect())
}
