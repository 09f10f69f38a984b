//! What goes wrong in a store.

use std::io;
use std::path::{Path, PathBuf};

use matchlock_db::DbError;
use matchlock_text::causes;

use crate::digest::Digest;
use crate::erofs;
use crate::manifest::ManifestError;
use crate::merge::TooLarge;

/// What a store could not do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such tag or reference.
    #[error("image not found: {0:?}")]
    NotFound(String),
    /// The device or the quota is full. Nothing was stored.
    #[error("no space left on the device of {}", .0.display())]
    NoSpace(PathBuf),
    /// A file or a directory of the store.
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
    /// The database.
    #[error("the database of images, {}, cannot be used", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The database is not one of this program, or of a newer one.
    #[error(transparent)]
    Schema(DbError),
    /// A blob that the image needs is missing or has another length.
    #[error("files of the image are missing or damaged ({0}): pull or import it again")]
    Damaged(Digest),
    /// A row of the database that this program did not write.
    #[error("the database of images has an entry that is not valid for {0:?}")]
    Entry(String),
    /// The configuration in the database.
    #[error("the stored configuration is not valid")]
    Config(#[source] ManifestError),
    /// The index could not be written.
    #[error("cannot write the index of the image")]
    Index(#[source] erofs::WriteError),
    /// A layer could not be read back.
    #[error("cannot read layer {0}")]
    Layer(Digest, #[source] erofs::ReadError),
    /// Its layers are too large together.
    #[error("the image is too large")]
    TooLarge(#[source] TooLarge),
}

impl StoreError {
    /// For `map_err` on what happened to a file.
    pub(crate) fn file<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace(path.parent().unwrap_or(path).to_owned())
            }
            _ => Self::File { action, path: path.to_owned(), source },
        }
    }

    /// For `map_err` on what the database said.
    pub(super) fn database(path: &Path) -> impl FnOnce(rusqlite::Error) -> Self + '_ {
        move |source| match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => {
                Self::NoSpace(path.parent().unwrap_or(path).to_owned())
            }
            _ => Self::Database { path: path.to_owned(), source },
        }
    }
}

impl From<DbError> for StoreError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::File { action, path, source } => Self::file(action, &path)(source),
            DbError::Sqlite { path, source } => Self::database(&path)(source),
            DbError::Foreign(_) | DbError::Newer { .. } => Self::Schema(error),
        }
    }
}

/// Whether the device was full, at whatever depth: writers of other layers wrap what they met.
pub(crate) fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    causes(error).filter_map(|error| error.downcast_ref::<io::Error>()).any(|error| {
        matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    })
}
