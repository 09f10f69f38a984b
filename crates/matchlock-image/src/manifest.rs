//! Manifests, indexes and configurations of images: OCI's and those of Docker's schema 2.
//!
//! Everything here is decoded from bytes that a registry or an archive chose. What a value of these
//! types says has been checked: media types, digests, counts and the depth of an index. Sources: OCI
//! image spec (manifest.md, image-index.md, config.md, descriptor.md); Docker's "Image Manifest
//! Version 2, Schema 2".

mod config;
mod platform;
#[cfg(test)]
mod tests;

use serde::Deserialize;

use crate::digest::{Digest, InvalidDigest};
use crate::layer::Compression;

pub use config::{ImageConfig, RuntimeConfig};
pub use platform::{InvalidPlatform, Platform};

/// Most bytes of a manifest, an index or a configuration (OCI distribution spec, "Pushing
/// Manifests", names the same limit for manifests).
pub const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Most layers of an image. Docker makes no more than 127.
pub const MAX_LAYERS: usize = 256;

/// Most entries of an index.
const MAX_ENTRIES: usize = 4096;

/// Most bytes of a compressed layer that is worth a try: 1 TiB.
const MAX_LAYER_BYTES: u64 = 1 << 40;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1";

/// Media types to ask a registry for, the preferred first.
pub const ACCEPTED: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];

/// What a reference leads to: an image, or an index of images for several platforms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manifest {
    /// One image.
    Image(ImageManifest),
    /// Several.
    Index(Index),
}

/// One image: its configuration and its layers, all by digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageManifest {
    /// The configuration, at most [`MAX_BYTES`].
    pub config: Blob,
    /// Lowest first, at most [`MAX_LAYERS`].
    pub layers: Vec<LayerBlob>,
}

/// Content by its digest and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// Of the content as it is transferred.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
}

/// A layer as a registry has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerBlob {
    /// The archive, compressed or not.
    pub blob: Blob,
    /// As its media type says.
    pub compression: Compression,
}

/// Images for several platforms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    entries: Vec<Entry>,
}

/// What an index leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    blob: Blob,
    kind: EntryKind,
    platform: Option<Platform>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EntryKind {
    Image,
    Index,
    Other,
}

/// What is wrong with a manifest, an index or a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Longer than [`MAX_BYTES`].
    #[error("manifest of {0} bytes: more than {MAX_BYTES} are not read")]
    TooLong(u64),
    /// No JSON, or not of the form of its media type.
    #[error("malformed {0}")]
    Malformed(&'static str, #[source] serde_json::Error),
    /// Valid by its form, not by its content.
    #[error("malformed manifest: {0}")]
    Invalid(&'static str),
    /// A digest that is not one.
    #[error("malformed manifest")]
    Digest(#[from] InvalidDigest),
    /// Docker's manifests of before 2016, which do not name their layers by what they hold.
    #[error(
        "the image has a manifest of Docker's schema 1, which is not supported: push it anew with a current tool"
    )]
    SchemaOne,
    /// The type in the content is not that of the response or of the descriptor.
    #[error("manifest of type {found:?} was announced as {announced:?}")]
    TypeMismatch {
        /// By the response, or by the index that led here.
        announced: String,
        /// In the content.
        found: String,
    },
    /// A manifest of something else than an image for containers.
    #[error("not a container image: {0:?}")]
    UnknownType(String),
    /// A layer that the registry does not have, or whose form is unknown.
    #[error("layer {index} is of type {media_type:?}, {why}")]
    Layer {
        /// From 1, the lowest.
        index: usize,
        /// As it was declared.
        media_type: String,
        /// What of it.
        why: &'static str,
    },
    /// More layers than [`MAX_LAYERS`].
    #[error("image of {0} layers: at most {MAX_LAYERS} are supported")]
    TooManyLayers(usize),
    /// The index has nothing for this platform.
    #[error("no image for {wanted}; there is one for: {available}")]
    NoPlatform {
        /// What was asked for.
        wanted: String,
        /// What the index has, separated by commas.
        available: String,
    },
    /// The one image that there is, is for another platform.
    #[error("the image is for {found}, not for {wanted}")]
    WrongPlatform {
        /// What was asked for.
        wanted: String,
        /// By its configuration.
        found: String,
    },
    /// An index that an index led to.
    #[error("an index within an index is not followed")]
    Nested,
}

