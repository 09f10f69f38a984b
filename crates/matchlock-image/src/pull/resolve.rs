//! What a reference leads to: manifest and configuration.

use super::PullError;
use crate::digest::Digest;
use crate::manifest::{Blob, ImageConfig, ImageManifest, Manifest, ManifestError, Platform};
use crate::reference::Reference;
use crate::registry::Client;

/// An image as its registry has it.
pub(super) struct Resolved {
    /// Of the manifest, not of an index that led to it.
    pub(super) digest: Digest,
    pub(super) manifest: ImageManifest,
    pub(super) config: ImageConfig,
}

/// Asks the registry: at most an index, a manifest and a configuration.
pub(super) async fn resolve(
    client: &Client,
    reference: &Reference,
    platform: &Platform,
) -> Result<Resolved, PullError> {
    let answer = client.manifest(reference).await?;
    let (digest, manifest) = match Manifest::decode(&answer.bytes, Some(&answer.media_type))? {
        Manifest::Image(manifest) => (answer.digest, manifest),
        Manifest::Index(index) => {
            let chosen = index.choose(platform)?;
            (chosen.digest, image_manifest(client, reference, &chosen).await?)
        }
    };
    let bytes = small_blob(client, reference, &manifest.config).await?;
    let config = ImageConfig::decode(&bytes)?;
    config.matches(&manifest, platform)?;
    Ok(Resolved { digest, manifest, config })
}

/// The manifest that an index led to; not another index, so there are no circles.
async fn image_manifest(
    client: &Client,
    reference: &Reference,
    blob: &Blob,
) -> Result<ImageManifest, PullError> {
    let answer = client.manifest(&reference.with_digest(blob.digest)).await?;
    verify(blob, &answer.bytes)?;
    match Manifest::decode(&answer.bytes, Some(&answer.media_type))? {
        Manifest::Image(manifest) => Ok(manifest),
        Manifest::Index(_) => Err(ManifestError::Nested.into()),
    }
}

/// A blob that a manifest says to be small; its manifest's reader has checked that.
async fn small_blob(
    client: &Client,
    reference: &Reference,
    blob: &Blob,
) -> Result<Vec<u8>, PullError> {
    let mut stream = client.blob(reference, &blob.digest, 0).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk?);
        if bytes.len() as u64 > blob.size {
            break;
        }
    }
    verify(blob, &bytes)?;
    Ok(bytes)
}

fn verify(blob: &Blob, bytes: &[u8]) -> Result<(), PullError> {
    if bytes.len() as u64 != blob.size {
        return Err(PullError::Size { digest: blob.digest, wanted: blob.size });
    }
    let found = Digest::of(bytes);
    if found != blob.digest {
        return Err(PullError::DigestMismatch { wanted: blob.digest, found });
    }
    Ok(())
}
