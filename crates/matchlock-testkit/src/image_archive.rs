//! Container images as files, made without any tool: layers out of entries, and archives out of
//! layers, as `docker save` writes them or as an OCI image layout.
//!
//! The bytes depend on the arguments alone.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};

use data_encoding::HEXLOWER;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

/// Of every layer in `zstd`: the default of the tools that make such images.
const ZSTD_LEVEL: i32 = 3;

/// When every image was made.
const CREATED: &str = "2026-01-01T00:00:00Z";

/// What an entry of a layer is.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// A directory.
    Directory,
    /// A regular file.
    File(&'a [u8]),
    /// A symbolic link to this target.
    Symlink(&'a str),
    /// A hard link to an earlier entry of the same layer.
    HardLink(&'a str),
    /// A character device: major and minor number.
    CharacterDevice(u32, u32),
}

/// Permission bits, owner and time of an entry.
#[derive(Clone, Copy, Debug)]
pub struct Attributes {
    /// Permission bits, with set-user-ID, set-group-ID and the sticky bit.
    pub mode: u32,
    /// User and group.
    pub owner: (u64, u64),
    /// Seconds since 1970.
    pub mtime: u64,
}

/// A layer, entry by entry: a tar stream without compression.
pub struct LayerTar(tar::Builder<Vec<u8>>);

/// Form of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// What `docker save` wrote before version 25: `manifest.json`, and `layer.tar` in a directory
    /// for each layer.
    Docker,
    /// An image layout (OCI image spec, `image-layout.md`) in a tar file.
    Oci,
}

/// How the layers in an archive are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// With gzip.
    Gzip,
    /// With zstd.
    Zstd,
}

/// An image to be written.
#[derive(Debug)]
pub struct ImageArchive {
    layers: Vec<Vec<u8>>,
    config: Value,
}

/// A layer as it goes into an archive.
struct Packed {
    diff_id: String,
    digest: String,
    bytes: Vec<u8>,
}

impl Attributes {
    /// Of root, with these permission bits, at time 0.
    #[must_use]
    pub fn of_root(mode: u32) -> Self {
        Self { mode, owner: (0, 0), mtime: 0 }
    }
}

impl LayerTar {
    /// A layer without entries.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "an empty layer is no default")]
    pub fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// Adds an entry. `path` is relative to the root; names of any length are possible.
    ///
    /// # Panics
    /// When the path is absolute or has `..` in it.
    #[must_use]
    pub fn add(mut self, path: &str, attributes: Attributes, content: Content<'_>) -> Self {
        let mut header = Header::new_gnu();
        header.set_mode(attributes.mode);
        header.set_uid(attributes.owner.0);
        header.set_gid(attributes.owner.1);
        header.set_mtime(attributes.mtime);
        header.set_size(0);
        let tar = &mut self.0;
        let added = match content {
            Content::Directory => {
                header.set_entry_type(EntryType::Directory);
                tar.append_data(&mut header, format!("{path}/"), io::empty())
            }
            Content::File(data) => {
                header.set_entry_type(EntryType::Regular);
                header.set_size(data.len() as u64);
                tar.append_data(&mut header, path, data)
            }
            Content::Symlink(target) => {
                header.set_entry_type(EntryType::Symlink);
                tar.append_link(&mut header, path, target)
            }
            Content::HardLink(target) => {
                header.set_entry_type(EntryType::Link);
                tar.append_link(&mut header, path, target)
            }
            Content::CharacterDevice(major, minor) => {
                header.set_entry_type(EntryType::Char);
                header.set_device_major(major).expect("a GNU header");
                header.set_device_minor(minor).expect("a GNU header");
                tar.append_data(&mut header, path, io::empty())
            }
        };
        added.expect("a path that a tar archive can have");
        self
    }

    /// Adds a directory of root.
    #[must_use]
    pub fn directory(self, path: &str) -> Self {
        self.add(path, Attributes::of_root(0o755), Content::Directory)
    }

    /// Adds a file of root with these permission bits.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, data: &[u8]) -> Self {
        self.add(path, Attributes::of_root(mode), Content::File(data))
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.add(path, Attributes::of_root(0o777), Content::Symlink(target))
    }

    /// Removes `path` of the layers below (OCI image spec, `layer.md`, "Whiteouts").
    #[must_use]
    pub fn whiteout(self, path: &str) -> Self {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let separator = if directory.is_empty() { "" } else { "/" };
        self.file(&format!("{directory}{separator}.wh.{name}"), 0o644, b"")
    }

    /// The stream.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.0.into_inner().expect("memory does not fail")
    }
}

impl fmt::Debug for LayerTar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerTar").field("bytes", &self.0.get_ref().len()).finish_non_exhaustive()
    }
}

