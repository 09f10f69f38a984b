//! Why an image could not be had, of what kind that is, and what helps.

use std::path::PathBuf;

use matchlock_image::archive::ImportError;
use matchlock_image::pull::PullError;
use matchlock_image::registry::{RegistriesError, RegistryError};
use matchlock_image::store::StoreError;

use crate::classified::{Classified, ErrorKind, Hint};

const AGAIN: Hint = Hint::Text("run it again; the download resumes where it stopped");

/// Why an image could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImagesError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The settings of registries.
    #[error("the settings in {} cannot be used", path.display())]
    Registries {
        /// The file.
        path: PathBuf,
        /// Why.
        source: RegistriesError,
    },
    /// The registry, or what came from it.
    #[error(transparent)]
    Pull(#[from] Box<PullError>),
    /// The archive.
    #[error(transparent)]
    Import(#[from] Box<ImportError>),
}

impl Classified for ImagesError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Pull(error) => error.kind(),
            Self::Import(error) => error.kind(),
            Self::Registries { .. } => ErrorKind::InvalidArgument,
        }
    }

    fn hint(&self) -> Option<Hint> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Pull(error) => error.hint(),
            Self::Import(error) => error.hint(),
            Self::Registries { .. } => None,
        }
    }
}

impl Classified for StoreError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Damaged(_) => ErrorKind::Unavailable,
            Self::File { source, .. } => ErrorKind::of_io(source),
            _ => ErrorKind::Io,
        }
    }

    fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::NotFound(_) => Hint::ListImages,
            Self::Damaged(_) => Hint::PullAgain,
            Self::NoSpace(_) => Hint::FreeImages,
            Self::File { .. } | Self::Database { .. } => {
                Hint::Text("matchlock keeps its images in $HOME/.cache/matchlock/images")
            }
            _ => return None,
        })
    }
}

impl Classified for PullError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Registry(error) => error.kind(),
            _ => ErrorKind::Unavailable,
        }
    }

    fn hint(&self) -> Option<Hint> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Registry(error) => error.hint(),
            Self::Truncated { .. } => Some(AGAIN),
            _ => None,
        }
    }
}

impl Classified for RegistryError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } | Self::NoSuchTag { .. } => ErrorKind::NotFound,
            Self::Denied { .. } => ErrorKind::Denied,
            _ => ErrorKind::Unavailable,
        }
    }

    fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::NotFound { .. } | Self::NoSuchTag { .. } => {
                Hint::Text("check the name and the tag: [REGISTRY/]REPOSITORY[:TAG]")
            }
            Self::RateLimited { .. } => Hint::Text(
                "log in with `docker login`, or name a mirror in $HOME/.matchlock/registries.json",
            ),
            Self::Connect { .. } => Hint::ListImages,
            Self::Broken { .. } => AGAIN,
            _ => return None,
        })
    }
}

impl Classified for ImportError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Read(error) => ErrorKind::of_io(error),
            _ => ErrorKind::InvalidArgument,
        }
    }

    fn hint(&self) -> Option<Hint> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Form(_) => Some(Hint::ImportArchive),
            _ => None,
        }
    }
}
