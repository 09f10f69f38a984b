//! `metadata.db`: names of images, their layers, and which blobs are whole.

use std::path::Path;

use matchlock_db::{DbError, Schema};
use rusqlite::Connection;

use super::StoreError;

const SCHEMA: Schema = Schema { module: "matchlock-image", migrations: MIGRATIONS };

/// What was done to the schema, the oldest first. Never change one that was released: add one.
const MIGRATIONS: &[(&str, &str)] = &[
    (
        "images, their layers and blobs",
        "CREATE TABLE images (
       scope TEXT NOT NULL, tag TEXT NOT NULL, reference TEXT NOT NULL, digest TEXT NOT NULL,
       size INTEGER NOT NULL, created_at TEXT NOT NULL, source TEXT NOT NULL,
       rootfs_path TEXT NOT NULL, oci_json TEXT NOT NULL, updated_at TEXT NOT NULL,
       PRIMARY KEY (scope, tag));
     CREATE INDEX images_reference ON images (reference, scope);
     CREATE TABLE image_layers (
       scope TEXT NOT NULL, tag TEXT NOT NULL, ordinal INTEGER NOT NULL, digest TEXT NOT NULL,
       fs_type TEXT NOT NULL, size INTEGER NOT NULL,
       PRIMARY KEY (scope, tag, ordinal),
       FOREIGN KEY (scope, tag) REFERENCES images ON DELETE CASCADE);
     CREATE INDEX image_layers_digest ON image_layers (digest);
     CREATE TABLE layer_refs (
       digest TEXT NOT NULL, fs_type TEXT NOT NULL, ref_count INTEGER NOT NULL,
       size INTEGER NOT NULL, updated_at TEXT NOT NULL,
       PRIMARY KEY (digest, fs_type));",
    ),
    (
        "layers that builds keep",
        "CREATE TABLE build_cache (key TEXT PRIMARY KEY, digest TEXT, used_at INTEGER NOT NULL);
     CREATE INDEX build_cache_digest ON build_cache (digest);",
    ),
];

/// `ref_count` anew: layers of names, layers that builds keep, and indexes of names.
pub(super) const COUNT_REFERENCES: &str = "UPDATE layer_refs SET ref_count =
    (SELECT count(*) FROM image_layers AS l WHERE l.digest = layer_refs.digest) +
    (SELECT count(*) FROM build_cache AS b WHERE b.digest = layer_refs.digest) +
    (SELECT count(*) FROM images AS i WHERE i.rootfs_path =
       'blobs/' || replace(layer_refs.digest, ':', '_') || '.' || layer_refs.fs_type)";

/// Opens the database and brings its schema up to date. The caller holds the lock of the store.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let opened = match SCHEMA.open(path) {
        Err(DbError::Foreign(_)) => {
            // The blobs beside it have another form; without entries they are never taken for ours.
            let aside = path.with_extension("db.old");
            std::fs::rename(path, &aside).map_err(StoreError::file("rename", path))?;
            SCHEMA.open(path)
        }
        opened => opened,
    };
    Ok(opened?)
}
