//! Images as commands have them: looked up in the store, fetched from registries, imported.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use matchlock_image::pull::pull;
use matchlock_image::registry::{Client, Credentials, Registries, RegistriesError, RegistryError};
use matchlock_net::ProxySettings;

use crate::registry_dial::RegistryDial;

pub use matchlock_image::archive::{ImportError, import};
pub use matchlock_image::digest::Digest;
pub use matchlock_image::manifest::RuntimeConfig;
pub use matchlock_image::pull::{
    Event, LayerState, NoProgress, Progress, PullError, PullOptions, Pulled,
};
pub use matchlock_image::reference::{InvalidReference, Reference};
pub use matchlock_image::store::{
    GcReport, ImageName, ImageSummary, InvalidTag, RootImage, Source, Store, StoreError,
    StoredImage,
};

const AGAIN: &str = "run it again: what has come is kept, and gone on with";

/// Where images are, and what the user has said about registries.
#[derive(Debug, Clone)]
pub struct ImagePlaces {
    /// Directory of the store; made when it is missing.
    pub store: PathBuf,
    /// Settings of registries; there need be none.
    pub registries: PathBuf,
    /// Docker's configuration, for its credentials; there need be none.
    pub docker_config: PathBuf,
    /// Directories of credential helpers, in the form of the variable `PATH`.
    pub path: OsString,
}

/// The images of a user. Nothing here touches the network but [`Images::pull`].
#[derive(Debug)]
pub struct Images {
    store: Store,
    places: ImagePlaces,
}

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

impl Images {
    /// Opens the store.
    ///
    /// # Errors
    /// [`StoreError`]: the directory cannot be used.
    pub fn open(places: ImagePlaces) -> Result<Self, StoreError> {
        Ok(Self { store: Store::open(&places.store)?, places })
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// A client of the registries, which connects to nothing yet. Settings and credentials are read
    /// only here, so that a broken file of theirs is no trouble to who needs no registry.
    ///
    /// # Errors
    /// [`ImagesError::Registries`].
    pub fn client(&self, proxy: ProxySettings) -> Result<Client, ImagesError> {
        let ImagePlaces { registries: file, docker_config, path, .. } = &self.places;
        let registries = Registries::load(file)
            .map_err(|source| ImagesError::Registries { path: file.clone(), source })?;
        let credentials = Credentials::docker(docker_config.clone(), path.clone());
        let agent = concat!("matchlock/", env!("CARGO_PKG_VERSION"));
        let dial = Arc::new(RegistryDial::new(proxy, Vec::new()));
        Ok(Client::new(dial, registries, credentials, agent))
    }

    /// Pulls an image from its registry, unless it is stored and `options` do not insist.
    ///
    /// # Errors
    /// [`ImagesError`]; no name has changed then, and layers that came whole are kept for the next
    /// attempt.
    pub async fn pull(
        &self,
        reference: &Reference,
        options: &PullOptions,
        proxy: ProxySettings,
        progress: &dyn Progress,
    ) -> Result<Pulled, ImagesError> {
        let client = self.client(proxy)?;
        pull(&self.store, &client, reference, options, progress)
            .await
            .map_err(|error| Box::new(error).into())
    }
}

impl ImagesError {
    /// The next step for the person who sees the error, if there is a usual one.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Store(error) => store_hint(error),
            Self::Pull(error) => pull_hint(error),
            Self::Import(error) => import_hint(error),
            Self::Registries { .. } => None,
        }
    }
}

fn pull_hint(error: &PullError) -> Option<&'static str> {
    match error {
        PullError::Store(error) => store_hint(error),
        PullError::Registry(error) => registry_hint(error),
        PullError::Truncated { .. } => Some(AGAIN),
        _ => None,
    }
}

fn import_hint(error: &ImportError) -> Option<&'static str> {
    match error {
        ImportError::Store(error) => store_hint(error),
        ImportError::Form(_) => {
            Some("`docker save IMAGE | matchlock image import TAG`; OCI layouts in a tar do too")
        }
        _ => None,
    }
}

fn store_hint(error: &StoreError) -> Option<&'static str> {
    match error {
        StoreError::NotFound(_) => Some("`matchlock image ls` lists the images that are here"),
        StoreError::Damaged(_) => Some("`matchlock pull --force IMAGE` fetches what is missing"),
        StoreError::NoSpace(_) => Some("`matchlock image rm` and `matchlock image gc` free space"),
        StoreError::File { .. } | StoreError::Database { .. } => {
            Some("matchlock keeps its images in $HOME/.cache/matchlock/images")
        }
        _ => None,
    }
}

fn registry_hint(error: &RegistryError) -> Option<&'static str> {
    match error {
        RegistryError::NotFound { .. } | RegistryError::NoSuchTag { .. } => {
            Some("check the name and the tag: [REGISTRY/]REPOSITORY[:TAG]")
        }
        RegistryError::RateLimited { .. } => {
            Some("log in with `docker login`, or name a mirror in $HOME/.matchlock/registries.json")
        }
        RegistryError::Connect { .. } => {
            Some("images that are here need no network: `matchlock image ls` lists them")
        }
        RegistryError::Broken { .. } => {
            Some("run it again: what has come is kept, and gone on with")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(dir: &std::path::Path) -> ImagePlaces {
        ImagePlaces {
            store: dir.join("images"),
            registries: dir.join("registries.json"),
            docker_config: dir.join("config.json"),
            path: OsString::new(),
        }
    }

    #[test]
    fn settings_of_registries_are_read_only_for_who_needs_a_registry() {
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::write(dir.path().join("registries.json"), "{").expect("write");
        let images = Images::open(places(dir.path())).expect("opens");
        assert!(images.store().list().expect("list").is_empty());
        let proxy = ProxySettings::from_env(|_| None).expect("none");
        let error = images.client(proxy).expect_err("broken");
        assert!(error.to_string().ends_with("registries.json cannot be used"), "{error}");
    }

    #[test]
    fn without_settings_and_credentials_there_is_a_client() {
        let dir = tempfile::tempdir().expect("tempdir");
        let images = Images::open(places(dir.path())).expect("opens");
        let proxy = ProxySettings::from_env(|_| None).expect("none");
        images.client(proxy).expect("a client");
    }
}
