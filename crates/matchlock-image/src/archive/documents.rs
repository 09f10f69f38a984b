//! The documents of an archive, and the image that they describe.

use std::collections::HashMap;
use std::io::{BufReader, Read};

use serde::Deserialize;

use super::{ImportError, path};
use crate::digest::Digest;
use crate::layer::Compression;
use crate::manifest::{
    Blob, ImageConfig, Index, MAX_BYTES, MAX_LAYERS, Manifest, ManifestError, Platform,
};
use crate::tar::{Archive, Kind};

/// Most bytes of all documents.
const MAX_TOTAL: usize = 64 * 1024 * 1024;

/// Most links and files of an archive that are remembered.
const MAX_NAMES: usize = 100_000;

/// How often a link may lead to another.
const MAX_LINKS: usize = 8;

/// What an archive holds, but for its large files.
#[derive(Debug, Default)]
pub(super) struct Documents {
    /// Files that look like JSON. The first of a name counts.
    json: HashMap<String, Vec<u8>>,
    /// Symbolic and hard links: where they lead.
    links: HashMap<String, String>,
    total: usize,
}

/// The image of an archive.
pub(super) struct Described {
    pub(super) digest: Digest,
    pub(super) config: ImageConfig,
    pub(super) layers: Vec<ArchivedLayer>,
}

/// A layer of an archive.
pub(super) struct ArchivedLayer {
    /// Where it is.
    pub(super) path: String,
    /// What the manifest says of it. Archives of the old form say nothing.
    pub(super) blob: Option<Blob>,
    /// By its media type; of archives of the old form, as its first bytes say.
    pub(super) compression: Option<Compression>,
}

/// An entry of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    layers: Option<Vec<String>>,
}

impl Documents {
    /// Reads an archive.
    pub(super) fn read(input: impl Read) -> Result<Self, ImportError> {
        let mut archive = Archive::new(BufReader::with_capacity(128 * 1024, input));
        let mut documents = Self::default();
        while let Some(entry) = archive.next_entry()? {
            let Some(name) = path::plain(&entry.path) else { continue };
            match &entry.kind {
                Kind::File if (1..=MAX_BYTES).contains(&entry.size) => {
                    let mut content = archive.content();
                    let mut first = [0];
                    content.read_exact(&mut first).map_err(ImportError::Read)?;
                    if matches!(first, [b'{' | b'[']) {
                        let mut bytes = first.to_vec();
                        content.read_to_end(&mut bytes).map_err(ImportError::Read)?;
                        documents.add(name, bytes)?;
                    }
                }
                Kind::Symlink(text) => documents.add_link(path::link(&name, text), name)?,
                Kind::HardLink(target) => documents.add_link(path::plain(target), name)?,
                _ => {}
            }
        }
        Ok(documents)
    }

    fn add(&mut self, name: String, bytes: Vec<u8>) -> Result<(), ImportError> {
        self.total += bytes.len();
        if self.total > MAX_TOTAL || self.json.len() >= MAX_NAMES {
            return Err(ImportError::Form("its documents are too many"));
        }
        self.json.entry(name).or_insert(bytes);
        Ok(())
    }

    fn add_link(&mut self, target: Option<String>, name: String) -> Result<(), ImportError> {
        if self.links.len() >= MAX_NAMES {
            return Err(ImportError::Form("its links are too many"));
        }
        if let Some(target) = target {
            self.links.entry(name).or_insert(target);
        }
        Ok(())
    }

    /// Where the file is that a path leads to.
    pub(super) fn follow<'a>(&'a self, path: &'a str) -> &'a str {
        let mut path = path;
        for _ in 0..MAX_LINKS {
            match self.links.get(path) {
                Some(target) => path = target,
                None => break,
            }
        }
        path
    }

    fn get(&self, path: &str) -> Result<&[u8], ImportError> {
        let found = self.json.get(self.follow(path));
        found.map(Vec::as_slice).ok_or_else(|| ImportError::Missing(path.to_owned()))
    }

    /// A document by its digest.
    fn blob(&self, blob: &Blob) -> Result<&[u8], ImportError> {
        let path = blob_path(&blob.digest);
        let bytes = self.get(&path)?;
        if bytes.len() as u64 != blob.size || Digest::of(bytes) != blob.digest {
            return Err(ImportError::Mismatch(path));
        }
        Ok(bytes)
    }

    /// The image for `platform`. A layout is preferred: its digests are those of a registry.
    pub(super) fn image(&self, platform: &Platform) -> Result<Described, ImportError> {
        if self.json.contains_key("index.json") {
            return self.layout(platform);
        }
        if self.json.contains_key("manifest.json") {
            return self.saved(platform);
        }
        Err(ImportError::Form("it has neither index.json nor manifest.json"))
    }

    fn layout(&self, platform: &Platform) -> Result<Described, ImportError> {
        let Manifest::Index(root) = Manifest::decode(self.get("index.json")?, None)? else {
            return Err(ImportError::Form("its index.json is no index"));
        };
        let index = match root.only_index() {
            // The root of a layout may lead to the index of the image, and no further.
            Some(blob) => self.index(&blob)?,
            None => root,
        };
        let chosen = index.choose(platform)?;
        let Manifest::Image(manifest) = Manifest::decode(self.blob(&chosen)?, None)? else {
            return Err(ManifestError::Nested.into());
        };
        let config = ImageConfig::decode(self.blob(&manifest.config)?)?;
        config.matches(&manifest, platform)?;
        let layers = manifest.layers.iter().map(|layer| ArchivedLayer {
            path: blob_path(&layer.blob.digest),
            blob: Some(layer.blob),
            compression: Some(layer.compression),
        });
        Ok(Described { digest: chosen.digest, config, layers: layers.collect() })
    }

    fn index(&self, blob: &Blob) -> Result<Index, ImportError> {
        match Manifest::decode(self.blob(blob)?, None)? {
            Manifest::Index(index) => Ok(index),
            Manifest::Image(_) => Err(ImportError::Form("an index in it is no index")),
        }
    }

    fn saved(&self, platform: &Platform) -> Result<Described, ImportError> {
        let malformed = |error| ManifestError::Malformed("manifest.json", error);
        let saved: Vec<Saved> =
            serde_json::from_slice(self.get("manifest.json")?).map_err(malformed)?;
        let [Saved { config, layers }] = saved.as_slice() else {
            return Err(ImportError::Form("it holds several images, or none"));
        };
        let bytes = self.get(&named(config)?)?;
        let config = ImageConfig::decode(bytes)?;
        config.runs_on(platform)?;
        let layers = layers.as_deref().unwrap_or_default();
        if layers.len() > MAX_LAYERS {
            return Err(ManifestError::TooManyLayers(layers.len()).into());
        }
        if layers.len() != config.diff_ids.len() {
            return Err(ImportError::Form("its configuration is of another number of layers"));
        }
        let layers = layers
            .iter()
            .map(|path| Ok(ArchivedLayer { path: named(path)?, blob: None, compression: None }));
        let layers = layers.collect::<Result<_, ImportError>>()?;
        Ok(Described { digest: Digest::of(bytes), config, layers })
    }
}

/// Where a layout has a blob (image-layout.md, "Blobs").
fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A path that a document names.
fn named(text: &str) -> Result<String, ImportError> {
    path::plain(text.as_bytes())
        .ok_or_else(|| ImportError::Missing(text.chars().take(255).collect()))
}
