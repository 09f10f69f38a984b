//! Images of a build from the store and from registries.

use super::BoxError;
use super::request::ImageSource;
use matchlock_image::pull::{Progress, PullOptions, pull};
use matchlock_image::reference::Reference;
use matchlock_image::registry::Client;
use matchlock_image::store::{Store, StoredImage};

/// Takes images from the store, and pulls those that are not there.
pub struct Pulling<'a> {
    /// Where they are, or will be.
    pub store: &'a Store,
    /// For those that are not.
    pub client: &'a Client,
    /// Asks the registry for those that are stored too.
    pub force: bool,
    /// Watches pulls.
    pub progress: &'a dyn Progress,
}

impl ImageSource for Pulling<'_> {
    async fn resolve(&self, reference: &Reference) -> Result<StoredImage, BoxError> {
        let options = PullOptions { force: self.force, ..PullOptions::default() };
        Ok(pull(self.store, self.client, reference, &options, self.progress).await?.image)
    }
}

impl std::fmt::Debug for Pulling<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pulling").field("force", &self.force).finish_non_exhaustive()
    }
}
