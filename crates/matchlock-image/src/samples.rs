//! Images for the tests of this crate.

use std::path::Path;

use serde_json::json;

use crate::digest::Digest;
use crate::erofs::BlobWriter;
use crate::layer::{self, Compression, Layer, Limits};
use crate::manifest::{ImageConfig, Platform};
use crate::store::{ImageName, Lease, NewImage, Store, StoredImage, needed};

/// An uncompressed archive with these files.
pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        builder.append_data(&mut header, path, *content).expect("in memory");
    }
    builder.into_inner().expect("in memory")
}

/// Compresses with gzip.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), <_>::default());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

/// The configuration of an image with these archives as its layers, for this host.
pub(crate) fn config(archives: &[Vec<u8>]) -> Vec<u8> {
    let platform = Platform::host().to_string();
    let (os, architecture) = platform.split_once('/').expect("two parts");
    let diff_ids: Vec<_> = archives.iter().map(|bytes| Digest::of(bytes).to_string()).collect();
    let config = json!({
        "os": os, "architecture": architecture,
        "config": {"Env": ["PATH=/bin", "EMPTY="], "Cmd": ["sh"], "Entrypoint": null,
                   "User": "1000:1000", "WorkingDir": "/srv"},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    config.to_string().into_bytes()
}

/// A store in `dir`.
pub(crate) fn store(dir: &Path) -> Store {
    Store::open(dir).expect("open the store")
}

/// A layer that is not stored.
pub(crate) fn layer(store: &Store, archive: &[u8]) -> Layer {
    let blob = BlobWriter::new(store.new_blob().expect("a file")).expect("a writer");
    layer::unpack(archive, Compression::None, None, blob, &Limits::default()).expect("a layer")
}

/// Stores the layers of an image, not the image.
pub(crate) fn put_layers(store: &Store, archives: &[Vec<u8>]) -> (ImageConfig, Lease) {
    let config = ImageConfig::decode(&config(archives)).expect("valid");
    let lease = store.lease(needed(&config.diff_ids)).expect("a lease");
    for archive in archives {
        store.commit_layer(&lease, &layer(store, archive)).expect("store the layer");
    }
    (config, lease)
}

/// Stores an image as if it had been pulled.
pub(crate) fn put(store: &Store, reference: &str, archives: &[Vec<u8>]) -> StoredImage {
    let name = ImageName::registry(&reference.parse().expect("a reference"));
    let (config, lease) = put_layers(store, archives);
    let digest = Digest::of(config.runtime.raw.as_bytes());
    let new = NewImage { names: &[name], digest, config: &config };
    store.commit_image(&lease, &new).expect("store the image")
}

/// Names and sizes of the files in a directory of the store.
pub(crate) fn files(store: &Store, dir: &str) -> Vec<(String, u64)> {
    let entries = std::fs::read_dir(store.dir().join(dir)).expect("a directory");
    let mut files: Vec<_> = entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            let len = entry.metadata().expect("metadata").len();
            (entry.file_name().into_string().expect("text"), len)
        })
        .collect();
    files.sort();
    files
}
