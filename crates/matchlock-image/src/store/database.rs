//! `metadata.db`: names of images, their layers, and which blobs are whole.
//!
//! A rollback journal, not a write-ahead log: every writer holds the lock of the store anyway, and
//! the database stays one file that any reader can open.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::StoreError;

/// How long a statement waits for a reader of another program.
const BUSY: Duration = Duration::from_secs(15);

/// Our name in `schema_migrations`, which other parts of a program could share.
const MODULE: &str = "matchlock-image";

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
    let connection = connect(path).map_err(StoreError::database(path))?;
    if !of_another_program(&connection).map_err(StoreError::database(path))? {
        return migrated(connection, path);
    }
    // The blobs beside it have another form; without entries they are never taken for ours.
    drop(connection);
    let aside = path.with_extension("db.old");
    std::fs::rename(path, &aside).map_err(StoreError::file("rename", path))?;
    migrated(connect(path).map_err(StoreError::database(path))?, path)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.execute_batch("PRAGMA foreign_keys = ON;")?;
    Ok(connection)
}

/// Whether there are images of a program that has the same place for them.
fn of_another_program(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(has_table(connection, "images")? && version(connection)? == 0)
}

fn has_table(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    let query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1";
    Ok(connection.query_row(query, [name], |_| Ok(())).optional()?.is_some())
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    if !has_table(connection, "schema_migrations")? {
        return Ok(0);
    }
    let query = "SELECT coalesce(max(version), 0) FROM schema_migrations WHERE module = ?1";
    connection.query_row(query, [MODULE], |row| row.get(0))
}

fn migrated(mut connection: Connection, path: &Path) -> Result<Connection, StoreError> {
    let version = version(&connection).map_err(StoreError::database(path))?;
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    let Some(missing) = MIGRATIONS.get(done..) else {
        return Err(StoreError::Newer(version));
    };
    if !missing.is_empty() {
        migrate(&mut connection, version, missing).map_err(StoreError::database(path))?;
    }
    Ok(connection)
}

/// All or nothing: SQLite's changes of schemas are part of a transaction.
fn migrate(
    connection: &mut Connection,
    mut version: i64,
    missing: &[(&str, &str)],
) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_migrations (
           module TEXT NOT NULL, version INTEGER NOT NULL, name TEXT NOT NULL,
           applied_at TEXT NOT NULL, PRIMARY KEY (module, version));",
    )?;
    for (name, statements) in missing {
        version += 1;
        transaction.execute_batch(statements)?;
        transaction.execute(
            "INSERT INTO schema_migrations VALUES (?1, ?2, ?3, strftime('%Y-%m-%dT%H:%M:%SZ'))",
            params![MODULE, version, name],
        )?;
    }
    transaction.commit()
}
