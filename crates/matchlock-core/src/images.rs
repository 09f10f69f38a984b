//! Images as commands have them: looked up in the store, fetched from registries, imported.

mod error;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use matchlock_image::pull::pull;
use matchlock_image::registry::{Client, Credentials, Registries};
use matchlock_net::ProxySettings;

use crate::registry_dial::RegistryDial;

pub use self::error::ImagesError;
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

/// The images of a user. Nothing here touches the network but [`Images::pull`], and all else may block.
#[derive(Debug, Clone)]
pub struct Images {
    store: Store,
    places: ImagePlaces,
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

    /// A client of the registries, which connects to nothing yet. The settings are read only here, so that a
    /// broken settings file does not affect commands that need no registry.
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
        client: &Client,
        reference: &Reference,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<Pulled, ImagesError> {
        pull(&self.store, client, reference, options, progress)
            .await
            .map_err(|error| Box::new(error).into())
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
