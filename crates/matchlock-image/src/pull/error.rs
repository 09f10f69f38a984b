//! Why a pull failed.

use crate::digest::Digest;
use crate::layer::LayerError;
use crate::manifest::ManifestError;
use crate::registry::RegistryError;
use crate::store::StoreError;

/// Why a pull failed. No name in the store has changed then.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry, or the way to it.
    #[error(transparent)]
    Registry(Box<RegistryError>),
    /// What the registry sent as a manifest or a configuration.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A layer is not what an image may hold, or not what its digest says.
    #[error("layer {digest} is refused")]
    Layer {
        /// Of the archive as it was transferred.
        digest: Digest,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// The bytes are not those that were asked for.
    #[error("{wanted} was asked for; what came is {found}")]
    DigestMismatch {
        /// By the manifest.
        wanted: Digest,
        /// Computed.
        found: Digest,
    },
    /// Of another length than the manifest says.
    #[error("{digest} is not of {wanted} bytes, as its manifest says")]
    Size {
        /// Of the content.
        digest: Digest,
        /// In bytes.
        wanted: u64,
    },
    /// The connection ended before the content did, again and again.
    #[error("the registry closed the connection after {got} of {wanted} bytes of {digest}")]
    Truncated {
        /// Of the content.
        digest: Digest,
        /// Bytes.
        got: u64,
        /// Bytes.
        wanted: u64,
    },
    /// The pull was given up.
    #[error("the pull was interrupted")]
    Interrupted,
}

impl From<RegistryError> for PullError {
    fn from(error: RegistryError) -> Self {
        Self::Registry(Box::new(error))
    }
}