impl ImageArchive {
    /// An image of these layers, lowest first, each an uncompressed tar stream.
    #[must_use]
    pub fn new(layers: Vec<Vec<u8>>) -> Self {
        Self { layers, config: json!({}) }
    }

    /// Sets how it is to be run: the object `config` of the OCI image spec, `config.md`.
    #[must_use]
    pub fn config(self, config: Value) -> Self {
        Self { config, ..self }
    }

    /// Its layers, lowest first, each an uncompressed tar stream.
    #[must_use]
    pub fn layers(&self) -> &[Vec<u8>] {
        &self.layers
    }

    /// Writes the archive, with `tag` as the image's name: `name:tag`.
    ///
    /// # Errors
    /// When writing fails.
    pub fn write(
        &self,
        output: impl Write,
        format: Format,
        packing: Packing,
        tag: &str,
    ) -> io::Result<()> {
        let layers = self.pack(packing)?;
        let config = self.configuration(&layers).to_string().into_bytes();
        let files = match format {
            Format::Docker => docker_files(&layers, &config, tag),
            Format::Oci => oci_files(&layers, &config, packing, tag),
        };
        let mut archive = tar::Builder::new(output);
        for (path, content) in &files {
            let mut header = Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, path, content.as_ref())?;
        }
        archive.into_inner()?.flush()
    }

    fn pack(&self, packing: Packing) -> io::Result<Vec<Packed>> {
        std::thread::scope(|scope| {
            let packers: Vec<_> =
                self.layers.iter().map(|layer| scope.spawn(|| pack(layer, packing))).collect();
            packers.into_iter().map(|packer| packer.join().expect("no panic")).collect()
        })
    }

    fn configuration(&self, layers: &[Packed]) -> Value {
        let diff_ids: Vec<_> = layers.iter().map(|l| format!("sha256:{}", l.diff_id)).collect();
        json!({
            "architecture": architecture(),
            "os": "linux",
            "created": CREATED,
            "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        })
    }
}

/// This machine's architecture, as images name it.
#[must_use]
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn pack(layer: &[u8], packing: Packing) -> io::Result<Packed> {
    let bytes = match packing {
        Packing::Plain => layer.to_vec(),
        Packing::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(layer)?;
            encoder.finish()?
        }
        Packing::Zstd => zstd::encode_all(layer, ZSTD_LEVEL)?,
    };
    Ok(Packed { diff_id: sha256(layer), digest: sha256(&bytes), bytes })
}

/// By path, so that equal blobs are there once.
type Files<'a> = BTreeMap<String, Cow<'a, [u8]>>;

fn docker_files<'a>(layers: &'a [Packed], config: &'a [u8], tag: &str) -> Files<'a> {
    let layer_name = |layer: &Packed| format!("{}/layer.tar", layer.diff_id);
    let names: Vec<_> = layers.iter().map(layer_name).collect();
    let config_name = format!("{}.json", sha256(config));
    let manifest = json!([{ "Config": config_name, "RepoTags": [tag], "Layers": names }]);
    let mut files = Files::new();
    files.extend(layers.iter().map(|layer| (layer_name(layer), Cow::from(&layer.bytes))));
    files.insert(config_name, config.into());
    files.insert("manifest.json".into(), encode(&manifest));
    files
}

fn oci_files<'a>(layers: &'a [Packed], config: &'a [u8], packing: Packing, tag: &str) -> Files<'a> {
    let blob = |digest: &str| format!("blobs/sha256/{digest}");
    let layer_type = match packing {
        Packing::Plain => "application/vnd.oci.image.layer.v1.tar",
        Packing::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Packing::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    };
    let layer_descriptors: Vec<_> =
        layers.iter().map(|l| descriptor(layer_type, &l.digest, l.bytes.len())).collect();
    let config_digest = sha256(config);
    let manifest = encode(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor(
            "application/vnd.oci.image.config.v1+json", &config_digest, config.len(),
        ),
        "layers": layer_descriptors,
    }));
    let manifest_digest = sha256(&manifest);
    let mut entry =
        descriptor("application/vnd.oci.image.manifest.v1+json", &manifest_digest, manifest.len());
    entry["platform"] = json!({ "architecture": architecture(), "os": "linux" });
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    });
    let mut files = Files::new();
    files.extend(layers.iter().map(|layer| (blob(&layer.digest), Cow::from(&layer.bytes))));
    files.insert(blob(&config_digest), config.into());
    files.insert(blob(&manifest_digest), manifest);
    files.insert("index.json".into(), encode(&index));
    files.insert("oci-layout".into(), encode(&json!({ "imageLayoutVersion": "1.0.0" })));
    files
}

fn descriptor(media_type: &str, digest: &str, size: usize) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size })
}

fn encode(value: &Value) -> Cow<'static, [u8]> {
    value.to_string().into_bytes().into()
}

fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests;
