//! Pulling an image: from a reference to a name in the store.
//!
//! A compressed layer goes through one pass: from the registry into its part file, its digest, the
//! decompressor, the digest of the archive, the blob. Nothing is stored before both digests are the
//! promised ones.

mod error;
mod input;
mod layers;
mod progress;
mod resolve;
#[cfg(test)]
mod tests;

use crate::layer::Limits;
use crate::manifest::Platform;
use crate::reference::Reference;
use crate::registry::Client;
use crate::store::{ImageName, NewImage, Scope, Store, StoreError, StoredImage, needed};

pub use error::PullError;
pub use progress::{Event, LayerState, NoProgress, Progress};

/// How to pull.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// Ask the registry even when the image is stored. Layers that are stored are not loaded again.
    pub force: bool,
    /// A further, local name for the image.
    pub tag: Option<ImageName>,
    /// For which machine.
    pub platform: Platform,
    /// What a layer may cost.
    pub limits: Limits,
}

/// A pulled or imported image.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// As it is stored now.
    pub image: StoredImage,
    /// False when it was stored before and nothing was asked.
    pub fresh: bool,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self { force: false, tag: None, platform: Platform::host(), limits: Limits::default() }
    }
}

/// Pulls an image unless it is stored; a stored one is found without any network.
///
/// The future may be dropped at any point: what has come of layers is kept for the next pull, and
/// nothing else.
///
/// # Errors
/// [`PullError`]; then no name has changed.
///
/// # Panics
/// Outside of a tokio runtime with time and I/O.
pub async fn pull(
    store: &Store,
    client: &Client,
    reference: &Reference,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<Pulled, PullError> {
    if !options.force {
        let (store, reference, tag) = (store.clone(), reference.clone(), options.tag.clone());
        if let Some(image) = blocking(move || stored(&store, &reference, tag.as_ref())).await? {
            return Ok(Pulled { image, fresh: false });
        }
    }
    progress.event(Event::Resolving);
    let resolved = resolve::resolve(client, reference, &options.platform).await?;
    let bytes = resolved.manifest.layers.iter().map(|layer| layer.blob.size).sum();
    let layers = resolved.manifest.layers.len();
    progress.event(Event::Resolved { digest: resolved.digest, layers, bytes });
    let needed: Vec<_> = needed(&resolved.config.diff_ids).collect();
    let leasing = store.clone();
    let lease = std::sync::Arc::new(blocking(move || leasing.lease(needed)).await?);
    let source = layers::Source { client, reference, resolved: &resolved, limits: &options.limits };
    layers::fetch(store, &source, &lease, progress).await?;
    progress.event(Event::Merging);
    let mut names = vec![ImageName::registry(reference)];
    names.extend(options.tag.clone());
    let store = store.clone();
    let image = blocking(move || {
        let new = NewImage { names: &names, digest: resolved.digest, config: &resolved.config };
        store.commit_image(&lease, &new)
    });
    Ok(Pulled { image: image.await?, fresh: true })
}

/// The image if it is here, with the names that it is asked to have.
fn stored(
    store: &Store,
    reference: &Reference,
    tag: Option<&ImageName>,
) -> Result<Option<StoredImage>, StoreError> {
    let Some(mut image) = store.find(reference)? else { return Ok(None) };
    if image.scope == Scope::Registry {
        if !store.is_whole(&image)? {
            return Ok(None);
        }
        if image.tag != reference.as_typed() {
            image = store.tag(&image, &ImageName::registry(reference))?;
        }
    }
    if let Some(tag) = tag {
        store.tag(&image, tag)?;
    }
    Ok(Some(image))
}

/// Work that waits for files or computes for long.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        // Blocking tasks are never aborted.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