/// What images and indexes have in common, and what tells them apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawManifest {
    schema_version: u32,
    media_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
    /// Of schema 1 only.
    fs_layers: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    media_type: Option<String>,
    digest: String,
    size: u64,
    platform: Option<Platform>,
}

impl Manifest {
    /// Decodes a manifest. `announced` is the media type by the response (parameters after `;` are
    /// not looked at) or by the descriptor that led here.
    ///
    /// The content must say the same when it says anything, and must not be readable as both kinds:
    /// two readers could take it for two images.
    ///
    /// # Errors
    /// [`ManifestError`], for everything that is not an image or an index of images.
    pub fn decode(bytes: &[u8], announced: Option<&str>) -> Result<Self, ManifestError> {
        let length = bytes.len() as u64;
        if length > MAX_BYTES {
            return Err(ManifestError::TooLong(length));
        }
        let announced = announced.map(essence).filter(|text| !generic(text));
        if announced.as_deref().is_some_and(|text| text.starts_with(DOCKER_SCHEMA_1)) {
            return Err(ManifestError::SchemaOne);
        }
        let raw: RawManifest = serde_json::from_slice(bytes)
            .map_err(|error| ManifestError::Malformed("manifest", error))?;
        if raw.schema_version == 1 || raw.fs_layers.is_some() {
            return Err(ManifestError::SchemaOne);
        }
        if raw.schema_version != 2 {
            return Err(ManifestError::Invalid("its schema version is not 2"));
        }
        let media_type = raw.agreed_type(announced)?;
        match (media_type.as_deref(), raw.manifests, raw.layers) {
            (_, Some(_), Some(_)) => {
                Err(ManifestError::Invalid("it is an image and an index at once"))
            }
            (Some(OCI_INDEX | DOCKER_LIST) | None, Some(entries), None) => {
                Index::new(entries).map(Self::Index)
            }
            (Some(OCI_MANIFEST | DOCKER_MANIFEST) | None, None, Some(layers)) => {
                let config = raw.config.ok_or(ManifestError::Invalid("it has no configuration"))?;
                ImageManifest::new(&config, &layers).map(Self::Image)
            }
            (Some(OCI_INDEX | DOCKER_LIST | OCI_MANIFEST | DOCKER_MANIFEST) | None, _, _) => {
                Err(ManifestError::Invalid("it has not the content of its type"))
            }
            (Some(other), _, _) => Err(ManifestError::UnknownType(shortened(other))),
        }
    }
}

impl RawManifest {
    /// The media type that all who say one agree on.
    fn agreed_type(&self, announced: Option<String>) -> Result<Option<String>, ManifestError> {
        match (announced, self.media_type.as_deref().map(essence)) {
            (Some(announced), Some(found)) if announced != found => {
                Err(ManifestError::TypeMismatch {
                    announced: shortened(&announced),
                    found: shortened(&found),
                })
            }
            (announced, found) => Ok(announced.or(found)),
        }
    }
}

impl ImageManifest {
    fn new(config: &RawDescriptor, layers: &[RawDescriptor]) -> Result<Self, ManifestError> {
        match config.media_type.as_deref().map(essence).as_deref() {
            Some(OCI_CONFIG | DOCKER_CONFIG) => {}
            other => return Err(ManifestError::UnknownType(shortened(other.unwrap_or("")))),
        }
        if layers.len() > MAX_LAYERS {
            return Err(ManifestError::TooManyLayers(layers.len()));
        }
        let config = Blob { digest: config.digest.parse()?, size: config.size };
        if config.size > MAX_BYTES {
            return Err(ManifestError::TooLong(config.size));
        }
        let layers = layers.iter().enumerate().map(|(at, raw)| layer(at + 1, raw));
        Ok(Self { config, layers: layers.collect::<Result<_, _>>()? })
    }
}

