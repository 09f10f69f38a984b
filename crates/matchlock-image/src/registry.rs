//! Registries: stands in for C's module until it is merged.

use crate::digest::Digest;
use crate::reference::Reference;

/// A client.
#[derive(Debug)]
pub struct Client {}

/// A blob as it comes.
#[derive(Debug)]
pub struct BlobStream {}

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Nothing works.
    #[error("no registry")]
    None,
}

/// A manifest as it came.
#[derive(Debug)]
pub struct Manifest {
    /// Content.
    pub bytes: Vec<u8>,
    /// As the response said.
    pub media_type: Option<String>,
    /// Of the content.
    pub digest: Digest,
}

impl Client {
    /// A manifest.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn manifest(&self, reference: &Reference) -> Result<Manifest, RegistryError> {
        let _ = reference;
        Err(RegistryError::None)
    }
}
