//! SQLite databases of matchlock: each is opened in the same way and has a schema with a version.
//!
//! Dozens of processes may open one file at once. They do so one after the other, by a lock beside the
//! file. After that SQLite's own locks hold: with its write-ahead log, readers and a writer do not wait
//! for each other.

#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

/// How long a statement waits for a writer of another process.
const BUSY: Duration = Duration::from_secs(15);

/// The schema of one database.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// Its name in the table `schema_migrations`.
    pub module: &'static str,
    /// What was done to it, the oldest first: a title and statements. A database has the version *n* when
    /// the first *n* were carried out. Never change one that was released: add one.
    pub migrations: &'static [(&'static str, &'static str)],
}

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The file, or the lock beside it.
    #[error("cannot {action} {}", path.display())]
    File {
        /// A verb.
        action: &'static str,
        /// Of what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// SQLite.
    #[error("cannot use the database {}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// It has tables, and none of them is ours.
    #[error("the database {} belongs to another program", .0.display())]
    Foreign(PathBuf),
    /// A newer matchlock has changed the schema.
    #[error(
        "the database {} has version {found}, and this matchlock knows versions up to {known}: use \
         the newer matchlock that wrote it", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Our version.
        known: usize,
    },
}

impl Schema {
    /// Opens the database at `path` and brings its schema up to date. A file that is missing is made, for
    /// this user alone; its directory must be there. Waits while another process opens it.
    ///
    /// # Errors
    /// [`DbError`]; what the file has in it is as before then.
    pub fn open(&self, path: &Path) -> Result<Connection, DbError> {
        let failed = |action| move |source| DbError::File { action, path: path.to_owned(), source };
        let lock = lock(path).map_err(failed("lock"))?;
        create(path).map_err(failed("create"))?;
        let sqlite = |source| DbError::Sqlite { path: path.to_owned(), source };
        let mut connection = Connection::open(path).map_err(sqlite)?;
        connection.busy_timeout(BUSY).map_err(sqlite)?;
        let found = self.version(&connection).map_err(sqlite)?;
        let done = usize::try_from(found).unwrap_or(usize::MAX);
        let Some(missing) = self.migrations.get(done..) else {
            let (path, known) = (path.to_owned(), self.migrations.len());
            return Err(DbError::Newer { path, found, known });
        };
        if done == 0 && has_tables(&connection).map_err(sqlite)? {
            return Err(DbError::Foreign(path.to_owned()));
        }
        connection.pragma_update(None, "journal_mode", "WAL").map_err(sqlite)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(sqlite)?;
        self.migrate(&mut connection, found, missing).map_err(sqlite)?;
        drop(lock);
        Ok(connection)
    }

    fn version(&self, connection: &Connection) -> rusqlite::Result<i64> {
        if !connection.table_exists(None, "schema_migrations")? {
            return Ok(0);
        }
        let query = "SELECT coalesce(max(version), 0) FROM schema_migrations WHERE module = ?1";
        connection.query_row(query, [self.module], |row| row.get(0))
    }

    /// All or nothing: SQLite's changes of schemas are part of a transaction.
    fn migrate(
        &self,
        connection: &mut Connection,
        version: i64,
        missing: &[(&str, &str)],
    ) -> rusqlite::Result<()> {
        if missing.is_empty() {
            return Ok(());
        }
        let transaction = connection.transaction()?;
        transaction.execute_batch(
            "CREATE TABLE IF NOT EXISTS schema_migrations (
               module TEXT NOT NULL, version INTEGER NOT NULL, name TEXT NOT NULL,
               applied_at TEXT NOT NULL, PRIMARY KEY (module, version));",
        )?;
        for (version, (title, statements)) in (version + 1..).zip(missing) {
            transaction.execute_batch(statements)?;
            transaction.execute(
                "INSERT INTO schema_migrations VALUES (?1, ?2, ?3, strftime('%Y-%m-%dT%H:%M:%SZ'))",
                params![self.module, version, title],
            )?;
        }
        transaction.commit()
    }
}

/// SQLite itself does not wait when two connections change the journal's mode at once.
fn lock(database: &Path) -> io::Result<File> {
    let mut name = database.as_os_str().to_owned();
    name.push(".init.lock");
    matchlock_sys::locked_file(Path::new(&name))
}

/// The files that SQLite puts beside the database have its permissions.
fn create(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn has_tables(connection: &Connection) -> rusqlite::Result<bool> {
    let query = "SELECT 1 FROM sqlite_schema WHERE type = 'table'";
    Ok(connection.query_row(query, [], |_| Ok(())).optional()?.is_some())
}

#[cfg(test)]
mod tests;