impl Index {
    fn new(entries: Vec<RawDescriptor>) -> Result<Self, ManifestError> {
        if entries.len() > MAX_ENTRIES {
            return Err(ManifestError::Invalid("its entries are too many"));
        }
        let entries = entries.into_iter().map(|raw| {
            let kind = match raw.media_type.as_deref().map(essence).as_deref() {
                Some(OCI_MANIFEST | DOCKER_MANIFEST) => EntryKind::Image,
                Some(OCI_INDEX | DOCKER_LIST) => EntryKind::Index,
                _ => EntryKind::Other,
            };
            let blob = Blob { digest: raw.digest.parse()?, size: raw.size };
            Ok(Entry { blob, kind, platform: raw.platform })
        });
        Ok(Self { entries: entries.collect::<Result<_, ManifestError>>()? })
    }

    /// The manifest of the image for `platform`: one for exactly its variant before one for the
    /// variant that every such processor has. Entries without a platform count when they are alone.
    ///
    /// # Errors
    /// [`ManifestError::NoPlatform`] lists what there is.
    pub fn choose(&self, platform: &Platform) -> Result<Blob, ManifestError> {
        let images = || self.entries.iter().filter(|entry| entry.kind == EntryKind::Image);
        let ranked = images().filter_map(|entry| {
            let rank = platform.accepts(entry.platform.as_ref()?)?;
            Some((rank, entry.blob))
        });
        // The first of the best: an index lists in the order of preference (image-index.md).
        if let Some((_, blob)) = ranked.min_by_key(|(rank, _)| *rank) {
            return Ok(blob);
        }
        let mut all = images();
        if let (Some(Entry { blob, platform: None, .. }), None) = (all.next(), all.next()) {
            return Ok(*blob);
        }
        let known: Vec<_> = images().filter_map(|entry| entry.platform.as_ref()).collect();
        if known.is_empty() && self.entries.iter().any(|entry| entry.kind == EntryKind::Index) {
            return Err(ManifestError::Nested);
        }
        let mut names: Vec<_> = known.iter().map(ToString::to_string).collect();
        names.dedup();
        names.truncate(32);
        let available = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Err(ManifestError::NoPlatform { wanted: platform.to_string(), available })
    }

    /// The only entry, when it is an index: layouts on disk have such a root (image-layout.md).
    #[must_use]
    pub fn only_index(&self) -> Option<Blob> {
        match self.entries.as_slice() {
            [Entry { blob, kind: EntryKind::Index, .. }] => Some(*blob),
            _ => None,
        }
    }

    /// Images in it, of whatever platform.
    #[must_use]
    pub fn images(&self) -> usize {
        self.entries.iter().filter(|entry| entry.kind == EntryKind::Image).count()
    }
}

/// A layer's descriptor; `index` counts from 1.
fn layer(index: usize, raw: &RawDescriptor) -> Result<LayerBlob, ManifestError> {
    let media_type = essence(raw.media_type.as_deref().unwrap_or(""));
    let compression = match media_type.as_str() {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar" => Compression::None,
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Compression::Gzip,
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Compression::Zstd,
        other => {
            let foreign = other.contains(".foreign.") || other.contains(".nondistributable.");
            let why = if foreign {
                "which registries do not distribute"
            } else {
                "which is no layer of a file system"
            };
            return Err(ManifestError::Layer { index, media_type: shortened(other), why });
        }
    };
    if raw.size > MAX_LAYER_BYTES {
        return Err(ManifestError::Invalid("a layer's size is beyond reason"));
    }
    let blob = Blob { digest: raw.digest.parse()?, size: raw.size };
    Ok(LayerBlob { blob, compression })
}

/// A media type without parameters, in lower case (RFC 9110, section 8.3.1).
fn essence(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

/// Types that say nothing: what servers of plain files answer.
fn generic(media_type: &str) -> bool {
    matches!(media_type, "" | "application/json" | "application/octet-stream" | "text/plain")
}

/// Hostile text for an error message.
fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(128).collect()
}
